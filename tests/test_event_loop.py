import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from stateful_agent.errors import ShuttingDown
from stateful_agent.event_loop import AgentLoop

caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller")


@pytest.fixture
def loop() -> Iterator[AgentLoop]:
    loop = AgentLoop()
    yield loop
    loop.run(loop.cancel_work())


async def who() -> tuple[str, str]:
    return caller.get(), threading.current_thread().name


async def count(n: int, pause: float = 0) -> AsyncIterator[int]:
    for number in range(n):
        await asyncio.sleep(pause)
        yield number


def test_the_callers_context_travels(loop: AgentLoop) -> None:
    caller.set("me")
    assert loop.run(who()) == ("me", "agent-loop")
    assert asyncio.run(loop.arun(who())) == ("me", "agent-loop")


def test_streams_reach_any_caller(loop: AgentLoop) -> None:
    assert list(loop.iterate(count(3))) == [0, 1, 2]

    async def collect() -> list[int]:
        return [number async for number in loop.aiterate(count(3))]

    assert asyncio.run(collect()) == [0, 1, 2]
    assert loop.run(collect()) == [0, 1, 2]


def test_a_stream_outlives_its_callers_loop(loop: AgentLoop) -> None:
    seen = threading.Event()

    async def notice() -> AsyncIterator[int]:
        async for number in count(3, 0.05):
            yield number
        seen.set()

    async def leave() -> None:
        async for _ in loop.aiterate(notice()):
            break

    asyncio.run(leave())
    assert seen.wait(5)


def test_an_error_ends_a_stream(loop: AgentLoop) -> None:
    async def fail() -> AsyncIterator[int]:
        yield 1
        raise ValueError("no")

    stream = loop.iterate(fail())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="no"):
        next(stream)


def test_closing_ends_what_runs(loop: AgentLoop) -> None:
    stream = loop.iterate(count(100, 0.01))
    next(stream)
    loop.run(loop.cancel_work())
    with pytest.raises(ShuttingDown):
        list(stream)


def test_blocking_its_own_loop_is_refused(loop: AgentLoop) -> None:
    async def block() -> None:
        loop.run(who())

    with pytest.raises(RuntimeError, match="await the method named"):
        loop.run(block())


def test_a_server_brings_its_own_loop(loop: AgentLoop) -> None:
    async def serve() -> tuple[str, str]:
        loop.adopt()
        caller.set("server")
        return await loop.arun(who())

    assert asyncio.run(serve()) == ("server", "MainThread")
