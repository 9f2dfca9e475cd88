"""What input may be at most, and what storage can hold of it. Pure."""

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AnyMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from stateful_agent.errors import InputTooLarge, InvalidRequest, ThreadTooLong


def check_limit(value: Any) -> int:
    """Pass on a page size of 1 to 1000.

    Raises:
        InvalidRequest: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1000:
        raise InvalidRequest("limit must be a whole number from 1 to 1000.", param="limit")
    return value


MOST_METADATA_BYTES = 16 * 1024


def check_metadata(value: Any) -> dict[str, Any]:
    """Pass on what a caller notes of a thread: a JSON object of 16 KiB at most.

    Raises:
        InvalidRequest: it is none.
    """
    if not isinstance(value, dict):
        raise InvalidRequest("metadata must be a JSON object.", param="metadata")
    try:
        json.dumps(value, allow_nan=False)
        check_size(value, MOST_METADATA_BYTES)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"metadata is not JSON: {error}.", param="metadata") from error
    except InvalidRequest as error:
        raise InvalidRequest(f"metadata: {error.message}", param="metadata") from error
    return value


def check_size(items: Any, max_bytes: int) -> None:
    """Refuse input that is too large, or whose text is no Unicode (a lone surrogate cannot be stored).

    Raises:
        InputTooLarge: it has more than `max_bytes` as JSON.
        InvalidRequest: it is no JSON.
    """
    try:
        size = len(json.dumps(items, ensure_ascii=False).encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest("The input holds a lone surrogate: half of a character.", param="input") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"The input is not JSON: {error}.", param="input") from error
    if size > max_bytes:
        raise InputTooLarge(f"The input has {size} bytes; {max_bytes} are allowed.", param="input")


def check_count(items: Sequence[Any] | None, max_items: int, name: str = "input") -> None:
    """Refuse more items than a request may have; `name` is what the error calls them.

    Raises:
        InputTooLarge: there are more.
    """
    if isinstance(items, list) and len(items) > max_items:
        raise InputTooLarge(f"{name} has {len(items)} items; {max_items} are allowed (MAX_INPUT_ITEMS).", param=name)


def check_length(messages: int, max_messages: int) -> None:
    """Refuse that a conversation becomes longer than a turn can go through.

    Raises:
        ThreadTooLong: it has more messages.
    """
    if messages > max_messages:
        raise ThreadTooLong()


def check_storable(messages: Sequence[AnyMessage]) -> None:
    """Refuse what storage cannot hold, such as a number of more than 64 bits among a call's arguments.

    Raises:
        InvalidRequest: there is something of the kind.
    """
    try:
        JsonPlusSerializer().dumps_typed(list(messages))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest("The input holds a value that cannot be stored.", param="input") from error
