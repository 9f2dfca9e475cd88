"""LangGraph's saver for one turn, in few round trips.

LangGraph hands over a checkpoint in several pieces, several checkpoints a turn. The pieces are gathered for a moment
and stored as one statement, which does nothing if the thread has been deleted since the turn began.
"""

import asyncio
import json
import logging
from base64 import b64encode
from collections.abc import Callable, Collection, Sequence
from typing import Any, LiteralString, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from stateful_agent.errors import CheckpointNotFound, ThreadDeleted
from stateful_agent.serde import Labels, Serde
from stateful_agent.storage import Pool, fetch

logger = logging.getLogger(__name__)

GATHER = 0.01
"""Seconds that the first piece waits for others. Nobody waits for it: the model is asked meanwhile."""

# A thread that is pruned, or deleted and begun again under the same name, is another generation.
CLAIM_THREAD: LiteralString = """
    INSERT INTO agent_threads (thread_id) VALUES (%(thread_id)s)
    ON CONFLICT (thread_id) DO UPDATE SET updated_at = now()
    RETURNING thread_id, generation
"""
HOLD_THREAD: LiteralString = """
    UPDATE agent_threads SET updated_at = now()
    WHERE thread_id = %(thread_id)s AND generation = %(generation)s
    RETURNING thread_id, generation
"""
GENERATION: LiteralString = """
    SELECT generation FROM agent_threads JOIN checkpoints USING (thread_id)
    WHERE thread_id = %(thread_id)s AND checkpoint_ns = '' AND checkpoint_id = %(checkpoint_id)s
"""
# LangGraph stores a task's results once, but replaces what it says about the task itself: those have an idx < 0.
STORE: LiteralString = """, blob AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT thread_id, ns, channel, version, type, decode(blob, 'base64')
    FROM thread, json_to_recordset(%(blobs)s::json)
        AS piece (ns text, channel text, version text, type text, blob text)
    ON CONFLICT DO NOTHING
), task_write AS (
    INSERT INTO checkpoint_writes
        (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT thread_id, ns, checkpoint_id, task_id, task_path, idx, channel, type, decode(blob, 'base64')
    FROM thread, json_to_recordset(%(writes)s::json)
        AS piece (ns text, checkpoint_id text, task_id text, task_path text, idx int,
                  channel text, type text, blob text)
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE
    SET channel = excluded.channel, type = excluded.type, blob = excluded.blob
    WHERE excluded.idx < 0
), checkpoint AS (
    INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
    SELECT thread_id, ns, checkpoint_id, parent, piece.checkpoint, metadata
    FROM thread, json_to_recordset(%(checkpoints)s::json)
        AS piece (ns text, checkpoint_id text, parent text, checkpoint jsonb, metadata jsonb)
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO UPDATE
    SET checkpoint = excluded.checkpoint, metadata = excluded.metadata
)
SELECT generation FROM thread
"""


