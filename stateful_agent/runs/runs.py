"""The runs of an agent: what answers a request, at once or later, in this process or another."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from stateful_agent.agent import LangGraphResponsesAgent
from stateful_agent.checkpoints.attempt import Attempt
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
from stateful_agent.identity import User, identify, told_id
from stateful_agent.responses.events import error_event
from stateful_agent.responses.request import ResponsesRequest
from stateful_agent.responses.response import empty_response, response_to
from stateful_agent.responses.types import Event
from stateful_agent.runs.event_log import STORE_SECONDS, EventLog, StoredRun
from stateful_agent.runs.run import Run, response_from

HasLeft = Callable[[], Awaitable[bool]]
"""Tells whether the caller has hung up."""


LOST: dict[str, type[AgentError]] = {"lost": TurnLost, "not_begun": TurnNotBegun}
"""Why a run whose process gave no sign of life emits no more, by its status."""


class Runs:
    """Begins a run for a request, or finds the one that a duplicate of it has already."""

    def __init__(self, agent: LangGraphResponsesAgent, log: EventLog) -> None:
        self._agent, self._log = agent, log
        self._silence = agent.settings.keep_alive

    # -- A request -------------------------------------------------------------------------------------------------

    async def respond(self, request: ResponsesRequest, attempt: Attempt, user: User | None, has_left: HasLeft) -> Event:
        """The response to a request.

        Raises:
            AgentError: the turn failed.
        """
        user = identify(user, request.context, self._agent.settings.trusted_identity)
        run = await self._accepted(request, attempt, user)
        with run.followed():
            async for batch in self._events(run, user):
                if batch:
                    last = batch[-1]
            if last["type"] == "error":
                raise run.error_in(last)
            run.is_delivered = not await has_left()
        return dict(last["response"])

    async def stream(
        self, request: ResponsesRequest, attempt: Attempt, user: User | None, has_left: HasLeft
    ) -> AsyncIterator[list[Event]]:
        """The same as events, in batches of what has come up.

        Raises:
            AgentError: before the first event. Later, it is the last event.
        """
        user = identify(user, request.context, self._agent.settings.trusted_identity)
        run = await self._accepted(request, attempt, user)
        with run.followed():
            async for batch in self._events(run, user):
                if batch and batch[0]["type"] == "error" and batch[0]["sequence_number"] == 0:
                    raise run.error_in(batch[0])
                yield batch
            run.is_delivered = run.error is None and not await has_left()

    async def start_in_background(
        self, request: ResponsesRequest, attempt: Attempt, user: User | None, has_left: HasLeft
    ) -> Event:
        """The response to a request as soon as its turn has begun, or waits for its thread.

        Raises:
            InvalidRequest: it is no turn, or one that is not stored.
            AgentError: the turn was refused.
        """
        self.check_background(request)
        user = identify(user, request.context, self._agent.settings.trusted_identity)
        run = await self._accepted(request, attempt, user)
        attempt = run.attempt
        if isinstance(run.error, AlreadyAnswered):
            with gone_as_conflict():
                return await self.retrieve(run.error.response_id, user)
        if run.error and not attempt.is_begun:
            raise run.error
        run.is_promised, run.is_delivered = True, not await has_left()
        status = "in_progress" if attempt.is_begun else "queued"
        begun = response_to(request, attempt.response_id, int(time.time()))
        return response_from(begun, told_id(user, attempt.thread_id), status, [])

    def check_background(self, request: ResponsesRequest) -> None:
        """Make sure that the response to a request can be had later.

        Raises:
            InvalidRequest: it cannot.
        """
        if not self._log.seconds:
            raise InvalidRequest("background needs an event log, and EVENT_LOG_SECONDS is 0 here.", param="background")
        if request.store is False:
            raise InvalidRequest("store: false keeps nothing, so there is no background.", param="background")
        if "operation" in (request.custom_inputs or {}):
            raise InvalidRequest("An operation cannot be done in the background.", param="background")

    async def _accepted(self, request: ResponsesRequest, attempt: Attempt, user: User) -> Run:
        """A run that has begun, waits for its thread, or was refused.

        If there was one of the same key whose process died before it began, that is its end, and this is another one.
        """
        run = self._start(request, attempt, user)
        await run.attempt.is_accepted.wait()
        if isinstance(run.error, AlreadyAnswered) and run.error.response_id == attempt.response_id:
            with suppress(ResponseNotFound):
                before = await self._log.read(attempt.response_id, user)
                if before.status == "not_begun":
                    return await self._accepted(request, attempt.again(), user)
        return run

    def _start(self, request: ResponsesRequest, attempt: Attempt, user: User) -> Run:
        """Begin a run, unless one with the same key is in this process; then that.

        Raises:
            KeyReused: and its request had another body.
        """
        if run := self._log.running.get(attempt.response_id):
            if run.attempt.digest != attempt.digest:
                raise KeyReused()
            return run
        attempt.is_recorded = self._log.seconds > 0
        run = Run(attempt)
        run.task = self._agent.loop.spawn(self._execute(run, request, user))
        self._log.add(run)
        return run

    async def _execute(self, run: Run, request: ResponsesRequest, user: User) -> None:
        try:
            events = self._agent.as_user(user).aevents(request, run.attempt)
            await run.execute(events, partial(self._log.store_end, run))
        finally:
            self._log.remove_unstored(run)

    async def _events(self, run: Run, user: User) -> AsyncIterator[list[Event]]:
        """The events of a run that was begun here, or of the one that a duplicate of its request has already."""
        async for batch in run.follow(-1, self._silence):
            if run.is_duplicate:
                break
            yield batch
        if isinstance(run.error, AlreadyAnswered):
            with gone_as_conflict():
                events = await self.follow(run.error.response_id, user)
            async for others in events:
                yield others

    # -- A response ------------------------------------------------------------------------------------------------

    async def retrieve(self, response_id: str, user: User | None) -> Event:
        """A response as it is now.

        Raises:
            ResponseNotFound: there is no such response of the user's, or it is kept no more.
            Unidentified: TRUSTED_IDENTITY is set, and the request names no user.
        """
        # It is read even if the run is in this process: whichever process is asked answers the same.
        stored = await self._log.read(response_id, self._identified(user))
        events, status = stored.events, stored.status or ("queued" if stored.waits else "in_progress")
        if status in LOST:
            events = [*events, error_event(LOST[status](), len(events))]
        begun = empty_response(response_id, int(stored.began_at.timestamp()))
        return response_from(begun, stored.thread_id, status, events, stored.checkpoint_id)

    async def follow(self, response_id: str, user: User | None, after: int = -1) -> AsyncIterator[list[Event]]:
        """Its events after the one of that sequence number, to the last one, whichever process it runs in.

        Raises: the same as `retrieve`.
        """
        identified = self._identified(user)
        stored = await self._log.read(response_id, identified, after)
        return self._follow(response_id, identified, after, stored)

    async def cancel(self, response_id: str, user: User | None) -> Event:
        """End a response, and wait until it has ended. One that had ended stays as it was.

        Raises: the same as `retrieve`.
        """
        identified = self._identified(user)
        run = self._log.running.get(response_id)
        stored = await self._log.read(response_id, identified)
        if stored.status is None:
            await self._log.request_cancellation(response_id, identified)
            if run:
                run.cancel()
            async for _ in self._follow(response_id, identified, -1, stored):
                pass
        return await self.retrieve(response_id, identified)

    async def delete(self, response_id: str, user: User | None) -> None:
        """Delete a response, which ends if it has not; what it has stored stays in its thread.

        Raises: the same as `retrieve`.
        """
        with suppress(ResponseNotFound):  # it may be in its thread still
            await self.cancel(response_id, user)
        await self._log.delete(response_id, self._identified(user))

    async def _follow(self, response_id: str, user: User, after: int, stored: StoredRun) -> AsyncIterator[list[Event]]:
        clock = asyncio.get_running_loop().time
        emitted_at = clock()
        while True:
            run = self._log.running.get(response_id)
            if run and not run.is_duplicate:
                async for batch in run.follow(after, self._silence):
                    if run.is_duplicate:
                        break
                    yield batch
                if not run.is_duplicate:
                    return
                stored = await self._log.read(response_id, user, after)
            if stored.events or clock() - emitted_at > self._silence:
                after = stored.events[-1]["sequence_number"] if stored.events else after
                emitted_at = clock()
                yield stored.events
            try:
                if stored.status in LOST:
                    raise LOST[stored.status]()
                if stored.status is not None:
                    return
                await asyncio.sleep(STORE_SECONDS)
                with gone_as_conflict():
                    stored = await self._log.read(response_id, user, after)
            except AgentError as error:
                yield [error_event(error, after + 1)]
                return

    def _identified(self, user: User | None) -> User:
        return identify(user, None, self._agent.settings.trusted_identity)


@contextmanager
def gone_as_conflict() -> Iterator[None]:
    """The run of a duplicate request, there a moment ago, is no response that was never there."""
    try:
        yield
    except ResponseNotFound as error:
        raise TurnGone() from error
