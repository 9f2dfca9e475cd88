"""What the trace of a turn holds, and the ids by which logs name it."""

from contextvars import ContextVar
from typing import Any, TypeGuard

import mlflow
from mlflow.entities import LiveSpan, NoOpSpan
from mlflow.tracing.constant import SpanAttributeKey

from stateful_agent.heavy_work import is_large
from stateful_agent.identity import ALL_USERS, User, stored_ids

MOST_CHARACTERS, MOST_PARTS, MOST_LEVELS = 10_000, 50, 6
"""Of a large request or answer, how much of each text, how many parts of a list or an object, and how deep."""

TURN_IDS: ContextVar[dict[str, str]] = ContextVar("TURN_IDS")
"""The ids of the turn that this task takes, for whatever is logged meanwhile: `thread_id`, `response_id`, `user_id`."""

SESSION_CHARACTERS = 250
"""Of the id of a session, as MLflow takes it; a thread's can be longer. A tag holds all of it."""


def is_traced(span: LiveSpan | NoOpSpan) -> TypeGuard[LiveSpan]:
    """Whether the turn of this span is: not all are."""
    return isinstance(span, LiveSpan)


def ids_beside_checkpoints(response_id: str) -> dict[str, str]:
    """The ids that are stored beside each checkpoint of a turn: its response's, and its trace's if there is one."""
    span = mlflow.get_current_active_span()
    return {"response_id": response_id} | ({"trace_id": span.trace_id} if span else {})


def note_request(span: LiveSpan, request: dict[str, Any]) -> None:
    """Note what was asked."""
    # Not `set_inputs`, which looks for images in every value first.
    span.set_attribute(SpanAttributeKey.INPUTS, for_trace(request))


def note_response(span: LiveSpan, response: dict[str, Any]) -> None:
    """Note what was answered, and the tokens that it took, as the provider has counted them."""
    span.set_attribute(SpanAttributeKey.OUTPUTS, for_trace(response))
    if usage := response.get("usage"):
        counted = {name: usage[name] for name in ("input_tokens", "output_tokens", "total_tokens")}
        span.set_attribute(SpanAttributeKey.CHAT_USAGE, counted)


def note_ids(thread_id: str, response_id: str, user: User) -> None:
    """Note whose turn this task takes, and which."""
    ids = {"thread_id": thread_id, "response_id": response_id}
    TURN_IDS.set(ids if user is ALL_USERS else ids | {"user_id": user})


def tag_trace(thread_id: str, response_id: str, user: User, checkpoint_id: str | None) -> None:
    """Tag the trace of a turn with whose it is, which, and where it has led, also if it has failed there.

    The session is the thread, told from those of other users.
    """
    tags = {"thread_id": thread_id, "response_id": response_id}
    if checkpoint_id:
        tags["checkpoint_id"] = checkpoint_id
    session_id = stored_ids(user, thread_id)[0][:SESSION_CHARACTERS]
    mlflow.update_current_trace(tags=tags, session_id=session_id, user=None if user is ALL_USERS else user)


def for_trace(value: Any) -> Any:
    """A JSON value as its trace holds it: whole, unless writing it would hold up the server and fill the store."""
    return _shortened(value, 0) if is_large(value) else value


def _shortened(value: Any, level: int) -> Any:
    if isinstance(value, str) and len(value) > MOST_CHARACTERS:
        return f"{value[:MOST_CHARACTERS]} ... ({len(value)} characters)"
    if isinstance(value, dict | list) and level == MOST_LEVELS:
        return f"... ({len(value)} parts)"
    if isinstance(value, dict):
        return {key: _shortened(part, level + 1) for key, part in list(value.items())[:MOST_PARTS]}
    if isinstance(value, list):  # what comes last was said last
        left_out = [f"({len(value) - MOST_PARTS} parts) ..."] if len(value) > MOST_PARTS else []
        return left_out + [_shortened(part, level + 1) for part in value[-MOST_PARTS:]]
    return value
