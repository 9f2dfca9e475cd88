"""The plans of the statements that a turn waits for, on a database that holds long threads."""

import json
from typing import Any

import psycopg
from conftest import say
from psycopg.errors import Diagnostic

from agent import graph
from stateful_agent import LangGraphResponsesAgent
from stateful_agent.database.statements import functions
from stateful_agent.settings import Settings

FILL = """
INSERT INTO agent_threads (thread_id) SELECT 'long ' || n FROM generate_series(1, 3) AS n;
INSERT INTO agent_messages (thread_id, number, type, blob)
SELECT 'long ' || n, number, 'msgpack', '' FROM generate_series(1, 3) AS n, generate_series(1, 4000) AS number;
INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
SELECT 'long ' || n, '', number, number - 1, '{}', '{}'
FROM generate_series(1, 3) AS n, generate_series(1, 4000) AS number;
ANALYZE
"""
"""Postgres knows only how long threads are on average, and expects to read far more of each."""

VALUES: dict[str, Any] = {
    "thread_id": "t",
    "former_id": None,
    "checkpoint_ns": "",
    "checkpoint_id": None,
    "known_of": None,
    "known": "{}",
    "may_begin": True,
    "all_users": True,
    "owner": None,
    "holder": "00000000-0000-0000-0000-000000000000",
    "lease": "6 s",
    "ticket": 1,
    "response_id": "resp",
    "digest": b"",
    "is_retry": True,
    "releases": False,
    "last_message": 0,
    "data": [],
} | dict.fromkeys(("blobs", "messages", "writes"), "[]")


def fill(url: str) -> None:
    """Make the agent's tables in a database, take a turn, and add what others have said."""
    agent = LangGraphResponsesAgent(graph, Settings.model_validate({"database_url": url}))
    say(agent, "hello", thread_id="t")
    agent.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL.encode())


def check_turn_plans(url: str) -> None:
    """Make sure that to read and write for a turn on thread `t` takes no whole table and no compiler."""
    plans: list[str] = []

    def note(notice: Diagnostic) -> None:
        plans.append(notice.message_primary or "")

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LOAD 'auto_explain'")
        for setting in ("log_min_duration = 0", "log_nested_statements = on", "log_analyze = on"):
            connection.execute(f"SET auto_explain.{setting}".encode())
        connection.execute("SET client_min_messages = log")
        connection.add_notice_handler(note)
        connection.execute(functions()["agent_read"].call.encode(), VALUES)
        [row] = connection.execute(functions()["agent_take"].call.encode(), VALUES).fetchall()
        assert row[0] is not None
        child = {"ns": "", "checkpoint_id": "~", "parent": row[7], "checkpoint": {}, "metadata": {}}
        new = VALUES | {"checkpoints": json.dumps([child])}
        assert connection.execute(functions()["agent_store"].call.encode(), new).fetchall() == [("t",)]
    inner = [plan for plan in plans if "agent_threads" in plan]
    assert len(inner) >= 3
    for plan in inner:
        assert "JIT" not in plan
        assert "Seq Scan on" not in plan
