"""The shapes of the wire, as OpenAI's Responses API has them. Pure.

https://platform.openai.com/docs/api-reference/responses/object and `/responses-streaming`. Ours beside them are
`custom_outputs` and, of items that are read back from a thread, `message_id`.
"""

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

Kind: TypeAlias = Literal["reasoning", "output_text", "refusal"]
"""A kind of the assistant's content."""

ToolItems: TypeAlias = Literal["function_call", "mcp_call", "hidden"]
"""How an answer shows the calls of the agent's own tools."""

When: TypeAlias = Literal["at once", "after the step", "at the end"]
"""When a step's words are emitted: as they come; once the step has written them; or once the turn has ended."""

Status: TypeAlias = Literal["in_progress", "completed", "incomplete", "failed"]


MODEL = "stateful-agent"
"""The name of the model that responses show, and the label of the server whose tools the agent's own are."""


class Part(TypedDict):
    """Content of an item: its text is in `text`, a refusal's in `refusal`."""

    type: str
    text: NotRequired[str]
    refusal: NotRequired[str]
    annotations: NotRequired[list[Any]]


class Item(TypedDict):
    """An item of a conversation: a message, reasoning, a function call or its output, an MCP call."""

    type: str
    id: str | None
    status: NotRequired[Status]
    message_id: NotRequired[str | None]
    role: NotRequired[str]
    content: NotRequired[list[Any]]
    summary: NotRequired[list[Part]]
    call_id: NotRequired[str]
    name: NotRequired[str]
    arguments: NotRequired[str]
    output: NotRequired[str | None]
    error: NotRequired[str | None]
    server_label: NotRequired[str]
    approval_request_id: NotRequired[str | None]


class Interrupt(TypedDict):
    """What a graph waits for."""

    id: str
    value: Any
    """What the graph asks, as JSON."""
    node: str
    """The step that waits."""


class CustomOutputs(TypedDict, total=False):
    """Where a turn has left its thread, or the result of an operation."""

    thread_id: str
    checkpoint_id: str | None
    parent_checkpoint_id: str
    answered_by: str
    """The model that answered where the agent's own could not be reached."""
    messages_left_out: int
    """How many of the oldest messages were not sent to the model, in its last call."""
    interrupts: list[Interrupt]
    state: dict[str, Any]
    result: Any


class Usage(TypedDict):
    """The tokens that a response took."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class ErrorFields(TypedDict):
    """An error, as every client of OpenAI's reads it."""

    message: str
    type: str
    code: str
    param: str | None


Event: TypeAlias = dict[str, Any]
"""An event of a stream: its `type`, its `sequence_number`, and what that type has."""

Response: TypeAlias = dict[str, Any]
"""A response object."""
