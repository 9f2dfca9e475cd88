"""What to do with a request: pure decisions, before anything is written."""

import json
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AnyMessage, BaseMessage, ToolMessage
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from mlflow.types.responses import ResponsesAgentRequest
from pydantic import ValidationError

from stateful_agent.errors import InputTooLarge, InvalidRequest
from stateful_agent.messages import check_pairs, to_messages, unanswered_calls
from stateful_agent.retries import new_thread_id

UNFINISHED = "This call did not finish: it was interrupted, and whether it had any effect is unknown."


@dataclass(frozen=True)
class Turn:
    """A request that is known to be well-formed."""

    messages: list[AnyMessage]
    """What the caller says. Empty: a replay."""

    thread_id: str | None
    """The thread to continue or begin; `None` for a turn that is not stored."""

    checkpoint_id: str | None
    """Where to continue instead of the head."""

    previous_response_id: str | None = None
    """The response to continue from, which names the thread and the checkpoint."""


def read_request(body: Any) -> ResponsesAgentRequest:
    """A request from its JSON form, in which `input` may also be a plain string, or absent if there is none.

    Raises:
        InvalidRequest: it has another shape; the message names the first field that is wrong.
    """
    if isinstance(body, ResponsesAgentRequest):
        return body
    if not isinstance(body, dict):
        raise InvalidRequest("A request is a JSON object with `input`.")
    if body.get("previous_response_id") is not None:  # MLflow's type has no such field
        custom = body.get("custom_inputs") or {}
        if isinstance(custom, dict):
            body = body | {"custom_inputs": custom | {"previous_response_id": body["previous_response_id"]}}
    if body.get("input") is None:
        body = body | {"input": []}
    if isinstance(body["input"], str):
        body = body | {"input": [{"role": "user", "content": body["input"]}]}
    try:
        return ResponsesAgentRequest(**body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # Between the names of fields, pydantic tells which of its validators failed.
        place = ".".join(str(part) for part in first["loc"] if re.fullmatch(r"\d+|[a-z_]+", str(part)))
        raise InvalidRequest(f"{place}: {first['msg'].removeprefix('Value error, ')}", param=place) from error
    except (TypeError, KeyError, AttributeError) as error:  # from within MLflow's validators
        raise InvalidRequest("The request has a field of the wrong type.") from error


def accept(request: ResponsesAgentRequest, *, max_input_bytes: int) -> Turn:
    """Read a request.

    The thread is `custom_inputs.thread_id`, else `context.conversation_id`, else a new one. `store: false` asks
    for an answer without a thread: nothing is kept and no database is touched.

    Raises:
        InvalidRequest: an id that storage cannot hold, a checkpoint without its thread, or an item that no
            conversation can hold.
        InputTooLarge: more than `max_input_bytes`.
    """
    custom = request.custom_inputs or {}
    items = [item.model_dump(exclude_none=True) for item in request.input]
    check_size(items, max_input_bytes)
    messages = to_messages(items)
    check_storable(messages)
    check_pairs(messages)
    for message in messages:  # an id from outside could name a message of the thread, and replace it
        message.id = str(uuid.uuid4())

    thread_id = checkpoint_id = None
    if "thread_id" in custom:
        thread_id = check_id(custom["thread_id"], "thread_id")
    elif request.context and request.context.conversation_id is not None:
        thread_id = check_id(request.context.conversation_id, "conversation_id")
    if "checkpoint_id" in custom:
        checkpoint_id = check_id(custom["checkpoint_id"], "checkpoint_id")
        if thread_id is None:
            raise InvalidRequest("A checkpoint_id needs the thread_id that it belongs to.", param="checkpoint_id")

    if "previous_response_id" in custom:
        response_id = check_id(custom["previous_response_id"], "previous_response_id")
        if thread_id is not None or request.store is False:
            raise InvalidRequest(
                "previous_response_id names the thread to go on with: leave thread_id and store out.",
                param="previous_response_id",
            )
        return Turn(messages, "", None, response_id)
    if request.store is False:
        if thread_id is not None:
            raise InvalidRequest("store: false keeps nothing, so it takes no thread: leave one of them out.")
        if not messages:
            raise InvalidRequest("store: false keeps nothing, so there is nothing to replay: send input.")
        return Turn(messages, None, None)
    if thread_id is None and not messages:
        raise InvalidRequest("Send input, or the thread_id of a conversation to resume.", param="input")
    return Turn(messages, thread_id or new_thread_id(), checkpoint_id)


def operation_of(request: ResponsesAgentRequest) -> tuple[Any, dict[str, Any]] | None:
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


def check_id(value: Any, name: str) -> str:
    """Pass on an id that storage can hold: 1 to 255 characters, not blank, no NUL, no lone surrogate."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a string, not {type(value).__name__}.", param=name)
    if not 1 <= len(value) <= 255 or not value.strip():
        raise InvalidRequest(f"{name} must have 1 to 255 characters and not be blank.", param=name)
    if "\0" in value or not _is_unicode(value):
        raise InvalidRequest(f"{name} holds a character that cannot be stored.", param=name)
    return value


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


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
