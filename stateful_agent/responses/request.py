"""The request: the body of `POST /responses`, each part of it heeded, harmless, or refused. Pure.

https://platform.openai.com/docs/api-reference/responses/create
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from mlflow.types.responses import ResponsesAgentRequest
from pydantic import Field, StrictBool, ValidationError

from stateful_agent.errors import InvalidRequest
from stateful_agent.responses.functions import choice_in, functions_in
from stateful_agent.responses.text_options import reasoning_in, text_in


class ResponsesRequest(ResponsesAgentRequest):
    """MLflow's request, and what OpenAI's has beyond it.

    MLflow's types know some of the items that clients resend and refuse others: here items are read where they become
    messages.
    """

    input: list[dict[str, Any]]
    instructions: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2, strict=True)
    top_p: float | None = Field(default=None, ge=0, le=1, strict=True)
    max_output_tokens: int | None = Field(default=None, ge=1, strict=True)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2, strict=True)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2, strict=True)
    conversation: str | dict[str, Any] | None = None
    previous_response_id: str | None = None
    store: StrictBool | None = None
    stream: StrictBool | None = None
    background: StrictBool | None = None
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    """The client's functions."""
    tool_choice: Any = None
    parallel_tool_calls: StrictBool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


def _is_given(_value: Any) -> bool:
    return True


def _asks_for_logprobs(include: Any) -> bool:
    return isinstance(include, list) and "message.output_text.logprobs" in include


NO_LOGPROBS = "This agent does not tell how probable its words were: leave {} out."

_Reason = tuple[Callable[[Any], bool], str]
REFUSED: dict[str, _Reason] = {
    "max_tool_calls": (_is_given, "The agent's tool calls are bounded by its MAX_STEPS: leave max_tool_calls out."),
    "top_logprobs": (bool, NO_LOGPROBS.format("top_logprobs")),
    "include": (_asks_for_logprobs, NO_LOGPROBS.format("message.output_text.logprobs")),
    "prompt": (_is_given, "No prompts are stored here: send instructions or input."),
    **{
        name: (_is_given, f"This is the Responses API: {name} is {instead} there.")
        for name, instead in {
            "messages": "input",
            "max_tokens": "max_output_tokens",
            "max_completion_tokens": "max_output_tokens",
            "response_format": "text.format",
        }.items()
    },
    "extra_body": (
        _is_given,
        "extra_body is for OpenAI's clients, which send what is in it beside input: do the same.",
    ),
    **{
        name: (_is_given, f"{name} belongs into custom_inputs (in OpenAI's clients: extra_body).")
        for name in ("thread_id", "checkpoint_id", "operation")
    },
}
"""What it would mislead to ignore: when, and why. All else that is unknown is ignored, as it asks for nothing that the
caller could miss unnoticed."""


def read_request(body: Any) -> ResponsesRequest:
    """A request from its JSON form, in which `input` may also be a plain string, or absent if there is none.

    Raises:
        InvalidRequest: it has another shape, or asks for what cannot be had; the message names the field.
    """
    if isinstance(body, ResponsesRequest):
        return body
    if isinstance(body, ResponsesAgentRequest):
        body = body.model_dump(exclude_none=True)
    if not isinstance(body, dict):
        raise InvalidRequest("A request is a JSON object with `input`.")
    check_parameters(body)
    if body.get("input") is None:
        body = body | {"input": []}
    if isinstance(body["input"], str):
        body = body | {"input": [{"role": "user", "content": body["input"]}]}
    if not isinstance(body["input"], list):
        raise InvalidRequest("input must be text or a list of items.", param="input")
    try:
        request = ResponsesRequest(**body)
        request.tools, request.tool_choice = functions_in(request.tools or ()), choice_in(request.tool_choice)
        request.text = text_in(request.text or {})
        request.reasoning = request.reasoning and reasoning_in(request.reasoning)
        return request
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # Between the names of fields, pydantic names those of its validators that failed.
        field = ".".join(str(part) for part in first["loc"] if re.fullmatch(r"\d+|[a-z_]+", str(part)))
        raise InvalidRequest(f"{field}: {first['msg'].removeprefix('Value error, ')}", param=field) from error
    except (TypeError, KeyError, AttributeError) as error:  # from within MLflow's validators
        raise InvalidRequest("The request has a field of the wrong type.") from error


def check_parameters(body: Mapping[str, Any]) -> None:
    """Refuse what it would mislead to ignore.

    Raises:
        InvalidRequest: there is something of the kind.
    """
    for name, (misleads, reason) in REFUSED.items():
        if (value := body.get(name)) is not None and misleads(value):
            raise InvalidRequest(reason, param=name)
