"""The agent on any Postgres that somebody would give it: the same conversations, with the same outcome."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import debian
import psycopg
import pytest
from conftest import say, text_of
from walking import at, fork, texts, user

from stateful_agent.errors import ThreadNotFound

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def debians() -> Iterator[str]:
    with debian.postgresql() as url:
        yield url


def travel(agent: Any) -> None:
    """All that can be done with a conversation, on a thread of its own."""
    first = say(agent, "I'm headed to SF!", thread_id="t")["custom_outputs"]
    say(agent, "Weather in SF and LA?", thread_id="t")
    fork(agent, first, "I'm headed to New York!")
    assert "New York" in text_of(say(agent, "Where am I going?", thread_id="t"))
    message = agent.get_checkpoint_state("t", first["checkpoint_id"])["messages"][0]
    agent.update_checkpoint_state("t", first["checkpoint_id"], [user("I'm headed to Oslo!", id=message["id"])])
    assert "Oslo" in text_of(say(agent, "Where am I going?", thread_id="t"))
    assert len(agent.list_branches("t")) == 3
    history = agent.get_checkpoint_history("t", 100)
    assert agent.get_checkpoint_history("t", 5, before=history[4]["checkpoint_id"]) == history[5:10]

    copy = agent.copy_thread("t")["thread_id"]
    assert texts(agent, thread_id=copy) == texts(agent)
    assert [thread["thread_id"] for thread in agent.list_threads()] == [copy, "t"]
    assert agent.prune(0)["threads"] == 2
    assert len(agent.get_checkpoint_history("t")) == 1
    assert "Oslo" in texts(agent, thread_id=copy)[-1]
    assert at(agent, [])["message_count"] == 4
    agent.delete_thread("t")
    with pytest.raises(ThreadNotFound):
        agent.get_checkpoint_history("t")


def test_the_embedded_one(make_agent: Make) -> None:
    travel(make_agent())


def test_an_older_one(make_agent: Make, debians: str) -> None:
    with psycopg.connect(debians) as connection:
        assert 140000 <= connection.info.server_version < 180000
    travel(make_agent(database_url=debians))


def test_through_a_proxy_that_pools_transactions(make_agent: Make, database: str) -> None:
    with debian.pgbouncer(database) as through:
        travel(make_agent(database_url=through))


def test_two_agents_at_the_same_time_through_a_proxy(make_agent: Make, database: str, rows: Callable[[], int]) -> None:
    with debian.pgbouncer(database) as through:
        agents = [make_agent(database_url=through) for _ in range(2)]

        def converse(n: int) -> None:
            one, other = agents[n % 2], agents[1 - n % 2]
            ref = {"thread_id": f"t{n}"}
            first = say(one, f"I'm headed to Place{n}!", **ref)["custom_outputs"]
            assert text_of(say(other, "Where am I going?", **ref)) == f"You said you are going to Place{n}."
            fork(one, first, f"I'm headed to Elsewhere{n}!")
            assert text_of(say(other, "Where am I going?", **ref)) == f"You said you are going to Elsewhere{n}."
            message = other.get_checkpoint_state(f"t{n}", first["checkpoint_id"])["messages"][0]
            edit = [user(f"I'm headed to Edit{n}!", id=message["id"])]
            one.update_checkpoint_state(f"t{n}", first["checkpoint_id"], edit)
            assert text_of(say(other, "Where am I going?", **ref)) == f"You said you are going to Edit{n}."
            assert len(one.get_checkpoint_history(f"t{n}", 100)) == 16
            other.delete_thread(f"t{n}")
            say(one, f"hello {n}", thread_id="shared")

        with ThreadPoolExecutor(16) as callers:
            list(callers.map(converse, range(16)))
        assert sorted(texts(agents[0], thread_id="shared")[::2]) == sorted(f"hello {n}" for n in range(16))
        assert len(agents[1].list_branches("shared")) == 1
        agents[1].delete_thread("shared")
        assert rows() == 0
