"""LangGraph's saver for one turn, in few round trips.

A turn takes its thread and reads the checkpoint that it continues from in one statement; what it adds goes to a
`BatchWriter`.
"""

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    copy_checkpoint,
    get_serializable_checkpoint_metadata,
)
from langgraph.errors import is_invalid_resume

from stateful_agent.checkpoints.attempt import Attempt
from stateful_agent.checkpoints.cipher import Metadata
from stateful_agent.checkpoints.langgraph_internals import (
    ERROR,
    INLINE,
    INTERRUPT,
    RESUME,
    advance_clock,
    survives_in_json,
)
from stateful_agent.checkpoints.lease import Leases
from stateful_agent.checkpoints.message_log import MESSAGE_LIST, ChannelKey, MessageCache, is_message_list
from stateful_agent.checkpoints.reader import CheckpointReader, config_at
from stateful_agent.checkpoints.serializer import Serializer
from stateful_agent.checkpoints.summary import summarize
from stateful_agent.checkpoints.write_batch import BatchWriter, WriteBatch
from stateful_agent.database.pool import Pool, fetch
from stateful_agent.database.statements import statements
from stateful_agent.errors import AgentError, CheckpointNotFound, ClockBehind, NotStorable, ThreadNotFound
from stateful_agent.graph.build import CompiledGraph
from stateful_agent.heavy_work import compute
from stateful_agent.identity import User, owner_parameters, stored_ids
from stateful_agent.responses.messages import holds_result

HISTORY = statements("history")

REFUSED, REFUSAL = "__refused__", "00000000-0000-0000-0000-000000000001"
"""The channel of the write that is stored beside a checkpoint which the model's provider refuses, and its task."""


