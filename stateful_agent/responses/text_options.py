"""How a request wants its answer: in which form, how long, and with how much reasoning before it. Pure.

https://www.openresponses.org/specification, `text` and `reasoning`.
"""

import re
from typing import Any

from stateful_agent.errors import InvalidRequest

PLAIN: dict[str, Any] = {"type": "text"}
VERBOSITIES = ("low", "medium", "high")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
SUMMARIES = ("auto", "concise", "detailed")


def text_in(text: dict[str, Any]) -> dict[str, Any]:
    """`text` of a request, in the form of the standard, with all fields of its `format`.

    Raises:
        InvalidRequest: it has another shape.
    """
    verbosity = _one_of(VERBOSITIES, text.get("verbosity"), "text.verbosity")
    return {"format": _format(text.get("format")), **({} if verbosity is None else {"verbosity": verbosity})}


def reasoning_in(reasoning: dict[str, Any]) -> dict[str, Any]:
    """`reasoning` of a request, likewise.

    Raises:
        InvalidRequest: it has another shape.
    """
    return {
        "effort": _one_of(EFFORTS, reasoning.get("effort"), "reasoning.effort"),
        "summary": _one_of(SUMMARIES, reasoning.get("summary"), "reasoning.summary"),
    }


def _format(form: Any) -> dict[str, Any]:
    match form:
        case None | {"type": "text"}:
            return PLAIN
        case {"type": "json_object"}:
            return {"type": "json_object"}
        case {"type": "json_schema", "json_schema": dict(nested)}:  # as Databricks' provider for the AI SDK has it
            return _format({"type": "json_schema"} | nested)
        case {"type": "json_schema", "name": str(name), "schema": dict(schema)} if re.fullmatch(r"[\w-]{1,64}", name):
            description, strict = form.get("description"), form.get("strict")
            if isinstance(description, str | None) and isinstance(strict, bool | None):
                fields = {"name": name, "description": description, "schema": schema, "strict": bool(strict)}
                return {"type": "json_schema", **fields}
    raise InvalidRequest(
        'text.format is {"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "name": ..., '
        '"schema": {...}, "strict": ...}.',
        param="text.format",
    )


def _one_of(known: tuple[str, ...], value: Any, param: str) -> str | None:
    if value is not None and value not in known:
        raise InvalidRequest(f"{param} is one of {', '.join(known)}.", param=param)
    return None if value is None else str(value)
