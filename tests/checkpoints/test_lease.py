"""One turn at a time on a thread, in the order of arrival, and no turn is lost. Agents here are as good as processes:
they share nothing but the database."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Event
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from conftest import ROOT, eventually, say, text_of
from databases import value
from langgraph.checkpoint.base import id as checkpoint_ids
from scripted import Scripted
from walking import texts, user

from stateful_agent.checkpoints import lease, saver, write_batch
from stateful_agent.checkpoints.attempt import Attempt
from stateful_agent.errors import AlreadyAnswered, CheckpointNotFound, ClockBehind, ThreadBusy, TurnOvertaken
from stateful_agent.graph.build import build_graph

Make = Callable[..., Any]


def begin(agent: Any, thread_id: str = "t") -> Any:
    """A stream that has emitted its first word."""
    stream = agent.predict_stream({"input": [user("begin")], "custom_inputs": {"thread_id": thread_id}})
    while next(stream).type != "response.output_text.delta":
        pass
    return stream


@pytest.fixture
def go_on() -> Event:
    return Event()


def slow(make_agent: Make, go_on: Event) -> Any:
    """An agent that answers in two words, the second when it is let."""
    return make_agent(build_graph(Scripted("one", go_on.is_set, "two"), []))


def test_turns_at_the_same_time_are_all_in_one_branch(make_agent: Make) -> None:
    agents = [make_agent(build_graph(Scripted("yes", pause=0.05), [])) for _ in range(2)]
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda n: say(agents[n % 2], f"question {n}", thread_id="t"), range(8)))
    received = texts(agents[0])
    assert sorted(received[::2]) == [f"question {n}" for n in range(8)]
    assert received[1::2] == ["yes "] * 8
    assert len(agents[0].list_branches("t")) == 1


def test_who_waits_is_served_in_order(make_agent: Make, go_on: Event, database: str) -> None:
    running, waiting = slow(make_agent, go_on), [make_agent() for _ in range(2)]
    stream = begin(running)
    with ThreadPoolExecutor(6) as callers, psycopg.connect(database, autocommit=True) as connection:
        for n in range(6):
            callers.submit(say, waiting[n % 2], f"question {n}", thread_id="t")
            eventually(lambda: value(connection, "SELECT count(*) FROM agent_waiting") == n + 1)  # noqa: B023
        go_on.set()
        list(stream)
    assert texts(running)[2::2] == [f"question {n}" for n in range(6)]


def test_who_has_the_thread_waits_no_more(
    make_agent: Make, go_on: Event, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lease.LEASES, "leave_queue", "SELECT")  # as if the database were away then
    running, waiting = slow(make_agent, go_on), make_agent()
    stream = begin(running)
    with ThreadPoolExecutor(1) as callers, psycopg.connect(database, autocommit=True) as connection:
        turn = callers.submit(say, waiting, "hello", thread_id="t")
        eventually(lambda: value(connection, "SELECT count(*) FROM agent_waiting"))
        go_on.set()
        list(stream)
        turn.result()
        assert value(connection, "SELECT count(*) FROM agent_waiting") == 0


def test_who_died_waiting_is_known_as_long_as_the_turn_is(make_agent: Make, go_on: Event, database: str) -> None:
    running, waiting = slow(make_agent, go_on), make_agent()
    stream = begin(running)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO agent_turns (response_id, thread_id, holder, alive_until) "
            "VALUES ('resp_dead', 't', gen_random_uuid(), now() - interval '1 hour')"
        )
        connection.execute(
            "INSERT INTO agent_waiting (holder, thread_id, waits_until) "
            "SELECT holder, thread_id, alive_until FROM agent_turns WHERE response_id = 'resp_dead' "
            "UNION ALL SELECT gen_random_uuid(), 't', now() - interval '1 hour'"
        )
        with ThreadPoolExecutor(1) as callers:
            turn = callers.submit(say, waiting, "hello", thread_id="t")
            eventually(lambda: value(connection, "SELECT count(*) FROM agent_waiting") == 3)
            go_on.set()
            list(stream)
            turn.result()
        assert value(connection, "SELECT count(*) FROM agent_waiting") == 1


def test_who_comes_later_does_not_push_in(make_agent: Make, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO agent_waiting (holder, thread_id, waits_until) "
            "VALUES (gen_random_uuid(), 't', now() + interval '1 second')"
        )
    started = time.monotonic()
    say(make_agent(), "hello", thread_id="t")
    assert time.monotonic() - started > 0.9


def test_who_waits_too_long_is_refused_and_nothing_is_written(make_agent: Make, go_on: Event, database: str) -> None:
    running, other = slow(make_agent, go_on), make_agent(thread_timeout=0.2)
    stream = begin(running)
    with pytest.raises(ThreadBusy) as busy:
        say(other, "me too", thread_id="t")
    assert (busy.value.status, busy.value.code) == (409, "thread_busy")
    with pytest.raises(ThreadBusy):
        other.update_checkpoint_state("t", other.get_checkpoint_history("t")[0]["checkpoint_id"], [user("me too")])
    go_on.set()
    list(stream)
    assert texts(running) == ["begin", "one two "]
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM agent_waiting").fetchone() == (0,)


def test_reading_waits_for_nobody(make_agent: Make, go_on: Event) -> None:
    running, other = slow(make_agent, go_on), make_agent()
    say(other, "hello", thread_id="t")
    stream = begin(running)
    other.get_checkpoint_state("t")
    other.get_checkpoint_history("t")
    other.list_threads()
    other.list_branches("t")
    go_on.set()
    assert list(stream)[-1].type == "response.completed"


class TestWhatChangesWhileATurnTakesTheThread:
    """The turn has begun to read, and waits for the row of its thread, which another changes."""

    @contextmanager
    def taking(self, agent: Any, database: str, **ref: str) -> Iterator[tuple[psycopg.Connection, Future[Any]]]:
        async def attempt() -> Any:
            request = {"input": [user("hello")], "custom_inputs": {"thread_id": "t", **ref}}
            async for event in agent.aevents(request, Attempt("resp_00000000000000000000000000000000", b"digest")):
                last = event
            return last["response"]

        locked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        with ThreadPoolExecutor(1) as callers, psycopg.connect(database) as other:
            other.execute("SELECT FROM agent_threads FOR UPDATE")
            turn = callers.submit(lambda: agent.loop.run(attempt()))
            with psycopg.connect(database, autocommit=True) as connection:
                eventually(lambda: value(connection, locked))
            yield other, turn
            other.execute("UPDATE agent_threads SET version = version + 1")

    def test_is_seen(self, agent: Any, database: str) -> None:
        first, _ = [say(agent, "hello", thread_id="t")["custom_outputs"] for _ in range(2)]
        with self.taking(agent, database) as (other, turn):
            other.execute("DELETE FROM checkpoints WHERE checkpoint_id > %s", (first["checkpoint_id"],))
        assert turn.result()["custom_outputs"]["parent_checkpoint_id"] == first["checkpoint_id"]

    def test_also_if_nothing_is_left_to_go_on_from(self, agent: Any, database: str) -> None:
        first, _ = [say(agent, "hello", thread_id="t")["custom_outputs"]["checkpoint_id"] for _ in range(2)]
        with self.taking(agent, database, checkpoint_id=first) as (other, turn):
            other.execute("DELETE FROM checkpoints WHERE checkpoint_id = %s", (first,))
        with pytest.raises(CheckpointNotFound):
            turn.result()
        with psycopg.connect(database) as connection:
            assert value(connection, "SELECT held_until = '-infinity' FROM agent_threads")

    def test_also_if_it_is_the_turn_of_the_same_call(self, agent: Any, database: str) -> None:
        say(agent, "hello", thread_id="t")
        with self.taking(agent, database) as (other, turn):
            other.execute(
                "INSERT INTO agent_turns (response_id, thread_id, holder, digest, alive_until, status) "
                "VALUES ('resp_00000000000000000000000000000000', 't', gen_random_uuid(), 'digest', now(), 'completed')"
            )
        with pytest.raises(AlreadyAnswered):
            turn.result()
        with psycopg.connect(database) as connection:
            assert value(connection, "SELECT held_until = '-infinity' FROM agent_threads")

    @pytest.mark.parametrize("digest", ["digest", "another"])
    def test_who_has_begun_to_wait_meanwhile_is_not_waited_for(
        self, make_agent: Make, database: str, digest: str
    ) -> None:
        agent = make_agent(thread_timeout=1)
        say(agent, "hello", thread_id="t")
        with self.taking(agent, database) as (other, turn):
            other.execute(
                "INSERT INTO agent_turns (response_id, thread_id, holder, digest, alive_until) "
                "VALUES ('resp_other', 't', gen_random_uuid(), %s, now() + interval '1 minute')",
                (digest.encode(),),
            )
            other.execute(
                "INSERT INTO agent_waiting (holder, thread_id, waits_until) "
                "SELECT holder, thread_id, alive_until FROM agent_turns"
            )
        assert turn.result()["status"] == "completed"


@pytest.fixture
def quick_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE", timedelta(seconds=1))
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.1)


@pytest.mark.usefixtures("quick_leases")
def test_a_long_turn_keeps_its_thread(make_agent: Make, go_on: Event) -> None:
    running, other = slow(make_agent, go_on), make_agent()
    stream = begin(running)
    with ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(say, other, "What is 2 + 2?", thread_id="t")
        time.sleep(2)  # twice as long as a lease
        go_on.set()
        list(stream)
        waiting.result()
    assert texts(running)[:3] == ["begin", "one two ", "What is 2 + 2?"]


@pytest.mark.usefixtures("quick_leases")
def test_a_holder_that_falls_silent_is_overtaken_and_can_write_no_more(
    make_agent: Make, go_on: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled, other = slow(make_agent, go_on), make_agent()
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 60)
    stream = begin(stalled)
    say(other, "What is 2 + 2?", thread_id="t")
    go_on.set()
    assert list(stream)[-1].code == TurnOvertaken.code
    received = texts(other)
    assert received[:2] == ["begin", "What is 2 + 2?"]
    assert len(other.list_branches("t")) == 1
    assert text_of(say(stalled, "and 3 + 3?", thread_id="t"))
    assert texts(other)[:3] == received


def test_a_thread_is_free_after_a_turn_that_failed(make_agent: Make) -> None:
    failing, other = make_agent(build_graph(Scripted(failure=RuntimeError()), [])), make_agent(thread_timeout=0)
    for _ in range(2):
        with pytest.raises(Exception, match="The agent failed"):
            say(failing, "hello", thread_id="t")
        say(other, "hello", thread_id="t")


def test_a_release_whose_reply_is_lost_can_be_said_again(make_agent: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(build_graph(Scripted("yes"), []))
    execute = psycopg.AsyncConnection.execute
    lost: list[Any] = []

    async def execute_and_lose(connection: Any, query: Any, values: Any = None, **kwargs: Any) -> Any:
        done = await execute(connection, query, values, **kwargs)
        if isinstance(values, dict) and "holder" in values and len(lost) < 3:
            lost.append(query)
            if len(lost) != 2:  # the first takes the thread, the third releases it
                raise psycopg.OperationalError("the reply was lost")
        return done

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", execute_and_lose)
    assert say(agent, "hello", thread_id="t")["status"] == "completed"
    assert len(lost) == 3
    assert texts(agent) == ["hello", "yes "]


REPLICA = """
import sys, time
from langgraph.checkpoint.base import id as ids

