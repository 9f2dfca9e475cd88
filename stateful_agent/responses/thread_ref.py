"""Which thread a request names, and which checkpoint of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stateful_agent.errors import InvalidRequest
from stateful_agent.responses.request import ResponsesRequest

CUSTOM_INPUTS = (
    "thread_id",
    "checkpoint_id",
    "parent_checkpoint_id",
    "previous_response_id",
    "tool_items",
    "resume",
    "interrupts",
    "answered_by",
    "messages_left_out",
    "state",
    "context",
)
"""The keys of `custom_inputs` without an operation: a misspelt one would silently begin a new thread. What a response
says in `custom_outputs` can be sent back as it is."""


@dataclass(frozen=True)
class ThreadRef:
    """Where a turn continues from: a thread and perhaps a checkpoint of it, or the response that it left off with."""

    thread_id: str | None = None
    """The thread to continue or begin."""

    checkpoint_id: str | None = None
    """Where to continue instead of the head."""

    previous_response_id: str | None = None
    """The response to continue from, which names the thread and the checkpoint."""

    may_begin: bool = False
    """Whether there need not be such a thread yet."""


def thread_ref_of(request: ResponsesRequest) -> ThreadRef | None:
    """The thread that a request names; `None`: none.

    Raises:
        InvalidRequest: an id that storage cannot hold, unknown `custom_inputs`, or ids that contradict each other.
    """
    custom, metadata = request.custom_inputs or {}, request.metadata or {}
    if unknown := sorted(custom.keys() - CUSTOM_INPUTS):
        known = ", ".join((*CUSTOM_INPUTS, "operation"))
        raise InvalidRequest(f"Unknown key {unknown[0]!r} in custom_inputs: there are {known}.", param="custom_inputs")
    named = request.conversation
    named = named.get("id") if isinstance(named, dict) else named
    conversation = {} if request.conversation is None else {"conversation": named}
    thread_id = _the_one("thread_id", _in(custom, "thread_id"), _in(metadata, "thread_id"), conversation)
    checkpoint_id = _the_one("checkpoint_id", _in(custom, "checkpoint_id"), _in(metadata, "checkpoint_id"))
    previous = {} if request.previous_response_id is None else {"previous_response_id": request.previous_response_id}
    response_id = _the_one("previous_response_id", _in(custom, "previous_response_id"), previous)
    if response_id is not None:
        if thread_id is not None or checkpoint_id is not None:
            raise InvalidRequest(
                "previous_response_id names the thread and checkpoint to go on with: leave other ids out.",
                param="previous_response_id",
            )
        return ThreadRef(previous_response_id=response_id)
    if thread_id is None and request.context and request.context.conversation_id is not None:
        thread_id = check_id(request.context.conversation_id, "conversation_id")
    if thread_id is None:
        if checkpoint_id is not None:
            raise InvalidRequest("A checkpoint_id needs the thread_id that it belongs to.", param="checkpoint_id")
        return None
    return ThreadRef(thread_id, checkpoint_id, may_begin=checkpoint_id is None and not conversation)


def check_id(value: Any, name: str) -> str:
    """Pass on an id that storage and a path can hold: 1 to 255 characters, not blank, none of them for control."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a string, not {type(value).__name__}.", param=name)
    if not 1 <= len(value) <= 255 or not value.strip():
        raise InvalidRequest(f"{name} must have 1 to 255 characters and not be blank.", param=name)
    if any(character < " " or character == "\x7f" for character in value) or not is_unicode(value):
        raise InvalidRequest(f"{name} holds a character that cannot be stored, or none that is printed.", param=name)
    if value in (".", ".."):
        raise InvalidRequest(f"{name} must not be {value!r}: clients leave it out of a path.", param=name)
    return value


def _in(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {name: fields[name]} if name in fields else {}


def _the_one(name: str, *sources: Mapping[str, Any]) -> str | None:
    """The id that all `sources` agree on, of those that name one."""
    named = [check_id(value, where) for source in sources for where, value in source.items()]
    if len(set(named)) > 1:
        raise InvalidRequest(f"The request names two: {named[0]!r} and {named[1]!r}.", param=name)
    return named[0] if named else None


def is_unicode(text: str) -> bool:
    """Whether a text is of whole characters: half of one, a lone surrogate, can be neither sent nor stored."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
