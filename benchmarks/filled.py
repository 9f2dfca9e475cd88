"""What a database that holds much else adds to a turn, and to reading."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from benchmarks.bench import Bench, untraced
from benchmarks.designs import Here
from benchmarks.report import Row, ms, ratios
from benchmarks.turns import SETTLE

TURNS, SHORT, LONG, LONG_MESSAGES = 5, 50_000, 5, 300_000
"""The turns of a thread, how many such threads there are, how many long ones beside them, and their messages."""

CLONED = ("agent_threads", "agent_messages", "checkpoints", "checkpoint_blobs", "checkpoint_writes")

LONG_THREADS = """
INSERT INTO agent_threads (thread_id, messages)
SELECT 'long ' || n, %(messages)s FROM generate_series(1, %(long)s) AS n;
INSERT INTO agent_messages (thread_id, number, type, blob)
SELECT 'long ' || n, number, 'msgpack', convert_to(repeat('a', 500), 'UTF8')
FROM generate_series(1, %(long)s) AS n, generate_series(1, %(messages)s) AS number;
INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
SELECT 'long ' || n, '', number, number - 1, '{}', '{}'
FROM generate_series(1, %(long)s) AS n, generate_series(1, %(messages)s) AS number
"""

COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND column_name <> 'thread_id'"

Task: TypeAlias = Callable[[Here, str], Awaitable[Any]]

TASKS: dict[str, Task] = {
    "a turn": Here.turn,
    "a page of history": lambda here, thread_id: here.agent.aget_checkpoint_history(thread_id, 20),
    "a state": lambda here, thread_id: here.agent.aget_checkpoint_state(thread_id),
    "a page of threads": lambda here, _: here.agent.alist_threads(20),
}


def filled(bench: Bench) -> Iterator[Row]:
    """Each of the tasks, on a database with two million messages of others and on one with next to none."""
    yield from bench.run(measured(bench, bench.database(), bench.database()))


async def measured(bench: Bench, empty_url: str, full_url: str) -> list[Row]:
    """Measure on two databases without tables, one of which is filled."""
    times = bench.times(100)
    short, messages = (SHORT // 100, LONG_MESSAGES // 100) if bench.quick else (SHORT, LONG_MESSAGES)
    total = short * 2 * TURNS + LONG * messages
    bench.report(f"filling a database with {total:,} messages")
    empty, full = await Here(empty_url).adopted(), await Here(full_url).adopted()
    rows = []
    try:
        with untraced():
            for here, url, clones, long in ((empty, empty_url, times, 0), (full, full_url, short, LONG)):
                for _ in range(TURNS):
                    await here.turn("short")
                await asyncio.to_thread(_fill, url, clones, long, messages)
            for name, task in TASKS.items():
                taken: dict[Here, list[float]] = {empty: [], full: []}
                for n in range(1, times + 1):
                    for here in taken:
                        await asyncio.sleep(SETTLE)
                        began = time.perf_counter()
                        await task(here, f"short {n}")
                        taken[here].append(time.perf_counter() - began)
                rows.append(_row(name, taken[full], taken[empty], total))
    finally:
        await empty.agent.aclose()
        await full.agent.aclose()
    return rows


def _fill(url: str, clones: int, long: int, messages: int) -> None:
    """Add copies of the thread `short`, and long threads; let Postgres look at what there is."""
    with psycopg.connect(url, autocommit=True) as connection:
        for table in CLONED:
            columns = sql.SQL(", ").join(sql.Identifier(name) for (name,) in connection.execute(COLUMNS, [table]))
            copy = sql.SQL(
                "INSERT INTO {table} (thread_id, {columns}) SELECT 'short ' || n, {columns} "
                "FROM {table}, generate_series(1, {clones}) AS n"
            )
            connection.execute(copy.format(table=sql.Identifier(table), columns=columns, clones=clones))
        with psycopg.ClientCursor(connection) as cursor:
            cursor.execute(LONG_THREADS, {"long": long, "messages": messages})
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _row(name: str, full: list[float], empty: list[float], messages: int) -> Row:
    ratio = ratios(full, empty)
    return Row(
        f"{name}, on a database of {messages / 1e6:g} million messages to one on an empty database",
        f"{ratio}; {ms(full):.1f} to {ms(empty):.1f} ms",
        f"{len(full)} pairs, each alone, on threads of {2 * TURNS} messages; beside them {LONG} of {LONG_MESSAGES:,}",
        "at most 1.2",
        ratio.median <= 1.2,
        {"ratio": ratio.median, "ms": ms(full), "empty_ms": ms(empty)},
    )
