import asyncio
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from conftest import say, text_of
from pydantic import SecretStr

from stateful_agent.checkpoints.lease import Leases
from stateful_agent.checkpoints.message_log import Memory
from stateful_agent.checkpoints.saver import TurnSaver
from stateful_agent.checkpoints.serializer import Serializer
from stateful_agent.database.pool import Database, fetch
from stateful_agent.errors import Misconfigured, StorageUnavailable
from stateful_agent.settings import Settings


def test_the_description_holds_no_secret() -> None:
    storage = Database(Settings(database_url=SecretStr("postgresql://me:pa55word@db.example/agents")))
    assert storage.description == "PostgreSQL database 'agents' on db.example"
    assert "pa55word" not in repr(storage._settings)


def test_a_url_that_is_none_is_refused_without_a_word_of_it() -> None:
    for url in ("postgres//me:pa55word@db", "postgresql://me:pa55word@db/agents?autocommit=off"):
        storage = Database(Settings(database_url=SecretStr(url)))
        with pytest.raises(Misconfigured) as refused:
            asyncio.run(storage.pool())
        assert "pa55word" not in "".join(traceback.format_exception(refused.value))
        with pytest.raises(Misconfigured):
            assert storage.description


def test_every_connection_commits_by_itself(database: str) -> None:
    url = database + " options='-c default_transaction_isolation=serializable'"

    async def use() -> None:
        storage = Database(Settings(database_url=SecretStr(url), database_pool_size=3))
        pool = await storage.pool()
        connections = [await pool.getconn() for _ in range(3)]
        assert [connection.autocommit for connection in connections] == [True] * 3
        for connection in connections:
            await pool.putconn(connection)
        await storage.close()

    asyncio.run(use())


def test_unreachable_now_and_reachable_later(database: str) -> None:
    async def use() -> None:
        storage = Database(Settings(database_url=SecretStr(database + " port=1"), database_timeout=0.3))
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await storage.pool()
        storage._settings = Settings(database_url=SecretStr(database))
        await storage.pool()
        await storage.close()

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


def servers(folder: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if str(folder) in " ".join(process.info["cmdline"] or [])]


def test_the_embedded_server_stops_with_its_last_user(tmp_path: Path) -> None:
    async def use() -> None:
        first, second = (Database(Settings(agent_data_dir=tmp_path)) for _ in range(2))
        await first.pool()
        await second.pool()
        await first.close()
        await TurnSaver(
            await second.pool(), Leases(await second.pool()), Memory(), lambda *_: {}, Serializer(Settings())
        ).load("t")
        await second.close()

    asyncio.run(use())
    assert servers(tmp_path) == []


@pytest.mark.parametrize("statement", ["SELECT 1", "SELECT pg_sleep(60)"])
def test_nobody_waits_for_ever(database: str, statement: Any) -> None:
    async def use() -> None:
        settings = Settings(database_url=SecretStr(database), database_pool_size=1, database_timeout=0.5)
        storage = Database(settings)
        pool = await storage.pool()
        taken = await pool.getconn() if statement == "SELECT 1" else None
        started = time.monotonic()
        with pytest.raises(StorageUnavailable) as refused:
            await fetch(pool, statement, {})
        assert time.monotonic() - started < 10
        assert refused.value.retry_after > 0
        if taken:
            await pool.putconn(taken)
        assert await fetch(pool, "SELECT 1 AS one", {}) == [{"one": 1}]
        await storage.close()

    asyncio.run(use())
