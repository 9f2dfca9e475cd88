"""A wheel in an empty environment serves and logs somebody's project. No extra is installed, and no code is beside."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import ROOT, answers, eventually, free_port, once

MY_AGENT = """
from mlflow.models import set_model

from stateful_agent import LangGraphResponsesAgent


def graph():
    from my_helpers import build

    return build()


AGENT = LangGraphResponsesAgent(graph)
set_model(AGENT)
"""
MY_HELPERS = """
from langchain_core.messages import AIMessage
from langgraph.graph import MessagesState, StateGraph


def reply(state):
    return {"messages": [AIMessage(" | ".join(m.text for m in state["messages"] if m.type == "human"))]}


def build():
    return StateGraph(MessagesState).add_node("model", reply).set_entry_point("model").compile()
"""


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a virtual environment with the wheel and what it needs, no extras."""

    def make(folder: Path) -> None:
        uv = str(Path(sys.executable).with_name("uv"))
        wheels, python = folder / "wheels", folder / "venv" / "bin" / "python"
        subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", wheels, ROOT], check=True)
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
        (wheel,) = wheels.glob("*.whl")
        pins = ROOT / "requirements.txt"
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "-c", pins, wheel], check=True)

    return once(tmp_path_factory, "wheel", make) / "venv" / "bin"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "my_agent.py").write_text(MY_AGENT)
    (folder / "my_helpers.py").write_text(MY_HELPERS)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


@pytest.fixture
def served(environment: Path, project: Path, elsewhere: Path) -> Iterator[httpx.Client]:
    """A client of the project's server, which was started in another folder."""
    port = free_port()
    command = [
        str(environment / "stateful-agent"),
        "serve",
        str(project / "my_agent.py"),
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    with (elsewhere / "server.log").open("wb") as output:
        process = subprocess.Popen(command, cwd=elsewhere, env=clean(), stdout=output, stderr=output)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        try:
            eventually(lambda: answers(process, client))
            yield client
        finally:
            process.terminate()
            process.wait(30)


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def test_serve_from_another_folder(served: httpx.Client) -> None:
    def ask(text: str, **custom_inputs: str) -> tuple[str, dict[str, str]]:
        answer = served.post("/responses", json={"input": text, "custom_inputs": custom_inputs}).json()
        return answer["output"][0]["content"][0]["text"], answer["custom_outputs"]

    _, first = ask("one", thread_id="t")
    assert ask("two", thread_id="t")[0] == "one | two"
    text, fork = ask("three", thread_id="t", checkpoint_id=first["checkpoint_id"])
    assert text == "one | three"
    assert fork["parent_checkpoint_id"] == first["checkpoint_id"]


def test_log_and_load_elsewhere(environment: Path, project: Path, elsewhere: Path, tmp_path: Path) -> None:
    path_file = tmp_path / "new" / "model"
    log = [str(environment / "stateful-agent"), "log", str(project / "my_agent.py"), "--path-file", str(path_file)]
    logged = subprocess.run(log, cwd=elsewhere, env=clean(), check=False, capture_output=True, text=True)
    assert "It answers." in logged.stdout, logged
    project.rename(tmp_path / "gone")
    code = """
import sys, mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict({"input": [{"role": "user", "content": "one"}], "store": False})
assert answer["output"][0]["content"][0]["text"] == "one", answer
import stateful_agent
assert stateful_agent.__file__.startswith(sys.argv[1]), stateful_agent.__file__
"""
    load = [str(environment / "python"), "-I", "-c", code, path_file.read_text()]
    subprocess.run(load, cwd=elsewhere, env=clean(), check=True)


def test_extras_that_are_missing_are_named(environment: Path, tmp_path: Path) -> None:
    code = """
import asyncio
from stateful_agent import Settings
from stateful_agent.errors import Misconfigured
from stateful_agent.checkpoints.tables import database_for
from stateful_agent.graph import chat_model, search_tool
from pydantic import SecretStr

for fails, extra in (
    (lambda: chat_model("databricks:x"), "databricks"),
    (lambda: chat_model("openai:x"), "openai"),
    (lambda: search_tool(SecretStr("x")), "tavily"),
    (lambda: asyncio.run(database_for(Settings(lakebase_instance_name="x")).pool()), "databricks"),
):
    try:
        fails()
    except Misconfigured as error:
        assert str(error).endswith(f"pip install 'stateful-agent[{extra}]'"), error
    else:
        raise AssertionError(extra)
"""
    subprocess.run([environment / "python", "-c", code], cwd=tmp_path, env=clean(), check=True)


def test_only_the_package_is_in_the_wheel(environment: Path) -> None:
    (package,) = (environment.parent / "lib").glob("python*/site-packages/stateful_agent")
    ours = {file.relative_to(ROOT / "stateful_agent") for file in (ROOT / "stateful_agent").rglob("*.*")}
    expected = {file for file in ours if "__pycache__" not in file.parts}
    assert {file.relative_to(package) for file in package.rglob("*.*") if "__pycache__" not in file.parts} == expected
    assert (package / "py.typed").is_file()
    for name in ("agent.py", "tests", "benchmarks", "log_and_deploy.py"):
        assert not (package.parent / name).exists()
