"""The processes of a server are forked from one, and are as if each had been started by itself."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from conftest import answers, eventually, free_port, text_of

AGENT = """
import os, random, sys, uuid
import numpy, uuid_utils
from langchain_core.messages import AIMessage
from langchain_core.utils.uuid import uuid7
from langgraph.graph import START, MessagesState, StateGraph
from stateful_agent import LangGraphResponsesAgent


def answer(state):
    drawn = [random.random(), numpy.random.random(), uuid.uuid4(), uuid7()]
    found = ["stateful_agent.server.preloaded" in sys.modules, os.environ.get("PYTHONSAFEPATH")]
    return {"messages": [AIMessage(" ".join(map(str, [os.getpid(), *found, *drawn])))]}


AGENT = LangGraphResponsesAgent(StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer"))
"""


class Server:
    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        program = str(Path(sys.executable).with_name("stateful-agent"))
        command = [program, "serve", "my_agent.py", "--port", self.url[-5:]]
        with (folder / "server.log").open("wb") as output:
            self.process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        self.wait()

    def wait(self) -> None:
        with httpx.Client(base_url=self.url) as client:
            eventually(lambda: answers(self.process, client))

    def ask(self) -> list[str]:
        """What one of its workers answers: its process id, and what its graph has found out."""
        asked = httpx.post(f"{self.url}/responses", json={"input": "hi"}, timeout=20).raise_for_status()
        return text_of(asked.json()).split()

    def forked(self) -> set[psutil.Process]:
        """Those that are forked: the workers, and the one that stores traces."""
        return {forked for child in psutil.Process(self.process.pid).children() for forked in child.children()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forked")
    (folder / "my_agent.py").write_text(AGENT)
    (folder / "pandas.py").write_text("raise ImportError('It lies in the current folder.')")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    started = Server(folder)
    yield started
    started.process.terminate()
    started.process.wait(20)


def test_workers_draw_different_numbers(server: Server) -> None:
    drawn: dict[str, list[str]] = {}

    def both_have_answered() -> bool:
        worker, _, _, *numbers = server.ask()
        drawn.setdefault(worker, numbers)
        return len(drawn) == 2

    eventually(both_have_answered)
    one, other = drawn.values()
    assert len(one) == 4
    assert [a for a, b in zip(one, other, strict=True) if a == b] == []


def test_what_lies_in_the_current_folder_is_in_nobodys_way(server: Server, folder: Path) -> None:
    """All is imported before a worker is forked; what the graph starts finds what lies there."""
    assert server.ask()[1:3] == ["True", "None"]
    assert len(server.forked()) == 3
    assert "Traceback" not in (folder / "server.log").read_text()


def test_when_the_process_that_forks_is_killed_all_are_replaced(server: Server) -> None:
    before = server.forked()
    next(iter(before)).parent().kill()
    eventually(lambda: len(server.forked()) == 3)
    server.wait()
    assert psutil.wait_procs(before, 150)[1] == []  # one writes traces, with what others leave of the processor
    assert server.ask()[0] in {str(each.pid) for each in server.forked()}
