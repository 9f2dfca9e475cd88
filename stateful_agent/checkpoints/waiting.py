"""Where a graph waits for somebody: the interrupts of a checkpoint."""

from collections.abc import Iterable
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple

from stateful_agent.checkpoints.langgraph_internals import INTERRUPT
from stateful_agent.graph.build import CompiledGraph
from stateful_agent.responses.json_values import as_json
from stateful_agent.responses.types import Interrupt

FORMER_IDS = "former_interrupt_ids"
"""The key, in the metadata of a copy of a checkpoint, of the ids that its interrupts had in the checkpoints before it.
Whoever was told one of these can answer with it, also after a crash."""


async def interrupts_at(graph: CompiledGraph, checkpoint: CheckpointTuple) -> list[Interrupt]:
    """The interrupts that wait for an answer at a checkpoint, which the saver of `graph` has loaded.

    A breakpoint of the graph (`interrupt_before`, `interrupt_after`) is one without a value, by the name of the
    step that it stops.
    """
    if not is_asking(checkpoint):
        metadata: dict[str, Any] = dict(checkpoint.metadata)
        return breakpoints(graph, metadata.get("nodes") or (), metadata.get("next_nodes") or ())
    snapshot = await graph.aget_state(checkpoint.config)
    return [
        {"id": interrupt.id, "value": as_json(interrupt.value), "node": task.name}
        for task in snapshot.tasks
        if task.result is None  # else it was answered
        for interrupt in task.interrupts
    ]


def is_asking(checkpoint: CheckpointTuple) -> bool:
    """Whether a task of a checkpoint has raised an interrupt, answered or not."""
    return any(channel == INTERRUPT for _, channel, _ in checkpoint.pending_writes or ())


def former_ids(checkpoint: CheckpointTuple) -> dict[str, str]:
    """The ids of a checkpoint's interrupts by those that they had before."""
    metadata: dict[str, Any] = dict(checkpoint.metadata)
    return metadata.get(FORMER_IDS) or {}


def breakpoints(graph: CompiledGraph, nodes: Iterable[str], next_nodes: Iterable[str]) -> list[Interrupt]:
    """The steps that the graph is compiled to stop before, or after whose predecessors it is, at a checkpoint that
    `nodes` have made and `next_nodes` would follow."""
    before, after = graph.interrupt_before_nodes, graph.interrupt_after_nodes
    is_after = after == "*" or bool(set(after) & set(nodes))
    stopped = [node for node in dict.fromkeys(next_nodes) if is_after or before == "*" or node in before]
    return [{"id": node, "value": None, "node": node} for node in stopped if not node.startswith("__")]
