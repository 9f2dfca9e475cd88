"""What to do with a request: pure decisions, before anything is written."""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from langchain_core.messages import AnyMessage, BaseMessage, ToolMessage
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from stateful_agent.errors import InputTooLarge, InvalidRequest
from stateful_agent.responses.items import ToolItems
from stateful_agent.responses.messages import (
    check_pairs,
    leading_instructions,
    to_items,
    to_messages,
    unanswered_calls,
    without_lost_calls,
)
from stateful_agent.responses.request import ResponsesRequest
from stateful_agent.responses.thread_ref import Place, place_of
from stateful_agent.runs.attempt import new_thread_id

UNFINISHED = "This call did not finish: it was interrupted, and whether it had any effect is unknown."


@dataclass(frozen=True)
class Turn:
    """A request that is known to be well-formed."""

    messages: list[AnyMessage]
    """What the caller says. Empty: a replay."""

    place: Place

    asks: dict[str, Any]
    """What is asked of the model for this one turn, and not stored."""

    refers: list[dict[str, Any]] | None = None
    """The input, if it refers to items of the thread: `resolve` makes the messages of it."""


def accept(request: ResponsesRequest, *, max_input_bytes: int) -> Turn:
    """Read a request.

    The thread is that of `custom_inputs.thread_id`, `metadata.thread_id` or `conversation`, else
    `context.conversation_id`, else a new one; `previous_response_id` names a thread and a checkpoint in one.
    `store: false` asks for an answer without a thread: nothing is kept and no database is touched.

    Raises:
        InvalidRequest: an id that storage cannot hold, places that contradict each other, a checkpoint without its
            thread, or an item that no conversation can hold.
        InputTooLarge: more than `max_input_bytes`.
    """
    items = request.input
    check_size([items, request.instructions], max_input_bytes)
    refers = any(is_reference(item) for item in items)
    messages = [] if refers else messages_in(items)
    asks = asked_of_model(request)
    place = place_of(request)

    if refers and not place.is_given:
        raise InvalidRequest(
            "An item_reference names an item of a thread: name the thread too, in custom_inputs.thread_id, "
            "metadata.thread_id, conversation or previous_response_id, or send the item itself.",
            param="input",
        )
    if request.store is False:
        if place.is_given:
            raise InvalidRequest("store: false keeps nothing, so it takes no thread: leave one of them out.")
        if not messages:
            raise InvalidRequest("store: false keeps nothing, so there is nothing to replay: send input.")
        return Turn(messages, Place(), asks)
    if not place.is_given:
        if not messages:
            raise InvalidRequest("Send input, or the thread_id of a conversation to resume.", param="input")
        place = Place(new_thread_id(), begins=True)
    return Turn(messages, replace(place, begins=place.begins and bool(messages)), asks, items if refers else None)


def asked_of_model(request: ResponsesRequest) -> dict[str, Any]:
    """What a request asks of the model for this one turn: `instructions` and how to sample."""
    told = [request.instructions or "", *leading_instructions(request.input)]
    asks = {
        "instructions": "\n\n".join(text for text in told if text) or None,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_output_tokens": request.max_output_tokens,
    }
    return {name: value for name, value in asks.items() if value is not None}


def messages_in(items: list[dict[str, Any]]) -> list[AnyMessage]:
    """What a request's input adds to a conversation, as messages with ids of their own.

    Raises:
        InvalidRequest: an item that no conversation can hold.
    """
    first = len(leading_instructions(items))
    messages = without_lost_calls(to_messages(items[first:], first=first))
    check_storable(messages)
    check_pairs(messages)
    for message in messages:  # an id from outside could name a message of the thread, and replace it
        message.id = str(uuid.uuid4())
    return messages


def is_reference(item: dict[str, Any]) -> bool:
    """Whether an input item only names another."""
    return item.get("type") == "item_reference"


def resolve(turn: Turn, thread: Sequence[BaseMessage]) -> list[AnyMessage]:
    """What a turn's caller says, once the thread's messages are known, which the input may refer to.

    Raises:
        InvalidRequest: the thread holds no such item, or an item is one that no conversation can hold.
    """
    if turn.refers is None:
        return turn.messages
    held = {item["id"]: item for item in to_items(thread)}
    known = {message.id for message in thread}
    items = []
    for n, item in enumerate(turn.refers):
        if not is_reference(item):
            items.append(item)
        elif (named := str(item.get("id"))) in held:
            items.append(held[named])
        elif named.rsplit("-", 2)[0] not in known:  # else it is a part of a message that input leaves out
            raise InvalidRequest(
                f"The thread holds no item {named!r} here: send the item itself.", param=f"input[{n}].id"
            )
    return messages_in(items)


