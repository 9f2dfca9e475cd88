"""The functions that a client brings along for a turn, and how the model is to choose among all tools. Pure.

https://www.openresponses.org/specification, `tools` and `tool_choice`.
"""

import re
from collections.abc import Sequence
from typing import Any

from stateful_agent.errors import InvalidRequest
from stateful_agent.responses.types import MODEL

MODES = ("none", "auto", "required")

FIELDS: dict[str, tuple[type, str]] = {
    "description": (str, "text"),
    "parameters": (dict, "a JSON schema"),
    "strict": (bool, "true or false"),
}
"""What a function may have beside its name."""


def functions_in(tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The functions among a request's tools, in the form of the standard, with all its fields.

    The agent's own tools may be named beside them, as an MCP server of its name: clients that handle approvals do that.

    Raises:
        InvalidRequest: a tool of another kind or shape, or two of one name.
    """
    functions = [_function(tool, f"tools[{n}]") for n, tool in enumerate(tools) if not _are_the_agents(tool)]
    names = [function["name"] for function in functions]
    if len(set(names)) < len(names):
        raise InvalidRequest(f"Two functions are named {max(names, key=names.count)!r}.", param="tools")
    return functions


def as_bound(function: dict[str, Any]) -> dict[str, Any]:
    """A function as LangChain's `bind_tools` takes it."""
    given = {name: function[name] for name in ("name", "description", "parameters", "strict")}
    given["parameters"] = given["parameters"] or {"type": "object", "properties": {}}
    return {"type": "function", "function": {name: value for name, value in given.items() if value is not None}}


def choice_in(choice: Any) -> str | dict[str, Any]:
    """How a request wants tools to be chosen, in the form of the standard, with all its fields.

    Raises:
        InvalidRequest: it has another shape.
    """
    match choice:
        case None:
            return "auto"
        case str() if choice in MODES:
            return choice
        case {"type": "function", "name": str(name)}:
            return {"type": "function", "name": name}
        case {"type": "allowed_tools", "tools": [*tools]} if choice.get("mode", "auto") in MODES:
            allowed = [choice_in(tool) for tool in tools]
            if choice.get("mode") == "none":
                return "none"
            if allowed and all(isinstance(tool, dict) and tool["type"] == "function" for tool in allowed):
                return {"type": "allowed_tools", "mode": choice.get("mode", "auto"), "tools": allowed}
    raise InvalidRequest(
        f'tool_choice is one of {", ".join(MODES)}, {{"type": "function", "name": ...}}, or '
        '{"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": ...}]}.',
        param="tool_choice",
    )


def _are_the_agents(tool: dict[str, Any]) -> bool:
    return {"type": "mcp", "server_label": MODEL}.items() <= tool.items()


def _function(tool: dict[str, Any], param: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise InvalidRequest(
            f"Functions can be brought along, not tools of type {tool.get('type')!r}: the agent has its own.",
            param=f"{param}.type",
        )
    name = tool.get("name")
    if not (isinstance(name, str) and re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)):
        raise InvalidRequest("A function's name has 1 to 64 letters, digits, _ or -.", param=f"{param}.name")
    for field, (kind, words) in FIELDS.items():
        if not isinstance(tool.get(field), kind | None):
            raise InvalidRequest(f"{field} must be {words}.", param=f"{param}.{field}")
    return {"type": "function", "name": name, **{field: tool.get(field) for field in FIELDS}}
