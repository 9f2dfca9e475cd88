import asyncio
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import say, text_of
from databases import left_running
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from stateful_agent.checkpoints.tables import database_for
from stateful_agent.database.pool import fetch
from stateful_agent.errors import Misconfigured, StorageUnavailable
from stateful_agent.settings import Settings


def test_the_description_holds_no_secret() -> None:
    database_ = database_for(Settings(database_url=SecretStr("postgresql://me:pa55word@db.example/agents")))
    assert database_.description == "PostgreSQL database 'agents' on db.example"
    assert "pa55word" not in repr(database_._settings)


def test_a_url_that_is_none_is_refused_without_a_word_of_it() -> None:
    for url in ("postgres//me:pa55word@db", "postgresql://me:pa55word@db/agents?autocommit=off"):
        database_ = database_for(Settings(database_url=SecretStr(url)))
        with pytest.raises(Misconfigured) as refused:
            asyncio.run(database_.pool())
        assert "pa55word" not in "".join(traceback.format_exception(refused.value))
        with pytest.raises(Misconfigured):
            assert database_.description


def test_every_connection_commits_by_itself(database: str) -> None:
    url = database + " options='-c default_transaction_isolation=serializable'"

    async def use() -> None:
        database_ = database_for(Settings(database_url=SecretStr(url), database_pool_size=3))
        pool = await database_.pool()
        connections = [await pool.connections.getconn() for _ in range(3)]
        assert [connection.autocommit for connection in connections] == [True] * 3
        for connection in connections:
            await pool.connections.putconn(connection)
        await database_.close()

    asyncio.run(use())


def test_unreachable_now_and_reachable_later(database: str) -> None:
    async def use() -> None:
        database_ = database_for(Settings(database_url=SecretStr(database + " port=1"), database_timeout=0.3))
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await database_.pool()
        database_._settings = Settings(database_url=SecretStr(database))
        await database_.pool()
        await database_.close()

    asyncio.run(use())


def test_all_connections_break_between_requests(make_agent: Any, database: str, postgres: str) -> None:
    agent = make_agent()

    def at_once() -> list[str]:
        with ThreadPoolExecutor(8) as callers:
            return list(callers.map(lambda n: text_of(say(agent, "hello", thread_id=f"{n}")), range(8)))

    before = at_once()
    with psycopg.connect(postgres, autocommit=True) as connection:
        name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
        ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
        row = connection.execute(ended, (name,)).fetchone()
    assert row
    assert row[0] > 1
    assert len(at_once()) == len(before)


@pytest.mark.parametrize("ask", ["copy_thread", "delete_thread", "prune", "list_threads"])
def test_a_connection_breaks_between_requests_of_any_kind(make_agent: Any, database: str, ask: str) -> None:
    agent = make_agent()
    for _ in range(2):
        say(agent, "hello", thread_id="t")
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    with psycopg.connect(database, dbname="postgres") as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
    arguments = {"prune": [0], "list_threads": []}.get(ask, ["t"])
    assert getattr(agent, ask)(*arguments)


def test_the_embedded_server_stops_with_its_last_user(tmp_path: Path) -> None:
    async def use() -> None:
        first, second = (database_for(Settings(agent_data_dir=tmp_path)) for _ in range(2))
        await first.pool()
        await second.pool()
        await first.close()
        assert await fetch(await second.pool(), "SELECT 1 AS one", {}) == [{"one": 1}]
        await second.close()

    asyncio.run(use())
    assert left_running(tmp_path) == []


def test_it_is_not_stopped_under_one_whose_connections_are_gone(tmp_path: Path) -> None:
    async def use() -> None:
        first, second = (database_for(Settings(agent_data_dir=tmp_path)) for _ in range(2))
        await first.pool()
        await (await second.pool()).connections.drain()
        hang_up = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        await fetch(await first.pool(), hang_up, {})
        await first.close()
        assert await fetch(await second.pool(), "SELECT 1 AS one", {}) == [{"one": 1}]
        await second.close()

    asyncio.run(use())
    assert left_running(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dbname": "none"}, "There is no database by the name that DATABASE_URL has. Trying again does not help."),
        ({"user": "nobody"}, "The database refuses the role or the password of DATABASE_URL."),
    ],
)
def test_a_database_that_will_not_let_us_in_says_so_at_once(database: str, change: Any, reason: str) -> None:
    database_ = database_for(Settings(database_url=SecretStr(make_conninfo(database, **change))))
    began = time.monotonic()
    with pytest.raises(Misconfigured, match=reason):
        asyncio.run(database_.pool())
    assert time.monotonic() - began < 5


def test_the_embedded_server_says_why_it_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "data" / "postgres").mkdir(parents=True)
    (tmp_path / "data" / "postgres" / "file").touch()
    database_ = database_for(Settings(agent_data_dir=tmp_path / "data"))
    with pytest.raises(Misconfigured, match=r"data: initdb: error: directory .* exists but is not empty") as refused:
        asyncio.run(database_.pool())
    assert "\n" not in str(refused.value)


def test_the_embedded_server_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    database_ = database_for(Settings(agent_data_dir=tmp_path / "file" / "data"))
    with pytest.raises(Misconfigured, match=r"cannot keep its files in .*data: Not a directory\. Set DATABASE_URL"):
        asyncio.run(database_.pool())


@pytest.mark.parametrize("statement", ["SELECT 1", "SELECT pg_sleep(60)"])
def test_nobody_waits_for_ever(database: str, statement: Any) -> None:
    async def use() -> None:
        settings = Settings(database_url=SecretStr(database), database_pool_size=1, database_timeout=0.5)
        database_ = database_for(settings)
        pool = await database_.pool()
        taken = await pool.connections.getconn() if statement == "SELECT 1" else None
        started = time.monotonic()
        with pytest.raises(StorageUnavailable) as refused:
            await fetch(pool, statement, {})
        assert time.monotonic() - started < 10
        assert refused.value.retry_after > 0
        if taken:
            await pool.connections.putconn(taken)
        assert await fetch(pool, "SELECT 1 AS one", {}) == [{"one": 1}]
        await database_.close()

    asyncio.run(use())
