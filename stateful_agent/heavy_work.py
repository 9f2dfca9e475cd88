"""Work on large inputs, done so that the event loop is never held for long: all other turns wait for it."""

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from langchain_core.messages import BaseMessage

T = TypeVar("T")

LARGE = 50_000
"""Characters to look at, or as much other work: a few milliseconds of the loop."""

MESSAGE = 100
"""What a message counts beside its text."""

HOLD_SECONDS = 0.02
"""For how long a walk over many items holds the loop, before others have their turn."""


async def compute(work: Callable[[], T], *inputs: Any) -> T:
    """What `work` returns, which is pure. If its inputs are large, it is done on a thread: the loop goes on."""
    if not is_large(inputs):
        return work()
    beside = ThreadPoolExecutor(1)
    try:
        return await asyncio.get_running_loop().run_in_executor(beside, contextvars.copy_context().run, work)
    finally:
        beside.shutdown(wait=False)


async def unhurried(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, with a pause for the loop's other work whenever they have held it for long."""
    since = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - since > HOLD_SECONDS:
            await asyncio.sleep(0)
            since = time.monotonic()


def is_large(*values: Any) -> bool:
    """Whether it takes the loop long to go over all that they hold."""
    size, rest = 0, list(values)
    while rest and size <= LARGE:
        value = rest.pop()
        size += 1
        if isinstance(value, str | bytes):
            size += len(value)
        elif isinstance(value, dict):
            rest += value.values()
        elif isinstance(value, list | tuple):
            rest += value[:LARGE]
        elif isinstance(value, BaseMessage):
            size += MESSAGE
            rest.append(value.content)
    return size > LARGE
