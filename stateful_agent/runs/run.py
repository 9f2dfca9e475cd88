"""A response while its turn runs in this process: what it has said so far, for all who listen."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from stateful_agent.errors import AgentError, AlreadyAnswered, Cancelled, ShuttingDown, error_of, typed
from stateful_agent.responses.events import empty_response, error_event
from stateful_agent.responses.output import Event
from stateful_agent.runs.attempt import Attempt


class Run:
    """A turn that is an attempt at a call, and its events. `speak` is to run in `task`."""

    task: asyncio.Task[None]

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.events: list[Event] = []
        self.stored = 0
        """How many of the events are in the journal."""
        self.is_kept = False
        """Whether its end is."""
        self.status: str | None = None
        """How it has ended: `completed`, `failed` or `cancelled`."""
        self.error: AgentError | None = None
        self.ended_at = 0.0
        self.callers = 0
        """How many requests are being answered with it. Until then, whether it `is_delivered` is not known."""
        self.is_promised = False
        """Whether its caller was told its id instead of its answer, and will come back."""
        self.is_delivered = False
        """Whether its caller was still there to be told that, or its answer: a retry is another call then."""
        self._is_cancelled = False
        self._is_over = False
        self._told = 0
        self._news = asyncio.Event()

    async def speak(self, source: AsyncIterator[Event], keep: Callable[[], Awaitable[None]]) -> None:
        """Say what `source` yields. An error is the last event. The end is told once there was an attempt to `keep` it:
        who has heard it may ask for it again at once, and another process."""
        try:
            async for event in source:
                self.events.append(event)
                if event["type"] != "response.completed":
                    self._tell()
            self.status = "completed"
        except BaseException as error:
            if self._is_cancelled:
                self.error = Cancelled()
            else:
                self.error = typed(error) if isinstance(error, Exception) else ShuttingDown()
            self.events.append(error_event(self.error, len(self.events)))
            self.status = "cancelled" if self._is_cancelled else "failed"
            if not isinstance(error, Exception):
                raise
        finally:
            self.ended_at = asyncio.get_running_loop().time()
            self.attempt.is_accepted.set()
            try:
                await keep()
            finally:
                self._is_over = True
                self._tell()

    def cancel(self) -> None:
        """End it, unless it has ended."""
        if self.status is None:
            self._is_cancelled = True
            self.task.cancel()

    async def follow(self, after: int, silence: float | None = None) -> AsyncIterator[list[Event]]:
        """Its events after the one of that sequence number, to the last one, in batches of what has come up.

        After each `silence` seconds without an event comes an empty batch.
        """
        told = after + 1
        while True:
            if batch := self.events[told : self._told]:
                told += len(batch)
                yield batch
            elif self._is_over:
                return
            else:
                try:
                    async with asyncio.timeout(silence):
                        await self._news.wait()
                except TimeoutError:
                    yield []

    @property
    def was_refused(self) -> bool:
        """Whether it has changed nothing, so that the same call may come again."""
        return self.status == "failed" and not self.attempt.is_begun and not self.is_promised

    def error_in(self, event: Event) -> AgentError:
        """The error that an event says, which is this turn's, or that of another turn for the same call."""
        return self.error if self.error and not isinstance(self.error, AlreadyAnswered) else error_of(event["error"])

    def _tell(self) -> None:
        self._told = len(self.events)
        news, self._news = self._news, asyncio.Event()
        news.set()


@contextmanager
def called(running: Run) -> Iterator[None]:
    """A request is being answered with `running`."""
    running.callers += 1
    try:
        yield
    finally:
        running.callers -= 1


def as_response(response_id: str, thread_id: str, began_at: datetime, status: str, events: list[Event]) -> Event:
    """The response that these are the events of, so far."""
    place = {"thread_id": thread_id}
    response = empty_response(response_id, int(began_at.timestamp()), "stateful-agent")
    response |= {"status": status, "custom_outputs": place, "metadata": place}
    output = []
    for event in events:
        response |= event.get("response", {})
        if event["type"] == "response.output_item.done":
            output.append(event["item"])
        elif event["type"] == "error":
            response |= {"status": "failed", "error": {"code": event["code"], "message": event["message"]}}
    response["output"] = response.get("output") or output
    if status == "cancelled":
        response |= {"status": "cancelled", "error": None}
    return response
