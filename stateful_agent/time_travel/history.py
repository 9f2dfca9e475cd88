"""The tree of a thread's checkpoints: its history, its branches, and the state at one checkpoint."""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AnyMessage, ToolMessage
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import StateSnapshot

from stateful_agent.checkpoints.cipher import Cipher
from stateful_agent.checkpoints.langgraph_internals import START
from stateful_agent.checkpoints.saver import TurnSaver
from stateful_agent.checkpoints.summary import summarize
from stateful_agent.checkpoints.waiting import breakpoints, interrupts_at
from stateful_agent.database.pool import Pool, fetch
from stateful_agent.database.statements import statements
from stateful_agent.errors import CheckpointNotFound, ThreadNotFound
from stateful_agent.graph.build import CompiledGraph
from stateful_agent.responses.json_values import as_json
from stateful_agent.responses.messages import to_items, unanswered_calls
from stateful_agent.responses.types import Interrupt
from stateful_agent.responses.usage import usage_since_asked
from stateful_agent.turn import messages_at, stored_messages

HISTORY = statements("history")


async def checkpoint_history(
    pool: Pool, saver: TurnSaver, graph: CompiledGraph, thread_id: str, limit: int, before: str | None
) -> list[dict[str, Any]]:
    """A page of a thread's checkpoints, newest first, from `before` (exclusive) on: one query, no messages.

    Raises:
        ThreadNotFound: there is no such thread.
        CheckpointNotFound: the thread has no checkpoint `before`.
    """
    rows = await fetch(pool, HISTORY["list_checkpoints"], {"thread_id": thread_id, "limit": limit, "before": before})
    if not rows[0]["has_thread"]:
        raise ThreadNotFound(param="thread_id")
    if not rows[0]["has_before"]:
        raise CheckpointNotFound(param="before")
    page = [row for row in rows if row["checkpoint_id"]]
    cipher = saver.serde.cipher.for_thread(thread_id)
    for row in page:
        row["metadata"] = cipher.decrypt_metadata(row["metadata"])
        if "next_nodes" not in row["metadata"]:  # written by another LangGraph program
            await saver.load(thread_id, row["checkpoint_id"])
            assert saver.base
            row["metadata"] |= summarize(graph, saver.base.checkpoint, row["metadata"], None) | {"turn": None}
        if row["has_interrupts"]:
            await saver.load(thread_id, row["checkpoint_id"])
            assert saver.base
            row["interrupts"] = await interrupts_at(graph, saver.base)
        else:
            row["interrupts"] = breakpoints(graph, row["metadata"]["nodes"], row["metadata"]["next_nodes"])
    return [_entry(row) | {"interrupts": row["interrupts"]} for row in page]


async def ancestor_with(pool: Pool, base: CheckpointTuple, message_count: int) -> str | None:
    """The last checkpoint on the way to `base` that has so many messages, between two turns."""
    values = {**base.config["configurable"], "message_count": message_count}
    found = await fetch(pool, HISTORY["find_ancestor"], values)
    return found[0]["checkpoint_id"] if found else None


async def branches(pool: Pool, cipher: Cipher, thread_id: str) -> list[dict[str, Any]]:
    """The tips of a thread, newest first, each with where its branch left the others.

    Raises:
        ThreadNotFound: there is no such thread.
    """
    rows = await fetch(pool, HISTORY["list_tips"], {"thread_id": thread_id})
    if not rows:
        raise ThreadNotFound(param="thread_id")
    parents = {row["checkpoint_id"]: row["parent_checkpoint_id"] for row in rows}
    child_counts: dict[str | None, int] = {}
    for parent in parents.values():
        child_counts[parent] = child_counts.get(parent, 0) + 1

    def left_others_at(tip: str) -> str | None:
        checkpoint: str | None = tip
        while checkpoint is not None and child_counts[parents.get(checkpoint)] == 1:
            checkpoint = parents.get(checkpoint)
        return parents.get(checkpoint) if checkpoint is not None else None

    return [
        _entry(row | {"metadata": cipher.for_thread(thread_id).decrypt_metadata(row["metadata"])})
        | {"left_others_at": left_others_at(row["checkpoint_id"]), "is_head": row is rows[0]}
        for row in rows
        if row["metadata"] is not None
    ]


def checkpoint_state(
    graph: CompiledGraph, checkpoint: CheckpointTuple, interrupts: Sequence[Interrupt]
) -> dict[str, Any]:
    """Everything the agent knew at a checkpoint, and the interrupts that wait there."""
    metadata = dict(checkpoint.metadata)
    summary = summarize(graph, checkpoint.checkpoint, metadata, None) | {"turn": None} | metadata
    others = {name for name in graph.stream_channels_list if name != "messages"}
    values = {name: value for name, value in checkpoint.checkpoint["channel_values"].items() if name in others}
    messages, pending = messages_at(checkpoint), pending_messages(checkpoint)
    parent = checkpoint.parent_config
    row = {
        "checkpoint_id": checkpoint.config["configurable"]["checkpoint_id"],
        "parent_checkpoint_id": parent and parent["configurable"]["checkpoint_id"],
        "timestamp": checkpoint.checkpoint["ts"],
        "metadata": summary,
    }
    return {
        **_entry(row),
        "response_id": metadata.get("response_id"),
        "trace_id": metadata.get("trace_id"),
        "usage": usage_since_asked([*messages, *pending]),
        "interrupts": list(interrupts),
        "values": as_json(values),
        "messages": to_items(messages),
        "pending_messages": to_items(pending),
        "pending_tool_calls": [
            {"call_id": call["id"], "name": call["name"], "arguments": call["args"]}
            for call in unanswered_calls([*messages, *pending])
        ],
    }


async def subgraph_states(graph: CompiledGraph, checkpoint: CheckpointTuple) -> list[dict[str, Any]]:
    """The states of the subgraphs that are at work at a checkpoint, which the saver of `graph` has loaded."""
    snapshot = await graph.aget_state(checkpoint.config, subgraphs=True)
    return _subgraphs(snapshot)


def _subgraphs(snapshot: StateSnapshot) -> list[dict[str, Any]]:
    found = []
    for task in snapshot.tasks:
        state = task.state
        if not isinstance(state, StateSnapshot) or not state.metadata:
            continue
        values = state.values if isinstance(state.values, dict) else {}
        found.append(
            {
                "node": task.name,
                "checkpoint_id": state.config["configurable"].get("checkpoint_id"),
                "next_nodes": list(state.next),
                "messages": to_items(values.get("messages", ())),
                "values": as_json({name: value for name, value in values.items() if name != "messages"}),
                "subgraphs": _subgraphs(state),
            }
        )
    return found


def pending_messages(checkpoint: CheckpointTuple) -> list[AnyMessage]:
    """What is not yet in the checkpoint's messages: the input it begins with, or results of calls that finished."""
    results = [message for message in stored_messages(checkpoint) if isinstance(message, ToolMessage)]
    return [*input_messages(checkpoint), *results]


def input_messages(checkpoint: CheckpointTuple) -> list[AnyMessage]:
    """The messages of the input that a turn begins with at a checkpoint."""
    pending_input = checkpoint.checkpoint["channel_values"].get(START)
    return list(pending_input.get("messages", ())) if isinstance(pending_input, dict) else []


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    summary = ("turn", "nodes", "next_nodes", "message_count", "last_message", "source", "step")
    return {
        "checkpoint_id": row["checkpoint_id"],
        "parent_checkpoint_id": row["parent_checkpoint_id"],
        "timestamp": row["timestamp"],
        **{name: row["metadata"].get(name) for name in summary},
    }
