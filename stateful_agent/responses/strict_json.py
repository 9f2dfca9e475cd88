"""JSON that every party reads in the same way. Pure.

`pydantic_core.from_json` takes the last of repeated keys, makes infinity of 1e999, and nests 200 levels deep; `json`
can be told to refuse the first two.
"""

import json
from collections.abc import Iterable
from typing import Any

DEEPEST = 100
"""Levels of nesting in JSON. MLflow's traces, pydantic and msgpack each fail at some depth beyond it."""


def read_json(text: str | bytes | bytearray) -> Any:
    """Parse JSON that other parties will understand as well.

    Raises:
        ValueError: it is none, or it is nested too deep, names a key twice, or holds NaN, an infinity or half of a
            character.
    """

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            raise ValueError("an object names a key twice")
        return value

    try:
        value = json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        if _is_deeper(value, DEEPEST):
            raise RecursionError
    except RecursionError as error:
        raise ValueError(f"it is nested more than {DEEPEST} deep") from error
    except UnicodeEncodeError as error:
        raise ValueError("it holds a lone surrogate, half of a character") from error
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether objects and lists are nested in more levels."""
    nested = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        nested = [inner for outer in nested for inner in _inner(outer) if isinstance(inner, dict | list)]
    return bool(nested)


def _inner(outer: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return outer.values() if isinstance(outer, dict) else outer
