"""What a turn costs by itself, early on and as a thread grows."""

import asyncio
import statistics
import time
from collections.abc import Iterator

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage

from benchmarks.bench import Bench, alone, median_of, untraced
from benchmarks.designs import Design, Here, InMemory, Notebook, SharedSaver
from benchmarks.instant import ANSWER, QUESTION, TEXT_PER_TURN, Instant
from benchmarks.postgres import bytes_held, bytes_on_disk
from benchmarks.report import Row, ms, ratios, spread
from stateful_agent.database.pool import fetch

SETTLE = 0.03
"""Seconds that what a turn leaves behind has to end, before the next is measured."""


def early(bench: Bench) -> Iterator[Row]:
    """The fifth turn of a thread, of all designs."""
    yield from bench.run(_early(bench))


async def _early(bench: Bench) -> list[Row]:
    here, notebook, shared = (
        await Here(bench.database()).adopted(),
        Notebook(bench.database()),
        SharedSaver(bench.database()),
    )
    designs: dict[str, Design] = {"in_memory": InMemory(), "here": here, "shared": shared, "notebook": notebook}
    times = bench.times(15)
    bench.report(f"the fifth turn, {times} times for each design, in turns")
    try:
        traced = await _fifth_turns(designs, times)
        with untraced():
            plain = await _fifth_turns({name: designs[name] for name in ("in_memory", "here")}, times)
            asking = [(await alone(lambda: _ask_nothing(here)))[0] for _ in range(times)]
    finally:
        await here.agent.aclose()
        notebook.close()
        shared.close()

    rows = []
    for name, goal, what in (
        ("here", 1.5, "own cost of a turn, at turn 5, to LangGraph in memory"),
        ("shared", 0, "the same for one shared PostgresSaver"),
        ("notebook", 0, "the same for the notebooks' design"),
    ):
        ratio = ratios(traced[name], traced["in_memory"])
        rows.append(
            Row(
                what,
                f"{ratio}; {ms(traced[name]):.1f} to {ms(traced['in_memory']):.1f} ms",
                f"{times} pairs, each turn alone, its trace being written afterwards; tracing on",
                f"at most {goal}" if goal else "",
                ratio.median <= goal if goal else None,
                {"ratio": ratio.median, "ms": ms(traced[name]), "in_memory_ms": ms(traced["in_memory"])},
            )
        )
    ratio = ratios(plain["here"], plain["in_memory"])
    measured = f"{ratio}; {ms(plain['here']):.1f} to {ms(plain['in_memory']):.1f} ms"
    figures = {"ratio": ratio.median, "ms": ms(plain["here"]), "in_memory_ms": ms(plain["in_memory"])}
    rows.append(Row("the same here, if tracing is turned off", measured, f"{times} pairs", figures=figures))
    nothing = ratios(asking, plain["in_memory"])
    measured, figures = f"{nothing}; {ms(asking):.1f} ms", {"ratio": nothing.median, "ms": ms(asking)}
    return [
        *rows,
        Row("two statements of nothing, to LangGraph in memory", measured, "`SELECT 1`, twice", figures=figures),
    ]


async def _ask_nothing(here: Here) -> None:
    """As many statements as a turn says, which do nothing."""
    for _ in range(2):
        await fetch(await here.agent.database.pool(), "SELECT 1", {})


async def _fifth_turns(designs: dict[str, Design], times: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in designs}
    for n in range(times):
        for name, design in designs.items():
            thread_id = f"{time.time()} {n}"
            await _grow(design, thread_id, 4)
            taken[name].append((await alone(lambda: design.turn(thread_id)))[0])  # noqa: B023  # awaited here
    return taken


async def _grow(design: Design, thread_id: str, turns: int) -> None:
    """Take turns that are not measured."""
    for _ in range(turns):
        async for _token in design.tokens(thread_id):
            pass
    await asyncio.sleep(SETTLE)


