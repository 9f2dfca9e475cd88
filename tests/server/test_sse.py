"""A stream of events as lines, whatever ends it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from open_responses import events_in

from stateful_agent.errors import ThreadBusy
from stateful_agent.server.sse import event_stream

Batches = list[list[dict[str, Any]]]


def streamed(first: list[dict[str, Any]], rest: Batches, end: BaseException | None = None, **options: Any) -> str:
    async def batches() -> AsyncIterator[list[dict[str, Any]]]:
        for batch in rest:
            yield batch
        if end:
            raise end

    async def read() -> list[str]:
        return [str(text) async for text in event_stream(first, batches(), **options).body_iterator]

    return "".join(asyncio.run(read()))


def event(number: int) -> dict[str, Any]:
    return {"type": "some", "sequence_number": number}


def test_events_silence_and_the_end() -> None:
    stream = streamed([event(0)], [[event(1), event(2)], [], [event(3)]])
    assert [event["sequence_number"] for event in events_in(stream)] == [0, 1, 2, 3]
    assert stream.split("\n\n")[3] == ": keep-alive"


def test_nothing_but_data() -> None:
    stream = streamed([event(0)], [[], [event(1)]], data_only=True)
    assert [line.partition(":")[0] for line in stream.splitlines() if line] == ["data"] * 3


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (ThreadBusy(), "thread_busy"),
        (RuntimeError("5ecret"), "internal_error"),
        (asyncio.CancelledError(), "shutting_down"),
    ],
)
@pytest.mark.parametrize(("first", "rest", "number"), [([], [], 0), ([event(0)], [[event(1)], []], 2)])
def test_what_ends_it_early_is_its_last_event(
    first: list[dict[str, Any]], rest: Batches, number: int, end: BaseException, code: str
) -> None:
    stream = streamed(first, rest, end)
    error = events_in(stream)[-1]
    assert (error["type"], error["code"], error["sequence_number"]) == ("error", code, number)
    assert "5ecret" not in stream
