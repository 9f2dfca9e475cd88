"""Runs to calls: of the turn that a request begins, or of the one that the same call has already."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from stateful_agent.errors import (
    AgentError,
    AlreadyAnswered,
    InvalidRequest,
    KeyReused,
    ResponseNotFound,
    TurnGone,
    TurnLost,
    TurnNotBegun,
)
from stateful_agent.responses.events import error_event
from stateful_agent.responses.output import Event
from stateful_agent.responses.request import ResponsesRequest
from stateful_agent.runs.attempt import Attempt, attempting
from stateful_agent.runs.event_log import BEAT, EventLog, StoredRun
from stateful_agent.runs.run import Run, as_response, called

IsGone = Callable[[], Awaitable[bool]]
"""Tells whether the caller has hung up."""


class Runs:
    """What an agent answers, at once or later, from this process or another."""

    def __init__(self, agent: Any, journal: EventLog) -> None:
        self._agent, self._journal = agent, journal
        self._silence: float = agent.settings.keep_alive

    # -- A call ----------------------------------------------------------------------------------------------------

    async def answer(self, request: ResponsesRequest, attempt: Attempt, is_gone: IsGone) -> Event:
        """The response of a request's turn, or of the turn that the same call has already.

        Raises:
            AgentError: the turn failed.
        """
        running = self._start(request, attempt)
        with called(running):
            async for batch in self._listen(running):
                if batch:
                    last = batch[-1]
            if last["type"] == "error":
                raise running.error_in(last)
            running.is_delivered = not await is_gone()
        return dict(last["response"])

    async def answer_stream(
        self, request: ResponsesRequest, attempt: Attempt, is_gone: IsGone
    ) -> AsyncIterator[list[Event]]:
        """The same as events, in batches of what has come up.

        Raises:
            AgentError: before the first event. Later, an event says so.
        """
        running = self._start(request, attempt)
        with called(running):
            async for batch in self._listen(running):
                if batch and batch[0]["type"] == "error" and batch[0]["sequence_number"] == 0:
                    raise running.error_in(batch[0])
                yield batch
            running.is_delivered = running.error is None and not await is_gone()

    async def answer_later(self, request: ResponsesRequest, attempt: Attempt, is_gone: IsGone) -> Event:
        """The response of a request's turn as soon as that has begun, or waits for its thread.

        Raises:
            InvalidRequest: it is no turn, or one that is not stored.
            AgentError: the turn was refused.
        """
        self.check_kept(request)
        running = self._start(request, attempt)
        attempt = running.attempt
        await attempt.is_accepted.wait()
        if isinstance(running.error, AlreadyAnswered):
            with gone_as_conflict():
                return await self.response(running.error.response_id)
        if running.error and not attempt.is_begun:
            raise running.error
        running.is_promised, running.is_delivered = True, not await is_gone()
        status = "in_progress" if attempt.is_begun else "queued"
        return as_response(attempt.response_id, attempt.thread_id, datetime.now(), status, [])

    def check_kept(self, request: ResponsesRequest) -> None:
        """Make sure that the response to a request can be had later.

        Raises:
            InvalidRequest: it cannot.
        """
        if not self._journal.seconds:
            raise InvalidRequest("background needs a journal, and JOURNAL_SECONDS is 0 here.", param="background")
        if request.store is False:
            raise InvalidRequest("store: false keeps nothing, so there is no background.", param="background")
        if "operation" in (request.custom_inputs or {}):
            raise InvalidRequest("An operation cannot be done in the background.", param="background")

    async def _listen(self, running: Run) -> AsyncIterator[list[Event]]:
        """The events of a turn that was begun here, or of the one that its call has already."""
        async for batch in running.follow(-1, self._silence):
            if isinstance(running.error, AlreadyAnswered):
                with gone_as_conflict():
                    events = await self.follow(running.error.response_id)
                async for others in events:
                    yield others
            else:
                yield batch

    def _start(self, request: ResponsesRequest, attempt: Attempt) -> Run:
        """Begin a turn, unless one with the same key runs here; then that.

        Raises:
            KeyReused: and it was told other words.
        """
        if running := self._journal.running.get(attempt.response_id):
            if running.attempt.digest != attempt.digest:
                raise KeyReused()
            return running
        running = Run(attempt)
        with attempting(attempt if self._journal.seconds else None):
            running.task = self._agent.loop.spawn(self._run(running, request))
        self._journal.add(running)
        return running

    async def _run(self, running: Run, request: ResponsesRequest) -> None:
        try:
            await running.speak(self._agent.aevents(request), partial(self._journal.keep, running))
        finally:
            self._journal.settle(running)

    # -- A response ------------------------------------------------------------------------------------------------

    async def response(self, response_id: str) -> Event:
        """A response as it is now.

        Raises:
            ResponseNotFound: there is no such response of the caller's, or it is kept no more.
        """
        kept = await self._journal.read(response_id)  # though it may run here: whichever process is asked says the same
        events = kept.events
        if kept.is_lost and response_id not in self._journal.running:
            events = [*events, error_event(lost(kept), len(events))]
        status = kept.status or ("queued" if kept.waits else "in_progress")
        return as_response(response_id, kept.thread_id, kept.began_at, status, events)

    async def follow(self, response_id: str, after: int = -1) -> AsyncIterator[list[Event]]:
        """Its events after the one of that sequence number, to the last one, whichever process it runs in.

        Raises:
            ResponseNotFound: there is no such response of the caller's, or it is kept no more.
        """
        return self._follow(response_id, after, await self._journal.read(response_id, after))

    async def cancel(self, response_id: str) -> Event:
        """End a response, and wait until it has ended. One that had ended stays as it was.

        Raises:
            ResponseNotFound: there is no such response of the caller's, or it is kept no more.
        """
        running = self._journal.running.get(response_id)
        kept = await self._journal.read(response_id)
        if kept.status is None:
            await self._journal.flag_cancelled(response_id)
            if running:
                running.cancel()
            async for _ in self._follow(response_id, -1, kept):
                pass
        return await self.response(response_id)

    async def _follow(self, response_id: str, after: int, kept: StoredRun) -> AsyncIterator[list[Event]]:
        clock = asyncio.get_running_loop().time
        told_at = clock()
        while True:
            if running := self._journal.running.get(response_id):
                async for batch in running.follow(after, self._silence):
                    if isinstance(running.error, AlreadyAnswered):  # it runs elsewhere: this was one more attempt at it
                        break
                    yield batch
                else:
                    return
                kept = await self._journal.read(response_id, after)
            if kept.events or clock() - told_at > self._silence:
                after = kept.events[-1]["sequence_number"] if kept.events else after
                told_at = clock()
                yield kept.events
            if kept.status is not None:
                return
            try:
                if kept.is_lost:
                    raise lost(kept)
                await asyncio.sleep(BEAT)
                with gone_as_conflict():
                    kept = await self._journal.read(response_id, after)
            except AgentError as error:
                yield [error_event(error, after + 1)]
                return


def lost(kept: StoredRun) -> AgentError:
    """Why a turn whose process has died says no more."""
    return TurnNotBegun() if kept.waits else TurnLost()


@contextmanager
def gone_as_conflict() -> Iterator[None]:
    """A turn that a call has, or had a moment ago, is no response that was never there."""
    try:
        yield
    except ResponseNotFound as error:
        raise TurnGone() from error
