"""Other people's clients against the served agent, as their users use them.

A driver per client goes through the cases and prints what it saw. Here it is judged: by the words of the answers, which
come from the conversation, and by the turns that the threads then hold.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, free_port, serving, with_agent

HERE, INSTALLED = Path(__file__).parent, ROOT / ".local" / "clients"
PYTHON, NEWER_PYTHON, NODE = Path(sys.executable), INSTALLED / "bin" / "python", INSTALLED / "bin" / "node"


@dataclass(frozen=True)
class Client:
    """How a client's driver is run, and the errors that the client raises: for a 404, and for a stream that failed."""

    interpreter: Path
    driver: str
    refused: str
    broken_off: str


CLIENTS = {
    "openai-python 2": Client(PYTHON, "openai_python.py", "NotFoundError", "APIError"),
    "openai-python 3": Client(NEWER_PYTHON, "openai_python.py", "NotFoundError", "APIError"),
    "openai-js": Client(NODE, "openai_js.mjs", "NotFoundError", "APIError"),
    "ChatOpenAI": Client(NEWER_PYTHON, "chat_openai.py", "OpenAIModelNotFoundError", "APIError"),
    "openai-agents": Client(NEWER_PYTHON, "agents_sdk.py", "NotFoundError", "APIError"),
    "AI SDK 7, @ai-sdk/openai": Client(NODE, "ai_sdk.mjs", "APICallError", "StreamProviderError"),
    "AI SDK 6, @databricks/ai-sdk-provider": Client(NODE, "ai_sdk.mjs", "APICallError", "Object"),
    "ChatDatabricks": Client(PYTHON, "chat_databricks.py", "NotFoundError", "APIError"),
    "DatabricksOpenAI": Client(PYTHON, "openai_python.py", "NotFoundError", "APIError"),
    "mlflow.deployments": Client(PYTHON, "plain.py", "HTTPError", "RuntimeError"),
    "curl": Client(PYTHON, "plain.py", "CurlError", "RuntimeError"),
}

Saw = dict[str, Any]
"""What a driver printed of a case, and the number of `turns` and of `tips` that its thread then had."""


def check_answer(saw: Saw, client: Client) -> None:
    assert saw["text"].endswith("Noted: you are going to SF.")
    assert saw["turns"] == 1


def check_stream(saw: Saw, client: Client) -> None:
    check_answer(saw, client)
    assert saw["deltas"] > 5


def check_tool_call(saw: Saw, client: Client) -> None:
    assert saw["calls"] == ([] if "hidden" in saw["by"] else ["search", "search"])
    assert "San Francisco: 61°F" in saw["text"]
    assert "Los Angeles: 77°F" in saw["text"]
    assert saw["turns"] == 1


def check_second_turn(saw: Saw, client: Client) -> None:
    assert saw["text"] == "Los Angeles is warmer: 77°F, and San Francisco has 61°F."  # as the tools said in the first
    assert (saw["turns"], saw["tips"]) == (2, 1)


def check_fork(saw: Saw, client: Client) -> None:
    assert saw["text"] == "You said you are going to SF."  # and not to Oslo, as at the head
    assert (saw["turns"], saw["tips"]) == (3, 2)


def check_refused(saw: Saw, client: Client) -> None:
    kind, message = saw["error"]
    assert kind == client.refused
    assert "There is no such checkpoint in this thread" in message
    assert saw["turns"] == 0


def check_broken_off(saw: Saw, client: Client) -> None:
    kind, message = saw["error"]
    assert kind == client.broken_off
    assert "The model provider answered: broken off" in message
    assert saw["text"] == "Answer to "
    assert saw["turns"] == 1


def check_approval(saw: Saw, client: Client) -> None:
    assert saw["calls"] == ["careful"]
    assert saw["text"].endswith("tool: careful is done")
    assert (saw["turns"], saw["tips"]) == (1, 1)


WHOLE = "Answer to slowly\nhuman: slowly"


def check_background(saw: Saw, client: Client) -> None:
    assert saw["statuses"] in (["queued", "completed"], ["in_progress", "completed"])
    assert saw["text"] == WHOLE
    assert saw["turns"] == 1


def check_resumed(saw: Saw, client: Client) -> None:
    assert saw["statuses"] == ["response.completed"]
    assert saw["text"] == WHOLE
    assert saw["turns"] == 1


def check_cancelled(saw: Saw, client: Client) -> None:
    assert saw["statuses"][1:] == ["cancelled", "cancelled"]
    assert saw["turns"] == 1


def check_client_function(saw: Saw, client: Client) -> None:
    assert saw["calls"] == ["get_weather"]
    assert saw["text"].endswith("SF: 60°F")  # what the client's function said
    assert saw["turns"] == 2


def check_json_schema(saw: Saw, client: Client) -> None:
    trip = json.loads(saw["text"])
    assert (sorted(trip), type(trip["days"])) == (["city", "days"], int)
    assert "SF" in trip["city"]
    assert saw["turns"] == 1


CASES: dict[str, Callable[[Saw, Client], None]] = {
    "answer": check_answer,
    "stream": check_stream,
    "tool call": check_tool_call,
    "client function": check_client_function,
    "JSON schema": check_json_schema,
    "second turn": check_second_turn,
    "fork": check_fork,
    "refused": check_refused,
    "broken off": check_broken_off,
    "approval": check_approval,
    "background": check_background,
    "resumed": check_resumed,
    "cancelled": check_cancelled,
}


