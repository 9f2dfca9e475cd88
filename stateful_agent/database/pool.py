"""The pool of connections to the Postgres that state lives in.

A connection is borrowed for the milliseconds of each statement, never while a model answers. Nothing is opened before
it is needed.
"""

import asyncio
import logging
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from stateful_agent.database import lakebase, migrations
from stateful_agent.database.aside import Aside
from stateful_agent.database.embedded import EmbeddedPostgres
from stateful_agent.database.url import in_schema, read_url
from stateful_agent.errors import Misconfigured, StorageUnavailable
from stateful_agent.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

Connection = psycopg.AsyncConnection[DictRow]
Connections = AsyncConnectionPool[Connection]

LARGE_STATEMENT = 1024 * 1024
"""Bytes of a statement's values that are not handed over on the agent's own loop."""

CONNECTIONS_ASIDE = 2
"""For heartbeats, and for what is large."""

# Without prepared statements it also works behind a proxy that pools transactions.
CONNECTION: dict[str, Any] = {"autocommit": True, "row_factory": dict_row, "prepare_threshold": None}

REFUSALS = {
    r'database ".*" does not exist': "There is no database by the name that DATABASE_URL has.",
    r'authentication failed|role ".*" does not exist|no password supplied': (
        "The database refuses the role or the password of DATABASE_URL."
    ),
    r"no pg_hba\.conf entry": "The database lets this role in from other machines only, or with TLS (sslmode=require).",
}
"""What a database says when it will not let us in, and what that means. A refusal has no code of its own."""


@dataclass(frozen=True, eq=False)
class Pool:
    """The connections of an event loop, and beside them those of a loop that is never busy."""

    connections: Connections
    aside: "Aside[Pool] | None" = None
    """There is none on that loop itself."""

    async def close(self) -> None:
        """Hang up."""
        if self.aside:
            await self.aside.close()
        await self.connections.close()


class Database:
    """The agent's database. All of it belongs to the event loop that first uses it."""

    def __init__(self, settings: Settings, ledgers: migrations.Ledgers) -> None:
        """`ledgers` are the migrations of the tables that it is to have."""
        self._settings = settings
        self._ledgers = ledgers
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Task[Pool] | None = None
        self._embedded: EmbeddedPostgres | None = None

    @property
    def description(self) -> str:
        """Where state lives, in words that hold no secret.

        Raises:
            Misconfigured: the settings name no one database.
        """
        if location := lakebase.location_of(self._settings):
            return lakebase.in_words(location)
        if url := self._settings.database_url:
            parts = read_url(url.get_secret_value())
            return f"PostgreSQL database {parts.get('dbname')!r} on {parts.get('host', 'localhost')}"
        return f"embedded PostgreSQL in {self._settings.agent_data_dir / 'postgres'}"

    async def pool(self) -> Pool:
        """The pool of connections, open.

        Raises:
            Misconfigured: the settings name no one database, or one that does not let this agent in, or not to
                its tables.
            StorageUnavailable: the database cannot be reached.
        """
        loop = asyncio.get_running_loop()
        if self._opening is None or self._loop is not loop:  # another loop: after a fork, or a closed server
            self._loop, self._opening = loop, loop.create_task(self._open())
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except Exception:
            if self._opening is opening:  # the next request tries again
                self._opening = None
            raise

    async def close(self) -> None:
        """Close the pool, and stop the embedded server if nobody else uses it."""
        opening, self._opening = self._opening, None
        ours = self._loop is asyncio.get_running_loop()  # a forked child must not hang up on its parent's behalf
        if ours and opening is not None and opening.done() and not opening.exception():
            pool = opening.result()
            await pool.close()
            if self._embedded:
                self._embedded.leave()

    async def set_up(self, role: str | None = None) -> list[str]:
        """Create the tables or bring them up to date, as their owner; let `role` read and write their rows.

        Returns what was done, in words.

        Raises:
            Misconfigured: connections do not arrive in the schema that they should.
            psycopg.Error: the database cannot be reached, or does not let this role do it. Nothing was changed.
        """
        schema = self._settings.database_schema
        if lakebase.location_of(self._settings):
            async with await self._closed_pool("", 1, 1) as pool, pool.connection() as connection:
                return await migrations.set_up(connection, schema, role, self._ledgers)
        # Without a pool, which would only log why the database lets nobody in.
        async with await psycopg.AsyncConnection.connect(await self._url(), **CONNECTION) as connection:
            return await migrations.set_up(connection, schema, role, self._ledgers)

    def grants(self, role: str) -> list[str]:
        """The SQL that lets `role` read and write the tables' rows. Asks no database."""
        home = self._settings.database_schema or "public"
        return [f"{grant.as_string()};" for grant in migrations.grants(home, role, self._ledgers)]

    async def _open(self) -> Pool:
        async with unavailable_as_503():
            address = "" if lakebase.location_of(self._settings) else await self._url()
            if self._settings.database_url:
                await _check_entry(address, self._connection_options)
            pool = Pool(
                await self._closed_pool(address, 1, self._settings.database_pool_size),
                Aside(partial(self._open_aside, address)),
            )
            try:
                await pool.connections.open(wait=True, timeout=self._settings.database_timeout)
                async with borrow(pool) as connection:
                    await migrations.ensure(connection, self._settings.database_schema, self._ledgers)
            except BaseException:
                await pool.close()
                raise
        return pool

    async def _open_aside(self, address: str) -> Pool:
        connections = await self._closed_pool(address, 0, CONNECTIONS_ASIDE)
        await connections.open()
        return Pool(connections)

    async def _closed_pool(self, address: str, min_size: int, max_size: int) -> Connections:
        """So many connections to the database that the settings name, at `address` unless it is a Lakebase."""
        options: dict[str, Any] = {
            "min_size": min_size,
            "max_size": max_size,
            "timeout": self._settings.database_timeout,
            "name": "agent",
        }
        if location := lakebase.location_of(self._settings):
            return await lakebase.lakebase_pool(location, schema=self._settings.database_schema, **options)
        return AsyncConnectionPool(address, kwargs=self._connection_options, open=False, **options)

    @property
    def _connection_options(self) -> dict[str, Any]:
        return CONNECTION | {"connect_timeout": max(2, int(self._settings.database_timeout))}

    async def _url(self) -> str:
        """Where to connect. Starts the embedded server if there is no other."""
        if self._settings.database_url:
            url = self._settings.database_url.get_secret_value()
        else:
            self._embedded = EmbeddedPostgres(self._settings.agent_data_dir / "postgres")
            url = await asyncio.to_thread(self._embedded.start)
        return in_schema(url, self._settings.database_schema)


