"""The journal: what turns say, kept for a while in Postgres, so that any process can say it again.

A turn writes nothing of it itself. Its row in `agent_turns` comes with the statement that takes its thread; what all
turns of a process say is gathered and stored as one statement, a few times a second, which also brings back which of
them somebody has cancelled. A turn that has given no sign of life for a while is one whose process has died.
"""

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from stateful_agent.checkpoints.lease import LEASE
from stateful_agent.checkpoints.serializer import Serializer
from stateful_agent.database.pool import fetch
from stateful_agent.errors import AgentError, ResponseNotFound, Unidentified
from stateful_agent.identity import caller
from stateful_agent.responses.output import Event
from stateful_agent.runs.run import Run

logger = logging.getLogger(__name__)

BEAT = 0.25
"""Seconds between two statements that store what was said, and between two looks at what others have stored."""

SWEEP = 60
"""Seconds between two sweeps."""

PATIENCE = 60
"""Seconds for which a response that has ended waits for a database that is away."""

END = 1
"""Seconds for which the end of a response waits to be stored before it is told."""

KIND = "events"
"""The type of stored events."""

STORE: LiteralString = """
    WITH said AS (
        INSERT INTO agent_events (response_id, first, last, type, events)
        SELECT response_id, first, last, type, (%(data)b::bytea[])[data]
        FROM json_to_recordset(%(said)s::json) AS said (response_id text, first int, last int, type text, data int)
        WHERE EXISTS (SELECT FROM agent_turns WHERE response_id = said.response_id)
        ON CONFLICT (response_id, first) DO UPDATE
        SET last = excluded.last, type = excluded.type, events = excluded.events
    ), ended AS (
        UPDATE agent_turns
        SET status = ended.status, is_delivered = ended.is_delivered, alive_until = clock_timestamp()
        FROM json_to_recordset(%(ended)s::json) AS ended (response_id text, status text, is_delivered boolean)
        WHERE agent_turns.response_id = ended.response_id
    ), kept AS (
        UPDATE agent_turns SET alive_until = clock_timestamp() + %(lease)s
        WHERE response_id = ANY(%(running)s) AND alive_until < clock_timestamp() + %(lease)s::interval / 2
    ), refused AS (
        DELETE FROM agent_turns WHERE holder = ANY(%(refused)s)
    )
    SELECT response_id FROM agent_turns WHERE response_id = ANY(%(running)s) AND is_cancelled
"""
SWEEP_OUT: LiteralString = """
    DELETE FROM agent_turns WHERE alive_until < clock_timestamp() - %(age)s * interval '1 second'
    RETURNING response_id
"""
IS_THE_CALLERS: LiteralString = """
    WHERE turn.response_id = %(response_id)s AND (%(caller)s::text IS NULL OR EXISTS (
        SELECT FROM agent_threads WHERE thread_id = turn.thread_id AND owner = %(caller)s
    ))
"""
READ: LiteralString = (
    """
    SELECT turn.thread_id, turn.began_at, turn.status, turn.alive_until < clock_timestamp() AS is_lost,
        EXISTS (SELECT FROM agent_waiting WHERE holder = turn.holder) AS waits, event.type, event.events
    FROM agent_turns AS turn
    LEFT JOIN agent_events AS event ON event.response_id = turn.response_id AND event.last > %(after)s
    """
    + IS_THE_CALLERS
    + "ORDER BY event.first"
)
CANCEL: LiteralString = "UPDATE agent_turns AS turn SET is_cancelled = true" + IS_THE_CALLERS + "RETURNING response_id"


@dataclass(frozen=True)
class StoredRun:
    """What the journal has of a response."""

    thread_id: str
    began_at: datetime
    status: str | None
    """How it has ended, if it has."""

    waits: bool
    """Whether it has not begun: it waits for its thread."""

    is_lost: bool
    """Whether it has not, and its process has died."""

    events: list[Event]
    """Those that were asked for, in order."""


