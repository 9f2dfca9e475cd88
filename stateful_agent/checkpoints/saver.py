"""LangGraph's saver for one turn, in few round trips.

A turn takes its thread and reads where it continues from as one statement; what it adds goes to a `Writer`.
"""

import secrets
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import psycopg
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

from stateful_agent.checkpoints import lease
from stateful_agent.checkpoints.lease import Leases
from stateful_agent.checkpoints.message_log import LIST, READ, Memory, MessageLog, Place, is_conversation
from stateful_agent.checkpoints.serializer import Labels, Serializer
from stateful_agent.checkpoints.writer import Writer
from stateful_agent.database.pool import Pool, fetch
from stateful_agent.errors import (
    CheckpointNotFound,
    ClockBehind,
    ThreadNotFound,
)
from stateful_agent.identity import caller
from stateful_agent.responses.messages import holds_result


class TurnSaver(AsyncPostgresSaver):
    """Reads the checkpoint that a turn continues from once, and stores what the turn adds.

    `flush` says when it is on disk; what could not be stored meanwhile is tried again there and in `release`.
    """

    serde: Serializer

    def __init__(
        self,
        pool: Pool,
        leases: Leases,
        memory: Memory,
        label: Callable[[Checkpoint, Labels, Labels | None], Labels],
        serde: Serializer,
    ) -> None:
        """`label(checkpoint, metadata, its parent's metadata)` is what to note beside a checkpoint."""
        super().__init__(pool, serde=serde)
        self.base: CheckpointTuple | None = None
        self.labels: Labels | None = None
        self.last_checkpoint_id: str | None = None
        self.keeps_writes = True
        """Whether what a step says is stored beside the checkpoint that it follows, for when others do not finish. An
        edit's is not: whoever continues from that checkpoint would find it there."""
        self._pool = pool
        self._leases = leases
        self._memory = memory
        self._label = label
        self._is_loaded = False
        self._thread_id = ""
        self._head = ""
        self._holder = uuid.uuid4()
        self._numbered = MessageLog(memory, serde, "")
        self._writer: Writer  # comes with the thread

    async def load(self, thread_id: str, checkpoint_id: str | None = None) -> CheckpointTuple | None:
        """Read a checkpoint, else the head; `None` if the thread is new. LangGraph continues from there.

        LangGraph would take an unknown checkpoint for an empty conversation and make that the thread's head.

        Raises:
            CheckpointNotFound: the thread has no such checkpoint.
        """
        base = await self._read(at(thread_id, checkpoint_id))
        if base is None and checkpoint_id is not None:
            raise CheckpointNotFound(param="checkpoint_id")
        return self._loaded(thread_id, base)

    async def take(
        self, thread_id: str, checkpoint_id: str | None = None, *, begins: bool = False, patience: float
    ) -> CheckpointTuple | None:
        """Take the thread for this turn, and load where it continues from, as `load` does.

        While another turn runs there, wait in the order of arrival, up to `patience` seconds. With `begins`, there
        need not be such a thread yet. Whoever takes a thread must `release` it.

        Raises:
            ThreadNotFound: there is no such thread of the caller's.
            CheckpointNotFound: the thread has no such checkpoint.
            ThreadBusy: other turns took all of the time.
            AlreadyAnswered: another turn runs, or ran, for the same call.
        """
        self._thread_id = thread_id
        values: dict[str, Any] = {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}
        values |= {"begins": begins, "caller": caller(), "holder": self._holder}
        numbered = self._open(thread_id)
        with self._changed_is_unreadable():
            row = await self._leases.take(values | numbered.known(), patience)
        if row is None and checkpoint_id:
            raise CheckpointNotFound(param="checkpoint_id")
        if row is None:
            raise ThreadNotFound(param="thread_id")
        numbered.last = row["messages"]
        self._writer = Writer(self._pool, self._holder, row["created_at"], numbered)
        numbered.learn(row["created_at"], row["unknown"])
        if row["head"]:
            self._head = row["head"]
            lease.follow(self._head)
        return self._loaded(thread_id, self._tuple(row) if row["checkpoint_id"] else None)

    async def release(self) -> None:
        """Store what is left, and let the next turn have the thread.

        Raises:
            AgentError: as `flush` does. The thread is free after a few seconds then.
        """
        if self._leases.holds(self._holder):
            self._leases.drop(self._holder)
            await self._writer.flush(releases=True)

    async def flush(self) -> None:
        """Wait until all that was handed over is on disk. Raises what `Writer.flush` does."""
        if self._leases.holds(self._holder):
            await self._writer.flush()

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> "TurnSaver":
        """LangGraph's strict mode asks for a copy, but what a copy stores the turn would not know of."""
        self.serde = cast(Serializer, self.serde.with_msgpack_allowlist(extra_allowlist))
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
            if checkpoint["id"] <= self._head:
                raise ClockBehind()
            noted |= self._label(checkpoint, noted, self.labels)
            self.labels = noted
            self.last_checkpoint_id = checkpoint["id"]
        for channel, version in (encrypted | new_versions).items():
            if channel in values and channel not in inline:
                typed = self._dumped((namespace, channel), values[channel])
                self._writer.pieces.add_blob(namespace, channel, version, typed)
        self._writer.pieces.add_checkpoint(
            namespace, parent, checkpoint | {"channel_values": inline}, self.serde.hide(noted)
        )
        self._writer.store_soon()
        return at(self._thread_id, checkpoint["id"], namespace)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        if not self.keeps_writes:
            return
        place, pieces = config["configurable"], self._writer.pieces
        # A replay does not run again what has a result. Other steps run again there, whatever they said.
        stays = any(holds_result(value) for _, value in writes)
        for n, (channel, value) in enumerate(writes):
            task = {"task_id": task_id, "task_path": task_path, "idx": WRITES_IDX_MAP.get(channel, n)}
            typed = self.serde.dumps_typed(value)
            pieces.add_write(place["checkpoint_ns"], place["checkpoint_id"], task, channel, typed, stays=stays)
            self._numbered.said(value)
        self._writer.store_soon()

    def _loaded(self, thread_id: str, base: CheckpointTuple | None) -> CheckpointTuple | None:
        self._thread_id, self.base, self._is_loaded = thread_id, base, True
        self.labels = dict(base.metadata) if base else None
        return base

    async def _read(self, config: RunnableConfig) -> CheckpointTuple | None:
        values = {"checkpoint_ns": "", "checkpoint_id": None} | config["configurable"]
        numbered = self._open(values["thread_id"])
        with self._changed_is_unreadable():
            found = await fetch(self._pool, READ, values | numbered.known())
        if not found:
            return None
        numbered.learn(found[0]["began"], found[0]["unknown"])
        return self._tuple(found[0])

    def _open(self, thread_id: str) -> MessageLog:
        """The messages of the thread, which is the only one of this saver's from here on."""
        if self._numbered.thread_id != thread_id:
            self.serde = self.serde.of(thread_id)
            self._numbered = MessageLog(self._memory, self.serde, thread_id)
        return self._numbered

    @contextmanager
    def _changed_is_unreadable(self) -> Iterator[None]:
        """What the database itself cannot read, somebody has changed."""
        try:
            yield
        except psycopg.DataError:
            raise self.serde.changed() from None

    def _dumped(self, place: Place, value: Any) -> tuple[str, bytes]:
        if not is_conversation(value):
            return self.serde.dumps_typed(value)
        blob, new = self._numbered.dump(place, value)
        for number, typed in new.items():
            self._writer.pieces.add_message(number, typed)
        return LIST, blob

    def _values(self, row: dict[str, Any]) -> dict[str, Any]:
        namespace, blobs = row["checkpoint_ns"], row["channel_values"] or ()
        lists = {channel.decode(): blob for channel, kind, blob in blobs if kind == LIST.encode()}
        others = [blob for blob in blobs if blob[0].decode() not in lists]
        loaded = {channel: self._numbered.load((namespace, channel), blob) for channel, blob in lists.items()}
        return self._load_blobs(others) | loaded

    def get_next_version(self, current: str | None, channel: None) -> str:
        """As LangGraph's, in a third of the characters: each checkpoint holds many."""
        count = current.split(".")[0] if current else "0" * 6
        return f"{int(count) + 1:0{len(count)}}.{secrets.token_hex(6)}"

    def _tuple(self, row: dict[str, Any]) -> CheckpointTuple:
        checkpoint = row["checkpoint"]
        if any(value is not None for value in checkpoint["channel_values"].values()):
            self.serde.check_plain()
        checkpoint["channel_values"] = checkpoint["channel_values"] | self._values(row)
        thread_id, namespace, parent = row["thread_id"], row["checkpoint_ns"], row["parent_checkpoint_id"]
        return CheckpointTuple(
            at(thread_id, row["checkpoint_id"], namespace),
            checkpoint,
            cast(CheckpointMetadata, self.serde.show(row["metadata"])),
            at(thread_id, parent, namespace) if parent else None,
            self._load_writes(row["pending_writes"]),
        )


def _is_inline(value: Any) -> bool:
    """Whether LangGraph keeps a channel's value in the checkpoint itself."""
    return value is None or isinstance(value, str | int | float | bool)


def at(thread_id: str, checkpoint_id: str | None = None, namespace: str = "") -> RunnableConfig:
    """The LangGraph config that names a checkpoint of a thread, or its head."""
    place = {"thread_id": thread_id, "checkpoint_ns": namespace}
    return {"configurable": place | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}
