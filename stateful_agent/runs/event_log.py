"""The event log: what runs emit, kept for a while in Postgres, so that any process can emit it again.

A run writes nothing of it itself. Its row in `agent_turns` comes with the statement that takes its thread; what all
runs of a process emit is gathered and stored as one statement, a few times a second, which also brings back which of
them somebody has cancelled. A run that has given no sign of life for a while is taken for lost by whoever asks for it,
and that is its end: if its process comes back, it finds that it may store nothing more, and tells the same.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from stateful_agent.checkpoints.cipher import Cipher
from stateful_agent.checkpoints.lease import HEARTBEAT_SECONDS, LEASE
from stateful_agent.checkpoints.store import CheckpointStore
from stateful_agent.database.pool import Database, Pool, fetch
from stateful_agent.database.statements import statements
from stateful_agent.errors import AgentError, AlreadyAnswered, EndNotStored, ResponseNotFound
from stateful_agent.event_loop import AgentLoop
from stateful_agent.heavy_work import compute
from stateful_agent.identity import User, owner_parameters, told_id
from stateful_agent.responses.types import Event
from stateful_agent.runs.run import Run

logger = logging.getLogger(__name__)

EVENTS = statements("events")

STORE_SECONDS = 0.25
"""Between two statements that store events, and between two looks at what others have stored."""

SWEEP_SECONDS = 60
"""Between two deletions of what is kept no more."""

SWEEP_STEP = 1000
"""Runs that are deleted at once."""

GIVE_UP_SECONDS = 60
"""For how long a run that has ended waits for a database that is away."""

FAILURE_SECONDS = 1
"""For how long a failure waits to be stored before it is published."""

EVENTS_TYPE = "events"
"""The type of stored events."""


@dataclass(frozen=True)
class StoredRun:
    """What the event log has of a run."""

    thread_id: str
    began_at: datetime
    status: str | None
    """How it has ended, if it has; `lost` or, if it waited for its thread, `not_begun`: its process was silent."""

    waits: bool
    """Whether it has not begun: it waits for its thread."""

    events: list[Event]
    """Those that were asked for, in order."""

    checkpoint_id: str | None
    """The last checkpoint that is stored of it, if it has ended without an answer, and anything is."""


class EventLog:
    """The runs of an agent: those in this process, by the ids of their responses, and all that are stored."""

    def __init__(self, database: Database, store: CheckpointStore, loop: AgentLoop, seconds: float) -> None:
        """Keep events for so many `seconds`; 0: not at all."""
        self.running: dict[str, Run] = {}
        self.seconds = seconds
        self._database, self._store, self._loop = database, store, loop
        self._refused: list[UUID] = []
        self._storing: asyncio.Task[None] | None = None
        self._lives_on: Pool | None = None
        """The pool over which signs of life are given."""
        self._order = asyncio.Lock()
        self._swept_at = -float(SWEEP_SECONDS)

    def add(self, run: Run) -> None:
        """Store what a run emits from now on, once others can find it."""
        self.running[run.attempt.response_id] = run
        if self._storing is None:
            self._storing = asyncio.create_task(self._keep_storing())

    def remove_unstored(self, run: Run) -> None:
        """A run has ended. One that was refused, or has no thread, is nothing to be kept."""
        holder = run.attempt.holder
        if holder is None or run.was_refused:
            self._forget(run)
        if holder and run.was_refused:
            self._refused.append(holder)
            self._loop.spawn(self._try_to_store())  # a retry comes soon

    async def read(self, response_id: str, user: User, after: int = -1) -> StoredRun:
        """What is stored of a run, with the events after the one of that sequence number.

        Raises:
            ResponseNotFound: there is no such response of the user's, or it is kept no more.
        """
        pool = await self._database.pool()
        values = {"response_id": response_id, "after": after} | owner_parameters(user)
        rows = await fetch(pool, EVENTS["read_run"], values)
        if rows and rows[0]["status"] is None and rows[0]["is_silent"] and rows[0]["response_id"] not in self.running:
            await fetch(pool, EVENTS["end_lost_run"], {"response_id": rows[0]["response_id"]})
            rows = await fetch(pool, EVENTS["read_run"], values)
        if not rows:
            raise ResponseNotFound()
        row = rows[0]
        cipher = self._store.cipher.for_thread(row["thread_id"])
        batches = [json.loads(cipher.decrypt(row["type"], row["events"])[1]) for row in rows if row["events"]]
        events = [_of_response(event, response_id) for batch in batches for event in batch]
        newer = [event for event in events if event["sequence_number"] > after]
        thread_id = told_id(user, row["thread_id"])
        return StoredRun(thread_id, row["began_at"], row["status"], row["waits"], newer, row["checkpoint_id"])

    async def request_cancellation(self, response_id: str, user: User) -> None:
        """Let the process in which a run is end it, soon."""
        values = {"response_id": response_id} | owner_parameters(user)
        await fetch(await self._database.pool(), EVENTS["cancel_run"], values)

    async def delete(self, response_id: str, user: User) -> None:
        """Delete a response that has ended; the checkpoints of its turn stay.

        Raises:
            ResponseNotFound: there is no such response of the user's.
        """
        if run := self.running.get(response_id):
            self._forget(run)
        values = {"response_id": response_id} | owner_parameters(user)
        if not await fetch(await self._database.pool(), EVENTS["delete_response"], values):
            raise ResponseNotFound()

    async def close(self) -> None:
        """Store what is left."""
        if self._storing:
            self._storing.cancel()
        await self._try_to_store()

    async def store_end(self, run: Run) -> None:
        """Store the end of a run, and those of others that have ended meanwhile.

        Raises:
            EndNotStored: the database cannot be reached. It is tried again for a while.
        """
        if run.attempt.holder is None or run.was_refused:
            return
        if run.status == "failed":  # it will never be anything else: nobody is told another end
            await asyncio.wait([self._loop.spawn(self._try_to_store(run))], timeout=FAILURE_SECONDS)
            return
        try:
            await self.store(run)
        except Exception as error:
            logger.warning("The end of a run is not in the event log yet: %s", error)
            raise EndNotStored() from error

    async def store(self, end_of: Run | None = None) -> None:
        """Store what was emitted since the last time, and end what somebody has cancelled; or only what has ended, if
        the `end_of` a run is not stored yet.

        Raises:
            StorageUnavailable: the database cannot be reached. It can be called again.
        """
        async with self._order:
            if end_of and end_of.is_end_stored:
                return
            found = [
                (run, len(run.events), run.status is not None)
                for run in self.running.values()
                if run.attempt.holder and not (end_of and (run.status is None or run.is_end_stored))
            ]
            if not (found or self._refused):
                return
            pool = await self._database.pool()
            refused = list(self._refused)
            over = [run for run, _, has_ended in found if has_ended and not run.followers]
            work = partial(_parameters, found, self._store.cipher)
            parameters = await compute(work, [run.events[run.stored : count] for run, count, _ in found])
            rows = await fetch(pool, EVENTS["store_events"], parameters | {"refused": refused})
            del self._refused[: len(refused)]
            for run, count, has_ended in found:
                run.stored, run.is_end_stored = count, has_ended
            for run in over:
                self._forget(run)
            for row in rows:
                here = self.running.get(row["response_id"])
                if here and row["is_lost"]:
                    here.lose()
                elif here and row["is_cancelled"]:
                    here.cancel()

    async def _keep_storing(self) -> None:
        clock = asyncio.get_running_loop().time
        with suppress(AgentError):
            await self._give_signs_of_life()
        while self.running or self._refused:
            await asyncio.sleep(STORE_SECONDS)
            await self._try_to_store()
            if self.seconds and clock() - self._swept_at > SWEEP_SECONDS:
                self._swept_at = clock()
                with suppress(AgentError):
                    await self._sweep()
            for run in list(self.running.values()):
                if run.status is not None and clock() - run.ended_at > GIVE_UP_SECONDS:
                    self._forget(run)
        self._storing = None

    async def _give_signs_of_life(self) -> None:
        """Show from now on that the runs here are not lost, however busy the event loop is."""
        pool = await self._database.pool()
        if self._lives_on is pool:
            return

        async def renew(open_pool: Callable[[], Awaitable[Pool]]) -> None:
            if runs := [run.attempt.response_id for run in list(self.running.values()) if run.attempt.holder]:
                with suppress(AgentError):
                    await fetch(await open_pool(), EVENTS["renew_runs"], {"runs": runs, "lease": LEASE})

        assert pool.aside
        pool.aside.every(HEARTBEAT_SECONDS, renew)
        self._lives_on = pool

    async def _sweep(self) -> None:
        """Delete what is kept no more, in small steps beside the turns that run."""
        pool, values = await self._database.pool(), {"age": self.seconds, "step": SWEEP_STEP}
        while len(await fetch(pool, EVENTS["delete_old_runs"], values)) == SWEEP_STEP:
            pass

    async def _try_to_store(self, end_of: Run | None = None) -> None:
        try:
            await self.store(end_of)
        except Exception as error:  # the next heartbeat tries again
            logger.warning("Not in the event log yet: %s", error)

    def _forget(self, run: Run) -> None:
        if self.running.get(run.attempt.response_id) is run:
            del self.running[run.attempt.response_id]


def _parameters(found: list[tuple[Run, int, bool]], cipher: Cipher) -> dict[str, Any]:
    """The parameters of `store_events`: of each run, what is not stored yet of so many events, and whether it has
    ended."""
    emitted, data, ended = [], [], []
    for run, count, has_ended in found:
        attempt = run.attempt
        if run.stored < count:
            text = json.dumps(run.events[run.stored : count])
            kind, blob = cipher.for_thread(attempt.thread_id).encrypt(EVENTS_TYPE, text.encode())
            data.append(blob)
            batch = {"response_id": attempt.response_id, "first": run.stored, "last": count - 1}
            emitted.append(batch | {"type": kind, "data": len(data)})
        if has_ended:
            same_as = run.error.response_id if isinstance(run.error, AlreadyAnswered) else None
            end = {"response_id": attempt.response_id, "status": run.status, "is_delivered": run.is_delivered}
            ended.append(end | {"same_as": same_as})
    return {
        "emitted": json.dumps(emitted),
        "data": data,
        "ended": json.dumps(ended),
        "runs": [run.attempt.response_id for run, _, _ in found],
    }


def _of_response(event: Event, response_id: str) -> Event:
    """The event under the id that was asked for: a duplicate of a request has another than the run that answers it."""
    if "response" not in event:
        return event
    return event | {"response": event["response"] | {"id": response_id}}
