"""What we use of LangGraph's private parts, as read in langgraph 1.2.24 and langgraph-checkpoint-postgres 3.2.0.

Nothing else here imports a name that begins with an underscore, or rests on how LangGraph works inside.
"""

from collections.abc import Sequence
from typing import Any

from langgraph._internal._constants import ERROR, INTERRUPT, RESUME
from langgraph._internal._serde import build_serde_allowlist
from langgraph._internal._typing import MISSING
from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.base import id as checkpoint_ids
from langgraph.checkpoint.postgres.base import BasePostgresSaver
from langgraph.constants import TASKS
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.pregel._task_status import CONTROL_WRITES
from langgraph.types import _interrupt_id

from stateful_agent.graph.build import CompiledGraph
from stateful_agent.responses.thread_ref import is_unicode

START = "__start__"
"""The step that takes a turn's input in."""

__all__ = ["CONTROL_WRITES", "ERROR", "INTERRUPT", "RESUME"]

TypeName = tuple[str, ...]
"""A type as LangGraph's serializer names it: its module, and its name there."""

INLINE = (str, int, float, bool, type(None))
"""The types of values that LangGraph keeps in the checkpoint's own JSON (`AsyncPostgresSaver.aput`)."""


def survives_in_json(value: Any) -> bool:
    """Whether a value of such a type comes back from `jsonb` as it was: most floats do, but not all."""
    return "\0" not in value and is_unicode(value) if isinstance(value, str) else not isinstance(value, float)


def next_nodes(graph: CompiledGraph, checkpoint: Checkpoint) -> list[str]:
    """The steps that would run next from a checkpoint: one per tool call, then those whose trigger they have not seen.

    The same as LangGraph's `get_state(...).next` (`pregel._algo.prepare_next_tasks`), without reading the state.
    """
    values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]

    def is_due(name: str, trigger: str) -> bool:
        seen = checkpoint["versions_seen"].get(name, {}).get(trigger)
        new = trigger in versions and (seen is None or versions[trigger] > seen)  # type: ignore[operator]
        channel: Any = graph.channels[trigger]
        return new and bool(channel.from_checkpoint(values.get(trigger, MISSING)).is_available())

    sent = [send.node for send in values.get(TASKS, ())]
    return sent + [name for name, node in graph.nodes.items() if any(is_due(name, t) for t in node.triggers)]


def interrupt_id(namespace: str, answered: int) -> str:
    """The id of the interrupt that a task raises when it has so many answers."""
    return _interrupt_id(namespace, answered)


def declared_types(graph: CompiledGraph) -> set[TypeName]:
    """The types that the state of a graph and of its subgraphs declares: those that LangGraph's strict mode allows."""
    found: set[TypeName] = set()
    for each in (graph, *(subgraph for _, subgraph in graph.get_subgraphs(recurse=True))):
        if isinstance(each, Pregel):  # a remote one keeps its state itself
            schemas = list(each.builder.schemas) if isinstance(each, CompiledStateGraph) else []
            found |= build_serde_allowlist(schemas=schemas, channels=each.channels)
    return found


def new_checkpoint_id(step: int) -> str:
    """The id of a checkpoint that is made now."""
    return str(checkpoint_ids.uuid6(clock_seq=step))


def advance_clock(checkpoint_id: str) -> None:
    """Make the next checkpoint ids of this process greater than `checkpoint_id`, even if its clock is behind.

    The newest checkpoint of a thread is the one with the greatest id, and LangGraph takes an id from its writer's
    clock (`checkpoint.base.id.uuid6`). This moves that clock on, as a Lamport clock
    (https://lamport.azurewebsites.net/pubs/time-clocks.pdf).
    """
    try:
        newest = checkpoint_ids.UUID(checkpoint_id)
    except ValueError:  # another program's
        return
    if newest.version == 6:
        checkpoint_ids._last_v6_timestamp = max(checkpoint_ids._last_v6_timestamp or 0, newest.time)  # type: ignore[assignment]


def load_values(saver: BasePostgresSaver, blobs: Sequence[Any]) -> dict[str, Any]:
    """The values of channels, from their rows: name, type and bytes."""
    return saver._load_blobs(list(blobs))


def load_writes(saver: BasePostgresSaver, writes: Any) -> list[tuple[str, str, Any]]:
    """What the tasks of a step have written, in order, from their rows."""
    return saver._load_writes(writes)
