"""The tables that state lives in, LangGraph's and ours, and their functions: made, brought up to date, checked.

All of them are in one schema, the first of the role's search_path. A change is one transaction: another process
waits for it and then finds it done, and one that is killed half-way has changed nothing.
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow

from stateful_agent.database.functions import FUNCTIONS, Function
from stateful_agent.errors import Misconfigured

Connection = psycopg.AsyncConnection[DictRow]

# Beside LangGraph's tables, what they do not say: which threads there are (at first, those that are there), whose they
# are, who may write on them at the moment and who waits for that, which response left which checkpoint, each message
# once (`agent_blobs` puts lists of them together as LangGraph stores them), and for a while what the turns have said. A
# database remembers how many of these it has had, so they are only ever added to; each bears being said again.
MIGRATIONS = [
    "CREATE TABLE IF NOT EXISTS agent_migrations (v integer PRIMARY KEY)",
    """
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
    """,
    """
    ALTER TABLE agent_threads
        DROP COLUMN IF EXISTS generation,
        ADD COLUMN IF NOT EXISTS owner text,
        ADD COLUMN IF NOT EXISTS version bigint NOT NULL DEFAULT 0,
        ADD COLUMN IF NOT EXISTS holder uuid,
        ADD COLUMN IF NOT EXISTS held_until timestamptz NOT NULL DEFAULT '-infinity';
    CREATE INDEX IF NOT EXISTS agent_threads_owner ON agent_threads (owner, updated_at) WHERE owner IS NOT NULL;
    CREATE TABLE IF NOT EXISTS agent_waiting (
        holder uuid PRIMARY KEY,
        thread_id text NOT NULL,
        ticket bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
        waits_until timestamptz NOT NULL
    );
    CREATE INDEX IF NOT EXISTS agent_waiting_thread_id ON agent_waiting (thread_id, ticket)
    """,
    """
    ALTER TABLE agent_threads ADD COLUMN IF NOT EXISTS messages integer NOT NULL DEFAULT 0;
    CREATE TABLE IF NOT EXISTS agent_messages (
        thread_id text,
        number integer,
        type text NOT NULL,
        blob bytea NOT NULL,
        PRIMARY KEY (thread_id, number)
    );
    CREATE OR REPLACE VIEW agent_blobs AS
    SELECT thread_id, checkpoint_ns, channel, version, replace(type, 'messages', 'msgpack') AS type,
        CASE type WHEN 'messages' THEN (
            SELECT '\\xdd'::bytea || int4send(count(*)::int) || string_agg(message.blob, '' ORDER BY nth, number)
            FROM regexp_matches(convert_from(list.blob, 'UTF8'), '(\\d+),(\\d+)', 'g')
                WITH ORDINALITY AS run (ends, nth)
            JOIN agent_messages AS message ON message.thread_id = list.thread_id
                AND number BETWEEN ends[1]::int AND ends[2]::int
        ) ELSE blob END AS blob
    FROM checkpoint_blobs AS list
    """,
    """
    CREATE TABLE IF NOT EXISTS agent_turns (
        response_id text PRIMARY KEY,
        thread_id text NOT NULL REFERENCES agent_threads ON DELETE CASCADE,
        holder uuid NOT NULL,
        digest bytea,
        began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        alive_until timestamptz NOT NULL,
        status text,
        is_cancelled boolean NOT NULL DEFAULT false,
        is_delivered boolean NOT NULL DEFAULT false
    );
    CREATE INDEX IF NOT EXISTS agent_turns_thread_id ON agent_turns (thread_id, digest);
    CREATE INDEX IF NOT EXISTS agent_turns_holder ON agent_turns (holder);
    CREATE TABLE IF NOT EXISTS agent_events (
        response_id text NOT NULL REFERENCES agent_turns ON DELETE CASCADE,
        first integer NOT NULL,
        last integer NOT NULL,
        type text NOT NULL,
        events bytea NOT NULL,
        PRIMARY KEY (response_id, first)
    )
    """,
]
LEDGERS: dict[str, Sequence[str]] = {
    "checkpoint_migrations": AsyncPostgresSaver.MIGRATIONS,
    "agent_migrations": MIGRATIONS,
}
"""The table that notes how many of which migrations a database has had; the first of them creates it."""

TABLES = [
    "checkpoints",
    "checkpoint_blobs",
    "checkpoint_writes",
    "agent_threads",
    "agent_waiting",
    "agent_messages",
    "agent_turns",
    "agent_events",
]
"""Whose rows the agent reads and writes."""

SET_UP_LOCK = 0x7374617465  # any constant: whoever holds it may change the schema
INVALID_INDEXES = """
    SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE NOT indisvalid AND indrelid = ANY (%s::text[]::regclass[])
