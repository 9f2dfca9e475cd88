"""The tree of a thread's checkpoints: its history, its branches, and one checkpoint's state."""

import json
from typing import Any, LiteralString

from langchain_core.messages import AnyMessage, BaseMessage, ToolMessage
from langgraph._internal._typing import MISSING
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.constants import TASKS

from stateful_agent.checkpoints.saver import TurnSaver
from stateful_agent.checkpoints.serializer import Labels, Serializer
from stateful_agent.database.pool import Pool, fetch
from stateful_agent.errors import CheckpointNotFound, ThreadNotFound
from stateful_agent.graph.build import CompiledGraph
from stateful_agent.responses.messages import text_of, to_items, unanswered_calls
from stateful_agent.turn import messages_at, stored_messages

START = "__start__"


def label(graph: CompiledGraph, checkpoint: Checkpoint, metadata: Labels, parent: Labels | None) -> Labels:
    """What is noted beside a checkpoint, so that listing it needs neither its messages nor the graph."""
    messages = checkpoint["channel_values"].get("messages") or []
    pending = next_nodes(graph, checkpoint)
    before: Labels = {"turn": 0, "next_nodes": []} | (parent or {})
    asked = metadata["source"] == "input" and before["next_nodes"] != [START]  # that would be asked again
    begins = asked or (pending and not before["next_nodes"])
    return {
        "turn": before["turn"] + 1 if begins else before["turn"],
        "nodes": before["next_nodes"] if metadata["source"] == "loop" else [],
        "next_nodes": pending,
        "message_count": len(messages),
        "last_message": shown(messages[-1]) if messages else None,
    }


def next_nodes(graph: CompiledGraph, checkpoint: Checkpoint) -> list[str]:
    """The steps that would run next from a checkpoint: one per tool call, then those whose trigger they have not seen.

    The same as LangGraph's `get_state(...).next`, without reading the state.
    """
    values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]

    def is_due(name: str, trigger: str) -> bool:
        seen = checkpoint["versions_seen"].get(name, {}).get(trigger)
        new = trigger in versions and (seen is None or versions[trigger] > seen)  # type: ignore[operator]
        channel: Any = graph.channels[trigger]
        return new and bool(channel.from_checkpoint(values.get(trigger, MISSING)).is_available())

    sent = [send.node for send in values.get(TASKS, ())]
    return sent + [name for name, node in graph.nodes.items() if any(is_due(name, t) for t in node.triggers)]


def shown(message: BaseMessage) -> str:
    """The beginning of what a message says, in characters that the database can hold in JSON."""
    return text_of(message.content)[:100].replace("\0", "").encode("utf-8", "replace").decode()


HISTORY: LiteralString = """
    SELECT known.*, page.*
    FROM (
        SELECT
            EXISTS (SELECT FROM checkpoints WHERE thread_id = %(thread_id)s AND checkpoint_ns = '') AS has_thread,
            %(before)s::text IS NULL OR EXISTS (
                SELECT FROM checkpoints
                WHERE thread_id = %(thread_id)s AND checkpoint_ns = '' AND checkpoint_id = %(before)s
            ) AS has_before
    ) AS known
    LEFT JOIN LATERAL (
        SELECT checkpoint_id, parent_checkpoint_id, checkpoint ->> 'ts' AS timestamp, metadata
        FROM checkpoints
        WHERE thread_id = %(thread_id)s AND checkpoint_ns = ''
            AND (%(before)s::text IS NULL OR checkpoint_id < %(before)s)
        ORDER BY checkpoint_id DESC LIMIT %(limit)s
    ) AS page ON true
    ORDER BY checkpoint_id DESC
"""
TIPS: LiteralString = """
    SELECT checkpoint_id, parent_checkpoint_id,
        CASE WHEN is_tip THEN checkpoint ->> 'ts' END AS timestamp,
        CASE WHEN is_tip THEN metadata END AS metadata
    FROM (
        SELECT *, checkpoint_id NOT IN (
            SELECT parent_checkpoint_id FROM checkpoints
            WHERE thread_id = %(thread_id)s AND checkpoint_ns = '' AND parent_checkpoint_id IS NOT NULL
        ) AS is_tip
        FROM checkpoints WHERE thread_id = %(thread_id)s AND checkpoint_ns = ''
    ) AS tree
    ORDER BY checkpoint_id DESC
"""


async def checkpoint_history(
    pool: Pool, saver: TurnSaver, graph: CompiledGraph, thread_id: str, limit: int, before: str | None
) -> list[dict[str, Any]]:
    """A page of a thread's checkpoints, newest first, from `before` (exclusive) on: one query, no messages.

    Raises:
        ThreadNotFound: there is no such thread.
        CheckpointNotFound: the thread has no checkpoint `before`.
    """
    rows = await fetch(pool, HISTORY, {"thread_id": thread_id, "limit": limit, "before": before})
    if not rows[0]["has_thread"]:
        raise ThreadNotFound(param="thread_id")
    if not rows[0]["has_before"]:
        raise CheckpointNotFound(param="before")
    page = [row for row in rows if row["checkpoint_id"]]
    serde = saver.serde.of(thread_id)
    for row in page:
        row["metadata"] = serde.show(row["metadata"])
        if "next_nodes" not in row["metadata"]:  # written by another LangGraph program
            await saver.load(thread_id, row["checkpoint_id"])
            assert saver.base
            row["metadata"] |= label(graph, saver.base.checkpoint, row["metadata"], None) | {"turn": None}
    return [_entry(thread_id, row) for row in page]


