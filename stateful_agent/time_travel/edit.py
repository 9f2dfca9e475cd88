"""Edits: another past, as a new checkpoint beside the one that was."""

import uuid
from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, RemoveMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.errors import InvalidUpdateError
from langgraph.graph import END

from stateful_agent.checkpoints.langgraph_internals import START, next_nodes
from stateful_agent.checkpoints.reader import config_at
from stateful_agent.checkpoints.saver import TurnSaver
from stateful_agent.checkpoints.waiting import is_asking
from stateful_agent.errors import InvalidRequest, TooManySteps
from stateful_agent.graph.build import CompiledGraph
from stateful_agent.heavy_work import compute
from stateful_agent.responses.messages import check_pairs, to_items, unanswered_calls
from stateful_agent.time_travel.fork import copy_checkpoint, keep_waiting
from stateful_agent.time_travel.history import pending_messages
from stateful_agent.turn import messages_at

COPY = "__copy__"
"""LangGraph's name for the step in whose name a checkpoint is copied as it is."""


async def edit(
    graph: CompiledGraph,
    saver: TurnSaver,
    new_messages: Sequence[AnyMessage],
    remove: Sequence[str],
    values: dict[str, Any],
    as_node: str | None,
    noted: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Add a child to the checkpoint that `saver` has loaded, with other messages or other values than that has.

    `noted` is stored beside it. Returns `thread_id`, the new `checkpoint_id`, its `parent_checkpoint_id`, and
    `next_nodes`.

    Raises:
        InvalidRequest: it would change nothing, name an unknown message or step, or part a call from its result.
    """
    base = saver.base
    assert base
    if as_node == COPY:
        await copy_checkpoint(graph, saver)
        return await _edited(saver, base)
    messages = messages_at(base)
    keeps_waiting = as_node is None and _keeps_waiting(base, messages, new_messages, remove)
    pending = [
        message
        for message in pending_messages(base)
        if not (keeps_waiting or _is_outdated(message, messages, new_messages, remove))
    ]
    edited = apply_edit([*messages, *pending], new_messages, remove)
    changes_messages = await compute(lambda: to_items(edited) != to_items(messages), edited)
    if not (changes_messages or values):
        raise InvalidRequest("The edit changes nothing.", param="new_messages")
    _check_pairs(edited)
    before, kept = {message.id: message for message in messages}, {message.id for message in edited}
    update: list[BaseMessage] = [RemoveMessage(str(message.id)) for message in messages if message.id not in kept]
    update += [message for message in edited if before.get(message.id) is not message]

    # A conversation without messages is edited as one that is about to begin.
    pending_steps = next_nodes(graph, base.checkpoint) or ([] if messages else [START])
    if START in pending_steps:
        pending_input = base.checkpoint["channel_values"].get(START)
        others = pending_input if isinstance(pending_input, dict) else {}
        values = {name: value for name, value in others.items() if name != "messages"} | values
    if as_node is None and ((changes_messages and not keeps_waiting) or START in pending_steps):
        as_node = node_to_edit_as(graph, edited, pending_steps, waits_for_tools=bool(unanswered_calls(messages)))
        as_node = as_node or cast(dict[str, Any], base.metadata).get("as_node")
    elif as_node is not None and (not isinstance(as_node, str) or as_node not in graph.nodes):
        raise InvalidRequest(f"as_node must be one of {', '.join(sorted(graph.nodes))}.", param="as_node")
    saver.keeps_writes = False
    update_values = {**values, **({"messages": update} if update else {})}
    try:
        config: RunnableConfig = {**base.config, "metadata": noted or {}}
        edit_ = await graph.aupdate_state(_as_node_config(as_node, config), update_values, as_node=as_node)
    except InvalidUpdateError as error:
        raise InvalidRequest("Name with as_node the step in whose name to edit.", param="as_node") from error
    if keeps_waiting or not changes_messages:
        await keep_waiting(graph, saver, edit_)
    return await _edited(saver, base)


async def begin_thread(graph: CompiledGraph, saver: TurnSaver, messages: Sequence[AnyMessage]) -> None:
    """Add the first checkpoint to the thread that `saver` has taken, with these messages.

    What runs next follows from the last message, as after an edit.

    Raises:
        InvalidRequest: a call is parted from its result.
    """
    _check_pairs(messages)
    as_node = node_to_edit_as(graph, messages, [START], waits_for_tools=False) if messages else END
    values = {"messages": list(messages)} if messages else None
    config = _as_node_config(as_node if messages else None, config_at(saver.thread_id))
    try:
        await graph.aupdate_state(config, values, as_node=as_node)
    except InvalidUpdateError as error:
        raise InvalidRequest("The graph does not show whose step the last message is: end with a user's.") from error


def _check_pairs(messages: Sequence[BaseMessage]) -> None:
    """Refuse a call that is parted from its result; those at the end may wait for theirs."""
    ends_in_calls = bool(unanswered_calls(messages[-1:]))
    check_pairs(messages[:-1] if ends_in_calls else messages)


async def _edited(saver: TurnSaver, base: CheckpointTuple) -> dict[str, Any]:
    await saver.flush()
    return {
        "thread_id": saver.thread_name,
        "checkpoint_id": saver.last_checkpoint_id,
        "parent_checkpoint_id": base.config["configurable"]["checkpoint_id"],
        "next_nodes": saver.metadata["next_nodes"] if saver.metadata else [],
    }


async def end_turn(graph: CompiledGraph, saver: TurnSaver, config: RunnableConfig, text: str) -> AIMessage:
    """End the turn that `saver` stores here with a message of the assistant's.

    Raises:
        TooManySteps: the graph does not show which of its steps the message would be from.
    """
    await saver.flush()
    base = await saver.load(config["configurable"]["thread_id"])
    assert base
    calls = unanswered_calls(messages_at(base))
    message = AIMessage(text, id=str(uuid.uuid4()))
    update: list[AnyMessage] = [
        *(ToolMessage("This call was not made.", tool_call_id=str(call["id"]), status="error") for call in calls),
        message,
    ]
    as_node = node_to_edit_as(graph, update, next_nodes(graph, base.checkpoint), waits_for_tools=bool(calls))
    try:
        config = _as_node_config(as_node, {**config, **base.config})
        await graph.aupdate_state(config, {"messages": update}, as_node=as_node)
    except InvalidUpdateError as error:
        raise TooManySteps() from error
    return message


def _as_node_config(as_node: str | None, config: RunnableConfig) -> RunnableConfig:
    """The config of an update that stores in whose name it was: LangGraph does not, and an edit of it needs that."""
    return {**config, "metadata": {**config.get("metadata", {}), "as_node": as_node}} if as_node else config


def _keeps_waiting(
    base: CheckpointTuple, messages: Sequence[AnyMessage], new_messages: Sequence[AnyMessage], remove: Sequence[str]
) -> bool:
    """Whether somebody is asked at a checkpoint, and still about the same.

    What is asked is about the last message: the calls to approve are in it. Where that is edited, or another follows
    it, a turn without input asks again.
    """
    last = {message.id for message in [*messages[-1:], *pending_messages(base)]}
    changed = {*remove, *(message.id for message in new_messages)}
    return is_asking(base) and not changed & {*last, None}


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


def node_to_edit_as(
    graph: CompiledGraph, messages: Sequence[AnyMessage], pending: list[str], *, waits_for_tools: bool
) -> str | None:
    """The step in whose name to edit, which decides what runs next.

    A user's message comes from outside, so it is answered; a tool's result goes on to the model; an assistant's
    message completes the turn. Where the pending step does not show whose the message is, it is made as
    the step before it.
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
