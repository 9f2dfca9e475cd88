"""An end that was told is final, whatever becomes of the process that runs the turn, and of its way to the database."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster import Cluster
from conftest import eventually, with_agent
from debian import installed
from served import Server, answered, received

SILENT_SECONDS = 8
"""Longer than a lease lasts."""


class Wire:
    """A way to a database that can be cut: then nothing gets through, and nobody is told."""

    def __init__(self, database: str) -> None:
        self.is_whole = threading.Event()
        self.is_whole.set()
        self._database = database
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._database)
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                self.is_whole.wait()
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    @contextmanager
    def cut(self) -> Iterator[None]:
        self.is_whole.clear()
        try:
            yield
        finally:
            self.is_whole.set()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("ends") / "postgres")
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def wire(cluster: Cluster) -> Wire:
    return Wire(f"{cluster.folder}/.s.PGSQL.5432")


@pytest.fixture(scope="module")
def servers(
    logged_model: str, cluster: Cluster, wire: Wire, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Server]]:
    folder = tmp_path_factory.mktemp("servers")
    model = with_agent(logged_model, Path(__file__).with_name("strict_agent.py"), folder)
    far = f"postgresql://postgres@127.0.0.1:{wire.port}/postgres"
    servers = [
        Server(model, folder / "far", DATABASE_URL=far, DATABASE_TIMEOUT="3"),
        Server(model, folder / "near", DATABASE_URL=cluster.url),
    ]
    with ThreadPoolExecutor() as starting:
        list(starting.map(Server.start, servers))
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def far(servers: list[Server]) -> Server:
    return servers[0]


@pytest.fixture(scope="module")
def near(servers: list[Server]) -> Server:
    return servers[1]


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """A file that says how far the clock of the `jumping` server is off."""
    file = tmp_path / "clock"
    file.write_text("+0")
    return file


@pytest.fixture
def jumping(logged_model: str, cluster: Cluster, clock: Path, tmp_path: Path) -> Iterator[Server]:
    model = with_agent(logged_model, Path(__file__).with_name("strict_agent.py"), tmp_path)
    library = installed("libfaketime", "lib/*/faketime/libfaketime.so.1")
    faked = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    # What counts seconds counts on: only the time of day jumps, as when a machine's clock is set.
    server = Server(model, tmp_path / "jumping", DATABASE_URL=cluster.url, FAKETIME_DONT_FAKE_MONOTONIC="1", **faked)
    server.start()
    yield server
    server.stop()


def begin(server: Server, thread_id: str, text: str, **headers: str) -> str:
    """A background turn. Returns the id of its response."""
    body = {"input": text, "background": True, "custom_inputs": {"thread_id": thread_id}}
    return str(answered(httpx.post(f"{server.url}/responses", json=body, headers=headers, timeout=20))["id"])


def look(server: Server, response_id: str) -> tuple[str, str | None]:
    """The status of a response, and the code of its error."""
    response = answered(httpx.get(f"{server.url}/responses/{response_id}", timeout=20))
    return response["status"], (response["error"] or {}).get("code")


def ends_as(server: Server, response_id: str, status: str) -> tuple[str, str | None]:
    eventually(lambda: look(server, response_id)[0] == status)
    return look(server, response_id)


def pause(server: Server, seconds: float, meanwhile: Callable[[], Any]) -> Any:
    with server.paused():
        began = time.monotonic()
        result = meanwhile()
        time.sleep(max(0, began + seconds - time.monotonic()))
        return result


class TestPaused:
    def test_a_turn_that_was_given_up_stays_so_and_stores_nothing_more(self, far: Server, near: Server) -> None:
        response_id = begin(far, "paused", "slowly first")
        time.sleep(1)
        told = pause(far, SILENT_SECONDS, lambda: ends_as(near, response_id, "failed"))
        assert told == ("failed", "turn_lost")
        for _ in range(30):
            assert {look(far, response_id), look(near, response_id)} == {told}
            time.sleep(0.1)
        lost = answered(httpx.get(f"{near.url}/responses/{response_id}", timeout=20))["custom_outputs"]
        assert lost == {
            "thread_id": "paused",
            "checkpoint_id": near.travel("get_checkpoint_state", "paused")["checkpoint_id"],
        }
        assert near.say("paused", "second") == ["human: slowly first", "human: second"]

    def test_one_that_nobody_has_missed_goes_on(self, far: Server, near: Server) -> None:
        response_id = begin(far, "unmissed", "slowly first")
        time.sleep(1)
        pause(far, SILENT_SECONDS, lambda: None)
        assert ends_as(far, response_id, "completed") == look(near, response_id)

    def test_one_that_waits_for_its_thread_never_begins(self, far: Server, near: Server) -> None:
        begin(near, "queue", "slowly first")
        response_id = begin(far, "queue", "second")
        assert look(near, response_id)[0] == "queued"
        told = pause(far, SILENT_SECONDS, lambda: ends_as(near, response_id, "failed"))
        assert told == ("failed", "turn_not_begun")
        time.sleep(2)
        assert {look(far, response_id), look(near, response_id)} == {told}
        assert near.say("queue", "third")[-2:] == ["ai: Answer to slowly first", "human: third"]


class TestCutOff:
    """The far server's packets to the database are dropped."""

    def test_amid_a_turn(self, far: Server, near: Server, wire: Wire) -> None:
        response_id = begin(far, "cut", "slowly first")
        time.sleep(1)
        with wire.cut():
            told = ends_as(near, response_id, "failed")
            assert near.say("cut", "second") == ["human: slowly first", "human: second"]
        assert told == ("failed", "turn_lost")
        for _ in range(30):
            assert look(near, response_id) == told
            time.sleep(0.1)
        eventually(lambda: look(far, response_id) == told)
        third = near.say("cut", "third")
        assert third == ["human: slowly first", "human: second", "ai: Answer to second", "human: third"]

    def test_for_a_moment_only(self, far: Server, near: Server, wire: Wire) -> None:
        response_id = begin(far, "moment", "slowly first")
        time.sleep(1)
        with wire.cut():
            time.sleep(2)
        assert ends_as(near, response_id, "completed") == look(far, response_id)