def lengths(bench: Bench) -> Iterator[Row]:
    """What turns, storage and history cost as one thread grows to 1,000 turns, alone in its database."""
    yield from bench.run(_lengths(bench))


async def _lengths(bench: Bench) -> list[Row]:
    url, notebook_url = bench.database(), bench.database()
    here, early, notebook = await Here(url).adopted(), await Here(bench.database()).adopted(), Notebook(notebook_url)
    walk = Walk(bench, here, url)
    try:
        at_10 = await walk.bytes_per_turn(10)
        at_100 = await walk.bytes_per_turn(100)
        rows = [*await _at_300(bench, walk, notebook, notebook_url), *await _at_500(bench, walk, early)]
        at_1000 = await walk.bytes_per_turn(1000)
        growth = at_1000 / at_10
        rows.append(
            Row(
                "bytes stored by turn 10, 100, 1,000",
                f"{at_10:,.0f}, {at_100:,.0f}, {at_1000:,.0f}: {growth:.2f} times",
                f"what all columns of its rows hold before compression, mean of ten turns; {TEXT_PER_TURN} are text",
                "flat: at most 1.1 times",
                growth <= 1.1,
                {"turn_10": at_10, "turn_100": at_100, "turn_1000": at_1000},
            )
        )
        rows.append(await _history(bench, walk, early))
    finally:
        await here.agent.aclose()
        await early.agent.aclose()
        notebook.close()
    return rows


class Walk:
    """A thread of this project's that grows."""

    thread_id = "long"

    def __init__(self, bench: Bench, here: Here, url: str) -> None:
        self.here, self.url, self.turns = here, url, 0
        self._bench = bench

    def scaled(self, turn: int) -> int:
        """Which turn to take for turn number so-and-so: a quick run does not go far."""
        return 10 + turn // 20 if self._bench.quick and turn > 10 else turn

    async def reach(self, turns: int) -> None:
        """Take turns that are not measured until there are so many."""
        with untraced():
            while self.turns < turns:
                if self.turns % 100 == 0:
                    self._bench.report(f"the growing thread: {self.turns} turns")
                await self.turn()
        await asyncio.sleep(SETTLE)

    async def turn(self) -> None:
        """Take a turn."""
        await self.here.turn(self.thread_id)
        self.turns += 1

    async def bytes_per_turn(self, turn: int) -> float:
        """What the ten turns around one add to the database."""
        await self.reach(self.scaled(turn) - 5)
        before, began = bytes_held(self.url), self.turns
        await self.reach(self.scaled(turn) + 5)
        return (bytes_held(self.url) - before) / (self.turns - began)


async def _at_300(bench: Bench, walk: Walk, notebook: Notebook, notebook_url: str) -> list[Row]:
    turns = walk.scaled(300)
    await walk.reach(turns)
    text = turns * TEXT_PER_TURN
    held, disk = bytes_held(walk.url) / text, bytes_on_disk(walk.url) / text
    bench.report(f"the notebooks' design: {turns} turns without the reading of history, then 2 with it")
    with untraced():
        await _grow(notebook, walk.thread_id, turns)
    notebook_held, notebook_disk = bytes_held(notebook_url) / text, bytes_on_disk(notebook_url) / text
    ours, theirs = [], []
    for _ in range(2):
        ours.append((await alone(walk.turn))[0])
        theirs.append((await alone(lambda: notebook.turn(walk.thread_id)))[0])
    times = ratios(theirs, ours)
    return [
        Row(
            "a turn of the notebooks' design to one here, at turn 300",
            f"{times.median:.0f} ({times.low:.0f} to {times.high:.0f}); {ms(theirs):.0f} to {ms(ours):.1f} ms",
            "2 pairs, each turn alone; tracing on",
            "at least 500",
            times.median >= 500,
            {"ratio": times.median, "ms": ms(ours), "notebook_ms": ms(theirs)},
        ),
        Row(
            "bytes stored by 300 turns, to their text",
            f"{held:.1f} times, on disk with indexes {disk:.1f}; "
            f"the notebooks' design {notebook_held:.0f}, {notebook_disk:.0f}",
            "what all columns of all rows hold before compression; on disk the text, one letter repeated, compresses",
            "at most 5 times",
            held <= 5,
            {"held": held, "on_disk": disk, "notebook_held": notebook_held, "notebook_on_disk": notebook_disk},
        ),
    ]


