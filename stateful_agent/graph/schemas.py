"""What a graph takes and gives beside messages, by its own schemas: input, context, state, output."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, get_type_hints

from langgraph.prebuilt import ToolNode
from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from typing_extensions import is_typeddict

from stateful_agent.errors import InvalidRequest
from stateful_agent.graph.build import CompiledGraph
from stateful_agent.graph.model_settings import ModelSettings

MESSAGES = "messages"

HEEDED = {
    "instructions": "instructions",
    "max_output_tokens": "max_output_tokens",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "parallel_tool_calls": "parallel_tool_calls",
    "text_format": "text.format",
}
"""What a request may ask of the model that it would mislead not to heed, by the fields of `ModelSettings`."""


def input_values(graph: CompiledGraph, given: Any, param: str = "custom_inputs.state") -> dict[str, Any]:
    """The keys of a graph's input that a request brings beside messages, from JSON, as the input's schema has them.

    Raises:
        InvalidRequest: there is no such key, or a value is not of its type.
    """
    return _typed_values(given, _types(graph.builder.input_schema), param) if given != {} else {}


def state_values(graph: CompiledGraph, given: Any, param: str = "values") -> dict[str, Any]:
    """The same for any key of a graph's state, as an edit may change it."""
    types: dict[str, Any] = {}
    for schema in graph.builder.schemas:
        types |= {name: kind for name, kind in _types(schema).items() if name in graph.channels}
    return _typed_values(given, types, param)


def output_keys(graph: CompiledGraph) -> list[str]:
    """The keys of a graph's output beside messages."""
    channels = graph.output_channels
    return [name for name in ([channels] if isinstance(channels, str) else channels) if name != MESSAGES]


def context_of(graph: CompiledGraph, asked: dict[str, Any], given: Any) -> Any:
    """The runtime context of a turn: what a request brings, and what it asks of the model if the graph heeds that.

    Raises:
        InvalidRequest: it is not of the graph's `context_schema`, or it would mislead not to heed what is asked.
    """
    schema: Any = graph.context_schema
    heeds = heeds_settings(graph)
    for name, param in HEEDED.items():
        if name in asked and not heeds:
            raise InvalidRequest(
                f"The graph of this agent takes no {param}: leave it out, or build the graph with ModelSettings as its "
                "context_schema, and heed them.",
                param=param,
            )
    _check_tools(asked, tool_names(graph))
    param = "custom_inputs.context"
    if given is None:
        return schema(**asked) if heeds else None
    if schema is None:
        raise InvalidRequest("The graph of this agent takes no context: leave it out.", param=param)
    if not isinstance(given, Mapping):
        raise InvalidRequest("context must be an object.", param=param)
    if heeds and (twice := sorted(ModelSettings.__dataclass_fields__.keys() & given.keys())):
        raise InvalidRequest(f"{twice[0]} is a parameter of the request, not of its context.", param=param)
    if unknown := sorted(given.keys() - _types(schema).keys()):  # a dataclass would ignore it
        raise InvalidRequest(f"The graph takes no {unknown[0]!r} in its context.", param=param)
    return _typed(schema, {**(asked if heeds else {}), **given}, param)


def heeds_settings(graph: CompiledGraph) -> bool:
    """Whether a graph heeds what a request asks of the model: its context is `ModelSettings`, or made of it."""
    schema: Any = graph.context_schema
    return isinstance(schema, type) and issubclass(schema, ModelSettings)


def tool_names(graph: CompiledGraph) -> set[str]:
    """The names of the tools that a graph runs itself, in a `ToolNode`."""
    nodes = (node.runnable for node in graph.builder.nodes.values())
    return {name for node in nodes if isinstance(node, ToolNode) for name in node.tools_by_name}


def _check_tools(asked: dict[str, Any], own: set[str]) -> None:
    theirs = {tool["function"]["name"] for tool in asked.get("tools", ())}
    if clash := sorted(theirs & own):
        raise InvalidRequest(f"The agent has a tool named {clash[0]!r} itself: rename the function.", param="tools")
    choice = asked.get("tool_choice")
    chosen = [] if not isinstance(choice, dict) else choice.get("tools", [choice])
    for tool in chosen:
        if tool["name"] not in theirs | own:
            raise InvalidRequest(f"There is no tool {tool['name']!r} to choose.", param="tool_choice")
    if choice == "required" and not theirs | own:
        raise InvalidRequest("There is no tool that could be required.", param="tool_choice")


def _typed_values(given: Any, types: Mapping[str, Any], param: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"{param} must be an object.", param=param)
    known = sorted(types.keys() - {MESSAGES})
    values = {}
    for name, value in given.items():
        if name == MESSAGES:
            raise InvalidRequest(f"Messages are not given in {param}.", param=f"{param}.{name}")
        if name not in types:
            there = f"there are {', '.join(known)}" if known else "it has none beside messages"
            raise InvalidRequest(f"The graph takes no {name!r} in {param}: {there}.", param=f"{param}.{name}")
        values[name] = _typed(types[name], value, f"{param}.{name}")
    return values


def _typed(kind: Any, value: Any, param: str) -> Any:
    if is_typeddict(kind):  # before Python 3.12, pydantic does not take those of `typing`
        return _typed_values(value, _types(kind), param)
    try:
        adapter = _adapter(kind)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise InvalidRequest(f"{param} is of a type that cannot be made of JSON.", param=param) from error
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join([param, *(str(part) for part in first["loc"])])
        raise InvalidRequest(f"{where}: {first['msg']}", param=param) from error


def _adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        return _cached_adapter(kind)
    except TypeError:  # the type cannot be hashed, such as one that is annotated with a list
        return TypeAdapter(kind)


@lru_cache(maxsize=256)
def _cached_adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _types(schema: Any) -> dict[str, Any]:
    """The types of a schema's keys."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return {name: field.annotation for name, field in schema.model_fields.items()}
    return get_type_hints(schema)