async def fetch(pool: Pool, query: LiteralString, values: Mapping[str, Any]) -> list[DictRow]:
    """The rows that a statement returns. It is asked as `with_connection` does its work."""

    async def ask(connection: Connection) -> list[DictRow]:
        return await (await connection.execute(query, values, binary=True)).fetchall()

    if pool.aside and _is_large(values):
        return await pool.aside.run(lambda beside: with_connection(beside, ask))
    return await with_connection(pool, ask)


def _is_large(values: Mapping[str, Any]) -> bool:
    """Whether a statement's values have megabytes."""
    parts = [part for value in values.values() for part in (value if isinstance(value, list) else [value])]
    return sum(len(part) for part in parts if isinstance(part, str | bytes)) > LARGE_STATEMENT


async def with_connection(pool: Pool, work: Callable[[Connection], Awaitable[T]]) -> T:
    """What `work` returns. It is done once more if the connection breaks, so it must bear that.

    Raises:
        StorageUnavailable: the database cannot be reached, or does not answer in time.
    """

    async def once() -> T:
        async with borrow(pool) as connection:
            return await work(connection)

    async with unavailable_as_503():
        asked = time.monotonic()
        try:
            return await once()
        except psycopg.OperationalError:
            # A timer may go off a few milliseconds early.
            if time.monotonic() - asked > 0.95 * pool.connections.timeout:
                raise
            await pool.connections.drain()  # after a restart, all idle connections are broken at once
            return await once()


@asynccontextmanager
async def borrow(pool: Pool) -> AsyncIterator[Connection]:
    """A connection for one statement or transaction, which breaks if that takes longer than the pool's timeout.

    A server that hangs obeys neither a cancellation nor a time limit of its own.
    """
    async with pool.connections.connection() as connection:
        deadline = asyncio.get_running_loop().call_later(pool.connections.timeout, _hang_up, connection)
        try:
            yield connection
        finally:
            deadline.cancel()


def _hang_up(connection: psycopg.AsyncConnection[Any]) -> None:
    logger.warning("The database does not answer: its connection is given up")
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


@asynccontextmanager
async def unavailable_as_503() -> AsyncIterator[None]:
    """Turn a failing connection into the error that asks the caller to try again."""
    try:
        yield
    except (psycopg.OperationalError, PoolTimeout) as error:
        logger.warning("The database cannot be reached: %s", error)
        raise StorageUnavailable() from error


async def _check_entry(url: str, kwargs: dict[str, Any]) -> None:
    """See that a database does not refuse us: a pool that opens would try until its time is up, and only log why.

    One that cannot be reached may be soon: that is left to the pool.

    Raises:
        Misconfigured: it will not let us in, however often we try.
    """
    try:
        await (await psycopg.AsyncConnection.connect(url, **kwargs)).close()
    except psycopg.OperationalError as error:
        for words, reason in REFUSALS.items():
            if re.search(words, str(error)):
                logger.warning("The database lets nobody in: %s", error)
                raise Misconfigured(f"{reason} Trying again does not help.") from error
