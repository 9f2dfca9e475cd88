"""What the trace of a turn holds of what was asked and answered."""

from typing import Any

from stateful_agent.heavy_work import is_large

MOST_CHARACTERS, MOST_PARTS, MOST_LEVELS = 10_000, 50, 6
"""Of a large request or answer, how much of each text, how many parts of a list or an object, and how deep."""


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
