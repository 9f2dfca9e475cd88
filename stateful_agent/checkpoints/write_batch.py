"""What a turn adds to its thread, gathered and stored in few statements.

LangGraph hands over a checkpoint in several parts, and several checkpoints a turn. They are gathered for a moment and
stored as one statement, which stores nothing if the lease on the thread is no longer the turn's.
"""

import asyncio
import json
import logging
from datetime import datetime
from typing import Any
from uuid import UUID

from stateful_agent.checkpoints import lease
from stateful_agent.checkpoints.message_log import MessageLog
from stateful_agent.database.pool import Pool, fetch
from stateful_agent.database.statements import functions, statements
from stateful_agent.errors import ThreadDeleted, TurnOvertaken

logger = logging.getLogger(__name__)

LEASES = statements("leases")

GATHER_SECONDS = 0.05
"""How long the first row waits for others. Nobody waits for it: the model is asked meanwhile, and what a step has done
is emitted once it is stored, which `flush` does at once. On a busy server the end of a turn takes so long."""


class WriteBatch:
    """Rows that wait to be stored, by primary key (without the thread), so that each is there once."""

    def __init__(self) -> None:
        self.blobs: dict[Any, dict[str, Any]] = {}
        self.messages: dict[int, dict[str, Any]] = {}
        self.writes: dict[Any, dict[str, Any]] = {}
        self.checkpoints: dict[Any, dict[str, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self.blobs or self.messages or self.writes or self.checkpoints)

    def add_blob(self, namespace: str, channel: str, version: Any, typed: tuple[str, bytes]) -> None:
        """A channel's value, serialized."""
        kind, data = typed
        row = {"ns": namespace, "channel": channel, "version": version, "type": kind, "data": data}
        self.blobs[namespace, channel, version] = row

    def add_message(self, number: int, typed: tuple[str, bytes]) -> None:
        """A message of the thread, serialized."""
        kind, data = typed
        self.messages[number] = {"number": number, "type": kind, "data": data}

    def add_write(
        self, namespace: str, checkpoint_id: str, task: dict[str, Any], channel: str, typed: Any, *, stays: bool
    ) -> None:
        """What a task (`task_id`, `task_path`, `idx`) has written to a channel, serialized.

        Unless it `stays`, it is not stored any more once the next checkpoint is, which holds what was written.
        """
        key = (namespace, checkpoint_id, task["task_id"], task["idx"])
        if task["idx"] < 0 or key not in self.writes:
            kind, data = typed
            row = {"ns": namespace, "checkpoint_id": checkpoint_id, "channel": channel}
            self.writes[key] = row | task | {"type": kind, "data": data, "stays": stays}

    def add_checkpoint(self, namespace: str, parent: str | None, checkpoint: Any, metadata: dict[str, Any]) -> None:
        """A checkpoint, as its row has it: without the values that are blobs."""
        self.checkpoints[namespace, checkpoint["id"]] = {
            "ns": namespace,
            "checkpoint_id": checkpoint["id"],
            "parent": parent,
            "checkpoint": checkpoint,
            "metadata": metadata,
        }

    def newest(self) -> str | None:
        """The id of the thread's newest checkpoint among them."""
        return max((checkpoint_id for ns, checkpoint_id in self.checkpoints if not ns), default=None)

    def followed_by(self, later: "WriteBatch") -> "WriteBatch":
        """These rows and the later ones."""
        both = WriteBatch()
        both.blobs = self.blobs | later.blobs
        both.messages = self.messages | later.messages
        both.writes = self.writes | later.writes
        both.checkpoints = self.checkpoints | later.checkpoints
        return both

    def parameters(self) -> dict[str, Any]:
        """The parameters of `agent_store`. Rows go as JSON, which takes far less time than an array per column; their
        bytes go apart, and each row has the number of its own."""
        data: list[bytes] = []
        parents = {(row["ns"], row["parent"]) for row in self.checkpoints.values()}
        writes = [w for w in self.writes.values() if w["stays"] or (w["ns"], w["checkpoint_id"]) not in parents]

        def with_data_number(row: dict[str, Any]) -> dict[str, Any]:
            data.append(row["data"])
            return row | {"data": len(data)}

        return {
            "blobs": json.dumps([with_data_number(row) for row in self.blobs.values()]),
            "messages": json.dumps([with_data_number(row) for row in self.messages.values()]),
            "writes": json.dumps([with_data_number(row) for row in writes]),
            "checkpoints": json.dumps(list(self.checkpoints.values())),
            "data": data,
        }


class BatchWriter:
    """Stores what a turn hands over, a batch at a time."""

    def __init__(self, pool: Pool, holder: UUID, created_at: datetime, messages: MessageLog) -> None:
        """Write on the thread of this message log, which was `created_at` then, as the `holder` of its lease."""
        self.batch = WriteBatch()
        self._pool = pool
        self._holder = holder
        self._created_at = created_at
        self._messages = messages
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._order = asyncio.Lock()

    def store_soon(self) -> None:
        """Store the batch, when other rows may have joined it."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._start_storing)

    async def flush(self, *, releases: bool = False) -> None:
        """Wait until all that was handed over is on disk, and with `releases` give the lease up with the last of it.

        Raises:
            StorageUnavailable: the database cannot be reached. It can be called again.
            ThreadDeleted: somebody deleted the thread meanwhile. Nothing was stored.
            TurnOvertaken: this process was silent for so long that another run has the thread. Nothing was stored.
        """
        if self._timer:
            self._timer.cancel()
            self._timer = None
        async with self._order:  # a child never comes before its parent
            batch, self.batch = self.batch, WriteBatch()
            try:
                if batch:
                    await self._store(batch, releases)
                elif releases:
                    values = {"thread_id": self._messages.thread_id, "holder": self._holder}
                    await fetch(self._pool, LEASES["release_lease"], values)
            except BaseException:
                self.batch = batch.followed_by(self.batch)
                raise

    def _start_storing(self) -> None:
        self._timer = None
        self._flushing = asyncio.create_task(self._try_to_flush())

    async def _try_to_flush(self) -> None:
        try:
            await self.flush()
        except Exception as error:
            logger.warning("Not stored yet: %s", error)  # the turn's own flush tries again, and raises if it fails

    async def _store(self, batch: WriteBatch, releases: bool) -> None:
        thread = {"thread_id": self._messages.thread_id, "holder": self._holder}
        values = thread | {"lease": lease.LEASE, "releases": releases, "last_message": self._messages.last}
        if not await fetch(self._pool, functions()["agent_store"].call, values | batch.parameters()):
            lost = thread | {"created_at": self._created_at, "checkpoint_id": batch.newest()}
            found = await fetch(self._pool, LEASES["find_lost_write"], lost)
            if not (found and found[0]["is_the_same"]):
                raise ThreadDeleted()
            if not found[0]["is_stored"]:  # else only the reply was lost
                raise TurnOvertaken()
        self._messages.stored({number: len(row["data"]) for number, row in batch.messages.items()})
