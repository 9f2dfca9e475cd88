"""What responses have emitted is kept for a while: safe, whole, and no longer than it should be."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from threading import Event
from typing import Any

import httpx
import openai
import psycopg
import pytest
from asking import WORDS, ask, client, ended, received
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


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


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
        await log.close()

    agent.loop.run(be_answered())
    with psycopg.connect(database) as connection:
        assert not value(connection, "SELECT is_delivered FROM agent_turns")
