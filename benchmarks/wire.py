"""What goes over the wire between a design and its Postgres, and what a slow wire does to it."""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing

import mlflow
import psycopg

from benchmarks.bench import Bench, alone
from benchmarks.designs import Design, Here, InMemory, Notebook, SharedSaver
from benchmarks.proxy import Counts, Proxy
from benchmarks.report import Row, ratios, spread
from stateful_agent.event_loop import AgentLoop

ROUND_TRIP = 0.005
THREADS = 32
WARM = 4
"""Times two turns come before those that are counted: psycopg prepares a statement that it has sent five times."""


def counts(bench: Bench) -> Iterator[Row]:
    """Statements and round trips of a turn."""
    yield from bench.run(_counts(bench))


async def _counts(bench: Bench) -> list[Row]:
    times = bench.times(9)
    bench.report(f"statements and round trips of {times} turns for each design")
    with Proxy(bench.database()) as ours, Proxy(bench.database()) as theirs, Proxy(bench.database()) as others:
        here, notebook, shared = await Here(ours.url).adopted(), Notebook(theirs.url), SharedSaver(others.url)
        try:
            turn, first = await count_turn(here, ours, times)
            notebook_turn, notebook_first = await count_turn(notebook, theirs, times)
            shared_turn, shared_first = await count_turn(shared, others, times)
        finally:
            await here.agent.aclose()
            notebook.close()
            shared.close()
    return [
        Row(
            "statements and round trips of a one-step turn",
            f"{_words(turn)}; the notebooks' {_words(notebook_turn)}, one shared PostgresSaver {_words(shared_turn)}",
            f"counted by a proxy that reads the messages of Postgres' protocol; median of {times} turns; tracing on",
            "at most half of the notebooks' design",
            2 * turn.statements <= notebook_turn.statements and 2 * turn.round_trips <= notebook_turn.round_trips,
            {"statements": turn.statements, "round_trips": turn.round_trips}
            | {"notebook_statements": notebook_turn.statements, "notebook_round_trips": notebook_turn.round_trips},
        ),
        Row(
            "of these, up to the first token",
            f"{_words(first)}; notebooks' {_words(notebook_first)}, one shared PostgresSaver {_words(shared_first)}",
            f"the same, when the first token of a turn arrives; median of {times} turns; tracing on",
            "at most 2",
            max(first.statements, first.round_trips) <= 2,
            {"statements": first.statements, "round_trips": first.round_trips},
        ),
    ]


async def count_turn(design: Design, proxy: Proxy, times: int) -> tuple[Counts, Counts]:
    """What a turn sends over the wire, and up to its first token, once it has settled down: the medians."""
    turns, firsts = [], []
    for _ in range(WARM + times):
        before = proxy.counts()
        await design.turn("counted")
        await asyncio.sleep(0.05)
        turns.append(proxy.counts() - before)
        before = proxy.counts()
        async with aclosing(design.tokens("counted")) as tokens:
            await anext(tokens)
            firsts.append(proxy.counts() - before)
            async for _ in tokens:
                pass
        await asyncio.sleep(0.05)
    return _median(turns[WARM:]), _median(firsts[WARM:])


def _median(counted: list[Counts]) -> Counts:
    return Counts(
        statistics.median_high(one.statements for one in counted),
        statistics.median_high(one.round_trips for one in counted),
    )


def _words(counted: Counts) -> str:
    return f"{counted.statements} / {counted.round_trips}"


def delay(bench: Bench) -> Iterator[Row]:
    """A wire that takes 5 ms for a round trip."""
    yield bench.run(_first_token(bench))
    yield from _turns_per_second(bench)