def judge(name: str, case: str, saw: Saw) -> None:
    """Raise an AssertionError if the client's user would not have been content."""
    assert case in ("refused", "broken off") or saw["error"] is None, ": ".join(saw["error"])
    assert case not in ("refused", "broken off") or saw["error"], "no error"
    CASES[case](saw, CLIENTS[name])


IN_BACKGROUND = {"background", "resumed", "cancelled"}
KNOW_BACKGROUND = {"openai-python 2", "openai-python 3", "openai-js", "curl"}
NO_FORMS = {"ChatDatabricks"}  # by the Responses API, it sends a form by a name that it does not know itself
KNOW_APPROVALS = {
    "openai-python 2",
    "openai-python 3",
    "openai-agents",
    "DatabricksOpenAI",
    "mlflow.deployments",
    "curl",
}
PAIRS = [
    (name, case)
    for name in CLIENTS
    for case in CASES
    if (case not in IN_BACKGROUND or name in KNOW_BACKGROUND)
    and (case != "approval" or name in KNOW_APPROVALS)
    and (case != "JSON schema" or name not in NO_FORMS)
]


class Seen:
    """What the clients saw of the served agent, and of one that is slow or breaks off when asked to."""

    def __init__(self, urls: list[str], folder: Path, drivers: Executor) -> None:
        """The drivers run at once; whoever asks what a client saw waits for its own."""
        self.urls, self.log = urls, folder / "drivers.log"
        self._running = {name: drivers.submit(self._run, name, folder) for name in CLIENTS if is_installed(name)}

    def ways(self, name: str, case: str | None = None) -> list[Saw]:
        """What a client saw of a case, in each of its ways to go about it."""
        return [saw for saw in self._running[name].result() if case in (None, saw["case"])]

    def all(self) -> list[Saw]:
        return [saw for name in self._running for saw in self.ways(name)]

    def verdict(self, name: str, case: str) -> str:
        """A cell of the table: the ways that work, or why one does not."""
        if (name, case) not in PAIRS:
            return "-"
        if not is_installed(name):
            return "not installed"
        ways = self.ways(name, case)
        for saw in ways:
            try:
                judge(name, case, saw)
            except AssertionError as wrong:
                return f"no: {str(wrong).splitlines()[0]}"
        return (", ".join(saw["by"] for saw in ways) or "works") if ways else "no: its driver did not get there"

    def _run(self, name: str, folder: Path) -> list[Saw]:
        command = [str(CLIENTS[name].interpreter), str(HERE / CLIENTS[name].driver), name, *self.urls]
        environment = {key: os.environ[key] for key in ("HOME", "PATH") if key in os.environ}
        with self.log.open("a") as log:
            done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log)
        return [saw | self._stored(saw["thread_id"]) for saw in map(json.loads, done.stdout.splitlines())]

    def _stored(self, thread_id: str) -> dict[str, int]:
        """How many turns and how many tips a thread has."""
        turns = tips = 0
        for url in self.urls:
            history = httpx.get(f"{url}/threads/{thread_id}/history", params={"limit": 1000})
            if history.status_code != 404:
                turns += len([entry for entry in history.json() if entry["source"] == "input"])
                tips += len(httpx.get(f"{url}/threads/{thread_id}/branches").json())
        return {"turns": turns, "tips": tips}


def is_installed(name: str) -> bool:
    interpreter = CLIENTS[name].interpreter
    return interpreter.exists() and (interpreter != NODE or (HERE / "node_modules").exists())


@pytest.fixture(scope="module")
def seen(logged_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    if not all(map(is_installed, CLIENTS)) and os.environ.get("CI"):
        pytest.fail("Some clients are not installed: `make clients` installs them.")
    folder = tmp_path_factory.mktemp("clients")
    strict_model = with_agent(logged_model, ROOT / "tests" / "faults" / "strict_agent.py", folder)
    with ExitStack() as running:
        urls = []
        for model in (logged_model, strict_model):
            port = free_port()
            home = folder / str(port)
            home.mkdir()
            running.enter_context(serving(model, home, port))
            urls.append(f"http://127.0.0.1:{port}")
        yield Seen(urls, folder, running.enter_context(ThreadPoolExecutor(2)))


@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_client(seen: Seen, name: str, case: str) -> None:
    if not is_installed(name):
        pytest.skip("not installed")
    ways = seen.ways(name, case)
    assert ways, seen.log.read_text()[-2000:]
    for saw in ways:
        judge(name, case, saw)


def test_no_call_opens_a_thread_of_its_own(seen: Seen) -> None:
    named = {saw["thread_id"] for saw in seen.all()}
    for url in seen.urls:
        threads = httpx.get(f"{url}/threads", params={"limit": 1000}).json()
        assert {thread["thread_id"] for thread in threads} <= named


def test_readme_shows_the_table(seen: Seen, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["", *CASES], ["---"] * (1 + len(CASES))]
    rows += [[name, *(seen.verdict(name, case) for case in CASES)] for name in CLIENTS]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    with capsys.disabled():
        print(f"\n\n{table}")
    if not all(map(is_installed, CLIENTS)):
        pytest.skip("some clients are not installed")
    page = (ROOT / "docs" / "requests.md").read_text()
    assert page.partition("<!-- clients -->\n")[2].partition("<!-- end -->")[0] == table, "paste the table above"