"""
MAY_WRITE = """
    SELECT bool_and(has_table_privilege(name, privilege))
    FROM unnest(%s::text[]) AS name, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS privilege
"""
MAY_EXECUTE = """
    SELECT bool_and(has_function_privilege(pg_proc.oid, 'EXECUTE'))
    FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE nspname = %s AND proname = ANY (%s)
"""
COMMAND = "python log_and_deploy.py set-up-database"


def in_schema(url: str, schema: str | None) -> str:
    """The URL of connections that find and make their tables in a schema; `None`: where the role's search_path says.

    Raises:
        Misconfigured: it is no URL of a Postgres.
    """
    parts = read_url(url)
    if schema is None:
        return url
    path = re.sub(r"([\s\\])", r"\\\1", sql.Identifier(schema).as_string())
    return make_conninfo(url, options=f"{parts.get('options', '')} -c search_path={path}")


def read_url(url: str) -> dict[str, Any]:
    """The parts of a Postgres URL, or of the form `host=... dbname=...`.

    Raises:
        Misconfigured: it is neither.
    """
    try:
        parts = dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError:  # whose text may hold the password
        parts = {}
    # A password with an @ or a / in it runs over into these. A host may begin with an @: that is a kind of socket.
    if not parts or any("@" in str(parts.get(name, ""))[1:] for name in ("host", "port", "dbname")):
        raise Misconfigured(
            "DATABASE_URL is not a Postgres URL such as postgresql://role@host/database?sslmode=require; special "
            "characters in it must be percent-encoded."
        )
    return parts


async def ensure(connection: Connection, schema: str | None) -> None:
    """See that the agent can work: its tables are there, are current, and are its to read and write.

    Where they are missing or older, they are made or brought up to date, if the role may do that.

    Raises:
        Misconfigured: the role may not, or connections do not arrive in `schema`.
    """
    home = await _home(connection, schema)
    not_ready = Misconfigured(
        f"The agent's tables in schema {home!r} are missing, older than this version needs, or not this role's to "
        f"read and write. As their owner, run: {COMMAND} --grant ROLE"
    )
    try:
        if not _is_current(await _had(connection, home)) or await _lacking(connection, home):
            async with _one_at_a_time(connection):
                await _migrate(connection, home)
        names = [function.name for function in FUNCTIONS]
        if not await ask(connection, MAY_WRITE, TABLES) or not await ask(connection, MAY_EXECUTE, home, names):
            raise not_ready
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as error:
        raise not_ready from error


async def set_up(connection: Connection, schema: str | None, role: str | None) -> list[str]:
    """Create the schema and the tables, or bring them up to date; let `role` read and write their rows.

    Returns what was done, in words.

    Raises:
        Misconfigured: connections do not arrive in `schema`.
        psycopg.Error: this role may not do that, or there is no such `role`. Nothing was changed.
    """
    done = []
    async with _one_at_a_time(connection):
        if schema and not await ask(connection, "SELECT 1 FROM pg_namespace WHERE nspname = %s", schema):
            await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            done.append(f"Created the schema {schema}.")
        home = await _home(connection, schema)
        done += await _migrate(connection, home)
        if role:
            for grant in grants(home, role):
                await connection.execute(grant)
                done.append(grant.as_string())
    return done


def grants(home: str, role: str) -> list[sql.Composed]:
    """What a role needs to run the agent on the tables in a schema."""
    forms: dict[LiteralString, list[str]] = {
        "GRANT USAGE ON SCHEMA {home} TO {role}": [],
        "GRANT SELECT ON {names} TO {role}": list(LEDGERS),
        "GRANT SELECT, INSERT, UPDATE, DELETE ON {names} TO {role}": TABLES,
        "GRANT EXECUTE ON FUNCTION {names} TO {role}": [function.name for function in FUNCTIONS],
    }
    return [
        sql.SQL(form).format(
            home=sql.Identifier(home),
            names=sql.SQL(", ").join(sql.Identifier(home, name) for name in names),
            role=sql.Identifier(role),
        )
        for form, names in forms.items()
    ]


async def ask(connection: Connection, query: Any, *args: Any) -> Any:
    """The one value that a query returns."""
    row = await (await connection.execute(query, args)).fetchone()
    return next(iter(row.values())) if row else None


@asynccontextmanager
async def _one_at_a_time(connection: Connection) -> AsyncIterator[None]:
    """A transaction that others wait for. Its lock ends with it, also behind a proxy that pools transactions."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (SET_UP_LOCK,))
        yield