def test_a_clock_that_jumps_loses_no_turn_and_puts_none_before_another(
    jumping: Server, near: Server, clock: Path
) -> None:
    said = ["before"]
    assert jumping.say("jumps", "before") == ["human: before"]
    for offset in ("+7200", "-7200", "+0"):
        response_id = begin(jumping, "jumps", f"slowly {offset}")
        time.sleep(0.5)
        clock.write_text(offset)
        assert ends_as(near, response_id, "completed") == look(jumping, response_id)
        said.append(f"slowly {offset}")
        for server in (near, jumping):  # each goes on from the newest
            text = f"after {offset} at {'the other' if server is near else 'the same'}"
            said.append(text)
            expected = [line for each in said[:-1] for line in (f"human: {each}", f"ai: Answer to {each}")]
            assert server.say("jumps", text) == [*expected, f"human: {text}"][-20:]
    checkpoints = near.travel("get_checkpoint_history", "jumps", limit=100)
    ids = [checkpoint["checkpoint_id"] for checkpoint in checkpoints]
    assert ids == sorted(ids, reverse=True)


def test_a_busy_event_loop_loses_no_turn(far: Server, near: Server) -> None:
    response_id = begin(far, "busy", "call blocking")
    for _ in range(SILENT_SECONDS * 10):
        status, _ = look(near, response_id)
        assert status in ("in_progress", "completed")
        time.sleep(0.1)
    assert ends_as(near, response_id, "completed")
    assert near.say("busy", "second")[-3:] == ["tool: blocking is done", "ai: Answer to call blocking", "human: second"]


def test_whoever_got_an_id_for_the_same_background_request_gets_the_answer(far: Server, near: Server) -> None:
    first = begin(near, "same", "slowly first")
    asking = [far, near, far, near]
    with ThreadPoolExecutor() as callers:
        ids = list(callers.map(lambda at: begin(at, "same", "second", **{"x-stainless-retry-count": "1"}), asking))
    for server in (far, near):
        for response_id in (first, *ids):
            assert ends_as(server, response_id, "completed")
    answers = [answered(httpx.get(f"{near.url}/responses/{response_id}")) for response_id in ids]
    assert [answer["id"] for answer in answers] == ids
    expected = ["human: slowly first", "ai: Answer to slowly first", "human: second"]
    assert [received(answer) for answer in answers] == [expected] * len(ids)
    assert near.say("same", "third") == [*expected, "ai: Answer to second", "human: third"]