def operation_of(request: ResponsesRequest) -> tuple[Any, dict[str, Any]] | None:
    """The operation that a request names instead of taking a turn, and its arguments.

    Raises:
        InvalidRequest: it has input as well.
    """
    arguments = dict(request.custom_inputs or {})
    if "operation" not in arguments:
        return None
    if request.input:
        raise InvalidRequest("An operation takes no input: send [].", param="input")
    return arguments.pop("operation"), arguments


def tool_items_of(request: ResponsesRequest, default: ToolItems, *, for_mlflow: bool) -> ToolItems:
    """How the answer tells the agent's tool calls: `tool_items` in `custom_inputs` or `metadata`, else the default.

    Raises:
        InvalidRequest: there is no such way, or MLflow's types, in which the answer is wanted, do not know it.
    """
    for fields in (request.custom_inputs, request.metadata):
        if fields and (chosen := fields.get("tool_items")) is not None:
            if chosen not in get_args(ToolItems):
                raise InvalidRequest(f"tool_items is one of {', '.join(get_args(ToolItems))}.", param="tool_items")
            if chosen == "mcp_call" and for_mlflow:
                raise InvalidRequest("MLflow's types hold no mcp_call: ask for it over HTTP.", param="tool_items")
            return cast(ToolItems, chosen)
    return "function_call" if default == "mcp_call" and for_mlflow else default


def check_limit(value: Any) -> int:
    """Pass on a page size of 1 to 1000."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1000:
        raise InvalidRequest("limit must be a whole number from 1 to 1000.", param="limit")
    return value


def check_size(items: Any, max_bytes: int) -> None:
    """Refuse an input that is too large, or whose text is no Unicode (a lone surrogate cannot be stored)."""
    try:
        size = len(json.dumps(items, ensure_ascii=False).encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest("The input holds a lone surrogate: half of a character.", param="input") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"The input is not JSON: {error}.", param="input") from error
    if size > max_bytes:
        raise InputTooLarge(f"The input has {size} bytes; {max_bytes} are allowed.", param="input")


def messages_at(base: CheckpointTuple) -> list[AnyMessage]:
    """The messages of a checkpoint."""
    return list(base.checkpoint["channel_values"].get("messages", ()))


def stored_messages(base: CheckpointTuple) -> Iterable[BaseMessage]:
    """What a step's finished tasks have said, stored beside the checkpoint because others did not finish."""
    for _task, channel, value in base.pending_writes or ():
        if channel == "messages":
            for message in value if isinstance(value, list) else [value]:
                if isinstance(message, BaseMessage):
                    yield message


def has_results(base: CheckpointTuple) -> bool:
    """Whether tool calls are pending at a checkpoint and results of some are stored beside it."""
    calls = unanswered_calls(messages_at(base))
    return bool(calls) and any(isinstance(message, ToolMessage) for message in stored_messages(base))


def check_storable(messages: Sequence[AnyMessage]) -> None:
    """Refuse what storage cannot hold, such as a number of more than 64 bits among a call's arguments."""
    try:
        JsonPlusSerializer().dumps_typed(list(messages))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest("The input holds a value that cannot be stored.", param="input") from error


def mend(base: CheckpointTuple, *, at_head: bool) -> list[BaseMessage]:
    """What must be said before a new message can follow `base`.

    After a crash, results may be stored beside the checkpoint without being in it; and tool calls may have no
    result at all, which providers reject for ever after. At the head, all that was stored is carried over. At an
    older checkpoint what came next belongs to another branch, except the results of calls that are pending here.
    """
    stored = [message for message in stored_messages(base) if at_head or isinstance(message, ToolMessage)]
    said = [*messages_at(base), *stored]
    return [
        *stored,
        *(
            ToolMessage(UNFINISHED, tool_call_id=str(call["id"]), name=call["name"], status="error")
            for call in unanswered_calls(said)
        ),
    ]