async def _home(connection: Connection, schema: str | None) -> str:
    """The schema in which connections find and make tables.

    Raises:
        Misconfigured: it is not the one that it should be, or there is none.
    """
    home = await ask(connection, "SELECT current_schema()")
    if home is None or schema not in (None, home):
        raise Misconfigured(
            f"Connections should arrive in schema {schema or 'public'!r}, but arrive in {home!r}. Either it does not "
            f"exist (run: {COMMAND}), or this role has no USAGE on it, or a proxy drops the option that says so "
            "(then: ALTER ROLE ... SET search_path)."
        )
    return str(home)


async def _had(connection: Connection, home: str) -> dict[str, int]:
    """How many migrations the tables have had, by ledger."""
    had = {}
    for ledger in LEDGERS:
        # Not to_regclass: after waiting for the lock, it may still answer as before.
        is_there = "SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = %s"
        latest = sql.SQL("SELECT max(v) + 1 FROM {}").format(sql.Identifier(home, ledger))
        had[ledger] = (await ask(connection, is_there, home, ledger) and await ask(connection, latest)) or 0
    return had


async def _lacking(connection: Connection, home: str) -> list[Function]:
    """The functions that are not there."""
    is_there = """
        SELECT 1 FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
        WHERE nspname = %s AND proname = %s
    """
    return [function for function in FUNCTIONS if not await ask(connection, is_there, home, function.name)]


def _is_current(had: dict[str, int]) -> bool:
    """Whether they have had all that this version knows; a later version may have added more."""
    return all(had[ledger] >= len(migrations) for ledger, migrations in LEDGERS.items())


async def _migrate(connection: Connection, home: str) -> list[str]:
    """Say the migrations that the tables have not had, and mend broken indexes. Returns what was done, in words.

    Nothing is built concurrently, as LangGraph would: that leaves a broken index behind when it is interrupted, and
    cannot be done while others wait for a lock.
    """
    had = await _had(connection, home)
    for ledger, migrations in LEDGERS.items():
        for v in range(had[ledger], len(migrations)):
            await connection.execute(sql.SQL(migrations[v].replace("CONCURRENTLY", "")))
            await connection.execute(sql.SQL("INSERT INTO {} (v) VALUES (%s)").format(sql.Identifier(ledger)), (v,))
    for function in await _lacking(connection, home):
        await connection.execute(function.definition)
    state = "were current" if _is_current(had) else "are up to date now" if any(had.values()) else "were created"
    done = [f"The tables in schema {home} {state}."]
    broken = await (await connection.execute(INVALID_INDEXES, (TABLES,))).fetchall()
    for row in broken:
        await connection.execute(sql.SQL("REINDEX INDEX {}").format(sql.Identifier(home, row["relname"])))
        done.append(f"Mended the index {row['relname']}.")
    return done
