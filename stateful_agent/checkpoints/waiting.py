"""Where a graph waits for somebody: the interrupts of a checkpoint."""

from collections.abc import Iterable
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import StateSnapshot

from stateful_agent.checkpoints.langgraph_internals import INTERRUPT
from stateful_agent.database.pool import Pool, fetch
from stateful_agent.database.statements import statements
from stateful_agent.graph.build import CompiledGraph
from stateful_agent.responses.json_values import as_json
from stateful_agent.responses.types import Interrupt

HISTORY = statements("history")


async def interrupts_at(graph: CompiledGraph, checkpoint: CheckpointTuple, pool: Pool) -> list[Interrupt]:
    """The interrupts that can be answered at a checkpoint, which the saver of `graph` has loaded.

    Those that were answered already count where the thread has moved on from there: another answer makes another
    branch. A breakpoint of the graph (`interrupt_before`, `interrupt_after`) is one without a value, by the name of the
    step that it stops.
    """
    if not any(channel == INTERRUPT for _, channel, _ in checkpoint.pending_writes or ()):
        metadata: dict[str, Any] = dict(checkpoint.metadata)
        return breakpoints(graph, metadata.get("nodes") or (), metadata.get("next_nodes") or ())
    snapshot = await graph.aget_state(checkpoint.config)
    interrupts = _interrupts(snapshot, with_answered=False)
    if len(interrupts) < len(every := _interrupts(snapshot, with_answered=True)) and await has_child(pool, checkpoint):
        return every
    return interrupts


async def has_child(pool: Pool, checkpoint: CheckpointTuple) -> bool:
    """Whether its thread has moved on from a checkpoint."""
    [row] = await fetch(pool, HISTORY["has_child"], checkpoint.config["configurable"])
    return bool(row["has_child"])


def breakpoints(graph: CompiledGraph, nodes: Iterable[str], next_nodes: Iterable[str]) -> list[Interrupt]:
    """The steps that the graph is compiled to stop before, or after whose predecessors it is, at a checkpoint that
    `nodes` have made and `next_nodes` would follow."""
    before, after = graph.interrupt_before_nodes, graph.interrupt_after_nodes
    is_after = after == "*" or bool(set(after) & set(nodes))
    stopped = [node for node in dict.fromkeys(next_nodes) if is_after or before == "*" or node in before]
    return [{"id": node, "value": None, "node": node} for node in stopped if not node.startswith("__")]


def _interrupts(snapshot: StateSnapshot, *, with_answered: bool) -> list[Interrupt]:
    return [
        {"id": interrupt.id, "value": as_json(interrupt.value), "node": task.name}
        for task in snapshot.tasks
        if with_answered or task.result is None
        for interrupt in task.interrupts
    ]
