"""The one event loop that the agent runs on, and the bridges onto it.

The agent's pool of connections and its running turns belong to one loop. Callers come from anywhere: plain
threads, a notebook whose own loop is running, `asyncio.run`, a web server, a forked child. Each bridge carries
the caller's context variables along, so that traces stay in one piece.
"""

import asyncio
import functools
import os
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from stateful_agent.errors import ShuttingDown

T = TypeVar("T")
P = ParamSpec("P")


class AgentLoop:
    """An event loop on a thread of its own, started at first use; or the server's loop, if that adopts the agent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._tasks: set[asyncio.Task[Any]] = set()

    def adopt(self) -> None:
        """Run on the calling loop, so that its owner awaits the agent without a hop between threads."""
        with self._lock:
            self._loop, self._pid = asyncio.get_running_loop(), os.getpid()

    @property
    def is_started(self) -> bool:
        """Whether anything can be running here: it begins at the first use, and anew in a forked child."""
        return self._loop is not None and not self._loop.is_closed() and self._pid == os.getpid()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` on the agent's loop and wait for its result."""
        loop = self._current()
        if loop is _loop_here():
            work.close()
            raise RuntimeError("This would block the agent's own event loop: await the method named `a...` instead.")
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    async def arun(self, work: Coroutine[Any, Any, T]) -> T:
        """The same for a caller with an event loop of its own, which goes on meanwhile."""
        loop = self._current()
        if loop is asyncio.get_running_loop():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """Yield what `source` yields on the agent's loop. It runs to its end even if the caller stops listening."""
        items: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        loop = self._current()
        if loop is _loop_here():
            raise RuntimeError("This would block the agent's own event loop: iterate over `apredict_stream` instead.")
        loop.call_soon_threadsafe(self.spawn, _pump(source, items.put))
        while not isinstance(item := items.get(), _End):
            yield item
        item.raise_error()

    async def aiterate(self, source: AsyncIterator[T]) -> AsyncIterator[T]:
        """The same for a caller with an event loop of its own."""
        async for batch in self.abatches(source):
            for item in batch:
                yield item

    async def abatches(self, source: AsyncIterator[T]) -> AsyncIterator[list[T]]:
        """The same in batches of all that has come up: when there is much to do, one hop takes many items along."""
        items: asyncio.Queue[T | _End] = asyncio.Queue()
        here, loop = asyncio.get_running_loop(), self._current()
        if loop is here:
            self.spawn(_pump(source, items.put_nowait))
        else:

            def deliver(item: T | _End) -> None:
                with suppress(RuntimeError):  # the caller's loop may be closed by now; the work goes on
                    here.call_soon_threadsafe(items.put_nowait, item)

            loop.call_soon_threadsafe(self.spawn, _pump(source, deliver))
        while True:
            arrived = [await items.get()]
            while not items.empty():
                arrived.append(items.get_nowait())
            if batch := [item for item in arrived if not isinstance(item, _End)]:
                yield batch
            if isinstance(end := arrived[-1], _End):
                end.raise_error()
                return

    async def finish_work(self, seconds: float) -> None:
        """Wait for what is still running here, for so many seconds at most. What is left then is cancelled."""
        if tasks := list(self._tasks):
            await asyncio.wait(tasks, timeout=seconds)
        await self.cancel_work()

    async def cancel_work(self) -> None:
        """End what is still running here; its callers get `ShuttingDown`."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _current(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if not self.is_started:  # a fork copies the object but not the thread
                self._loop, self._pid, self._tasks = asyncio.new_event_loop(), os.getpid(), set()
                threading.Thread(target=self._loop.run_forever, name="agent-loop", daemon=True).start()
            assert self._loop is not None
            return self._loop

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin `work` on the calling loop, which is the agent's. It runs to its end, or until `cancel_work`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
        return task


@dataclass(frozen=True)
class _End:
    """What follows the last item of a stream."""

    error: BaseException | None = None

    def raise_error(self) -> None:
        if self.error is not None:
            raise self.error


async def _pump(source: AsyncIterator[T], deliver: Callable[[T | _End], None]) -> None:
    try:
        async for item in source:
            deliver(item)
    except asyncio.CancelledError:
        deliver(_End(ShuttingDown()))
        raise
    except BaseException as error:
        deliver(_End(error))
        if not isinstance(error, Exception):
            raise
    else:
        deliver(_End())


def _loop_here() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class HasLoop(Protocol):
    """Whatever runs on an agent's loop."""

    loop: AgentLoop


S = TypeVar("S", bound=HasLoop)


def on_loop(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Let a method that must run on the agent's loop be awaited from any loop."""

    @functools.wraps(method)
    async def hop(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.loop.arun(method(self, *args, **kwargs))

    return hop  # type: ignore[return-value]  # `wraps` loses that the first argument is `self`


def blocking(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], T]:
    """The same method for callers without an event loop."""

    @functools.wraps(method)
    def run(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.loop.run(method(self, *args, **kwargs))

    return run  # type: ignore[return-value]  # as above