class TurnSaver(AsyncPostgresSaver):
    """Reads the checkpoint that a turn continues from once, and stores what the turn adds.

    `flush` says when it is on disk; what could not be stored meanwhile is tried again there.
    """

    serde: Serde

    def __init__(self, pool: Pool, label: Callable[[Checkpoint, Labels, Labels | None], Labels], serde: Serde) -> None:
        """`label(checkpoint, metadata, its parent's metadata)` is what to note beside a checkpoint."""
        super().__init__(pool, serde=serde)
        self.base: CheckpointTuple | None = None
        self._is_loaded = False
        self.last_checkpoint_id: str | None = None
        self.keeps_writes = True
        """Whether what a step says is stored beside the checkpoint that it follows, for when others do not finish. An
        edit's is not: whoever continues from that checkpoint would find it there."""
        self._pool = pool
        self._label = label
        self.labels: Labels | None = None
        self._thread_id = ""
        self._stands_on: str | None = None
        self._generation: Any = None
        self._pieces = _Pieces()
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._order = asyncio.Lock()

    async def load(self, thread_id: str, checkpoint_id: str | None = None) -> CheckpointTuple | None:
        """Read where the turn continues from: the checkpoint, else the head; `None` if the thread is new.

        LangGraph would take an unknown checkpoint for an empty conversation and make that the thread's head.

        Raises:
            CheckpointNotFound: the thread has no such checkpoint.
        """
        self._thread_id = thread_id
        self.base = await self._read(at(thread_id, checkpoint_id))
        if self.base is None and checkpoint_id is not None:
            raise CheckpointNotFound(param="checkpoint_id")
        self._is_loaded = True
        self._stands_on = self.base and self.base.config["configurable"]["checkpoint_id"]
        self.labels = dict(self.base.metadata) if self.base else None
        return self.base

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> "TurnSaver":
        """LangGraph's strict mode asks for a copy, but what a copy stores the turn would not know of."""
        self.serde = cast(Serde, self.serde.with_msgpack_allowlist(extra_allowlist))
        return self

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        at_base = self.last_checkpoint_id is None and not config["configurable"].get("checkpoint_ns")
        if self._is_loaded and at_base:
            return self.base
        await self.flush()
        return await self._read(config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        place = config["configurable"]
        namespace, parent = place["checkpoint_ns"], place.get("checkpoint_id")
        values = checkpoint["channel_values"]
        inline = {channel: value for channel, value in values.items() if _is_inline(value)}
        encrypted: ChannelVersions = {}
        if self.serde.encrypts:  # what was inline where the turn began is not new, and yet is to be stored
            inline, primitive = {channel: value for channel, value in inline.items() if value is None}, inline
            encrypted = {channel: checkpoint["channel_versions"][channel] for channel in primitive}
        noted: Labels = dict(get_serializable_checkpoint_metadata(config, metadata))
        if not namespace:  # a subgraph's checkpoints are not the thread's
            noted |= self._label(checkpoint, noted, self.labels)
            self.labels = noted
            self.last_checkpoint_id = checkpoint["id"]
        for channel, version in (encrypted | new_versions).items():
            if channel in values and channel not in inline:
                kind, blob = self.serde.dumps_typed(values[channel])
                self._pieces.blobs[namespace, channel, version] = {
                    "ns": namespace,
                    "channel": channel,
                    "version": version,
                    "type": kind,
                    "blob": _base64(blob),
                }
        self._pieces.checkpoints[namespace, checkpoint["id"]] = {
            "ns": namespace,
            "checkpoint_id": checkpoint["id"],
            "parent": parent,
            "checkpoint": checkpoint | {"channel_values": inline},
            "metadata": self.serde.hide(noted),
        }
        self._store_soon()
        return at(self._thread_id, checkpoint["id"], namespace)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        if not self.keeps_writes:
            return
        place = config["configurable"]
        for n, (channel, value) in enumerate(writes):
            idx = WRITES_IDX_MAP.get(channel, n)
            key = (place["checkpoint_ns"], place["checkpoint_id"], task_id, idx)
            if idx < 0 or key not in self._pieces.writes:
                kind, blob = self.serde.dumps_typed(value)
                self._pieces.writes[key] = {
                    "ns": place["checkpoint_ns"],
                    "checkpoint_id": place["checkpoint_id"],
                    "task_id": task_id,
                    "task_path": task_path,
                    "idx": idx,
                    "channel": channel,
                    "type": kind,
                    "blob": _base64(blob),
                }
        self._store_soon()

    async def flush(self) -> None:
        """Wait until all that was handed over is on disk.

        Raises:
            StorageUnavailable: the database cannot be reached. It can be called again.
            ThreadDeleted: somebody deleted the thread meanwhile. Nothing was stored.
        """
        if self._timer:
            self._timer.cancel()
            self._timer = None
        async with self._order:  # a child never comes before its parent
            pieces, self._pieces = self._pieces, _Pieces()
            if not pieces:
                return
            try:
                await self._store(pieces)
            except BaseException:
                self._pieces = pieces.followed_by(self._pieces)
                raise

    def _store_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER, self._start_storing)

    def _start_storing(self) -> None:
        self._timer = None
        self._flushing = asyncio.create_task(self._try_to_flush())

    async def _try_to_flush(self) -> None:
        try:
            await self.flush()
        except Exception as error:
            logger.warning("Not stored yet: %s", error)  # the turn's own flush tries again, and says so if it fails

    async def _store(self, pieces: "_Pieces") -> None:
        claim = "WITH thread AS (" + CLAIM_THREAD + ")" + STORE
        hold = "WITH thread AS (" + HOLD_THREAD + ")" + STORE
        values = {"thread_id": self._thread_id, "checkpoint_id": self._stands_on} | pieces.as_json()
        query = claim if self._generation is None else hold
        stored = await fetch(self._pool, query, values | {"generation": self._generation})
        while not stored:  # deleted; or pruned, which may have spared where this turn stands
            spared = await fetch(self._pool, GENERATION, values)
            if not spared:
                raise ThreadDeleted()
            stored = await fetch(self._pool, hold, values | spared[0])
        self._generation = stored[0]["generation"]
        self._stands_on = max(
            (checkpoint_id for namespace, checkpoint_id in pieces.checkpoints if not namespace), default=self._stands_on
        )

    async def _read(self, config: RunnableConfig) -> CheckpointTuple | None:
        """A checkpoint, with the generation of its thread."""
        place = config["configurable"]
        self.serde = self.serde.of(place["thread_id"])
        checkpoint_id = place.get("checkpoint_id")
        which = "AND checkpoint_id = %(checkpoint_id)s" if checkpoint_id else "ORDER BY checkpoint_id DESC LIMIT 1"
        query = (
            "SELECT found.*, generation FROM ("
            + self.SELECT_SQL
            + "WHERE thread_id = %(thread_id)s AND checkpoint_ns = %(checkpoint_ns)s "
            + which
            + ") AS found LEFT JOIN agent_threads USING (thread_id)"
        )
        values = {
            "thread_id": place["thread_id"],
            "checkpoint_ns": place.get("checkpoint_ns", ""),
            "checkpoint_id": checkpoint_id,
        }
        found = await fetch(self._pool, query, values)
        if not found:
            return None
        row = found[0]
        self._generation = self._generation or row["generation"]
        checkpoint = row["checkpoint"]
        if any(value is not None for value in checkpoint["channel_values"].values()):
            self.serde.check_plain()
        checkpoint["channel_values"] = checkpoint["channel_values"] | self._load_blobs(row["channel_values"])
        parent = row["parent_checkpoint_id"]
        namespace = row["checkpoint_ns"]
        return CheckpointTuple(
            at(row["thread_id"], row["checkpoint_id"], namespace),
            checkpoint,
            cast(CheckpointMetadata, self.serde.show(row["metadata"])),
            at(row["thread_id"], parent, namespace) if parent else None,
            self._load_writes(row["pending_writes"]),
        )