class TurnSaver(CheckpointReader):
    """Reads the checkpoint that a turn continues from once, and stores what the turn adds.

    What was handed over is on disk once `flush` returns; what could not be stored meanwhile is tried again there and
    when the lease ends.
    """

    def __init__(
        self, pool: Pool, leases: Leases, cache: MessageCache, serializer: Serializer, graph: CompiledGraph
    ) -> None:
        """`graph` shows what would run next from a checkpoint, which is stored beside it."""
        super().__init__(pool, cache, serializer)
        self.thread_id = ""
        """Under which the thread is stored."""
        self.thread_name = ""
        """What the caller calls it, whose lease this is."""
        self.base: CheckpointTuple | None = None
        """The checkpoint that the turn continues from; `None` on a new thread."""
        self.metadata: Metadata | None = None
        """What is stored beside the newest checkpoint of the turn."""
        self.last_checkpoint_id: str | None = None
        """The newest checkpoint of the turn."""
        self.keeps_writes = True
        """Whether what a step writes is stored beside the checkpoint that it follows, for when others do not finish.
        An edit's is not: whoever continues from that checkpoint would find it there."""
        self._leases = leases
        self._graph = graph
        self._is_loaded = False
        self._head = ""
        self._holder = uuid.uuid4()
        self._writer: BatchWriter  # comes with the thread
        self._adding = asyncio.Lock()
        """Held while a checkpoint is handed over, which takes moments if it holds much."""
        self._asked: set[str] = set()
        """The tasks that had asked something where the turn began."""
        self._written: set[str] = set()
        """The namespaces in which the turn has made checkpoints."""
        self._copies: dict[str, CheckpointTuple] = {}
        """The copies that the turn goes on from, by their namespaces, until it has added to them."""

    # -- The thread ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def lease(
        self, thread_id: str, checkpoint_id: str | None, user: User, attempt: Attempt, *, may_begin: bool = False
    ) -> AsyncIterator[CheckpointTuple | None]:
        """Hold the thread's lease, and load the checkpoint to continue from: that named, else the head.

        Yields it; `None` where the thread begins. While another run holds the lease, wait in the order of arrival.
        With `may_begin`, there need not be such a thread yet. At the end, what is left is stored.

        Raises:
            ThreadNotFound: there is no such thread of the user's.
            CheckpointNotFound: the thread has no such checkpoint.
            ThreadBusy: other runs held it for too long.
            AlreadyAnswered: another run does, or did, the work of the same request.
            AgentError: as `flush` does, at the end. The thread is free after a few seconds then.
        """
        base = await self._take(thread_id, checkpoint_id, user, attempt, may_begin)
        try:
            yield base
        except BaseException:
            with suppress(AgentError):  # what failed first is what is raised
                await self._release()
            raise
        await self._release()

    async def load(self, thread_id: str, checkpoint_id: str | None = None) -> CheckpointTuple | None:
        """Read a checkpoint, else the head; `None` if the thread is new. LangGraph continues from there.

        LangGraph itself would take an unknown checkpoint for an empty conversation and make that the thread's head.

        Raises:
            CheckpointNotFound: the thread has no such checkpoint.
        """
        base = await self._read(config_at(thread_id, checkpoint_id))
        if base is None and checkpoint_id is not None:
            raise CheckpointNotFound(param="checkpoint_id")
        return self._loaded(thread_id, base)

    async def note_refusal(self) -> None:
        """Note that the model's provider refuses what is in the thread at this point."""
        at = self.last_checkpoint_id or (self.base and self.base.checkpoint["id"])
        if at:
            await self._add_writes(config_at(self.thread_id, at), [(REFUSED, True)], REFUSAL, "", stays=True)

    def withdraw_copy(self) -> None:
        """Take back the copy that the turn goes on from, unless it is stored already or the turn has added to it."""
        if "" in self._copies and ("", self.last_checkpoint_id) in self._writer.batch.checkpoints:
            self._writer.batch = WriteBatch()
            self.last_checkpoint_id = None

    async def flush(self) -> None:
        """Wait until all that was handed over is on disk. Raises what `BatchWriter.flush` does."""
        if self._leases.holds(self._holder):
            async with self._adding:
                await self._writer.flush()

    async def _take(
        self, thread_id: str, checkpoint_id: str | None, user: User, attempt: Attempt, may_begin: bool
    ) -> CheckpointTuple | None:
        self.thread_name = thread_id
        ids = stored_ids(user, thread_id)
        values: dict[str, Any] = {"checkpoint_ns": "", "checkpoint_id": checkpoint_id, "former_id": ids[-1]}
        values |= {"holder": self._holder} | owner_parameters(user)
        for self.thread_id in ids:
            values |= {"thread_id": self.thread_id, "may_begin": may_begin and self.thread_id == ids[0]}
            messages = self._open(self.thread_id)
            with self._changed_is_unreadable():
                row = await self._leases.take(values | messages.known(), attempt)
            if row is not None:
                break
        if row is None and checkpoint_id:
            raise CheckpointNotFound(param="checkpoint_id")
        if row is None:
            raise ThreadNotFound(param="thread_id")
        messages.last = row["messages"]
        self._writer = BatchWriter(self._pool, self._holder, row["created_at"], messages)
        await messages.learn(row["created_at"], row["unknown"])
        if row["head"]:
            self._head = row["head"]
            advance_clock(self._head)
        return self._loaded(self.thread_id, await self._tuple(row) if row["checkpoint_id"] else None)

    async def _release(self) -> None:
        if self._leases.holds(self._holder):
            self._leases.drop(self._holder)
            async with self._adding:
                await self._writer.flush(releases=True)

    # -- Copies ----------------------------------------------------------------------------------------------------

    async def copy(
        self, config: RunnableConfig, original: CheckpointTuple, checkpoint_id: str, metadata: dict[str, Any]
    ) -> RunnableConfig:
        """Add a copy of a checkpoint, which the turn goes on from, under another id or in another namespace.

        `config` names its parent and its namespace; `metadata` is noted beside it. It is stored with what the turn adds
        first: alone, it would ask nobody for what the original waits for.
        """
        namespace = config["configurable"]["checkpoint_ns"]
        checkpoint = original.checkpoint | {"id": checkpoint_id}
        is_elsewhere = namespace != original.config["configurable"]["checkpoint_ns"]
        versions = checkpoint["channel_versions"] if is_elsewhere else {}
        noted = cast(CheckpointMetadata, dict(original.metadata) | metadata)
        at = config_at(self.thread_id, checkpoint_id, namespace)
        await self._add_checkpoint(config, copy_checkpoint(checkpoint), noted, versions)
        parent = config if config["configurable"].get("checkpoint_id") else None
        self._copies[namespace] = CheckpointTuple(at, copy_checkpoint(checkpoint), noted, parent, [])
        return at

    async def add_to_copy(self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str) -> None:
        """Let a task of a copy, or of an edited checkpoint, have written this."""
        copied = self._copies.get(config["configurable"]["checkpoint_ns"])
        if copied and copied.pending_writes is not None:
            copied.pending_writes.extend((task_id, channel, value) for channel, value in writes)
        self._asked.update(task_id for channel, _ in writes if channel == INTERRUPT)
        await self._add_writes(config, writes, task_id, "", stays=True)

    async def note(self, config: RunnableConfig, metadata: dict[str, Any]) -> None:
        """Note more beside a copy."""
        copied = self._copies[config["configurable"]["checkpoint_ns"]]
        noted = cast(CheckpointMetadata, dict(copied.metadata) | metadata)
        assert copied.parent_config
        await self._add_checkpoint(copied.parent_config, copy_checkpoint(copied.checkpoint), noted, {})

    # -- LangGraph's interface -------------------------------------------------------------------------------------

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> "TurnSaver":
        """LangGraph's strict mode asks for a copy, but what a copy stores the turn would not know of."""
        self.serde = cast(Serializer, self.serde.with_msgpack_allowlist(extra_allowlist))
        return self

    def get_next_version(self, current: str | None, channel: None) -> str:
        """As LangGraph's, in a third of the characters: each checkpoint holds many."""
        count = current.split(".")[0] if current else "0" * 6
        return f"{int(count) + 1:0{len(count)}}.{secrets.token_hex(6)}"

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        at = config["configurable"]
        copied = self._copies.get(at.get("checkpoint_ns", ""))
        if copied and at.get("checkpoint_id") in (None, copied.checkpoint["id"]):
            return copied
        at_base = self.last_checkpoint_id is None and not config["configurable"].get("checkpoint_ns")
        if self._is_loaded and at_base:
            return self.base
        await self.flush()
        if self._has_own_memory(config):
            return await self._read_on_branch(at["checkpoint_ns"])
        return await self._read(config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        assert config
        at = {"checkpoint_ns": "", **config["configurable"]}
        if self._has_own_memory(config):
            if found := await self._read_on_branch(at["checkpoint_ns"]):
                yield found
            return
        values = {name: at[name] for name in ("thread_id", "checkpoint_ns")}
        values |= {"before": before and before["configurable"]["checkpoint_id"], "limit": limit}
        await self.flush()
        for row in await fetch(self._pool, HISTORY["list_checkpoint_ids"], values):
            found = await self._read(config_at(at["thread_id"], row["checkpoint_id"], at["checkpoint_ns"]))
            if found:  # else it was pruned meanwhile
                yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        self._copies.pop(config["configurable"]["checkpoint_ns"], None)
        await self._add_checkpoint(config, checkpoint, metadata, new_versions)
        self._writer.store_soon()
        return config_at(self.thread_id, checkpoint["id"], config["configurable"]["checkpoint_ns"])

    async def _add_checkpoint(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> None:
        namespace, parent = config["configurable"]["checkpoint_ns"], config["configurable"].get("checkpoint_id")
        self._written.add(namespace)
        values = checkpoint["channel_values"]
        inline = {channel: value for channel, value in values.items() if self._is_inline(value)}
        # What is inline where the turn began is not new, and yet is to be stored.
        others = [channel for channel, value in values.items() if isinstance(value, INLINE) and channel not in inline]
        apart: ChannelVersions = {channel: checkpoint["channel_versions"][channel] for channel in others}
        if not namespace and checkpoint["id"] <= self._head:
            raise ClockBehind()
        async with self._adding:
            for channel, version in (apart | new_versions).items():
                if channel in values and channel not in inline:
                    typed = await self._dumped((namespace, channel), values[channel])
                    self._writer.batch.add_blob(namespace, channel, version, typed)
            summary: Metadata = dict(get_serializable_checkpoint_metadata(config, metadata))
            if not namespace:  # a subgraph's checkpoints are not the thread's
                summary |= summarize(self._graph, checkpoint, summary, self.metadata)
                self.metadata = summary
                self.last_checkpoint_id = checkpoint["id"]
            row = checkpoint | {"channel_values": inline}
            self._writer.batch.add_checkpoint(namespace, parent, row, self.serde.cipher.encrypt_metadata(summary))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        if not self.keeps_writes or any(_is_invalid_answer(channel, value) for channel, value in writes):
            return
        self._copies.pop(config["configurable"]["checkpoint_ns"], None)
        if any(channel == ERROR for channel, _ in writes):  # what it was answered does not count: it asks again
            writes = [write for write in writes if write[0] != RESUME]
        await self._add_writes(config, writes, task_id, task_path)
        self._writer.store_soon()

    async def _add_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
        *,
        stays: bool = False,
    ) -> None:
        at = config["configurable"]
        # A replay does not run again what has a result, and who has answered is not shown as asked. Other steps run
        # again there, whatever they wrote.
        stays = stays or task_id in self._asked or any(holds_result(value) for _, value in writes)
        async with self._adding:
            for n, (channel, value) in enumerate(writes):
                task = {"task_id": task_id, "task_path": task_path, "idx": WRITES_IDX_MAP.get(channel, n)}
                with _named(channel, value):
                    typed = await compute(partial(self.serde.dumps_typed, value), value)
                key = at["checkpoint_ns"], at["checkpoint_id"]
                self._writer.batch.add_write(*key, task, channel, typed, stays=stays)
                self._messages.check_for_changes(value)

    # -- Rows ------------------------------------------------------------------------------------------------------

    def _loaded(self, thread_id: str, base: CheckpointTuple | None) -> CheckpointTuple | None:
        self.thread_id, self.base, self._is_loaded = thread_id, base, True
        pending = base.pending_writes if base else None
        self._asked = {task_id for task_id, channel, _ in pending or () if channel == INTERRUPT}
        self.metadata = dict(base.metadata) if base else None
        return base

    def _has_own_memory(self, config: RunnableConfig) -> bool:
        """Whether it names the newest checkpoint of a subgraph that goes on from turn to turn, which the turn has not
        run yet. LangGraph takes the newest of the thread, which may be another branch's."""
        namespace = config["configurable"].get("checkpoint_ns", "")
        is_named = config["configurable"].get("checkpoint_id") is not None
        return bool(namespace) and ":" not in namespace and not is_named and namespace not in self._written

    async def _read_on_branch(self, namespace: str) -> CheckpointTuple | None:
        if self.base is None:
            return None
        values = self.base.config["configurable"] | {"namespace": namespace}
        found = await fetch(self._pool, HISTORY["find_on_branch"], values)
        return await self._read(config_at(self.thread_id, found[0]["checkpoint_id"], namespace)) if found else None

    def _is_inline(self, value: Any) -> bool:
        """Whether a value is kept in the checkpoint's own JSON."""
        if self.serde.cipher.encrypts:
            return value is None
        return isinstance(value, INLINE) and survives_in_json(value)

    async def _dumped(self, key: ChannelKey, value: Any) -> tuple[str, bytes]:
        if not is_message_list(value):
            with _named(key[1], value):
                return await compute(partial(self.serde.dumps_typed, value), value)
        with _named(key[1], value):
            blob, new = await self._messages.dump(key, value)
        for number, typed in new.items():
            self._writer.batch.add_message(number, typed)
        return MESSAGE_LIST, blob


def is_refused(checkpoint: CheckpointTuple) -> bool:
    """Whether the model's provider refuses what the thread holds at a checkpoint."""
    return any(channel == REFUSED for _, channel, _ in checkpoint.pending_writes or ())


def _is_invalid_answer(channel: str, value: Any) -> bool:
    """Whether a task failed for its answer, which is as if it had not been answered."""
    return channel == ERROR and is_invalid_resume(value)


@contextmanager
def _named(channel: str, value: Any) -> Iterator[None]:
    """Name the key of the state whose value cannot be stored."""
    try:
        yield
    except NotStorable as error:
        if channel == INTERRUPT:
            raise NotStorable(type(value[0].value).__name__, "An interrupt") from error
        raise NotStorable(error.kind, f"The state's {channel!r}") from error
