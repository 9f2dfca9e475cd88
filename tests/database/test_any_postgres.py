"""The agent on any Postgres that somebody would give it: the same conversations, with the same outcome."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import debian
import psycopg
import pytest
from conftest import say, text_of
from walking import fork, texts, travel, user

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def debians() -> Iterator[str]:
    with debian.postgresql() as url:
        yield url


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
