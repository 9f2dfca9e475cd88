"""A response can be had again while it is made and for a while after, from any server on the database."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from threading import Event
from typing import Any

import httpx
import openai
import psycopg
import pytest
from conftest import eventually, http
from databases import dump, value
from listening_servers import answers_are_delivered, event_log_is_complete, served
from scripted import Scripted

from stateful_agent.database.pool import fetch
from stateful_agent.graph.build import build_graph
from stateful_agent.identity import ALL_USERS
from stateful_agent.responses.request import read_request
from stateful_agent.runs import event_log
from stateful_agent.runs.event_log import EVENTS, STORE_SECONDS, EventLog
from stateful_agent.runs.idempotency import attempt_of
from stateful_agent.runs.run import Run
from stateful_agent.runs.runs import Runs

Make = Callable[..., Any]

WORDS = [*"abcdefgh"]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture
def start(make_agent: Make) -> Iterator[Callable[..., str]]:
    """Starts servers on the test's database: of a model that says eight words, or of another."""
    with ExitStack() as running:

        def start(model: Scripted | None = None, **settings: Any) -> str:
            graph = build_graph(model or Scripted(*WORDS), [])
            return running.enter_context(served(make_agent(graph, **settings)))

        yield start


@pytest.fixture
def here(start: Callable[..., str]) -> str:
    return start()


@pytest.fixture
def there(start: Callable[..., str]) -> str:
    return start()


@pytest.fixture
def go_on() -> Event:
    return Event()


@pytest.fixture
def talking(start: Callable[..., str], go_on: Event) -> str:
    """A server whose model says its words, but has not finished until `go_on` is set."""
    return start(Scripted(*WORDS, go_on.is_set))


@cache
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def ask(url: str, thread_id: str = "t", text: str = "hi", **more: Any) -> Any:
    ref = {"custom_inputs": {"thread_id": thread_id}}
    return client(url).responses.create(model="m", input=text, extra_body=ref, **more)


def ended(url: str, response_id: str) -> Any:
    """The response, once it has ended."""
    eventually(lambda: client(url).responses.retrieve(response_id).status not in ("queued", "in_progress"))
    return client(url).responses.retrieve(response_id)


def head(url: str, thread_id: str = "t") -> str:
    return str(http.get(f"{url}/threads/{thread_id}/state").json()["checkpoint_id"])


def received(url: str, thread_id: str = "t") -> list[str]:
    messages = http.get(f"{url}/threads/{thread_id}/state").json()["messages"]
    return [message["content"][0]["text"] for message in messages]


