import asyncio
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from conftest import say
from databases import value
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.base import CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from scripted import Scripted

from stateful_agent.checkpoints.attempt import Attempt
from stateful_agent.checkpoints.reader import config_at
from stateful_agent.errors import ThreadDeleted
from stateful_agent.graph.build import build_graph
from stateful_agent.identity import ALL_USERS

Make = Callable[..., Any]


def begin(agent: Any, thread_id: str) -> Any:
    """A stream that has emitted its first word."""
    stream = agent.predict_stream({"input": [{"role": "user", "content": "go"}], "custom_inputs": {"thread_id": "t"}})
    while next(stream).type != "response.output_text.delta":
        pass
    return stream


def test_any_langgraph_tool_can_read_what_is_stored(make_agent: Make, own_database: str) -> None:
    agent = make_agent(database_url=own_database)
    say(agent, "Weather in SF and LA?", thread_id="t")

    async def read() -> None:
        async with await psycopg.AsyncConnection.connect(own_database, autocommit=True) as connection:
            await connection.execute(
                "CREATE SCHEMA langgraph; CREATE VIEW langgraph.checkpoint_blobs AS SELECT * FROM agent_blobs"
            )
        async with AsyncPostgresSaver.from_conn_string(
            psycopg.conninfo.make_conninfo(own_database, options="-csearch_path=langgraph,public")
        ) as theirs:
            stored = [found async for found in theirs.alist(config_at("t"))]
        _, ours = await agent.store.graph_with_saver()
        assert [await ours._read(found.config) for found in stored] == stored
        assert len(stored) == 5

    asyncio.run(agent.loop.arun(read()))


def test_a_one_step_turn_asks_the_database_three_times(make_agent: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(build_graph(Scripted("one", pause=0.2), []))
    agent.open()
    statements: list[str] = []
    execute = psycopg.AsyncCursor.execute

    def counted(cursor: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        statements.append(query.split()[0])
        return execute(cursor, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", counted)
    asked = []
    for _ in range(4):
        statements.clear()
        say(agent, "hello", thread_id="t")
        asked.append(list(statements))
    assert ["SELECT", "SELECT", "SELECT"] in asked  # with a fourth if the event loop was held up


def test_connections_that_break_while_the_model_talks(make_agent: Make, database: str, postgres: str) -> None:
    agent = make_agent(build_graph(Scripted("one", "two", "three", pause=0.2), []))
    stream = begin(agent, "t")
    with psycopg.connect(postgres, autocommit=True) as connection:
        name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
    assert list(stream)[-1].type == "response.completed"
    assert agent.get_checkpoint_history("t")[0]["last_message"] == "one two three "


def test_a_deleted_thread_does_not_come_back(make_agent: Make, database: str, rows: Callable[[], int]) -> None:
    agent = make_agent(build_graph(Scripted("one", "two", "three", pause=0.2), []))
    stream = begin(agent, "t")
    while not rows():
        time.sleep(0.01)
    with psycopg.connect(database, autocommit=True) as connection:
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "agent_threads"):
            connection.execute(f"DELETE FROM {table}")
    assert list(stream)[-1].code == ThreadDeleted.code
    assert rows() == 0


def test_what_a_step_wrote_goes_with_the_next_checkpoint_but_the_results_of_calls_stay(
    agent: Any, database: str
) -> None:
    """A replay does not run again what has a result."""

    async def write() -> None:
        _, saver = await agent.store.graph_with_saver()
        metadata: CheckpointMetadata = {"source": "loop", "step": 0, "parents": {}}
        async with saver.lease("t", None, ALL_USERS, Attempt.unrecorded(), may_begin=True):
            first = await saver.aput(config_at("t"), empty_checkpoint(), metadata, {})
            await saver.aput_writes(first, [("messages", [AIMessage("hello")])], "text")
            await saver.aput_writes(first, [("messages", [ToolMessage("sunny", tool_call_id="1")])], "result")
            await saver.aput(first, empty_checkpoint(), metadata, {})

    agent.open()
    agent.loop.run(write())
    with psycopg.connect(database) as connection:
        assert value(connection, "SELECT array_agg(task_id) FROM checkpoint_writes") == ["result"]
