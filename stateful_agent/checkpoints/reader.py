"""LangGraph's checkpoints, read from their rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from stateful_agent.checkpoints.langgraph_internals import load_values, load_writes
from stateful_agent.checkpoints.message_log import MESSAGE_LIST, MessageCache, MessageLog
from stateful_agent.checkpoints.serializer import Serializer
from stateful_agent.database.pool import Pool, fetch
from stateful_agent.database.statements import functions
from stateful_agent.heavy_work import compute


class CheckpointReader(AsyncPostgresSaver):
    """Reads the checkpoints of one thread."""

    serde: Serializer

    def __init__(self, pool: Pool, cache: MessageCache, serializer: Serializer) -> None:
        super().__init__(pool.connections, serde=serializer)
        self._pool = pool
        self._cache = cache
        self._messages = MessageLog(cache, serializer, "")

    async def _read(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that a config names, else the newest of its namespace; `None`: there is none."""
        values = {"checkpoint_ns": "", "checkpoint_id": None} | config["configurable"]
        messages = self._open(values["thread_id"])
        with self._changed_is_unreadable():
            found = await fetch(self._pool, functions()["agent_read"].call, values | messages.known())
        if not found:
            return None
        await messages.learn(found[0]["thread_created_at"], found[0]["unknown"])
        return await self._tuple(found[0])

    def _open(self, thread_id: str) -> MessageLog:
        """The message log of the thread, which is the only one of this saver's from here on."""
        if self._messages.thread_id != thread_id:
            self.serde = self.serde.for_thread(thread_id)
            self._messages = MessageLog(self._cache, self.serde, thread_id)
        return self._messages

    @contextmanager
    def _changed_is_unreadable(self) -> Iterator[None]:
        """What the database itself cannot read, somebody has changed."""
        try:
            yield
        except psycopg.DataError:
            raise self.serde.cipher.unreadable() from None

    async def _values(self, row: dict[str, Any]) -> dict[str, Any]:
        namespace, blobs = row["checkpoint_ns"], row["channel_values"] or ()
        lists = {channel.decode(): blob for channel, kind, blob in blobs if kind == MESSAGE_LIST.encode()}
        others = [blob for blob in blobs if blob[0].decode() not in lists]
        loaded = {channel: await self._messages.load((namespace, channel), blob) for channel, blob in lists.items()}
        return await compute(partial(load_values, self, others), [blob for _, _, blob in others]) | loaded

    async def _tuple(self, row: dict[str, Any]) -> CheckpointTuple:
        checkpoint = row["checkpoint"]
        if any(value is not None for value in checkpoint["channel_values"].values()):
            self.serde.cipher.check_plain()
        checkpoint["channel_values"] = checkpoint["channel_values"] | await self._values(row)
        thread_id, namespace, parent = row["thread_id"], row["checkpoint_ns"], row["parent_checkpoint_id"]
        return CheckpointTuple(
            config_at(thread_id, row["checkpoint_id"], namespace),
            checkpoint,
            cast(CheckpointMetadata, self.serde.cipher.decrypt_metadata(row["metadata"])),
            config_at(thread_id, parent, namespace) if parent else None,
            load_writes(self, row["pending_writes"]),
        )


def config_at(thread_id: str, checkpoint_id: str | None = None, namespace: str = "") -> RunnableConfig:
    """The LangGraph config that names a checkpoint of a thread, or its head."""
    named = {"thread_id": thread_id, "checkpoint_ns": namespace}
    return {"configurable": named | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}
