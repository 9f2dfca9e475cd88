"""The response object: what was asked, with the defaults that the standard gives, and where the turn has led. Pure.

https://www.openresponses.org/specification and https://platform.openai.com/docs/api-reference/responses/object.
"""

from typing import Any

from stateful_agent.responses.request import ResponsesRequest
from stateful_agent.responses.text_options import PLAIN
from stateful_agent.responses.types import MODEL, CustomOutputs, Response

MOST_METADATA = 16
"""Entries of a response's metadata."""


def response_to(request: ResponsesRequest, response_id: str, created_at: int) -> Response:
    """The response to a request, without output yet; `created_at` is in seconds since the epoch."""
    asked = {
        name: value
        for name in (
            "frequency_penalty",
            "instructions",
            "max_output_tokens",
            "parallel_tool_calls",
            "presence_penalty",
            "previous_response_id",
            "prompt_cache_key",
            "reasoning",
            "safety_identifier",
            "temperature",
            "text",
            "tool_choice",
            "tools",
            "top_p",
            "truncation",
        )
        if (value := getattr(request, name)) is not None
    }
    response = empty_response(response_id, created_at) | asked
    response |= {"metadata": request.metadata or {}, "background": bool(request.background)}
    response |= {"store": request.store is not False}
    if request.conversation is not None:
        named = request.conversation
        response["conversation"] = {"id": named.get("id") if isinstance(named, dict) else named}
    return response


def empty_response(response_id: str, created_at: int) -> dict[str, Any]:
    """A response of which nothing is known but when it was asked for."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": created_at,
        "completed_at": None,
        "model": MODEL,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "output": [],
        "usage": None,
        "previous_response_id": None,
        "metadata": {},
        "background": False,
        "store": True,
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "max_tool_calls": None,
        "text": {"format": PLAIN},
        "reasoning": None,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_logprobs": 0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "max_output_tokens": None,
        "truncation": "disabled",
        "service_tier": "default",
        "safety_identifier": None,
        "prompt_cache_key": None,
    }


def outputs_in(metadata: dict[str, str], custom_outputs: CustomOutputs) -> Response:
    """The entries of a response that hold these: text among them is in its `metadata` too, as far as there is room."""
    texts = {name: value for name, value in custom_outputs.items() if isinstance(value, str)}
    return {"custom_outputs": custom_outputs, "metadata": dict(list((metadata | texts).items())[:MOST_METADATA])}
