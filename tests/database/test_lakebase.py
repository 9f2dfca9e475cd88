import asyncio
import builtins
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from conftest import eventually, free_port, say, text_of
from databases import in_database, value
from psycopg import sql
from pydantic import SecretStr
from workspace import DATABASE, ENDPOINT, USER, Workspace

from stateful_agent.checkpoints.tables import database_for
from stateful_agent.database.lakebase import location_of
from stateful_agent.errors import AgentError, Misconfigured, StorageUnavailable
from stateful_agent.settings import Settings

INSTANCE: dict[str, Any] = {"lakebase_instance_name": "memory"}
WAYS: dict[str, dict[str, Any]] = {
    "Lakebase instance 'memory'": INSTANCE,
    f"Lakebase endpoint '{ENDPOINT}'": {"lakebase_autoscaling_endpoint": ENDPOINT},
    "Lakebase project 'trips', branch 'production'": {
        "lakebase_autoscaling_project": "trips",
        "lakebase_autoscaling_branch": "production",
    },
}


def in_pool(use: Any, **settings: Any) -> Any:
    """What `use` returns of an open pool."""

    async def run() -> Any:
        storage = database_for(Settings(**settings))
        try:
            return await use(await storage.pool())
        finally:
            await storage.close()

    return asyncio.run(run())


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_conversation_is_kept_there(workspace: Workspace, make_agent: Any, way: dict[str, Any]) -> None:
    first, second = (make_agent(database_url=None, **way) for _ in range(2))
    say(first, "I'm headed to SF!", thread_id="t")
    assert text_of(say(second, "Where am I going?", thread_id="t")) == "You said you are going to SF."
    with psycopg.connect(in_database(workspace.postgres, DATABASE)) as connection:
        assert connection.execute("SELECT thread_id FROM agent_threads").fetchall() == [("t",)]


@pytest.mark.parametrize(("words", "way"), WAYS.items())
def test_it_says_where_state_lives(words: str, way: dict[str, Any]) -> None:
    assert database_for(Settings(**way)).description == words


def test_its_pool_is_like_that_of_any_other_home(workspace: Workspace, database: str) -> None:
    async def traits(opened: Any) -> Any:
        pool = opened.connections
        async with pool.connection() as connection:
            row = await (await connection.execute("SELECT 1 AS one")).fetchone()
            of_connection = (connection.autocommit, connection.prepare_threshold, row)
        return type(pool), pool.name, pool.min_size, pool.max_size, pool.timeout, of_connection

    sizes: dict[str, Any] = {"database_pool_size": 3, "database_timeout": 4.5}
    there = in_pool(traits, **INSTANCE, **sizes)
    assert there == in_pool(traits, database_url=SecretStr(database), **sizes)
    assert there[-1] == (True, None, {"one": 1})


def test_a_conversation_goes_on_when_its_token_expires(
    workspace: Workspace, make_agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make_agent(database_url=None, **INSTANCE)
    say(agent, "I'm headed to SF!", thread_id="t")
    (first,) = workspace.tokens
    workspace.connect(first).close()
    with pytest.raises(psycopg.OperationalError):
        workspace.connect(first, sslmode="disable")

    workspace.expire()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        workspace.connect(first)
    assert "SF" in text_of(say(agent, "Where am I going?", thread_id="t"))  # an open connection outlives its token
    assert workspace.tokens == [first]

    later = time.time() + 16 * 60  # a token is used for 15 minutes
    monkeypatch.setattr("databricks_ai_bridge.lakebase.time", SimpleNamespace(time=lambda: later))
    with ThreadPoolExecutor(8) as callers:  # the pool grows
        answers = list(callers.map(lambda n: say(agent, "hello", thread_id=f"{n}"), range(8)))
    assert len(answers) == 8
    first, second = workspace.tokens

    eventually(lambda: open_connections(workspace) > 1)  # the second token's may still be opening
    end_connections(workspace)
    assert "SF" in text_of(say(agent, "Where am I going?", thread_id="t"))
    assert workspace.tokens == [first, second]
    workspace.connect(second).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        workspace.connect(first)


def open_connections(workspace: Workspace) -> int:
    with psycopg.connect(workspace.postgres, autocommit=True) as connection:
        return int(value(connection, "SELECT count(*) FROM pg_stat_activity WHERE usename = %s", USER))


def end_connections(workspace: Workspace) -> None:
    with psycopg.connect(workspace.postgres, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [USER])


def test_a_slow_workspace_holds_up_nobody(workspace: Workspace) -> None:
    workspace.delay = 1

    async def longest_wait() -> float:
        storage = database_for(Settings(**INSTANCE))
        opening = asyncio.create_task(storage.pool())
        longest = 0.0
        while not opening.done():
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - begun)
        assert opening.result()
        await storage.close()
        return longest

    assert asyncio.run(longest_wait()) < 2