async def _at_500(bench: Bench, walk: Walk, early: Here) -> list[Row]:
    turns, times, in_memory = walk.scaled(500), bench.times(15), InMemory()
    await walk.reach(turns)
    await in_memory.begin(walk.thread_id, _conversation(2 * turns))
    bench.report(f"turn 500 here and of LangGraph in memory, and turn 5, {times} times each, in turns")
    late, in_memory_times, soon = [], [], []
    for n in range(times):
        with untraced():
            await _grow(early, f"{n}", 4)
        soon.append((await alone(lambda: early.turn(f"{n}")))[0])  # noqa: B023  # awaited here
        late.append((await alone(walk.turn))[0])
        in_memory_times.append((await alone(lambda: in_memory.turn(walk.thread_id)))[0])
    reading = await _reading(1000) - await _reading(10)
    ratio, aside = ratios(late, soon), ratios([taken - reading for taken in late], soon)
    to_in_memory = ratios(late, in_memory_times)
    return [
        Row(
            "a turn at turn 500 to one at turn 5",
            f"{aside}; {ms(late):.1f} to {ms(soon):.1f} ms, {reading * 1000:.1f} aside; with these {ratio.median:.2f}",
            f"{times} pairs, each turn alone; aside: what LangChain's model takes to be handed 1,000 messages; "
            "tracing on",
            "at most 1.5, the model's own reading of the messages aside",
            aside.median <= 1.5,
            {"ratio": aside.median, "with_reading": ratio.median, "ms": ms(late), "early_ms": ms(soon)},
        ),
        Row(
            "a turn at turn 500 to one of LangGraph in memory",
            f"{to_in_memory}; {ms(late):.1f} to {ms(in_memory_times):.1f} ms",
            f"{times} pairs, each turn alone; that thread holds as many messages; tracing on",
            figures={"ratio": to_in_memory.median, "ms": ms(late), "in_memory_ms": ms(in_memory_times)},
        ),
    ]


async def _reading(messages: int) -> float:
    """The seconds that LangChain takes to hand so many messages to a model."""
    conversation = _conversation(messages)
    return await median_of(20, lambda: Instant().ainvoke(conversation))


def _conversation(messages: int) -> list[AnyMessage]:
    return [message for _ in range(messages // 2) for message in (HumanMessage(QUESTION), AIMessage(ANSWER))]


async def _history(bench: Bench, walk: Walk, early: Here) -> Row:
    with untraced():
        await _grow(early, "ten", 10)
    times = bench.times(200)
    bench.report(f"a page of history, {times} times on each of two threads, in turns")
    taken: dict[str, list[float]] = {"ten": [], walk.thread_id: []}
    for _ in range(times):
        for design, thread_id in ((early, "ten"), (walk.here, walk.thread_id)):
            began = time.perf_counter()
            page = await design.agent.aget_checkpoint_history(thread_id, 20)
            taken[thread_id].append(time.perf_counter() - began)
            assert len(page) == 20
    short, long = ms(taken["ten"]), ms(taken[walk.thread_id])
    growth = statistics.median(taken[walk.thread_id]) / statistics.median(taken["ten"])
    return Row(
        "history of 20, on 10 and on 1,000 turns",
        f"{short:.2f} and {long:.2f} ms: {growth:.2f} times",
        f"median of {times}; reading makes no trace",
        "the same within 20 %, at most 3 ms",
        0.8 <= growth <= 1.2 and max(short, long) <= 3,
        {"ms_10": short, "ms_1000": long, "spread_1000": spread(taken[walk.thread_id]).high * 1000},
    )