class TestBackground:
    def test_the_id_comes_at_once_and_the_answer_later(self, talking: str, there: str, go_on: Event) -> None:
        begun = ask(talking, background=True)
        assert begun.status in ("queued", "in_progress")
        assert begun.output == []
        assert begun.custom_outputs == begun.metadata == {"thread_id": "t"}
        assert begun.tools == []
        go_on.set()
        response = ended(there, begun.id)
        assert (response.id, response.status, response.output_text) == (begun.id, "completed", "a b c d e f g h ")
        assert response.custom_outputs["checkpoint_id"]
        assert received(there) == ["hi", "a b c d e f g h "]

    def test_what_it_has_said_so_far(self, talking: str, there: str) -> None:
        begun = ask(talking, background=True)
        eventually(lambda: client(there).responses.retrieve(begun.id).status == "in_progress")

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"input": "hi", "custom_inputs": {"thread_id": "t", "checkpoint_id": "unknown"}}, 404),
            ({"input": [], "custom_inputs": {"thread_id": "t"}}, 400),
            ({"input": "hi", "custom_inputs": {"thread_id": ""}}, 400),
            ({"input": "hi", "store": False}, 400),
            ({"input": "hi", "store": False, "stream": True}, 400),
            ({"input": [], "custom_inputs": {"operation": "list_threads"}}, 400),
        ],
    )
    def test_what_is_refused_is_refused_at_once(
        self, here: str, database: str, body: dict[str, Any], status: int
    ) -> None:
        ask(here)
        refused = http.post(f"{here}/responses", json=body | {"background": True})
        assert refused.status_code == status
        time.sleep(0.5)
        with psycopg.connect(database) as connection:
            assert value(connection, "SELECT count(*) FROM agent_turns") == 1

    def test_background_is_true_or_false(self, here: str) -> None:
        refused = http.post(f"{here}/responses", json={"input": "hi", "background": "yes"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "background")

    def test_on_a_busy_thread_it_waits(self, talking: str, there: str, go_on: Event) -> None:
        first = ask(talking, background=True)
        second = ask(there, text="me too", background=True)
        assert second.status == "queued"
        go_on.set()
        assert ended(talking, second.id).status == "completed"
        assert ended(talking, first.id).status == "completed"
        assert received(talking)[::2] == ["hi", "me too"]

    def test_one_that_waited_too_long_says_so_when_asked(self, talking: str, start: Callable[..., str]) -> None:
        ask(talking, background=True)
        hasty = start(thread_timeout=0.1)
        response = ended(talking, ask(hasty, text="me too", background=True).id)
        assert (response.status, response.error.code) == ("failed", "thread_busy")


class TestElsewhere:
    """How a response has ended is final, and every process answers so at once."""

    @pytest.mark.parametrize("stream", [False, True])
    def test_an_answer(self, here: str, there: str, stream: bool) -> None:
        for _ in range(10):
            answer = [*ask(here, stream=True)][-1].response if stream else ask(here)
            assert client(there).responses.retrieve(answer.id) == answer

    def test_a_cancellation(self, talking: str, there: str) -> None:
        for _ in range(3):
            begun = ask(talking, background=True)
            cancelled = client(talking).responses.cancel(begun.id)
            assert cancelled.status == "cancelled"
            assert client(there).responses.retrieve(begun.id) == cancelled

    def test_what_runs_does_not_go_back(self, start: Callable[..., str], there: str) -> None:
        here = start(Scripted(*WORDS, pause=0.1))
        begun = ask(here, background=True)
        seen = [begun.status]
        while seen[-1] in ("queued", "in_progress"):
            seen += [client(url).responses.retrieve(begun.id).status for url in (here, there)]
        order = ["queued", "in_progress", "completed"]
        assert [order.index(status) for status in seen] == sorted(order.index(status) for status in seen)


class TestResuming:
    def test_a_cut_stream_goes_on_elsewhere_while_it_is_said(self, talking: str, there: str, go_on: Event) -> None:
        stream = ask(talking, stream=True)
        events = [next(stream) for _ in range(4)]
        stream.close()
        response_id = events[0].response.id
        assert client(talking).responses.retrieve(response_id).status == "in_progress"
        rest = client(there).responses.retrieve(response_id, stream=True, starting_after=events[-1].sequence_number)
        events.append(next(rest))
        go_on.set()
        events += rest
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert events[-1].type == "response.completed"
        assert events[-1].response.output_text == "a b c d e f g h "

    def test_all_events_are_the_same_wherever_and_whenever(self, start: Callable[..., str], there: str) -> None:
        here = start(Scripted(*WORDS, pause=0.1))  # so that they are stored little by little
        events = list(ask(here, stream=True))
        response_id = events[0].response.id
        for url in (here, there):
            ended(url, response_id)
            assert list(client(url).responses.retrieve(response_id, stream=True)) == events
            assert list(client(url).responses.retrieve(response_id, stream=True, starting_after=len(events) - 1)) == []
            assert client(url).responses.retrieve(response_id) == events[-1].response

    def test_an_answer_that_was_no_stream(self, here: str, there: str) -> None:
        answer = ask(here)
        assert ended(there, answer.id).output_text == answer.output_text

    def test_a_failure(self, start: Callable[..., str], there: str) -> None:
        failing = start(Scripted("a", failure=TimeoutError("too slow")))
        stream = ask(failing, stream=True)
        response_id = next(stream).response.id
        with pytest.raises(openai.APIError, match="too slow"):
            list(stream)
        response = ended(there, response_id)
        assert (response.status, response.error.code) == ("failed", "model_timed_out")
        assert response.custom_outputs["checkpoint_id"] == response.metadata["checkpoint_id"] == head(there)
        with pytest.raises(openai.APIError, match="too slow"):
            list(client(there).responses.retrieve(response_id, stream=True))

    @pytest.mark.parametrize("query", ["stream=yes", "starting_after=1", "stream=true&starting_after=-1"])
    def test_malformed(self, here: str, query: str) -> None:
        response_id = ask(here).id
        assert http.get(f"{here}/v1/responses/{response_id}?{query}").status_code == 400


class TestCancelling:
    def test_from_another_server(self, talking: str, there: str) -> None:
        begun = ask(talking, background=True)
        eventually(lambda: http.get(f"{there}/threads/t/state").status_code == 200)
        assert client(there).responses.cancel(begun.id).status == "cancelled"
        cancelled = ended(there, begun.id)
        assert (cancelled.status, cancelled.custom_outputs["checkpoint_id"]) == ("cancelled", head(there))
        assert ask(there, text="go on").output_text == "a b c d e f g h "
        assert received(there) == ["hi", "go on", "a b c d e f g h "]

    def test_who_listens_is_told(self, talking: str, there: str) -> None:
        stream = ask(talking, stream=True)
        response_id = next(stream).response.id
        client(there).responses.cancel(response_id)
        with pytest.raises(openai.APIError, match="was cancelled"):
            list(stream)

    def test_one_that_waits_for_its_thread(self, talking: str, there: str, go_on: Event) -> None:
        first, second = ask(talking, background=True), ask(talking, text="me too", background=True)
        assert client(there).responses.cancel(second.id).status == "cancelled"
        go_on.set()
        assert ended(there, first.id).status == "completed"
        assert received(there) == ["hi", "a b c d e f g h "]

    def test_one_that_has_ended_stays_as_it_is(self, here: str, there: str) -> None:
        answer = ask(here)
        assert client(here).responses.cancel(answer.id).status == "completed"
        ended(there, answer.id)
        assert client(there).responses.cancel(answer.id).output_text == answer.output_text


class TestKeeping:
    def test_nobody_else_can_tell_that_it_exists(self, start: Callable[..., str], go_on: Event) -> None:
        url = start(Scripted(*WORDS, go_on.is_set), trusted_identity="X-User")
        body = {"input": "hi", "background": True}

        def ask(user: str, method: str, path: str, **more: Any) -> httpx.Response:
            return http.request(method, f"{url}/responses{path}", headers={"X-User": user}, **more)

        def nobody_can_tell() -> None:
            for method, path in [("GET", ""), ("GET", "?stream=true"), ("POST", "/cancel")]:
                theirs = ask("bob", method, f"/{mine}{path}")
                nobodys = ask("bob", method, f"/resp_unknown{path}")
                assert theirs.status_code == 404
                assert theirs.json() == nobodys.json()
            assert http.get(f"{url}/responses/{mine}").status_code == 401

        mine = ask("alice", "POST", "", json=body).json()["id"]
        eventually(lambda: ask("alice", "GET", f"/{mine}").json()["status"] == "in_progress")
        nobody_can_tell()
        go_on.set()
        eventually(lambda: ask("alice", "GET", f"/{mine}").json()["status"] == "completed")
        nobody_can_tell()

    def test_it_is_encrypted(self, start: Callable[..., str], database: str) -> None:
        key = {"langgraph_aes_key": "k" * 32}
        answer = ask(start(Scripted("heliotrope"), **key))
        there = start(**key)
        assert ended(there, answer.id).output_text == "heliotrope "
        assert b"response.completed" not in (stored := dump(database))
        assert b"heliotrope" not in stored

    def test_it_goes_with_its_thread_and_into_no_copy(self, here: str, database: str) -> None:
        answer = ask(here)
        event_log_is_complete(database)
        http.post(f"{here}/threads/t/copy")
        with psycopg.connect(database, autocommit=True) as connection:
            assert value(connection, "SELECT count(*) FROM agent_turns") == 1
            http.delete(f"{here}/threads/t")
            assert value(connection, "SELECT count(*) FROM agent_turns") == 0
            assert value(connection, "SELECT count(*) FROM agent_events") == 0
        with pytest.raises(openai.NotFoundError, match="no such response"):
            client(here).responses.retrieve(answer.id)

    def test_who_follows_from_elsewhere_is_told_that_it_was_deleted(self, talking: str, there: str) -> None:
        begun = ask(talking, background=True)
        rest = client(there).responses.retrieve(begun.id, stream=True)
        http.delete(f"{talking}/threads/t")
        with pytest.raises(openai.APIError, match="deleted"):
            list(rest)

    def test_it_is_swept_out(self, here: str, start: Callable[..., str], database: str) -> None:
        old, young = ask(here), ask(here, "u")
        answers_are_delivered(database)
        with psycopg.connect(database) as connection:
            connection.execute(
                "UPDATE agent_turns SET began_at = now() - interval '2 hours', "
                "alive_until = now() - interval '61 minutes' WHERE thread_id = 't'"
            )
        ask(start(), "v")
        eventually(lambda: http.get(f"{here}/responses/{old.id}").status_code == 404)
        assert client(here).responses.retrieve(young.id).status == "completed"
        assert received(here, "t") == ["hi", "a b c d e f g h "]

    def test_one_whose_server_died_has_failed(self, here: str, there: str, database: str) -> None:
        answer = ask(here)
        answers_are_delivered(database)
        with psycopg.connect(database) as connection:
            connection.execute("DELETE FROM agent_events WHERE first > 0")
            connection.execute("UPDATE agent_turns SET status = NULL, alive_until = now() - interval '1 second'")
        response = ended(there, answer.id)
        assert (response.status, response.error.code) == ("failed", "turn_lost")
        assert response.custom_outputs["checkpoint_id"] == answer.custom_outputs["checkpoint_id"]
        with pytest.raises(openai.APIError, match="died"):
            list(client(there).responses.retrieve(answer.id, stream=True))

    def test_one_of_which_nothing_was_stored_names_no_checkpoint(self, here: str, there: str, database: str) -> None:
        ask(here)
        answer = ask(here)
        answers_are_delivered(database)
        with psycopg.connect(database) as connection:
            connection.execute("DELETE FROM agent_events")
            connection.execute("DELETE FROM checkpoints WHERE metadata ->> 'response_id' = %s", [answer.id])
            connection.execute("UPDATE agent_turns SET status = NULL, alive_until = now() - interval '1 second'")
        response = ended(there, answer.id)
        assert (response.error.code, response.custom_outputs) == ("turn_lost", {"thread_id": "t"})

    def test_one_whose_server_was_stopped_has_failed(self, make_agent: Make, there: str) -> None:
        with served(make_agent(build_graph(Scripted(*WORDS, Event().is_set), []))) as url:
            begun = ask(url, background=True)
        response = client(there).responses.retrieve(begun.id)
        assert response.error
        assert (response.status, response.error.code) == ("failed", "shutting_down")

    def test_without_an_event_log(self, start: Callable[..., str], database: str) -> None:
        url = start(event_log_seconds=0)
        answer = ask(url)
        with pytest.raises(openai.BadRequestError, match="EVENT_LOG_SECONDS"):
            ask(url, background=True)
        with pytest.raises(openai.NotFoundError):
            client(url).responses.retrieve(answer.id)
        with psycopg.connect(database) as connection:
            assert value(connection, "SELECT count(*) FROM agent_turns") == 0


def test_many_streams_share_the_statements(make_agent: Make, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    execute = psycopg.AsyncConnection.execute
    stores: list[float] = []

    async def counted(connection: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        if query == EVENTS["store_events"]:
            stores.append(time.monotonic())
        return await execute(connection, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", counted)
    agent = make_agent(build_graph(Scripted(*WORDS * 3, pause=0.1), []))
    with served(agent) as url:
        streams = [ask(url, f"t{n}", stream=True) for n in range(20)]
        for stream in streams:
            list(stream)
        event_log_is_complete(database)
    # Heartbeats pause in between, however slow the machine is; each stream on its own would make ten of them.
    heartbeats = (stores[-1] - stores[0]) / STORE_SECONDS + 1
    ends = 20
    assert len(stores) <= heartbeats + ends + 1


def test_two_statements_at_once_do_not_store_the_same_events_twice(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run is stored beside the heartbeat's statement, and the reply to the first may come last."""
    slow = asyncio.Event()
    stores: list[Any] = []

    async def first_is_slow(pool: Any, query: Any, values: Any) -> Any:
        rows = await fetch(pool, query, values)
        if query == EVENTS["store_events"]:
            stores.append(query)
            if len(stores) == 1:
                await slow.wait()
        return rows

    async def store_twice() -> list[int]:
        log = EventLog(agent.database, agent.store, agent.loop, 3600)
        attempt = attempt_of({}, {"input": "hi", "custom_inputs": {"thread_id": "t"}}, None, sha256)
        events = [event async for event in agent.aevents({"input": "hi", "custom_inputs": {"thread_id": "t"}}, attempt)]
        run = Run(attempt)
        log.running[attempt.response_id] = run
        monkeypatch.setattr(event_log, "fetch", first_is_slow)
        run.events = events[:3]
        first = asyncio.create_task(log.store())
        await asyncio.sleep(0.1)
        run.events = events[:5]
        second = asyncio.create_task(log.store())
        await asyncio.sleep(0.1)
        slow.set()
        await asyncio.gather(first, second)
        run.events = events
        await log.store()
        return [event["sequence_number"] for event in (await log.read(attempt.response_id, ALL_USERS)).events]

    agent.open()
    numbers = agent.loop.run(store_twice())
    assert numbers == list(range(len(numbers)))


def test_a_stream_that_nobody_reads_to_its_end_is_not_delivered(agent: Any, database: str) -> None:
    async def left() -> bool:
        return True

    async def be_answered() -> None:
        log = EventLog(agent.database, agent.store, agent.loop, 3600)
        body = {"input": "hi", "custom_inputs": {"thread_id": "t"}}
        async for _ in Runs(agent, log).stream(read_request(body), attempt_of({}, body, None, sha256), None, left):
            pass
        await log.store()

    agent.loop.run(be_answered())
    with psycopg.connect(database) as connection:
        assert not value(connection, "SELECT is_delivered FROM agent_turns")
