"""A turn while it runs in this process: the events that it has emitted so far, for all who follow it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

from stateful_agent.checkpoints.attempt import Attempt
from stateful_agent.errors import (
    AgentError,
    AlreadyAnswered,
    Cancelled,
    EndNotStored,
    ShuttingDown,
    TurnLost,
    TurnNotBegun,
    error_of,
)
from stateful_agent.failures import typed
from stateful_agent.responses.events import error_event
from stateful_agent.responses.response import outputs_in
from stateful_agent.responses.types import Event, Response

ENDS = ("response.completed", "response.incomplete")
"""The types of the last event of a turn that did not fail."""


class Run:
    """A turn that is an attempt at a request, and its events. `execute` is to run in `task`."""

    task: asyncio.Task[None]

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.events: list[Event] = []
        self.stored = 0
        """How many of the events are in the event log."""
        self.is_end_stored = False
        """Whether its end is."""
        self.status: str | None = None
        """How it has ended: `completed`, `failed`, `cancelled`, or as a `duplicate` of another."""
        self.error: AgentError | None = None
        self.ended_at = 0.0
        self.followers = 0
        """How many requests are being answered with it: until there are none, `is_delivered` is not known."""
        self.is_promised = False
        """Whether its caller got its id instead of its answer, and will come back."""
        self.is_delivered = False
        """Whether its caller was still there to get that, or the answer: the same request again is another one then."""
        self._is_cancelled = False
        self._is_lost = False
        self._is_over = False
        self._unknown_end: AgentError | None = None
        self._published = 0
        self._news = asyncio.Event()

    async def execute(self, source: AsyncIterator[Event], store_end: Callable[[], Awaitable[None]]) -> None:
        """Publish the events of `source`. An error is the last event.

        The end is published once `store_end` has stored it: whoever sees it may ask for it again at once, and another
        process, which must not tell another end. If it cannot be stored, an error says that, and the end is not told.
        """
        try:
            async for event in source:
                self.events.append(event)
                if event["type"] not in ENDS:
                    self._publish()
            self.status = "completed"
        except BaseException as error:
            self._fail(self._reason(error))
            if not isinstance(error, Exception):
                raise
        finally:
            self.ended_at = asyncio.get_running_loop().time()
            self.attempt.is_accepted.set()
            try:
                await store_end()
            except EndNotStored as error:
                self._unknown_end = error
            except asyncio.CancelledError:
                self._unknown_end = ShuttingDown()
                raise
            finally:
                self._is_over = True
                self._publish()

    def cancel(self) -> None:
        """End it, unless it has ended."""
        if self.status is None:
            self._is_cancelled = True
            self.task.cancel()

    def lose(self) -> None:
        """End it as others have told that it ended: it gave them no sign of life, and may store nothing more."""
        if self.status is None:
            self._is_lost = True
            self.task.cancel()
        elif not self._is_over and self.status != "duplicate":
            self.events.pop()
            self._fail(self._lost())

    def _reason(self, error: BaseException) -> AgentError:
        if self._is_lost:
            return self._lost()
        if self._is_cancelled:
            return Cancelled()
        return typed(error) if isinstance(error, Exception) else ShuttingDown()

    def _lost(self) -> AgentError:
        return TurnLost() if self.attempt.is_begun else TurnNotBegun()

    def _fail(self, error: AgentError) -> None:
        self.error = error
        if isinstance(error, AlreadyAnswered) and self.is_promised:
            self.status = "duplicate"
            return
        self.events.append(error_event(error, len(self.events)))
        self.status = "cancelled" if isinstance(error, Cancelled) else "failed"

    async def follow(self, after: int, silence: float | None = None) -> AsyncIterator[list[Event]]:
        """Its events after the one of that sequence number, to the last one, in batches of what has come up.

        After each `silence` seconds without an event comes an empty batch.
        """
        position = after + 1
        while True:
            if batch := self.events[position : self._published]:
                position += len(batch)
                yield batch
            elif self._is_over:
                if self._unknown_end:
                    yield [error_event(self._unknown_end, position)]
                return
            else:
                try:
                    async with asyncio.timeout(silence):
                        await self._news.wait()
                except TimeoutError:
                    yield []

    @contextmanager
    def followed(self) -> Iterator[None]:
        """A request is being answered with it."""
        self.followers += 1
        try:
            yield
        finally:
            self.followers -= 1

    @property
    def is_duplicate(self) -> bool:
        """Whether it was one more attempt at a request that another run answers."""
        return isinstance(self.error, AlreadyAnswered)

    @property
    def was_refused(self) -> bool:
        """Whether it has changed nothing, so that the same request may come again."""
        return self.status == "failed" and not self.attempt.is_begun and not self.is_promised

    def error_in(self, event: Event) -> AgentError:
        """The error in an event, which is this run's, or that of another run of the same request."""
        error = self._unknown_end or self.error
        return error if error and not self.is_duplicate else error_of(event["error"])

    def _publish(self) -> None:
        self._published = len(self.events) - (1 if self._unknown_end else 0)
        news, self._news = self._news, asyncio.Event()
        news.set()


def response_from(
    begun: Response, thread_id: str, status: str, events: list[Event], checkpoint_id: str | None = None
) -> Response:
    """The response that these are the events of, so far; `begun` is what it began as, if there is no event yet.

    One that has ended without an answer tells the last checkpoint that is stored of it.
    """
    response = begun | {"status": status} | outputs_in(begun["metadata"], {"thread_id": thread_id})
    output = []
    for event in events:
        response |= event.get("response", {})
        if event["type"] == "response.output_item.done":
            output.append(event["item"])
        elif event["type"] == "error":
            response |= {"status": "failed", "error": {"code": event["code"], "message": event["message"]}}
    response["output"] = response.get("output") or output
    if checkpoint_id:
        response |= outputs_in(response["metadata"], response["custom_outputs"] | {"checkpoint_id": checkpoint_id})
    if status == "cancelled":
        response |= {"status": "cancelled", "error": None}
    return response
