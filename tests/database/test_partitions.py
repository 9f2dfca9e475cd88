"""Tables that Postgres parts by thread, as docs/growing.md has it."""

from collections.abc import Callable
from typing import Any

import debian
import psycopg
import pytest
from conftest import say, text_of
from databases import value
from pydantic import SecretStr
from snippets import snippets
from turn_plans import check_turn_plans, fill
from walking import travel

from stateful_agent.deploy import encrypt_anew

PARTITION = next(block for block in snippets("docs/growing.md", "sql") if "PARTITION" in block)


@pytest.fixture
def parted(own_database: str) -> str:
    with psycopg.connect(own_database, autocommit=True) as connection:
        connection.execute(PARTITION.encode())
    return own_database


def test_all_that_can_be_done(make_agent: Callable[..., Any], parted: str) -> None:
    travel(make_agent(database_url=parted))


def test_a_turn_reads_no_whole_part() -> None:
    with debian.postgresql() as url:
        fill(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(PARTITION.encode())
            connection.execute("ANALYZE")
        check_turn_plans(url)


def test_what_is_there_is_moved(make_agent: Callable[..., Any], own_database: str) -> None:
    before = make_agent(database_url=own_database)
    say(before, "I'm headed to Oslo!", thread_id="t")
    before.close()
    with psycopg.connect(own_database, autocommit=True) as connection:
        connection.execute(PARTITION.encode())
    assert "Oslo" in text_of(say(make_agent(database_url=own_database), "Where am I going?", thread_id="t"))
    with psycopg.connect(own_database) as connection:  # as LangGraph's own saver reads it
        assert value(connection, "SELECT count(*) FROM agent_blobs WHERE channel = 'messages'") > 0


def test_it_can_be_encrypted_anew(make_agent: Callable[..., Any], parted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make_agent(database_url=parted, langgraph_aes_key=SecretStr("old-key-of-16-by"))
    threads = [f"t{n}" for n in range(5)]
    for thread_id in threads:
        say(old, f"I'm headed to {thread_id}!", thread_id=thread_id)
    with psycopg.connect(parted) as connection:
        assert value(connection, "SELECT count(DISTINCT tableoid) FROM checkpoints") > 1
    monkeypatch.setenv("DATABASE_URL", parted)
    monkeypatch.setenv("LANGGRAPH_AES_KEY", "new-key-of-24-bytes-long")
    monkeypatch.setenv("DECRYPTION_KEYS", "old-key-of-16-by")
    encrypt_anew(lambda words: None)
    new = make_agent(database_url=parted, langgraph_aes_key=SecretStr("new-key-of-24-bytes-long"))
    for thread_id in threads:
        assert thread_id in text_of(say(new, "Where am I going?", thread_id=thread_id))
