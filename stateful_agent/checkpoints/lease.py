"""One run at a time on a thread, across all processes that share the database.

The right to write on a thread is a lease: three columns of its row in `agent_threads`. So no connection is held
meanwhile, and it works behind a proxy that pools transactions. Its holder renews it every `HEARTBEAT_SECONDS`, and each
statement that writes checks it as well. A holder that has been silent for as long as `LEASE` loses it to the next run
that asks, and can write no more. Time is the database's.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from stateful_agent.checkpoints.attempt import Attempt
from stateful_agent.database.pool import Pool, fetch
from stateful_agent.database.statements import functions, statements
from stateful_agent.errors import AlreadyAnswered, KeyReused, StorageUnavailable, ThreadBusy
from stateful_agent.metrics import LEASE_SECONDS

logger = logging.getLogger(__name__)

LEASES = statements("leases")

LEASE = timedelta(seconds=6)
"""After which a silent holder may lose its thread."""

HEARTBEAT_SECONDS = 2
"""Between two renewals."""

NO_TICKET = 2**63 - 1
"""Comes after all tickets of the queue."""

QUEUE_SECONDS = 0.1
"""Between two attempts of a run that waits for another."""


class Leases:
    """The leases that this process holds, renewed by one statement for all of them."""

    def __init__(self, pool: Pool, timeout: float) -> None:
        """`timeout` is how many seconds to wait for other runs on a thread."""
        self.pool = pool
        self._timeout = timeout
        self._threads: dict[UUID, str] = {}
        self._is_renewing = False

    async def take(self, values: dict[str, Any], attempt: Attempt) -> DictRow | None:
        """Take the lease on a thread when those who came before are done with it, and renew it until it is dropped.

        Returns the row of `agent_take`, whose parameters the `values` are: no other run has changed since what is read
        there; `None` if the thread is not known.

        Raises:
            ThreadBusy: other runs held it until the timeout.
            AlreadyAnswered: another run does, or did, the work of the same request.
            KeyReused: and its request had another body.
        """
        thread_id, holder = values["thread_id"], values["holder"]
        values = values | {"lease": LEASE, "ticket": NO_TICKET} | attempt.parameters()
        clock = asyncio.get_running_loop().time
        asked = clock()
        deadline = asked + self._timeout
        is_taken = False
        try:
            while True:
                [row] = await fetch(self.pool, functions()["agent_take"].call, values)
                if is_taken and not (row["is_known"] and row["duplicate"] is None):
                    await fetch(self.pool, LEASES["release_lease"], values)
                if not row["is_known"]:
                    return None
                if row["duplicate"] is not None:
                    raise AlreadyAnswered(row["duplicate"]) if row["is_same"] else KeyReused()
                if row["version"] is not None:
                    is_taken = True
                    attempt.record(thread_id, holder)
                    if row["version"] == (row["version_seen"] or 0):
                        break
                    continue  # another run ended while this was asked: read what it wrote
                if clock() > deadline:
                    raise ThreadBusy()
                [ticket] = await fetch(self.pool, LEASES["join_queue"], values)
                values |= ticket
                attempt.record(thread_id, holder)
                attempt.is_accepted.set()
                await asyncio.sleep(QUEUE_SECONDS)
        finally:
            if values["ticket"] != NO_TICKET:
                with suppress(StorageUnavailable):  # a ticket that is not renewed counts no more after two seconds
                    await fetch(self.pool, LEASES["leave_queue"], values)
        LEASE_SECONDS.observe(clock() - asked)
        self._threads[holder] = thread_id
        if not self._is_renewing:  # for good: to stop and go on with each turn would cost more
            assert self.pool.aside
            self.pool.aside.every(HEARTBEAT_SECONDS, self._renew)
            self._is_renewing = True
        return row

    def holds(self, holder: UUID) -> bool:
        """Whether a lease is renewed."""
        return holder in self._threads

    def drop(self, holder: UUID) -> None:
        """Renew a lease no more."""
        self._threads.pop(holder, None)

    async def _renew(self, open_pool: Callable[[], Awaitable[Pool]]) -> None:
        held = dict(self._threads)  # a copy: this runs on another thread
        if not held:
            return
        values = {"threads": list(held.values()), "holders": list(held), "lease": LEASE}
        try:
            await fetch(await open_pool(), LEASES["renew_leases"], values)
        except Exception as error:  # while nobody else asks for it, a lease that has run out is still ours
            logger.warning("Leases not renewed: %s", error)
