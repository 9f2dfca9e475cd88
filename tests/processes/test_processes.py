"""What `serve` is given is what answers: in every process, from any folder, with its own code."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import cast

import httpx
import pytest
from conftest import ROOT, free_port, serving, start_server, text_of
from uvicorn.supervisors.multiprocess import Process

from stateful_agent.server.processes import Supervisor, serve

FILES = {
    "my_agent.py": """
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from my_helpers import greeting
from my_package.words import word

from stateful_agent import LangGraphResponsesAgent


def graph():
    steps = StateGraph(MessagesState)
    steps.add_node("answer", lambda state: {"messages": [AIMessage(f"{greeting}, {word}!")]})
    steps.add_edge(START, "answer")
    return steps


AGENT = LangGraphResponsesAgent(graph)
""",
    "my_helpers.py": "greeting = 'Hello'",
    "my_package/__init__.py": "",
    "my_package/words.py": "word = 'world'",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of somebody's own."""
    for name, content in FILES.items():
        file = tmp_path / "project" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return tmp_path / "project"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.mark.usefixtures("project")
def test_a_file_with_what_lies_beside_it(elsewhere: Path) -> None:
    port = free_port()
    with serving("../project/my_agent.py", elsewhere, port, "--workers", "2", PYTHONPATH=str(ROOT)):
        for _ in range(8):  # whichever process takes the connection
            answer = httpx.post(f"http://127.0.0.1:{port}/responses", json={"input": "hi"}, timeout=20)
            assert text_of(answer.json()) == "Hello, world!"
    printed = (elsewhere / "server.log").read_text()
    assert "../project/my_agent.py" in printed
    assert "answers come from a graph of your own" in printed


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_a_file_lacks_is_named_in_one_line(project: Path, elsewhere: Path, workers: str) -> None:
    (project / "my_helpers.py").unlink()
    file = project / "my_agent.py"
    server = start_server(str(file), elsewhere, free_port(), "--workers", workers, PYTHONPATH=str(ROOT))
    assert server.wait(60) == 3
    printed = (elsewhere / "server.log").read_text()
    assert printed.count(f"The agent cannot be loaded: {file}, line 4: No module named 'my_helpers'.") == 1
    assert "Traceback" not in printed


def test_a_mistake_in_a_file_ends_the_server_with_one_traceback(project: Path, elsewhere: Path) -> None:
    (project / "my_helpers.py").write_text("greeting = 1 / 0")
    server = start_server(str(project / "my_agent.py"), elsewhere, free_port(), PYTHONPATH=str(ROOT))
    assert server.wait(60) == 3
    assert (elsewhere / "server.log").read_text().count("ZeroDivisionError") == 1


def test_a_model_is_served_by_its_own_code(logged_model: str, tmp_path: Path) -> None:
    """Though the server is started with another copy of it."""
    model = Path(shutil.copytree(logged_model, tmp_path / "model"))
    routes = model / "code" / "stateful_agent" / "server" / "about_routes.py"
    routes.write_text(routes.read_text().replace('"use_case": "agent"', '"use_case": "the model\'s own"'))
    port = free_port()
    with serving(str(model), tmp_path, port, "--workers", "2", PYTHONPATH=str(ROOT)):
        for _ in range(8):
            assert httpx.get(f"http://127.0.0.1:{port}/agent/info").json()["use_case"] == "the model's own"


@pytest.mark.parametrize(("option", "value"), [("workers", 0), ("port", 0), ("port", 65536), ("shutdown-seconds", -1)])
def test_what_is_out_of_range(option: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"--{option} must be"):
        serve("agent.py", **{option.replace("-", "_"): value})  # type: ignore[arg-type]


def test_what_is_not_there_is_named_in_one_line() -> None:
    with pytest.raises(SystemExit, match=r"There is no file nowhere\.py"):
        serve("nowhere.py")


def test_a_worker_that_has_ended_keeps_none_from_being_ended() -> None:
    """At Ctrl-C, which all processes get, one may have ended before it is told to."""
    started = subprocess.Popen(["sleep", "60"])
    ended = subprocess.Popen(["true"])
    ended.wait()
    supervisor = Supervisor.__new__(Supervisor)
    supervisor.processes = [cast(Process, Worker(ended.pid)), cast(Process, Worker(started.pid))]
    supervisor.terminate_all()
    assert started.wait(10) == -signal.SIGTERM


class Worker:
    """A process as uvicorn ends it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def terminate(self) -> None:
        os.kill(self._pid, signal.SIGTERM)
