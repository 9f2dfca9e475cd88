"""What is stored beside each checkpoint, so that listing needs neither its messages nor the graph. Pure."""

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import Checkpoint

from stateful_agent.checkpoints.cipher import Metadata
from stateful_agent.checkpoints.langgraph_internals import START, next_nodes
from stateful_agent.graph.build import CompiledGraph
from stateful_agent.responses.messages import text_of

PREVIEW_CHARACTERS = 100


def summarize(graph: CompiledGraph, checkpoint: Checkpoint, metadata: Metadata, parent: Metadata | None) -> Metadata:
    """The number of its turn, its steps, the next ones, its messages' count and the last one's preview.

    `metadata` is LangGraph's own of the checkpoint, `parent` what is stored beside its parent.
    """
    messages = checkpoint["channel_values"].get("messages") or []
    pending = next_nodes(graph, checkpoint)
    before: Metadata = {"turn": 0, "next_nodes": []} | (parent or {})
    is_new_input = metadata["source"] == "input" and before["next_nodes"] != [START]  # else it replaces pending input
    begins_turn = is_new_input or (pending and not before["next_nodes"])
    return {
        "turn": before["turn"] + 1 if begins_turn else before["turn"],
        "nodes": before["next_nodes"] if metadata["source"] == "loop" else [],
        "next_nodes": pending,
        "message_count": len(messages),
        "last_message": preview(messages[-1]) if messages else None,
    }


def preview(message: BaseMessage) -> str:
    """The beginning of a message's text, in characters that the database can hold in JSON."""
    return text_of(message.content)[:PREVIEW_CHARACTERS].replace("\0", "").encode("utf-8", "replace").decode()
