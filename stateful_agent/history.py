"""The tree of a thread's checkpoints: its history, and edits."""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AnyMessage, BaseMessage, HumanMessage
from langgraph._internal._typing import MISSING
from langgraph.checkpoint.base import Checkpoint
from langgraph.constants import TASKS
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot

from stateful_agent.errors import InvalidRequest, ThreadNotFound
from stateful_agent.messages import check_pairs, text_of
from stateful_agent.saver import Labels, at

Graph = CompiledStateGraph[Any, Any, Any, Any]


def label(graph: Graph, checkpoint: Checkpoint, metadata: Labels, parent: Labels | None) -> Labels:
    """What is noted beside a checkpoint, so that listing it needs neither its messages nor the graph."""
    values = checkpoint["channel_values"]
    messages = values.get("messages") or []
    pending = next_nodes(graph, checkpoint)
    before: Labels = {"turn": 0, "next_nodes": []} | (parent or {})
    asked = metadata["source"] == "input" and before["next_nodes"] != ["__start__"]  # that would be asked again
    begins = asked or (pending and not before["next_nodes"])
    return {
        "turn": before["turn"] + 1 if begins else before["turn"],
        "nodes": before["next_nodes"] if metadata["source"] == "loop" else [],
        "next_nodes": pending,
        "message_count": len(messages),
        "last_message": shown(messages[-1]) if messages else None,
    }


def next_nodes(graph: Graph, checkpoint: Checkpoint) -> list[str]:
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


async def checkpoint_history(graph: Graph, thread_id: str, limit: int, before: str | None) -> list[dict[str, Any]]:
    """A page of a thread's checkpoints, newest first, from `before` (exclusive) on."""
    page = [
        _entry(thread_id, snapshot)
        async for snapshot in graph.aget_state_history(
            at(thread_id), limit=limit, before=at(thread_id, before) if before else None
        )
    ]
    if not page and before is None:
        raise ThreadNotFound(param="thread_id")
    return page


def _entry(thread_id: str, snapshot: StateSnapshot) -> dict[str, Any]:
    messages = snapshot.values.get("messages", [])
    metadata: dict[str, Any] = dict(snapshot.metadata or {})
    return {
        "checkpoint_id": snapshot.config["configurable"]["checkpoint_id"],
        "parent_checkpoint_id": _checkpoint_id(snapshot.parent_config),
        "thread_id": thread_id,
        "timestamp": snapshot.created_at,
        "next_nodes": list(snapshot.next),
        "message_count": len(messages),
        "last_message": text_of(messages[-1].content)[:100] if messages else None,
        "source": metadata.get("source"),
        "step": metadata.get("step"),
    }


async def edit(graph: Graph, thread_id: str, checkpoint_id: str, messages: Sequence[AnyMessage]) -> dict[str, Any]:
    """Add a child to a checkpoint, with `messages` added to what was said there.

    Raises:
        InvalidRequest: nothing is added, or a tool call would be left without its result.
    """
    if not messages:
        raise InvalidRequest("An edit needs new_messages.", param="new_messages")
    here = await graph.aget_state(at(thread_id, checkpoint_id))
    check_pairs(messages, before=here.values.get("messages", ()))
    edited = await graph.aupdate_state(
        at(thread_id, checkpoint_id), {"messages": list(messages)}, as_node=_editor(messages[-1], here)
    )
    return {
        "thread_id": thread_id,
        "checkpoint_id": _checkpoint_id(edited),
        "parent_checkpoint_id": checkpoint_id,
        "next_nodes": list((await graph.aget_state(edited)).next),
    }


def _editor(last: AnyMessage, here: StateSnapshot) -> str | None:
    """The step in whose name to edit, which decides what runs next.

    A user's message comes from outside, so it is answered; any other stands for what the pending step would have
    said. Where nothing is pending, LangGraph knows which step spoke last.
    """
    if isinstance(last, HumanMessage):
        return "__start__"
    return next((step for step in here.next if step != "__start__"), None)


def _checkpoint_id(config: Any) -> str | None:
    return config["configurable"]["checkpoint_id"] if config else None
