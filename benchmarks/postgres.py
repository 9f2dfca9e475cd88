"""The Postgres that a run measures on: a server of its own, a database for each design."""

import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

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


class Server(Protocol):
    """What can be started and stopped."""

    def start(self) -> str:
        """Start it. Returns its URL."""
        ...

    def stop(self) -> None:
        """Stop it."""
        ...


class DebianPostgres:
    """Debian's PostgreSQL, which has the extensions that others need."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
        if not found:
            raise RuntimeError("Other servers need Debian's PostgreSQL: apt-get install postgresql")
        self._programs = found[-1].parent
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))  # a short path: its socket is in it
        self._as_postgres = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if self._as_postgres:
            shutil.chown(self._folder, "postgres")

    def start(self) -> str:
        """Start it. Returns its URL."""
        self._run("initdb", "-U", "postgres", "-A", "trust", "--no-sync")
        self._run("pg_ctl", "-w", "-l", f"{self._folder}/log", "-o", f"-h '' -k {self._folder}", "start")
        return make_conninfo(host=str(self._folder), user="postgres", dbname="postgres")

    def stop(self) -> None:
        """Stop it, and remove its files."""
        self._run("pg_ctl", "-m", "fast", "stop")
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_postgres, str(self._programs / program), "-D", f"{self._folder}/data", *arguments]
        subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL)


class Postgres:
    """A running server."""

    def __init__(self, server: Server) -> None:
        self._server = server
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
