"""JSON that every party reads in the same way. Pure.

`pydantic_core.from_json` takes the last of repeated keys, makes infinity of 1e999, and nests 200 levels deep; `json`
can be told to refuse the first two.
"""

import json
import math
from collections.abc import Iterable
from typing import Any

DEEPEST = 100
"""Levels of nesting in JSON. MLflow's traces, pydantic and msgpack each fail at some depth beyond it."""

TOO_DEEP = f"it is nested more than {DEEPEST} deep"

MOST_VALUES = 250_000
"""Values in a body of JSON, which take a fraction of a second to build."""

MARKUP = b",[]{}"
NO_MARKUP = bytes(byte for byte in range(256) if byte not in MARKUP)


class JsonMeter:
    """Counts the values of a body of JSON as it arrives, before anything is built of it."""

    def __init__(self) -> None:
        self.values = 1
        """How many values there are so far, or a few more."""
        self.is_too_deep = False
        self._levels = 0
        self._is_escaped = False
        self._is_in_text = False

    def feed(self, chunk: bytes) -> None:
        """Count what comes next."""
        if self._is_escaped and chunk:
            chunk = chunk[1:]
            self._is_escaped = False
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"")
            self._is_escaped = chunk.endswith(b"\\")
            chunk = chunk.replace(b'\\"', b"")
        texts_and_others = chunk.split(b'"')
        others = texts_and_others[1 if self._is_in_text else 0 :: 2]
        self._is_in_text ^= len(texts_and_others) % 2 == 0
        marks = b"".join(others).translate(None, NO_MARKUP)
        self.values += len(marks) - marks.count(b"]") - marks.count(b"}")
        for mark in marks.replace(b",", b""):
            self._levels += 1 if mark in b"[{" else -1
            self.is_too_deep |= self._levels > DEEPEST


def read_json(text: str | bytes | bytearray) -> Any:
    """Parse JSON that other parties will understand as well.

    Raises:
        ValueError: it is none, or it is nested too deep, names a key twice, or holds NaN, an infinity or half of a
            character.
    """

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    def finite(number: str) -> float:
        return float(number) if math.isfinite(float(number)) else refuse(number)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            raise ValueError("an object names a key twice")
        return value

    try:
        value = json.loads(text, parse_constant=refuse, parse_float=finite, object_pairs_hook=unique)
        if _may_hold_surrogates(text):
            json.dumps(value, ensure_ascii=False).encode()
        if _is_deeper(value, DEEPEST):
            raise RecursionError
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    except UnicodeEncodeError as error:
        raise ValueError("it holds a lone surrogate, half of a character") from error
    return value


def _may_hold_surrogates(text: str | bytes | bytearray) -> bool:
    if isinstance(text, str):
        return "\\ud" in text or "\\uD" in text or not text.isascii()
    return b"\\ud" in text or b"\\uD" in text


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether objects and lists are nested in more levels."""
    nested = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        nested = [inner for outer in nested for inner in _inner(outer) if isinstance(inner, dict | list)]
    return bool(nested)


def _inner(outer: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return outer.values() if isinstance(outer, dict) else outer
