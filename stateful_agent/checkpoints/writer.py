"""Stores what a turn adds to its thread, in few statements.

LangGraph hands over a checkpoint in several pieces, several checkpoints a turn: they are gathered for a moment and
stored as one statement, which does nothing if the thread is no longer the turn's.
"""

import asyncio
import logging
from datetime import datetime
from uuid import UUID

from stateful_agent.checkpoints import lease
from stateful_agent.checkpoints.message_log import MessageLog
from stateful_agent.checkpoints.write_batch import WriteBatch
from stateful_agent.database.functions import STORE
from stateful_agent.database.pool import Pool, fetch
from stateful_agent.errors import ThreadDeleted, TurnOvertaken

logger = logging.getLogger(__name__)

GATHER = 0.01
"""Seconds that the first piece waits for others. Nobody waits for it: the model is asked meanwhile."""


class Writer:
    """What a turn has handed over and is not on disk yet."""

    def __init__(self, pool: Pool, holder: UUID, began: datetime, messages: MessageLog) -> None:
        """Write on the thread of these `messages`, which was begun then, as the `holder` of its lease."""
        self.pieces = WriteBatch()
        self._pool = pool
        self._holder = holder
        self._began = began
        self._messages = messages
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._order = asyncio.Lock()

    def store_soon(self) -> None:
        """Store the pieces, when others may have joined them."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER, self._start_storing)

    async def flush(self, *, releases: bool = False) -> None:
        """Wait until all that was handed over is on disk, and with `releases` give the thread up with the last of it.

        Raises:
            StorageUnavailable: the database cannot be reached. It can be called again.
            ThreadDeleted: somebody deleted the thread meanwhile. Nothing was stored.
            TurnOvertaken: this process was silent for so long that another turn has the thread. Nothing was stored.
        """
        if self._timer:
            self._timer.cancel()
            self._timer = None
        async with self._order:  # a child never comes before its parent
            pieces, self.pieces = self.pieces, WriteBatch()
            try:
                if pieces:
                    await self._store(pieces, releases)
                elif releases:
                    values = {"thread_id": self._messages.thread_id, "holder": self._holder}
                    await fetch(self._pool, lease.RELEASE, values)
            except BaseException:
                self.pieces = pieces.followed_by(self.pieces)
                raise

    def _start_storing(self) -> None:
        self._timer = None
        self._flushing = asyncio.create_task(self._try_to_flush())

    async def _try_to_flush(self) -> None:
        try:
            await self.flush()
        except Exception as error:
            logger.warning("Not stored yet: %s", error)  # the turn's own flush tries again, and says so if it fails

    async def _store(self, pieces: WriteBatch, releases: bool) -> None:
        thread = {"thread_id": self._messages.thread_id, "holder": self._holder}
        values = thread | {"lease": lease.LEASE, "releases": releases, "last_message": self._messages.last}
        if not await fetch(self._pool, STORE.call, values | pieces.as_parameters()):
            lost = thread | {"created_at": self._began, "checkpoint_id": pieces.newest()}
            found = await fetch(self._pool, lease.LOST, lost)
            if not (found and found[0]["is_the_same"]):
                raise ThreadDeleted()
            if not found[0]["is_stored"]:  # else only the reply was lost
                raise TurnOvertaken()
        self._messages.stored({number: len(row["data"]) for number, row in pieces.messages.items()})
