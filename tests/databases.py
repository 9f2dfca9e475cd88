"""Databases of real servers, and what is in them."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from pydantic import SecretStr


def make_postgres(folder: Path) -> None:
    from stateful_agent.checkpoints.tables import database_for
    from stateful_agent.database.embedded import EmbeddedPostgres
    from stateful_agent.settings import Settings

    server = EmbeddedPostgres(folder / "data")
    url = server.start()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE template")
        # Nothing of this is to outlive the machine. Making and dropping a database waits for the disk otherwise.
        connection.execute("ALTER SYSTEM SET fsync = off")
    asyncio.run(database_for(Settings(database_url=SecretStr(in_database(url, "template")))).set_up())
    server.stop()


@contextmanager
def new_database(postgres: str, *, template: str = "template") -> Iterator[str]:
    """The URL of a database of one's own, for as long as it is needed: with our tables, unless another is copied."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        yield in_database(postgres, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def dump(database: str, *tables: str) -> bytes:
    """What tables hold, all if none is named, as it is: text in JSON, in bytes or in a column looks the same."""
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        content = b""
        for table in tables or [name for (name,) in found]:
            with connection.cursor().copy(f"COPY {table} TO STDOUT (FORMAT binary)".encode()) as rows:
                content += b"".join(rows)
    return content


def in_database(url: str, name: str) -> str:
    return psycopg.conninfo.make_conninfo(url, dbname=name)


def value(connection: psycopg.Connection, query: str, *args: Any) -> Any:
    """The one value that a query returns."""
    row = connection.execute(query.encode(), args).fetchone()
    assert row
    return row[0]


def left_running(folder: Path) -> list[psutil.Process]:
    """The processes of embedded servers in a folder that are still there when one that stops has ended."""
    found = psutil.process_iter(["cmdline"])
    servers = [process for process in found if str(folder) in " ".join(process.info["cmdline"] or [])]
    return psutil.wait_procs(servers, timeout=2)[1]
