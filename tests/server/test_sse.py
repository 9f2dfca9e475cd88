"""A stream of events as lines, whatever ends it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stateful_agent.errors import ThreadBusy
from stateful_agent.server.sse import event_stream

Batches = list[list[dict[str, Any]]]


def streamed(first: list[dict[str, Any]], rest: Batches, end: BaseException | None = None) -> list[str]:
    async def batches() -> AsyncIterator[list[dict[str, Any]]]:
        for batch in rest:
            yield batch
        if end:
            raise end

    async def read() -> list[str]:
        return [str(text) async for text in event_stream(first, batches()).body_iterator]

    return "".join(asyncio.run(read())).split("\n\n")


def event(number: int) -> dict[str, Any]:
    return {"type": "some", "sequence_number": number}


def test_events_silence_and_the_end() -> None:
    lines = streamed([event(0)], [[event(1), event(2)], [], [event(3)]])
    assert [json.loads(line[6:])["sequence_number"] for line in lines if line.startswith("data: {")] == [0, 1, 2, 3]
    assert lines[3] == ": keep-alive"
    assert lines[-2:] == ["data: [DONE]", ""]


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
    lines = streamed(first, rest, end)
    error = json.loads(lines[-3][6:])
    assert (error["type"], error["code"], error["sequence_number"]) == ("error", code, number)
    assert "5ecret" not in "".join(lines)
    assert lines[-2:] == ["data: [DONE]", ""]
