"""The tables that state lives in, and the functions on them: made, brought up to date, checked.

All of them are in one schema, the first of the role's search_path. A change is one transaction: another process
waits for it and then finds it done, and one that is killed half-way has changed nothing.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, LiteralString, TypeAlias

import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from stateful_agent.database.statements import Function, functions, statements
from stateful_agent.errors import Misconfigured

Connection = psycopg.AsyncConnection[DictRow]

Ledgers: TypeAlias = Mapping[str, Mapping[int, str]]
"""Migrations by number, by the table that notes which of them a database has had; the first of them creates it. They
are only ever added to, and each bears being repeated."""

SETUP = statements("setup")

SET_UP_LOCK = 0x7374617465  # any constant: whoever holds it may change the schema

COMMAND = "stateful-agent set-up-database"


def tables_of(ledgers: Ledgers) -> list[str]:
    """The tables whose rows the agent reads and writes: those that migrations make, save the ledgers themselves."""
    texts = "".join(text for migrations in ledgers.values() for text in migrations.values())
    return [name for name in re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", texts) if name not in ledgers]


async def ensure(connection: Connection, schema: str | None, ledgers: Ledgers) -> None:
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
        if not _is_current(await _had(connection, home, ledgers), ledgers) or await _missing(connection, home):
            async with _one_at_a_time(connection):
                await _migrate(connection, home, ledgers)
        names = [function.name for function in functions().values()]
        may_write = await ask(connection, SETUP["may_write"], tables=tables_of(ledgers))
        if not may_write or not await ask(connection, SETUP["may_execute"], schema=home, functions=names):
            raise not_ready
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as error:
        raise not_ready from error


async def set_up(connection: Connection, schema: str | None, role: str | None, ledgers: Ledgers) -> list[str]:
    """Create the schema and the tables, or bring them up to date; let `role` read and write their rows.

    Returns what was done, in words.

    Raises:
        Misconfigured: connections do not arrive in `schema`.
        psycopg.Error: this role may not do that, or there is no such `role`. Nothing was changed.
    """
    done = []
    async with _one_at_a_time(connection):
        if schema and not await ask(connection, SETUP["find_schema"], schema=schema):
            await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            done.append(f"Created the schema {schema}.")
        home = await _home(connection, schema)
        done += await _migrate(connection, home, ledgers)
        if role:
            for grant in grants(home, role, ledgers):
                await connection.execute(grant)
                done.append(grant.as_string())
    return done


async def ask(connection: Connection, query: LiteralString, **values: Any) -> Any:
    """The one value that a query returns."""
    row = await (await connection.execute(query, values)).fetchone()
    return next(iter(row.values())) if row else None


def grants(home: str, role: str, ledgers: Ledgers) -> list[sql.Composed]:
    """What a role needs to run the agent on the tables in a schema."""
    forms: dict[LiteralString, list[str]] = {
        "GRANT USAGE ON SCHEMA {home} TO {role}": [],
        "GRANT SELECT ON {names} TO {role}": list(ledgers),
        "GRANT SELECT, INSERT, UPDATE, DELETE ON {names} TO {role}": tables_of(ledgers),
        "GRANT EXECUTE ON FUNCTION {names} TO {role}": [function.name for function in functions().values()],
    }
    return [
        sql.SQL(form).format(
            home=sql.Identifier(home),
            names=sql.SQL(", ").join(sql.Identifier(home, name) for name in names),
            role=sql.Identifier(role),
        )
        for form, names in forms.items()
    ]


@asynccontextmanager
async def _one_at_a_time(connection: Connection) -> AsyncIterator[None]:
    """A transaction that others wait for. Its lock ends with it, also behind a proxy that pools transactions."""
    async with connection.transaction():
        await connection.execute(SETUP["lock_setup"], {"lock": SET_UP_LOCK})
        yield


async def _home(connection: Connection, schema: str | None) -> str:
    """The schema in which connections find and make tables.

    Raises:
        Misconfigured: it is not the one that it should be, or there is none.
    """
    home = await ask(connection, SETUP["current_schema"])
    if home is None or schema not in (None, home):
        raise Misconfigured(
            f"Connections should arrive in schema {schema or 'public'!r}, but arrive in {home!r}. Either it does not "
            f"exist (run: {COMMAND}), or this role has no USAGE on it, or a proxy drops the option that names it "
            "(then: ALTER ROLE ... SET search_path)."
        )
    return str(home)


async def _had(connection: Connection, home: str, ledgers: Ledgers) -> dict[str, int]:
    """The number of the last migration that the tables have had, by ledger; -1: none."""
    had = {}
    for ledger in ledgers:
        latest = sql.SQL("SELECT max(v) FROM {}").format(sql.Identifier(home, ledger))
        is_there = await ask(connection, SETUP["find_table"], schema=home, table=ledger)
        row = await (await connection.execute(latest)).fetchone() if is_there else None
        had[ledger] = row["max"] if row and row["max"] is not None else -1
    return had


async def _missing(connection: Connection, home: str) -> list[Function]:
    """The functions that are not there."""
    return [
        function
        for function in functions().values()
        if not await ask(connection, SETUP["find_function"], schema=home, function=function.name)
    ]


def _is_current(had: dict[str, int], ledgers: Ledgers) -> bool:
    """Whether they have had all that this version knows; a later version may have added more."""
    return all(had[ledger] >= max(migrations) for ledger, migrations in ledgers.items())


async def _migrate(connection: Connection, home: str, ledgers: Ledgers) -> list[str]:
    """Run the migrations that the tables have not had, and mend broken indexes. Returns what was done, in words.

    Nothing is built concurrently, as LangGraph would: that leaves a broken index behind when it is interrupted, and
    cannot be done while others wait for a lock.
    """
    had = await _had(connection, home, ledgers)
    for ledger, migrations in ledgers.items():
        for number, migration in migrations.items():
            if number > had[ledger]:
                await connection.execute(sql.SQL(migration.replace("CONCURRENTLY", "")))
                note = sql.SQL("INSERT INTO {} (v) VALUES (%s)").format(sql.Identifier(ledger))
                await connection.execute(note, (number,))
    for function in await _missing(connection, home):
        await connection.execute(function.definition)
    are_new = all(number < 0 for number in had.values())
    state = "were current" if _is_current(had, ledgers) else "were created" if are_new else "are up to date now"
    done = [f"The tables in schema {home} {state}."]
    broken = await connection.execute(SETUP["list_invalid_indexes"], {"tables": tables_of(ledgers)})
    for row in await broken.fetchall():
        await connection.execute(sql.SQL("REINDEX INDEX {}").format(sql.Identifier(home, row["relname"])))
        done.append(f"Mended the index {row['relname']}.")
    return done
