"""The Postgres that a run measures on: an embedded server of its own, a database for each design."""

import uuid
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from stateful_agent.database.embedded import EmbeddedPostgres

COLUMNS = """
    SELECT table_name, column_name, data_type FROM information_schema.columns
    JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name NOT LIKE '%migrations'
    ORDER BY table_name
"""
ON_DISK = """
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname NOT LIKE '%migrations'
"""
SIZES = {"bytea": "octet_length({})", "text": "octet_length({})", "jsonb": "octet_length({}::text)"}
OTHER_SIZE = "pg_column_size({})"


class Postgres:
    """A running server."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedPostgres(folder)
        self._url = self._server.start()

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return make_conninfo(self._url, dbname=name)

    def stop(self) -> None:
        """Stop it."""
        self._server.stop()


def bytes_held(url: str) -> int:
    """What all columns of all rows of a database hold, as they are before any compression."""
    with psycopg.connect(url) as connection:
        columns: dict[str, list[Any]] = {}
        for table, column, kind in connection.execute(COLUMNS):
            size = sql.SQL(SIZES.get(kind, OTHER_SIZE)).format(sql.Identifier(column))
            columns.setdefault(table, []).append(sql.SQL("coalesce({}, 0)").format(size))
        total = 0
        for table, sizes in columns.items():
            query = sql.SQL("SELECT coalesce(sum({}), 0) FROM {}").format(
                sql.SQL(" + ").join(sizes), sql.Identifier(table)
            )
            [held] = connection.execute(query).fetchone() or [0]
            total += int(held)
        return total


def bytes_on_disk(url: str) -> int:
    """What a database's tables take on disk, with their indexes."""
    with psycopg.connect(url) as connection:
        [size] = connection.execute(ON_DISK).fetchone() or [0]
        return int(size)