def _entry(thread_id: str, row: dict[str, Any]) -> dict[str, Any]:
    noted = ("turn", "nodes", "next_nodes", "message_count", "last_message", "source", "step")
    return {
        "checkpoint_id": row["checkpoint_id"],
        "parent_checkpoint_id": row["parent_checkpoint_id"],
        "thread_id": thread_id,
        "timestamp": row["timestamp"],
        **{name: row["metadata"].get(name) for name in noted},
    }


ANCESTOR: LiteralString = """
    WITH RECURSIVE ancestor AS (
        SELECT checkpoint_id, parent_checkpoint_id, metadata FROM checkpoints
        WHERE thread_id = %(thread_id)s AND checkpoint_ns = '' AND checkpoint_id = %(checkpoint_id)s
        UNION ALL
        SELECT parent.checkpoint_id, parent.parent_checkpoint_id, parent.metadata
        FROM ancestor JOIN checkpoints AS parent
            ON parent.thread_id = %(thread_id)s AND parent.checkpoint_ns = ''
            AND parent.checkpoint_id = ancestor.parent_checkpoint_id
    )
    SELECT checkpoint_id FROM ancestor
    WHERE (metadata -> 'message_count')::int = %(message_count)s
        AND metadata -> 'next_nodes' IN ('[]', '["__start__"]')
    ORDER BY checkpoint_id DESC LIMIT 1
"""


async def ancestor_with(pool: Pool, base: CheckpointTuple, message_count: int) -> str | None:
    """The last checkpoint on the way to `base` that has so many messages, between two turns."""
    found = await fetch(pool, ANCESTOR, {**base.config["configurable"], "message_count": message_count})
    return found[0]["checkpoint_id"] if found else None


async def branches(pool: Pool, serde: Serializer, thread_id: str) -> list[dict[str, Any]]:
    """The tips of a thread, newest first, each with where its branch left the others.

    Raises:
        ThreadNotFound: there is no such thread.
    """
    rows = await fetch(pool, TIPS, {"thread_id": thread_id})
    if not rows:
        raise ThreadNotFound(param="thread_id")
    parents = {row["checkpoint_id"]: row["parent_checkpoint_id"] for row in rows}
    siblings: dict[str | None, int] = {}
    for parent in parents.values():
        siblings[parent] = siblings.get(parent, 0) + 1

    def left_others_at(tip: str) -> str | None:
        place: str | None = tip
        while place is not None and siblings[parents.get(place)] == 1:
            place = parents.get(place)
        return parents.get(place) if place is not None else None

    return [
        _entry(thread_id, row | {"metadata": serde.of(thread_id).show(row["metadata"])})
        | {"left_others_at": left_others_at(row["checkpoint_id"]), "is_head": row is rows[0]}
        for row in rows
        if row["metadata"] is not None
    ]


def checkpoint_state(graph: CompiledGraph, base: CheckpointTuple) -> dict[str, Any]:
    """Everything the agent knew at a checkpoint."""
    metadata = dict(base.metadata)
    labels = label(graph, base.checkpoint, metadata, None) | {"turn": None} | metadata
    others = {name for name in graph.stream_channels_list if name != "messages"}
    values = {name: value for name, value in base.checkpoint["channel_values"].items() if name in others}
    messages = messages_at(base)
    pending = pending_messages(base)
    return {
        **_entry(
            base.config["configurable"]["thread_id"],
            {
                "checkpoint_id": base.config["configurable"]["checkpoint_id"],
                "parent_checkpoint_id": base.parent_config and base.parent_config["configurable"]["checkpoint_id"],
                "timestamp": base.checkpoint["ts"],
                "metadata": labels,
            },
        ),
        "values": json.loads(json.dumps(values, default=str)),
        "messages": to_items(messages),
        "pending_messages": to_items(pending),
        "pending_tool_calls": [
            {"call_id": call["id"], "name": call["name"], "arguments": call["args"]}
            for call in unanswered_calls([*messages, *pending])
        ],
    }


def pending_messages(base: CheckpointTuple) -> list[AnyMessage]:
    """What is not yet in the checkpoint's messages: the input it begins with, or results of calls that finished."""
    asked = base.checkpoint["channel_values"].get(START)
    said = asked.get("messages", []) if isinstance(asked, dict) else []
    results = [message for message in stored_messages(base) if isinstance(message, ToolMessage)]
    return [*said, *results]