class Clock:
    behind = 0.0
    def time_ns():
        return time.time_ns() - int(Clock.behind * 1e9)

ids.time = Clock
from agent import LangGraphResponsesAgent, graph
from stateful_agent.settings import Settings

agent = LangGraphResponsesAgent(graph, Settings(database_url=sys.argv[1]))
agent.open()
print("ready", flush=True)
for line in sys.stdin:
    Clock.behind, ids._last_v6_timestamp = float(line), None  # as in a process that has just begun
    agent.predict({"input": [{"role": "user", "content": "there"}], "custom_inputs": {"thread_id": line.strip()}})
    print("done", flush=True)
"""


def test_a_replica_whose_clock_is_behind_loses_nothing(agent: Any, database: str) -> None:
    command = [sys.executable, "-c", REPLICA, database]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as replica:
        assert replica.stdin
        assert replica.stdout
        assert replica.stdout.readline() == "ready\n"
        for seconds in ("0.05", "0.2", "5", "86400"):
            for _ in range(2):
                say(agent, "here", thread_id=seconds)
                print(seconds, file=replica.stdin, flush=True)
                assert replica.stdout.readline() == "done\n"
            assert texts(agent, thread_id=seconds)[::2] == ["here", "there", "here", "there"]
            assert len(agent.list_branches(seconds)) == 1
        replica.stdin.close()


def test_a_clock_that_cannot_be_moved_on_is_refused(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    say(agent, "hello", thread_id="t")
    monkeypatch.setattr(saver, "advance_clock", lambda head: None)
    monkeypatch.setattr(checkpoint_ids, "time", SimpleNamespace(time_ns=lambda: time.time_ns() - 10**10))
    monkeypatch.setattr(checkpoint_ids, "_last_v6_timestamp", None)
    with pytest.raises(ClockBehind):
        say(agent, "hello again", thread_id="t")
    assert len(texts(agent)) == 2


def test_a_store_whose_reply_is_lost_while_another_run_takes_the_thread_was_stored_all_the_same(
    make_agent: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement that stores the end of a turn releases the lease. Repeated, it finds that of another run."""
    agent, other = make_agent(build_graph(Scripted("yes"), [])), make_agent(build_graph(Scripted("no"), []))
    monkeypatch.setattr(write_batch, "GATHER_SECONDS", 60)  # all is stored as the lease ends
    execute = psycopg.AsyncConnection.execute
    lost: list[Any] = []

    async def execute_and_lose(connection: Any, query: Any, values: Any = None, **kwargs: Any) -> Any:
        done = await execute(connection, query, values, **kwargs)
        if not lost and isinstance(values, dict) and values.get("releases"):
            lost.append(query)
            await asyncio.to_thread(say, other, "me too", thread_id="t")
            raise psycopg.OperationalError("the reply was lost")
        return done

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", execute_and_lose)
    assert say(agent, "hello", thread_id="t")["status"] == "completed"
    assert lost
    assert texts(agent) == ["hello", "yes ", "me too", "no "]
