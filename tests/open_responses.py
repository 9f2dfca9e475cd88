"""What the standard says of responses and events, and what OpenAI's own types say.

`open_responses.json` holds the schemas of the Open Responses specification, version 2026-04-24
(https://www.openresponses.org/openapi/openapi.json), without its descriptions.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from openai.types.conversations import ConversationItem
from openai.types.responses import CompactedResponse, Response, ResponseStreamEvent
from pydantic import TypeAdapter

SCHEMAS = json.loads(Path(__file__).with_name("open_responses.json").read_text())
ITEMS = {"message", "function_call", "function_call_output", "reasoning", "compaction"}
"""The items that the standard has. Others are OpenAI's: approvals and MCP calls."""

OURS = "server_error"
"""OpenAI names the codes of a failed response; the standard lets each service have its own, which say more."""


def check_response(response: dict[str, Any]) -> None:
    """A response is what both say that it is."""
    _validator("ResponseResource").validate(_known(response))
    error = response["error"] and response["error"] | {"code": OURS}
    _openai(Response).validate_json(json.dumps(response | {"error": error}), strict=True)


def check_event(event: dict[str, Any]) -> None:
    """An event is what both say that it is."""
    if "response" in event:
        check_response(event["response"])
    name = _events().get(event["type"])
    if name and event.get("item", {}).get("type", "message") in ITEMS:
        _validator(name).validate(event | ({"response": _known(event["response"])} if "response" in event else {}))
    else:
        assert name or event["type"].startswith("response.mcp_call"), event["type"]
    _openai(ResponseStreamEvent).validate_json(json.dumps(event), strict=True)


def check_compaction(answer: dict[str, Any]) -> None:
    """A compacted conversation is what the standard says; OpenAI's types have no output of the user's."""
    _validator("CompactResource").validate(answer)
    assistants = [item for item in answer["output"] if item.get("role") != "user"]
    _openai(CompactedResponse).validate_json(json.dumps(answer | {"output": assistants}), strict=True)


def check_items(items: list[dict[str, Any]]) -> None:
    """Items of a conversation are what both say that they are."""
    for item in items:
        _validator("ItemField").validate(item)
        _openai(ConversationItem).validate_json(json.dumps(item), strict=True)


def events_in(stream: str) -> list[dict[str, Any]]:
    """The events of a stream, each of which is named by its type. A comment is none."""
    blocks = [block for block in stream.split("\n\n") if block and not block.startswith(":")]
    assert blocks.pop() == "data: [DONE]"
    events = []
    for block in blocks:
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def _known(response: dict[str, Any]) -> dict[str, Any]:
    """A response in what the standard knows of."""
    text, tools = response["text"], [tool for tool in response["tools"] if tool["type"] == "function"]
    if text["format"]["type"] == "json_schema":  # of which it says that it is null
        text = text | {"format": text["format"] | {"schema": None}}
    output = [item for item in response["output"] if item["type"] in ITEMS]
    return response | {"output": output, "text": text, "tools": tools}


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMAS})


@cache
def _events() -> dict[str, str]:
    """The schemas of the events, by their types."""
    named = (name for name in SCHEMAS if name.endswith("StreamingEvent"))
    return {SCHEMAS[name]["properties"]["type"]["enum"][0]: name for name in named}


@cache
def _openai(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
