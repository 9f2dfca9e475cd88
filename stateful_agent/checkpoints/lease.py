"""One turn at a time on a thread, across all processes that share the database.

The right to write on a thread is a lease: three columns of its row in `agent_threads`. So no connection is held
meanwhile, and it works behind a proxy that pools transactions. Whoever holds it says so every `BEAT` seconds, and each
statement that writes makes sure of it in the same breath. A holder that has been silent for as long as `LEASE` loses
it to the next who asks, and can write no more. Time is the database's.
"""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

from langgraph.checkpoint.base import id as checkpoint_ids
from psycopg.rows import DictRow

from stateful_agent.database.functions import NOTED_ANEW, TAKE
from stateful_agent.database.pool import Pool, fetch
from stateful_agent.errors import AlreadyAnswered, KeyReused, StorageUnavailable, ThreadBusy
from stateful_agent.runs.attempt import as_parameters, current_attempt

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=6)
"""After which a silent holder may lose its thread."""

BEAT = 2
"""Seconds between two signs of life."""

NO_TICKET = 2**63 - 1
"""Comes after all who have one."""

QUEUE_INTERVAL = 0.1
"""Seconds between two attempts of a turn that waits for another."""

RELEASE: LiteralString = """
    UPDATE agent_threads SET held_until = '-infinity' WHERE thread_id = %(thread_id)s AND holder = %(holder)s
    RETURNING thread_id
"""
KEEP: LiteralString = """
    UPDATE agent_threads SET held_until = clock_timestamp() + %(lease)s
    WHERE thread_id = ANY(%(threads)s) AND holder = ANY(%(holders)s) AND held_until > '-infinity'
    RETURNING thread_id
"""
LOST: LiteralString = """
    SELECT created_at = %(created_at)s AS is_the_same, EXISTS (
        SELECT FROM checkpoints
        WHERE thread_id = %(thread_id)s AND checkpoint_ns = '' AND checkpoint_id = %(checkpoint_id)s
    ) AS is_stored
    FROM agent_threads WHERE thread_id = %(thread_id)s
"""
QUEUE: LiteralString = (
    """
    WITH noted AS (
        INSERT INTO agent_turns (response_id, thread_id, holder, digest, alive_until)
        SELECT %(response_id)s, thread_id, %(holder)s, %(digest)s, clock_timestamp() + %(lease)s
        FROM (SELECT thread_id FROM agent_threads WHERE thread_id = %(thread_id)s FOR KEY SHARE) AS thread
        WHERE %(response_id)s::text IS NOT NULL
        """
    + NOTED_ANEW
    + """
    )
    INSERT INTO agent_waiting (thread_id, holder, waits_until)
    VALUES (%(thread_id)s, %(holder)s, clock_timestamp() + interval '2 seconds')
    ON CONFLICT (holder) DO UPDATE SET waits_until = excluded.waits_until
    RETURNING ticket
"""
)
# Who died while waiting stays in the queue as long as the turn is known: that is how others know that it never began.
LEAVE_QUEUE: LiteralString = """
    DELETE FROM agent_waiting AS waiting
    WHERE holder = %(holder)s OR waits_until < clock_timestamp() - interval '1 minute'
        AND NOT EXISTS (SELECT FROM agent_turns WHERE holder = waiting.holder)
    RETURNING ticket
"""


class Leases:
    """The leases that this process holds, kept alive by one statement for all of them."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._threads: dict[UUID, str] = {}
        self._beating: asyncio.Task[None] | None = None

    async def take(self, values: dict[str, Any], patience: float) -> DictRow | None:
        """Take a thread, when those who came before are done with it, and keep the lease until it is dropped.

        Returns the row of `TAKE`, whose parameters the `values` are: what is read there no other turn has changed
        since; `None` if the thread is not known.

        Raises:
            ThreadBusy: others took all of `patience`, in seconds.
            AlreadyAnswered: another turn runs, or ran, for the same call.
            KeyReused: and it was told other words.
        """
        attempt = current_attempt()
        values = values | {"lease": LEASE, "ticket": NO_TICKET} | as_parameters(attempt)
        clock = asyncio.get_running_loop().time
        deadline = clock() + patience
        is_taken = False
        try:
            while True:
                [row] = await fetch(self.pool, TAKE.call, values)
                if is_taken and not (row["is_known"] and row["twin"] is None):
                    await fetch(self.pool, RELEASE, values)
                if not row["is_known"]:
                    return None
                if row["twin"] is not None:
                    raise AlreadyAnswered(row["twin"]) if row["is_same"] else KeyReused()
                if row["version"] is not None:
                    is_taken = True
                    if attempt:
                        attempt.place(values["thread_id"], values["holder"])
                    if row["version"] == (row["version_seen"] or 0):
                        break
                    continue  # another turn ended while this was asked: read what it wrote
                if clock() > deadline:
                    raise ThreadBusy()
                [ticket] = await fetch(self.pool, QUEUE, values)
                values |= ticket
                if attempt:
                    attempt.place(values["thread_id"], values["holder"])
                    attempt.is_accepted.set()
                await asyncio.sleep(QUEUE_INTERVAL)
        finally:
            if values["ticket"] != NO_TICKET:
                with suppress(StorageUnavailable):  # a place that is not kept is soon nobody's
                    await fetch(self.pool, LEAVE_QUEUE, values)
        self._hold(values["holder"], values["thread_id"])
        return row

    def holds(self, holder: UUID) -> bool:
        """Whether a lease is kept."""
        return holder in self._threads

    def drop(self, holder: UUID) -> None:
        """Keep it no more."""
        self._threads.pop(holder, None)
        if not self._threads and self._beating is not None:
            self._beating.cancel()
            self._beating = None

    def _hold(self, holder: UUID, thread_id: str) -> None:
        self._threads[holder] = thread_id
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            values = {"threads": list(self._threads.values()), "holders": list(self._threads), "lease": LEASE}
            try:
                await fetch(self.pool, KEEP, values)
            except Exception as error:  # while nobody else asks for it, a lease that has run out is still ours
                logger.warning("Leases not kept: %s", error)


def follow(checkpoint_id: str) -> None:
    """Let the next checkpoint ids of this process be greater than `checkpoint_id`, even if its clock is behind.

    The newest checkpoint of a thread is the one with the greatest id, and LangGraph takes an id from its writer's
    clock. This moves that clock on, as in https://lamport.azurewebsites.net/pubs/time-clocks.pdf.
    """
    try:
        newest = checkpoint_ids.UUID(checkpoint_id)
    except ValueError:  # another program's
        return
    if newest.version == 6:
        checkpoint_ids._last_v6_timestamp = max(checkpoint_ids._last_v6_timestamp or 0, newest.time)  # type: ignore[assignment]
