"""What must not wait for the agent's event loop, or would hold it up, on a loop and connections of its own.

A heartbeat has to come in time however busy the agent is: others would take a silent process for dead. To hand
megabytes over to the database takes moments, in which no other turn would go on.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """A pool of connections."""

    async def close(self) -> None:
        """Close it."""


P = TypeVar("P", bound=Closable)
T = TypeVar("T")

Open = Callable[[], Awaitable[P]]


class Aside(Generic[P]):
    """An event loop on a thread of its own, which starts with its first use, with a pool that opens when needed."""

    def __init__(self, open_pool: Open[P]) -> None:
        self._open_pool = open_pool
        self._opening: asyncio.Future[P] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._beats: set[Future[None]] = set()

    async def run(self, work: Callable[[P], Awaitable[T]]) -> T:
        """What `work` returns when it is done here, for a caller on another loop."""

        async def with_pool() -> T:
            return await work(await self._pool())

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(with_pool(), self._started()))

    def every(self, seconds: float, work: Callable[[Open[P]], Awaitable[None]]) -> None:
        """Do `work` again and again, until this is closed. It is given what opens the pool."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(seconds)
                await work(self._pool)

        beating = asyncio.run_coroutine_threadsafe(beat(), self._started())
        self._beats.add(beating)
        beating.add_done_callback(self._beats.discard)

    async def close(self) -> None:
        """Hang up, and end the thread."""
        if self._loop is None:
            return
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        for beating in list(self._beats):
            beating.cancel()
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._end(), loop))
        loop.call_soon_threadsafe(loop.stop)
        assert thread
        thread.join()
        loop.close()

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="agent-aside", daemon=True)
            self._thread.start()
        return self._loop

    async def _pool(self) -> P:
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open_pool())
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except Exception:
            if self._opening is opening:  # the next one tries again
                self._opening = None
            raise

    async def _end(self) -> None:
        if self._opening and self._opening.done() and not self._opening.exception():
            await self._opening.result().close()
        elif self._opening:
            self._opening.cancel()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
