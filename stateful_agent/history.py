"""The tree of a thread's checkpoints: its history, its branches, one checkpoint's state, and edits."""

from collections.abc import Sequence
from typing import Any, LiteralString

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, RemoveMessage, ToolMessage
from langgraph._internal._typing import MISSING
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.constants import TASKS
from langgraph.errors import InvalidUpdateError
from langgraph.graph.state import CompiledStateGraph

from stateful_agent.errors import CheckpointNotFound, InvalidRequest, ThreadNotFound
from stateful_agent.messages import check_pairs, text_of, to_items, unanswered_calls
from stateful_agent.saver import Labels, TurnSaver
from stateful_agent.storage import Pool, fetch
from stateful_agent.turn import stored_messages

Graph = CompiledStateGraph[Any, Any, Any, Any]

START = "__start__"


def label(graph: Graph, checkpoint: Checkpoint, metadata: Labels, parent: Labels | None) -> Labels:
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


# -- Reading -------------------------------------------------------------------------------------------------------

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
    pool: Pool, saver: TurnSaver, graph: Graph, thread_id: str, limit: int, before: str | None
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
    for row in page:
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


async def ancestor_with(pool: Pool, thread_id: str, checkpoint_id: str, message_count: int) -> str | None:
    """The last checkpoint on the way to `checkpoint_id` that has so many messages, between two turns."""
    place = {"thread_id": thread_id, "checkpoint_id": checkpoint_id, "message_count": message_count}
    found = await fetch(pool, ANCESTOR, place)
    return found[0]["checkpoint_id"] if found else None


async def branches(pool: Pool, thread_id: str) -> list[dict[str, Any]]:
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
        _entry(thread_id, row) | {"left_others_at": left_others_at(row["checkpoint_id"]), "is_head": row is rows[0]}
        for row in rows
        if row["metadata"] is not None
    ]


def checkpoint_state(base: CheckpointTuple, labels: Labels) -> dict[str, Any]:
    """Everything the agent knew at a checkpoint."""
    messages = base.checkpoint["channel_values"].get("messages", [])
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


# -- Editing -------------------------------------------------------------------------------------------------------


async def edit(
    graph: Graph, saver: TurnSaver, new_messages: Sequence[AnyMessage], remove: Sequence[str], as_node: str | None
) -> dict[str, Any]:
    """Add a child to the checkpoint that `saver` has loaded, with other messages than that has.

    Raises:
        InvalidRequest: it would change nothing, name an unknown message or step, or part a call from its result.
    """
    base, labels = saver.base, saver.labels
    assert base
    assert labels is not None
    messages = base.checkpoint["channel_values"].get("messages", [])
    pending = [
        message for message in pending_messages(base) if not _is_outdated(message, messages, new_messages, remove)
    ]
    edited = apply_edit([*messages, *pending], new_messages, remove)
    if edited == messages:
        raise InvalidRequest("The edit changes nothing.", param="new_messages")
    ends_in_calls = bool(edited and unanswered_calls(edited[-1:]))
    check_pairs(edited[:-1] if ends_in_calls else edited)
    before, kept = {message.id: message for message in messages}, {message.id for message in edited}
    update: list[BaseMessage] = [RemoveMessage(str(message.id)) for message in messages if message.id not in kept]
    update += [message for message in edited if before.get(message.id) is not message]

    if as_node is None:
        as_node = speaker(graph, edited, labels["next_nodes"], waits_for_tools=bool(unanswered_calls(messages)))
    elif as_node not in graph.nodes:
        raise InvalidRequest(f"as_node must be one of {', '.join(sorted(graph.nodes))}.", param="as_node")
    try:
        await graph.aupdate_state(base.config, {"messages": update}, as_node=as_node)
    except InvalidUpdateError as error:
        raise InvalidRequest("Say with as_node in the name of which step to edit.", param="as_node") from error
    await saver.flush()
    return {
        "thread_id": base.config["configurable"]["thread_id"],
        "checkpoint_id": saver.last_checkpoint_id,
        "parent_checkpoint_id": base.config["configurable"]["checkpoint_id"],
        "next_nodes": saver.labels["next_nodes"] if saver.labels else [],
    }


async def fork_with_results(graph: Graph, saver: TurnSaver) -> None:
    """Fork the checkpoint that `saver` has loaded so that its tools step can run again, save the calls that finished.

    LangGraph itself would run all of them: it knows a result by the checkpoint it is stored at.
    """
    base = saver.base
    assert base
    before = await graph.aget_state(base.config)
    fork = await graph.aupdate_state(base.config, None, as_node="__copy__")
    after = await graph.aget_state(fork)
    for old, new in zip(before.tasks, after.tasks, strict=True):
        writes = [(channel, value) for task_id, channel, value in base.pending_writes or () if task_id == old.id]
        if any(channel == "messages" for channel, _ in writes):
            await saver.aput_writes(fork, writes, new.id)


def _is_outdated(
    pending: AnyMessage, messages: Sequence[AnyMessage], new_messages: Sequence[AnyMessage], remove: Sequence[str]
) -> bool:
    """Whether it is the result of a call that the edit gives another result, asks otherwise, or takes back."""
    if not isinstance(pending, ToolMessage):
        return False
    results = {message.tool_call_id for message in new_messages if isinstance(message, ToolMessage)}
    changed = {*remove, *(message.id for message in new_messages)}
    return pending.tool_call_id in results or messages[-1].id in changed


def apply_edit(
    messages: Sequence[AnyMessage], new_messages: Sequence[AnyMessage], remove: Sequence[str]
) -> list[AnyMessage]:
    """`messages` as edited: a new one with the id of one there replaces it, one without an id is appended.

    Raises:
        InvalidRequest: an id is not there, or named twice.
    """
    there = {message.id for message in messages}
    replaced = {str(message.id): message for message in new_messages if message.id is not None}
    for name, ids in (("new_messages", list(replaced)), ("remove_messages", remove)):
        for message_id in ids:
            if message_id not in there:
                raise InvalidRequest(f"There is no message {message_id!r} at this checkpoint.", param=name)
    appended = [message for message in new_messages if message.id is None]
    if len({*replaced, *remove}) < len(new_messages) - len(appended) + len(remove):
        raise InvalidRequest("An edit names each message once.", param="new_messages")
    kept = [message for message in messages if message.id not in remove]
    return [*(replaced.get(str(message.id), message) for message in kept), *appended]


def speaker(graph: Graph, messages: Sequence[AnyMessage], pending: list[str], *, waits_for_tools: bool) -> str | None:
    """The step in whose name to edit, which decides what runs next.

    A user's message comes from outside, so it is answered; a tool's result goes on to the model; an assistant's
    message completes the turn. Where the pending step does not tell who speaks, LangGraph knows which spoke last.
    """
    step = next((step for step in pending if step != START), None)
    last = messages[-1] if messages else None
    if isinstance(last, AIMessage):
        if START in pending:
            first = [end for begin, end in graph.builder.edges if begin == START]
            return first[0] if len(first) == 1 else None
        return None if waits_for_tools else step
    if isinstance(last, ToolMessage) and waits_for_tools and step:
        return step
    return START
