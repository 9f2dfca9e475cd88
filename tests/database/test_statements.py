import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from conftest import say
from psycopg.errors import Diagnostic

from stateful_agent.database.statements import SQL, Function, functions, statements


def test_a_function_is_planned_once_for_each_connection(database: str) -> None:
    function = Function(
        "agent_sum",
        """
        CREATE FUNCTION agent_sum(_a integer, _b integer) RETURNS TABLE (sum integer)
        LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
        AS $$ BEGIN RETURN QUERY SELECT _a + _b; END $$
        """,
    )
    with psycopg.connect(database, autocommit=True) as connection:
        notices: list[str] = []
        connection.add_notice_handler(lambda notice: notices.append(_message(notice)))
        connection.execute(function.definition)
        values: dict[str, Any] = {"a": 1, "b": 2}
        connection.execute(function.call, values)
        connection.execute("SET client_min_messages = log")
        connection.execute("SET log_planner_stats = on")
        connection.execute(function.call, values)
        connection.execute("SET log_planner_stats = off")
        connection.execute(f"DROP FUNCTION {function.name}")

    assert notices.count("PLANNER STATISTICS") == 1  # of the statement that calls it


def _message(notice: Diagnostic) -> str:
    return notice.message_primary or ""


VALUES: dict[str, Any] = {
    "all_users": True,
    "checkpoint_id": None,
    "digest": None,
    "holder": uuid.uuid4(),
    "is_retry": False,
    "known_of": None,
    "lease": timedelta(seconds=6),
    "owner": None,
    "response_id": None,
    "former_id": None,
    "limit": 10,
    "step": 10,
    "age": 1,
    "lock": 1,
    "first": 0,
    "after": 0,
    "message_count": 0,
    "tables": [],
    "functions": [],
    "ctid": "(0,1)",
    "created_at": datetime.now(UTC),
}

SUBJECTS = [file.name.removesuffix(".sql") for file in SQL.iterdir() if file.name.endswith(".sql")]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_statement_can_be_explained(database: str, subject: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for name, statement in statements(subject).items():
            values = dict.fromkeys(re.findall(r"%\((\w+)\)s", statement))
            typed = {key: VALUES.get(key) for key in values}
            assert connection.execute(f"EXPLAIN {statement}".encode(), typed).fetchall(), name


def test_functions_can_be_made_from_their_files_as_they_are(own_database: str) -> None:
    with psycopg.connect(own_database, autocommit=True) as connection:
        for name in ("agent_read", "agent_take", "agent_store"):
            connection.execute((SQL / "functions" / f"{name}.sql").read_text().encode())
        found = connection.execute("SELECT thread_id FROM agent_read('t', '', NULL, NULL, '{}')").fetchall()
    assert found == []


def test_a_function_that_calls_another_has_its_version_in_its_own() -> None:
    read, take = functions()["agent_read"], functions()["agent_take"]
    assert f"{read.name}(" in take.definition
    assert "agent_read(" not in take.definition


def test_a_run_that_waits_reads_no_checkpoint(agent: Any, database: str) -> None:
    """The thread is another's: nothing of it is looked up but who has it."""
    say(agent, "hello", thread_id="t")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE agent_threads SET held_until = 'infinity'")
        values = VALUES | {"thread_id": "t", "checkpoint_ns": "", "may_begin": False, "known": "{}", "ticket": 1}
        [row] = connection.execute(functions()["agent_take"].call.encode(), values).fetchall()
    assert row[0] is None
    assert row[8:] == (None,) * 10


CONVERSATION = {"agent_threads", "agent_messages", "checkpoints", "checkpoint_blobs", "checkpoint_writes"}
"""The tables that grow with what is said."""

OVER_ALL_THREADS = {
    "find_owned": "a user's thread, by the two ids that it may have",
    "list_owned": "some of a user's threads",
    "list_threads": "a user's threads",
    "find_response": "the thread of a response, by its id",
    "read_run": "whose a response is, by its id",
    "end_lost_run": "the run of a response, by its id",
    "cancel_run": "the run of a response, by its id",
    "delete_response": "the run of a response, by its id",
    "renew_leases": "those that a process holds",
    "list_prunable": "what `prune` goes through",
    "list_thread_ids": "what `encrypt-anew` goes through",
    "read_threads": "whether the table is there",
}
"""The statements that go beyond one thread, and why."""


def test_every_row_of_a_conversation_has_its_thread_in_its_key(database: str) -> None:
    query = """
        SELECT table_name FROM information_schema.table_constraints NATURAL JOIN information_schema.key_column_usage
        WHERE constraint_type = 'PRIMARY KEY' AND column_name = 'thread_id'
    """
    with psycopg.connect(database) as connection:
        assert {name for (name,) in connection.execute(query)} == CONVERSATION


def test_every_statement_about_conversations_keeps_to_one_thread() -> None:
    beyond = set()
    for subject in SUBJECTS:
        for name, statement in statements(subject).items():
            keeps_to_one = re.search(r"thread_id = %\(\w*thread_id\)s|VALUES \(%\(thread_id\)s", statement)
            if not keeps_to_one and any(re.search(rf"\b{table}\b", statement) for table in CONVERSATION):
                beyond.add(name)
    assert beyond == set(OVER_ALL_THREADS)
