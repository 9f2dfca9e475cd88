"""Values of a graph's state as JSON, whatever their types. Pure."""

import math
from typing import Any

from pydantic_core import to_jsonable_python

from stateful_agent.responses.items import as_unicode


def as_json(value: Any) -> Any:
    """A value as JSON: pydantic models, dataclasses, times, sets and more as pydantic writes them.

    What JSON has no form for is text: `"NaN"`, `"Infinity"`, `"-Infinity"`, bytes in base64, a question mark for half
    of a character, and Python's own form of an object of a type that pydantic does not know.
    """
    return _strict(to_jsonable_python(value, bytes_mode="base64", fallback=str))


def _strict(value: Any) -> Any:
    if isinstance(value, str):
        return as_unicode(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {as_unicode(key): _strict(each) for key, each in value.items()}
    return [_strict(each) for each in value] if isinstance(value, list) else value
