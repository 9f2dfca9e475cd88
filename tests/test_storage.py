import asyncio
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from conftest import in_database, say, text_of
from pydantic import SecretStr

from stateful_agent.errors import CheckpointNotFound, Misconfigured, StorageUnavailable
from stateful_agent.saver import TurnSaver
from stateful_agent.serde import Serde
from stateful_agent.settings import Settings
from stateful_agent.storage import Storage


def test_the_description_holds_no_secret() -> None:
    storage = Storage(Settings(database_url=SecretStr("postgresql://me:pa55word@db.example/agents")))
    assert storage.description == "PostgreSQL database 'agents' on db.example"
    assert "pa55word" not in repr(storage._settings)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql//me:pa55word@db.example/agents",
        "postgresql://me:pa55%word@db.example/agents",
        "postgresql://me:x@pa55word@db.example/agents",
        "postgresql://me:1/pa55word@db.example/agents",
        "host=db.example pa55word",
    ],
)
def test_a_url_that_is_none_is_not_told(url: str, caplog: pytest.LogCaptureFixture) -> None:
    storage = Storage(Settings(database_url=SecretStr(url), database_timeout=0.3))
    for use in (lambda: storage.description, lambda: asyncio.run(use_pool(storage))):
        with pytest.raises(Misconfigured) as caught:
            use()
        assert "55word" not in str(caught.value)
    assert "55word" not in caplog.text


async def use_pool(storage: Storage) -> None:
    await storage.pool()


def set_up(url: str, outcome: Any) -> None:
    async def use() -> None:
        storage = Storage(Settings(database_url=SecretStr(url)))
        await storage.pool()
        await storage.close()

    asyncio.run(use())
    outcome.put("ok")


def test_many_processes_set_up_the_schema_at_once(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty")
    url = in_database(postgres, "empty")
    spawn = multiprocessing.get_context("spawn")
    outcome = spawn.Queue()
    processes = [spawn.Process(target=set_up, args=(url, outcome)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)


def test_a_role_that_may_only_read_and_write_rows(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS writer")
        connection.execute("CREATE ROLE writer LOGIN")
        connection.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO writer")

    async def use() -> None:
        storage = Storage(Settings(database_url=SecretStr(psycopg.conninfo.make_conninfo(database, user="writer"))))
        saver = TurnSaver(await storage.pool(), lambda *_: {}, Serde(Settings()))
        assert await saver.load("nowhere") is None
        with pytest.raises(CheckpointNotFound):
            await saver.load("nowhere", "nothing")
        await storage.close()

    asyncio.run(use())


def test_unreachable_now_and_reachable_later(database: str) -> None:
    async def use() -> None:
        storage = Storage(Settings(database_url=SecretStr(database + " port=1"), database_timeout=0.3))
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


def servers(folder: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if str(folder) in " ".join(process.info["cmdline"] or [])]


def test_the_embedded_server_stops_with_its_last_user(tmp_path: Path) -> None:
    async def use() -> None:
        first, second = (Storage(Settings(agent_data_dir=tmp_path)) for _ in range(2))
        await first.pool()
        await second.pool()
        await first.close()
        await TurnSaver(await second.pool(), lambda *_: {}, Serde(Settings())).load("t")
        await second.close()

    asyncio.run(use())
    assert servers(tmp_path) == []
