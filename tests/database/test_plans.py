"""The plans of a turn's statements, whatever else is stored, on Debian's PostgreSQL, which also compiles plans."""

from collections.abc import Iterator

import debian
import psycopg
import pytest
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
INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)
SELECT 'long ' || n, '', number, '{}', '{}' FROM generate_series(1, 3) AS n, generate_series(1, 4000) AS number;
ANALYZE
"""
"""Postgres knows only how long threads are on average, and expects to read far more of each."""


@pytest.fixture
def full() -> Iterator[str]:
    with debian.postgresql() as url:
        agent = LangGraphResponsesAgent(graph, Settings.model_validate({"database_url": url}))
        say(agent, "hello", thread_id="t")
        agent.close()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(FILL.encode())
        yield url


def test_a_turn_reads_no_whole_table_and_waits_for_no_compiler(full: str) -> None:
    plans: list[str] = []

    def note(notice: Diagnostic) -> None:
        plans.append(notice.message_primary or "")

    values = {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": None, "known_of": None, "known": "{}"}
    with psycopg.connect(full, autocommit=True) as connection:
        connection.execute("LOAD 'auto_explain'")
        for setting in ("log_min_duration = 0", "log_nested_statements = on", "log_analyze = on"):
            connection.execute(f"SET auto_explain.{setting}".encode())
        connection.execute("SET client_min_messages = log")
        connection.add_notice_handler(note)
        connection.execute(functions()["agent_read"].call.encode(), values)
        take = {
            "may_begin": True,
            "all_users": True,
            "owner": None,
            "holder": "00000000-0000-0000-0000-000000000000",
            "lease": "6 s",
            "ticket": 1,
            "response_id": "resp",
            "digest": b"",
            "is_retry": True,
        }
        [row] = connection.execute(functions()["agent_take"].call.encode(), values | take).fetchall()
    assert row[0] is not None
    inner = [plan for plan in plans if "agent_threads" in plan]
    assert len(inner) >= 2
    for plan in inner:
        assert "JIT" not in plan
        assert "Seq Scan on" not in plan
