from typing import Any

import psycopg
from psycopg.errors import Diagnostic

from stateful_agent.database.functions import Function


def test_a_function_is_planned_once_for_each_connection(database: str) -> None:
    function = Function("agent_sum", "SELECT %(a)s + %(b)s", takes="a integer, b integer", returns="sum integer")
    with psycopg.connect(database, autocommit=True) as connection:
        said: list[str] = []
        connection.add_notice_handler(lambda notice: said.append(_message(notice)))
        connection.execute(function.definition)
        values: dict[str, Any] = {"a": 1, "b": 2}
        connection.execute(function.call, values)
        connection.execute("SET client_min_messages = log")
        connection.execute("SET log_planner_stats = on")
        connection.execute(function.call, values)
        connection.execute("SET log_planner_stats = off")
        connection.execute(f"DROP FUNCTION {function.name}")

    assert said.count("PLANNER STATISTICS") == 1  # of the statement that calls it


def _message(notice: Diagnostic) -> str:
    return notice.message_primary or ""
