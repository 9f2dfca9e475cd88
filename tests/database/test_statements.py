from typing import Any

import psycopg
from psycopg.errors import Diagnostic

from stateful_agent.database.statements import Function


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
