"""The tree of a thread's checkpoints: its history, and edits."""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot

from stateful_agent.errors import InvalidRequest, ThreadNotFound
from stateful_agent.messages import check_pairs, text_of
from stateful_agent.storage import at

Graph = CompiledStateGraph[Any, Any, Any, Any]


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
