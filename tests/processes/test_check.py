import os
import shutil
from pathlib import Path

import mlflow
import pytest
from conftest import once

from stateful_agent import deploy
from stateful_agent.deploy import Failure, check, write_path

MY_AGENT = """from mlflow.models import set_model
from stateful_agent import LangGraphResponsesAgent


def graph():
    from my_package.helpers import build

    return build()


AGENT = LangGraphResponsesAgent(graph)
set_model(AGENT)
"""
HELPERS = """import os
from pathlib import Path
from langchain_core.messages import AIMessage
from langgraph.graph import MessagesState, StateGraph


def reply(state):
    if counted := os.environ.get("COUNTED"):
        with open(counted, "a") as file:
            file.write("once ")
    return {"messages": [AIMessage(Path(__file__).with_name("answer.txt").read_text())]}


def build():
    return StateGraph(MessagesState).add_node("model", reply).set_entry_point("model").compile()
"""


def log(agent_file: Path) -> str:
    """Log an agent with tracing on: MLflow 3.17 deadlocks if it is off, as it is in the other tests."""
    mlflow.tracing.enable()
    try:
        return deploy.log(agent_file)
    finally:
        mlflow.tracing.disable()


def project(folder: Path) -> Path:
    """A project of two files and a datum. Returns the agent's file."""
    (folder / "my_package").mkdir(parents=True)
    (folder / "my_agent.py").write_text(MY_AGENT)
    (folder / "my_package" / "helpers.py").write_text(HELPERS)
    (folder / "my_package" / "answer.txt").write_text("I answer.")
    return folder / "my_agent.py"


@pytest.fixture(scope="session")
def logged(tmp_path_factory: pytest.TempPathFactory, tracking: str) -> Path:
    """The folder of the project's logged model."""

    def make(folder: Path) -> None:
        write_path(log(project(folder / "project")), folder / "path")

    return Path((once(tmp_path_factory, "checked", make) / "path").read_text())


@pytest.fixture
def model(logged: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoiled."""
    return Path(shutil.copytree(logged, tmp_path / "model"))


def test_the_model_is_asked_once_by_the_check_and_never_by_logging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracking: str
) -> None:
    counted = tmp_path / "counted"
    counted.touch()
    monkeypatch.setenv("COUNTED", str(counted))
    model = log(project(tmp_path / "project"))
    assert counted.read_text() == ""
    check(model)
    assert counted.read_text() == "once "


def test_the_check_leaves_the_model_as_it_is(model: Path) -> None:
    before = sorted(model.rglob("*"))
    check(str(model))
    assert sorted(model.rglob("*")) == before


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("import my_others", r"^my_others is not in the model \(my_package/helpers.py, line 1\)"),
        ("import my_package.more", r"^my_package.more is not in the model \(my_package/helpers.py, line 1\)"),
        ("import hypothesis", "^hypothesis is not among the model's requirements: add hypothesis"),
        ("raise KeyError('MY_KEY')", r"KeyError: 'MY_KEY' \(my_package/helpers.py, line 1\)"),
        ("e = KeyError('MY_KEY')\nraise e from e", r"KeyError: 'MY_KEY' \(my_package/helpers.py, line 2\)"),
        ("x = = 3", r"^The model does not answer: SyntaxError: invalid syntax \(helpers.py, line 1\)"),
    ],
)
def test_what_is_wrong_is_one_line(model: Path, line: str, problem: str) -> None:
    (model / "code" / "my_package" / "helpers.py").write_text(f"{line}\n{HELPERS}")
    with pytest.raises(Failure, match=problem) as failure:
        check(str(model))
    assert "\n" not in str(failure.value)


def test_why_a_turn_fails_is_one_line(model: Path) -> None:
    """What callers learn is that the log has the cause. The check knows the log."""
    (model / "code" / "my_package" / "answer.txt").unlink()
    with pytest.raises(Failure, match=r"FileNotFoundError: .*answer.txt'? \(my_package/helpers.py, line 11\)$"):
        check(str(model))


def test_a_module_from_outside_of_the_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside.py").touch()
    helpers = model / "code" / "my_package" / "helpers.py"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    helpers.write_text(f"import outside\n{HELPERS}")
    with pytest.raises(Failure, match="outside is not in the model"):
        check(str(model))
    helpers.write_text(f"import sys\nsys.path.append({str(tmp_path)!r})\nimport outside\n{HELPERS}")
    with pytest.raises(Failure, match=f"outside is not in the model: it came from {tmp_path / 'outside.py'}"):
        check(str(model))


def test_a_model_that_ends_its_process(model: Path) -> None:
    (model / "code" / "my_package" / "helpers.py").write_text("import os\nos._exit(3)")
    with pytest.raises(Failure, match=r"ended its process \(status 3\)"):
        check(str(model))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import no_such_module", r"no_such_module is not in the model \(my_agent.py, line 1\)"),
        (
            "import os\nos.environ['MY_KEY']",
            r"^my_agent.py cannot be logged: KeyError: 'MY_KEY' \(my_agent.py, line 2\)",
        ),
        ("x = = 3", "^my_agent.py, line 1: invalid syntax"),
        (None, r"my_agent.py cannot be read: No such file or directory"),
    ],
)
def test_an_agent_that_cannot_be_logged(tmp_path: Path, tracking: str, text: str | None, problem: str) -> None:
    if text is not None:
        (tmp_path / "my_agent.py").write_text(text)
    with pytest.raises(Failure, match=problem) as failure:
        log(tmp_path / "my_agent.py")
    assert "\n" not in str(failure.value)
    assert not [name for name in os.listdir(tmp_path) if name not in {"my_agent.py"}]