async def _first_token(bench: Bench) -> Row:
    times = bench.times(15)
    bench.report(f"the first token with and without {ROUND_TRIP * 1000:.0f} ms of delay, {times} times each, in turns")
    near_url, far_url = bench.database(), bench.database()
    with ExitStack() as stack:
        near, far = [stack.enter_context(Proxy(url, trip)) for url, trip in ((near_url, 0), (far_url, ROUND_TRIP))]
        unit = _round_trip(far.url) - _round_trip(near.url)
        here, there = await Here(near.url).adopted(), await Here(far.url).adopted()
        shared, shared_far = SharedSaver(near.url), SharedSaver(far.url)
        pairs: dict[str, tuple[Design, Design]] = {"here": (here, there), "shared": (shared, shared_far)}
        added: dict[str, list[float]] = {"here": [], "shared": []}
        try:
            for n in range(times + 3):
                for name, pair in pairs.items():
                    at_hand, far_off = [await first_token(design, name) for design in pair]
                    if n >= 3:
                        added[name].append((far_off - at_hand) / unit)
        finally:
            for one in (here, there):
                await one.agent.aclose()
            for other in (shared, shared_far):
                other.close()
    ours, theirs = spread(added["here"]), spread(added["shared"])
    return Row(
        "added to the first token by a slow wire, in delays",
        f"{ours}; one shared PostgresSaver {theirs}",
        f"a delay is a round trip of 5 ms, here measured as {unit * 1000:.1f}; {times} pairs through the same proxy, "
        "each turn alone; tracing on",
        "at most 2",
        ours.median <= 2,
        {"delays": ours.median, "shared_delays": theirs.median, "unit_ms": unit * 1000},
    )


async def first_token(design: Design, thread_id: str) -> float:
    """The seconds up to the first token of a turn."""

    async def listen() -> float:
        began = time.perf_counter()
        first = 0.0
        async for _ in design.tokens(thread_id):
            first = first or time.perf_counter() - began
        return first

    _, first = await alone(listen)
    await asyncio.sleep(0.03)
    return first


def _round_trip(url: str) -> float:
    """The seconds that a statement takes which has nothing to do."""
    taken = []
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(20):
            began = time.perf_counter()
            connection.execute("SELECT 1")
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _turns_per_second(bench: Bench) -> Iterator[Row]:
    seconds = bench.seconds(2)
    bench.report(f"{THREADS} threads for {seconds:.0f} s, three times for each design, in turns")
    with Proxy(bench.database(), ROUND_TRIP) as ours, Proxy(bench.database(), ROUND_TRIP) as theirs:
        here, shared, in_memory, loop = Here(ours.url), SharedSaver(theirs.url), InMemory(), AgentLoop()
        rates: dict[str, list[float]] = {"here": [], "shared": [], "in_memory": []}
        try:
            for _ in range(3):
                rates["here"].append(_rate(here.predict, seconds))
                mlflow.flush_trace_async_logging()  # before the other design's turn
                rates["shared"].append(_rate(shared.predict, seconds))
                rates["in_memory"].append(_rate(lambda thread_id: loop.run(in_memory.turn(thread_id)), seconds))
        finally:
            here.agent.close()
            shared.close()
    times, mine, other = ratios(rates["here"], rates["shared"]), spread(rates["here"]), spread(rates["shared"])
    yield Row(
        f"turns/s of {THREADS} threads behind a slow wire, to one shared PostgresSaver's",
        f"{times}; {mine.median:.0f} to {other.median:.0f} turns/s",
        f"3 pairs of {seconds:.0f} s; round trip 5 ms, 10 connections, all in one process; tracing on here",
        "at least 10 times",
        times.median >= 10,
        {"ratio": times.median, "per_second": mine.median, "shared_per_second": other.median},
    )
    times, least = ratios(rates["in_memory"], rates["shared"]), spread(rates["in_memory"])
    yield Row(
        "the same for LangGraph in memory",
        f"{times}; {least.median:.0f} turns/s",
        "no wire, no database, no traces; one event loop in this process, as here",
        figures={"ratio": times.median, "per_second": least.median},
    )


def _rate(turn: Callable[[str], None], seconds: float) -> float:
    """Turns per second of threads that each have a conversation of their own."""
    began = time.perf_counter()

    def work(n: int) -> int:
        turns = 0
        while time.perf_counter() - began < seconds:
            turn(f"{began} {n}")
            turns += 1
        return turns

    with ThreadPoolExecutor(THREADS) as pool:
        turns = sum(pool.map(work, range(THREADS)))
    return turns / (time.perf_counter() - began)