def test_code_that_is_slow_to_import_is_no_slow_workspace(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_now, slow = builtins.__import__, {"databricks_ai_bridge.lakebase": 1.5}

    def import_slowly(name: str, *arguments: Any) -> Any:
        time.sleep(slow.pop(name, 0))  # only the first time
        return import_now(name, *arguments)

    async def use() -> None:
        storage = database_for(Settings(database_timeout=1, **INSTANCE))
        assert await storage.pool()
        await storage.close()

    monkeypatch.setattr(builtins, "__import__", import_slowly)
    asyncio.run(use())
    assert not slow


@pytest.mark.parametrize(
    ("failing", "error", "message"),
    [
        ({"instances": 404}, Misconfigured, "Unable to resolve Lakebase provisioned instance 'memory'"),
        ({"instances": 403}, Misconfigured, "Check DATABRICKS_HOST and the credentials"),
        ({"Me": 403}, Misconfigured, "Unable to infer username"),
        ({"credentials": 403}, Misconfigured, "Ensure the caller has access"),
        ({"instances": 500}, StorageUnavailable, "try again"),
        ({"instances": 503}, StorageUnavailable, "try again"),
        ({"credentials": 500}, StorageUnavailable, "try again"),
    ],
)
def test_the_workspace_refuses_or_fails_and_then_does_not(
    workspace: Workspace, failing: dict[str, int], error: type[AgentError], message: str
) -> None:
    async def use() -> None:
        storage = database_for(Settings(database_timeout=1, **INSTANCE))
        workspace.failing = failing
        with pytest.raises(error, match=message):
            await storage.pool()
        workspace.failing = {}
        await storage.pool()
        await storage.close()

    asyncio.run(use())


def test_no_such_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused() -> AgentError:
        begun = time.monotonic()
        with pytest.raises(AgentError) as refusal:
            await database_for(Settings(database_timeout=0.5, **INSTANCE)).pool()
        assert time.monotonic() - begun < 10
        return refusal.value

    monkeypatch.setenv("DATABRICKS_TOKEN", "wrong")
    assert isinstance(asyncio.run(refused()), Misconfigured)
    monkeypatch.setenv("DATABRICKS_AUTH_TYPE", "pat")
    monkeypatch.delenv("DATABRICKS_TOKEN")
    assert asyncio.run(refused()).message == "Lakebase needs a workspace: set DATABRICKS_HOST and credentials for it."
    monkeypatch.setenv("DATABRICKS_TOKEN", "any")
    monkeypatch.setenv("DATABRICKS_HOST", f"http://127.0.0.1:{free_port()}")
    assert isinstance(asyncio.run(refused()), StorageUnavailable)


def test_the_database_refuses(workspace: Workspace, postgres: str) -> None:
    async def nothing(_pool: Any) -> None: ...

    user = sql.Identifier(USER)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(user))
        with pytest.raises(StorageUnavailable):
            in_pool(nothing, **INSTANCE)
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(user))
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(DATABASE)))
        with pytest.raises(Misconfigured, match="set-up-database"):
            in_pool(nothing, **INSTANCE)


def test_no_token_is_told(workspace: Workspace, make_agent: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    agent = make_agent(database_url=None, **INSTANCE)
    answers = [say(agent, "hello"), repr(agent.settings), agent.database.description]
    workspace.failing = {"credentials": 403}
    with pytest.raises(Misconfigured) as refusal:
        make_agent(database_url=None, **INSTANCE).open()
    shown = f"{caplog.text} {answers} {refusal.value!r} {refusal.value.as_dict()}"
    assert "lakebase pool created" in shown
    for secret in (workspace.key, *workspace.tokens, *(token.split(".")[2] for token in workspace.tokens)):
        assert secret not in shown


@pytest.mark.parametrize(
    "named",
    [
        {"lakebase_autoscaling_project": "trips"},
        {"lakebase_autoscaling_branch": "production"},
        INSTANCE | {"lakebase_autoscaling_endpoint": ENDPOINT},
        INSTANCE | {"lakebase_autoscaling_branch": "production"},
        INSTANCE | {"database_url": SecretStr("postgresql://me:pa55word@db.example/agents")},
    ],
)
def test_half_a_name_or_two_are_refused(named: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="LAKEBASE_") as refusal:
        location_of(Settings(**named))
    assert "pa55word" not in refusal.value.message
    with pytest.raises(Misconfigured):
        asyncio.run(database_for(Settings(**named)).pool())
