"""The description of the routes in `/openapi.json`, for whoever generates a client from it, or tests."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from stateful_agent.responses.text_options import EFFORTS, SUMMARIES, VERBOSITIES

Json = dict[str, Any]


class Problem(BaseModel):
    """What went wrong, and what to do."""

    message: str
    type: str
    code: str
    param: str | None


class Failure(BaseModel):
    """The body of every error."""

    error: Problem


ERRORS: dict[int | str, Json] = {
    status: {"model": Failure, "description": text}
    for status, text in {
        400: "Malformed, or asks for what cannot be had.",
        401: "Threads belong to users, and the request names none.",
        404: "There is no such thread or checkpoint of this user's.",
        409: "Other turns run on the thread, or it was deleted meanwhile.",
        413: "The body is over the size limit.",
        500: "The agent failed; its log has the cause.",
        503: "The database cannot be reached; `Retry-After` is when to try again.",
    }.items()
}

IDS = {name: {"type": "string", "minLength": 1, "maxLength": 255} for name in ("thread_id", "checkpoint_id")}
FIELDS: Json = {
    "input": {"type": ["string", "array"], "items": {"type": "object"}},
    "stream": {"type": "boolean"},
    "custom_inputs": {"type": "object", "properties": IDS | {"operation": {"type": "string"}}},
    "metadata": {"type": "object", "properties": IDS, "additionalProperties": {"type": "string"}},
    "conversation": {"type": ["string", "object"]},
    "previous_response_id": {"type": "string"},
    "instructions": {"type": "string"},
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
    "max_output_tokens": {"type": "integer", "minimum": 1},
    "presence_penalty": {"type": "number", "minimum": -2, "maximum": 2},
    "frequency_penalty": {"type": "number", "minimum": -2, "maximum": 2},
    "tools": {"type": "array", "items": {"type": "object", "required": ["type"]}},
    "tool_choice": {"type": ["string", "object"]},
    "parallel_tool_calls": {"type": "boolean"},
    "text": {
        "type": "object",
        "properties": {"format": {"type": ["object", "null"]}, "verbosity": {"enum": [*VERBOSITIES, None]}},
    },
    "reasoning": {
        "type": "object",
        "properties": {"effort": {"enum": [*EFFORTS, None]}, "summary": {"enum": [*SUMMARIES, None]}},
    },
    "truncation": {"enum": ["auto", "disabled"]},
    "store": {"type": "boolean"},
    "background": {"type": "boolean"},
}
THREAD = {"thread_id": "my-trip"}
TURN: Json = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {name: {"anyOf": [field, {"type": "null"}]} for name, field in FIELDS.items()},
                },
                "examples": {
                    "turn": {"value": {"input": "I'm headed to SF!", "custom_inputs": THREAD}},
                    "stream": {"value": {"input": "Where am I going?", "custom_inputs": THREAD, "stream": True}},
                },
            }
        },
    }
}
"""The body of a turn."""

TURN_ANSWERS: dict[int | str, Json] = {
    200: {
        "description": "The response, or with `stream: true` its events.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["id", "object", "created_at", "model", "status", "output", "custom_outputs"],
                    "properties": {
                        "object": {"const": "response"},
                        "output": {"type": "array", "items": {"type": "object", "required": ["id", "type"]}},
                        "custom_outputs": {"type": "object", "properties": IDS},
                    },
                }
            },
            "text/event-stream": {
                "schema": {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}
            },
        },
    },
    **{
        status: {"model": Failure, "description": text}
        for status, text in {
            429: "The model provider refuses more requests for now.",
            502: "The model provider failed.",
            504: "The model provider did not answer in time.",
        }.items()
    },
}


def description(app: FastAPI) -> Json:
    """The app's routes in OpenAPI's terms. FastAPI adds a 422 wherever there is a parameter; that is never sent."""
    if app.openapi_schema is None:
        app.openapi_schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        for operation in (operation for path in app.openapi_schema["paths"].values() for operation in path.values()):
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    return app.openapi_schema