class _Pieces:
    """Rows that wait to be stored, by primary key (without the thread), so that each is there once."""

    def __init__(self) -> None:
        self.blobs: dict[Any, dict[str, Any]] = {}
        self.writes: dict[Any, dict[str, Any]] = {}
        self.checkpoints: dict[Any, dict[str, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self.blobs or self.writes or self.checkpoints)

    def followed_by(self, later: "_Pieces") -> "_Pieces":
        both = _Pieces()
        both.blobs = self.blobs | later.blobs
        both.writes = self.writes | later.writes
        both.checkpoints = self.checkpoints | later.checkpoints
        return both

    def as_json(self) -> dict[str, str]:
        """The parameters of `STORE`: one takes far less time than an array per column."""
        tables = {"blobs": self.blobs, "writes": self.writes, "checkpoints": self.checkpoints}
        return {name: json.dumps(list(rows.values())) for name, rows in tables.items()}


def _base64(blob: bytes) -> str:
    return b64encode(blob).decode()


def _is_inline(value: Any) -> bool:
    """Whether LangGraph keeps a channel's value in the checkpoint itself."""
    return value is None or isinstance(value, str | int | float | bool)


def at(thread_id: str, checkpoint_id: str | None = None, namespace: str = "") -> RunnableConfig:
    """The LangGraph config that names a checkpoint of a thread, or its head."""
    place = {"thread_id": thread_id, "checkpoint_ns": namespace}
    return {"configurable": place | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}
