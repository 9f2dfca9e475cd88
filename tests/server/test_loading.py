"""The agent in a Python file: which one it is, and one clear line where there is none."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import with_agent

from stateful_agent import LangGraphResponsesAgent
from stateful_agent.server.loading import CannotLoad, agent_in_file, load_agent

HEAD = "from mlflow.models import set_model\nfrom stateful_agent import LangGraphResponsesAgent as Agent\n"


@pytest.fixture(autouse=True)
def modules_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports is gone after it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    importlib.invalidate_caches()
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def load(folder: Path, code: str, name: str = "my_agent.py") -> LangGraphResponsesAgent:
    (folder / name).write_text(code)
    return agent_in_file(folder / name)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("AGENT, spare = Agent(one), Agent(two)", "one"),
        ("spare, AGENT = Agent(two), Agent(one)", "one"),
        ("mine = Agent(one)", "one"),
        ("mine = same = Agent(one)", "one"),
        ("mine, spare = Agent(one), Agent(two)\nset_model(mine)", "one"),
        ("set_model(Agent(one))", "one"),
        ("AGENT = Agent(one)\nset_model(AGENT)", "one"),
    ],
)
def test_which_agent_it_is(tmp_path: Path, code: str, name: str) -> None:
    graphs = "one, two = (build_graph(OfflineModel(), []).compile(name=name) for name in ('one', 'two'))"
    agent = load(tmp_path, f"{HEAD}from stateful_agent.graph import OfflineModel, build_graph\n{graphs}\n{code}\n")
    assert agent.answers_from == name


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "holds no agent"),
        ("one, two = Agent(len), Agent(len)", "several agents"),
        ("AGENT = Agent(len)\nset_model(Agent(len))", "several agents"),
        ("import my_helper", "my_agent.py, line 3: No module named 'my_helper'."),
        ("from json import nothing", "my_agent.py, line 3: cannot import name 'nothing'"),
        ("import broken_helper", "broken_helper.py, line 2: No module named 'langchain_of_tomorrow'."),
        ("AGENT = = 5", "my_agent.py, line 3: invalid syntax."),
        ("from stateful_agent.settings import Settings\nSettings(max_steps=0)", "greater than or equal to 1"),
    ],
)
def test_why_there_is_none(tmp_path: Path, code: str, reason: str) -> None:
    (tmp_path / "broken_helper.py").write_text("import json\nimport langchain_of_tomorrow\n")
    with pytest.raises(CannotLoad) as refused:
        load(tmp_path, f"{HEAD}{code}\n")
    assert reason in str(refused.value)


def test_an_installed_package_that_lacks_another_is_blamed_on_the_line_that_imports_it(tmp_path: Path) -> None:
    installed = tmp_path / ".venv" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "lacking.py").write_text("import langchain_of_tomorrow\n")
    sys.path.append(str(installed))
    with pytest.raises(CannotLoad, match=r"my_agent\.py, line 1: No module named 'langchain_of_tomorrow'"):
        load(tmp_path, "import lacking\n")


def test_a_mistake_in_its_code_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        load(tmp_path, "1 / 0\n")


def test_it_is_a_module_of_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("def where():\n    import my_agent\n    return my_agent.__name__\n")
    load(tmp_path, f"{HEAD}import helper\nassert helper.where() == __name__ == 'my_agent'\nAGENT = Agent(len)\n")


def test_its_folder_comes_first(tmp_path: Path) -> None:
    (tmp_path / "scripted.py").write_text("mine = True\n")  # the tests' folder has a module of this name
    sys.modules.pop("scripted", None)
    load(tmp_path, f"{HEAD}from scripted import mine\nAGENT = Agent(len)\n")
    sys.modules.pop("scripted", None)


@pytest.mark.parametrize("name", ["json.py", "mlflow.py"])
def test_it_hides_no_other_module(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotLoad, match="rename it"):
        load(tmp_path, f"{HEAD}AGENT = Agent(len)\n", name)


class TestModel:
    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("import json\nimport my_helper", "another.py, line 2: No module named 'my_helper'."),
            ("from mlflow.models import set_model\nset_model(lambda rows: rows)", "holds no LangGraphResponsesAgent"),
        ],
    )
    def test_why_there_is_no_agent_in_it(self, logged_model: str, tmp_path: Path, code: str, reason: str) -> None:
        (tmp_path / "another.py").write_text(code)
        with pytest.raises(CannotLoad) as refused:
            load_agent(Path(with_agent(logged_model, tmp_path / "another.py", tmp_path)))
        assert reason in str(refused.value)