class EventLog:
    """The responses of an agent: those that run in this process, by their ids, and all that are kept."""

    def __init__(self, agent: Any) -> None:
        self.running: dict[str, Run] = {}
        self.seconds: float = agent.settings.journal_seconds
        self._agent = agent
        self._refused: list[UUID] = []
        self._beating: asyncio.Task[None] | None = None
        self._order = asyncio.Lock()
        self._swept_at = -float(SWEEP)

    def add(self, running: Run) -> None:
        """Keep what a turn says from now on, once others can find it."""
        self.running[running.attempt.response_id] = running
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())

    def settle(self, running: Run) -> None:
        """A turn has ended. One that was refused, or has no thread, is nothing to be kept."""
        holder = running.attempt.holder
        if holder is None or running.was_refused:
            self._forget(running)
        if holder and running.was_refused:
            self._refused.append(holder)
            self._agent.loop.spawn(self._try_to_store())  # a retry comes soon

    async def read(self, response_id: str, after: int = -1) -> StoredRun:
        """What is kept of a response, with the events after the one of that sequence number.

        Raises:
            ResponseNotFound: there is no such response of the caller's, or it is kept no more.
            Unidentified: users are told apart, and nobody has said whose request it is.
        """
        if self._agent.settings.trusted_identity and caller() is None:
            raise Unidentified()
        values = {"response_id": response_id, "after": after, "caller": caller()}
        rows = await fetch(await self._agent.storage.pool(), READ, values)
        if not rows:
            raise ResponseNotFound()
        serde = (await self._serde()).of(rows[0]["thread_id"])
        batches = [json.loads(serde.decrypt(row["type"], row["events"])[1]) for row in rows if row["events"]]
        events = [event for batch in batches for event in batch if event["sequence_number"] > after]
        row = rows[0]
        is_lost = row["status"] is None and row["is_lost"]
        return StoredRun(row["thread_id"], row["began_at"], row["status"], row["waits"], is_lost, events)

    async def flag_cancelled(self, response_id: str) -> None:
        """Let the process in which a response runs end it, soon."""
        values = {"response_id": response_id, "caller": caller()}
        await fetch(await self._agent.storage.pool(), CANCEL, values)

    async def close(self) -> None:
        """Store what is left."""
        if self._beating:
            self._beating.cancel()
        await self._try_to_store()

    async def keep(self, running: Run) -> None:
        """Store the end of a turn, and those of others that have ended meanwhile; or give that up for now."""
        if running.attempt.holder and not running.was_refused:
            await asyncio.wait([self._agent.loop.spawn(self._try_to_store(running))], timeout=END)

    async def store(self, end_of: Run | None = None) -> None:
        """Store what was said since the last time, and end what somebody has cancelled; or only what has ended, if
        the `end_of` a turn is not stored yet.

        Raises:
            StorageUnavailable: the database cannot be reached. It can be called again.
        """
        async with self._order:
            if end_of and end_of.is_kept:
                return
            found = [
                (running, len(running.events), running.status is not None)
                for running in self.running.values()
                if running.attempt.holder and not (end_of and (running.status is None or running.is_kept))
            ]
            if not (found or self._refused):
                return
            pool, serde = await self._agent.storage.pool(), await self._serde()
            refused = list(self._refused)
            over = [running for running, _, has_ended in found if has_ended and not running.callers]
            cancelled = await fetch(pool, STORE, as_parameters(found, serde) | {"refused": refused})
            del self._refused[: len(refused)]
            for running, told, has_ended in found:
                running.stored, running.is_kept = told, has_ended
            for running in over:
                self._forget(running)
            for row in cancelled:
                if here := self.running.get(row["response_id"]):
                    here.cancel()

    async def _beat(self) -> None:
        clock = asyncio.get_running_loop().time
        while self.running or self._refused:
            await asyncio.sleep(BEAT)
            await self._try_to_store()
            if self.seconds and clock() - self._swept_at > SWEEP:
                self._swept_at = clock()
                with suppress(AgentError):
                    await fetch(await self._agent.storage.pool(), SWEEP_OUT, {"age": self.seconds})
            for running in list(self.running.values()):
                if running.status is not None and clock() - running.ended_at > PATIENCE:
                    self._forget(running)
        self._beating = None

    async def _try_to_store(self, end_of: Run | None = None) -> None:
        try:
            await self.store(end_of)
        except Exception as error:  # the next beat tries again
            logger.warning("Not in the journal yet: %s", error)

    def _forget(self, running: Run) -> None:
        if self.running.get(running.attempt.response_id) is running:
            del self.running[running.attempt.response_id]

    async def _serde(self) -> Serializer:
        _, saver = await self._agent.graph_on_disk()
        return saver.serde


def as_parameters(found: list[tuple[Run, int, bool]], serde: Serializer) -> dict[str, Any]:
    """The parameters of `STORE`: of each turn, what is not stored yet of so many events, and whether it has ended."""
    said, data, ended = [], [], []
    for running, told, has_ended in found:
        attempt = running.attempt
        if running.stored < told:
            text = json.dumps(running.events[running.stored : told])
            kind, blob = serde.of(attempt.thread_id).encrypt(KIND, text.encode())
            data.append(blob)
            place = {"response_id": attempt.response_id, "first": running.stored, "last": told - 1}
            said.append(place | {"type": kind, "data": len(data)})
        if has_ended:
            end = {"response_id": attempt.response_id, "status": running.status}
            ended.append(end | {"is_delivered": running.is_delivered})
    return {
        "said": json.dumps(said),
        "data": data,
        "ended": json.dumps(ended),
        "running": [running.attempt.response_id for running, _, has_ended in found if not has_ended],
        "lease": LEASE,
    }
