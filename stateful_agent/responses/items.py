"""An assistant's messages as items of the Responses API: the same in a stream and from a checkpoint. Pure.

A message is one item for each run of reasoning, text or refusal, and one for each of its calls.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from stateful_agent.responses.annotations import Annotation, Citation, annotations_of, citations_in
from stateful_agent.responses.types import Item, Kind, Part, Status


class Content(NamedTuple):
    """A part of what a message says."""

    kind: Kind
    text: str
    block: int = 0
    """The number of the block that it is in: the chunks of one have the same."""

    citations: Sequence[Citation] = ()
    """What the block's text rests on."""


def items_of(message: AIMessage) -> Iterator[Item]:
    """The items of a whole message. One without content and calls has an empty one."""
    runs: list[tuple[Kind, str, list[Annotation]]] = []
    for content in content_of(message):
        if not runs or runs[-1][0] != content.kind:
            runs.append((content.kind, "", []))
        kind, before, annotations = runs[-1]
        text = before + content.text
        annotations += annotations_of(content.citations, len(before), len(text))
        runs[-1] = (kind, text, annotations)
    if not (message.tool_calls or message.invalid_tool_calls) and all(kind == "reasoning" for kind, _, _ in runs):
        runs.append(("output_text", "", []))
    types: list[str] = []
    for kind, text, annotations in runs:
        types.append(item_type(kind))
        yield text_item(item_id(message.id, types[-1], types.count(types[-1]) - 1), kind, text, annotations)
    for n, call in enumerate(message.tool_calls):
        call_item_id = item_id(message.id, "function_call", n)
        yield call_item(call_item_id, str(call["id"]), call["name"], json.dumps(call["args"]))
    for n, broken in enumerate(message.invalid_tool_calls, len(message.tool_calls)):
        broken_id = item_id(message.id, "function_call", n)
        arguments = as_unicode(broken["args"] or "")
        yield call_item(broken_id, str(broken["id"]), broken["name"] or "", arguments, "incomplete")


def content_of(message: AIMessage) -> Iterator[Content]:
    """What is in a message or in a chunk of one, in order. Each provider has a form of its own for reasoning."""
    extra, content = message.additional_kwargs, message.content
    if extra and (reasoning := extra.get("reasoning_content")):
        yield Content("reasoning", reasoning)
    if isinstance(content, str):
        citations = citations_in(extra) if extra else ()
        if content or citations:
            yield Content("output_text", content, citations=citations)
    else:
        for n, block in enumerate(content):
            kind, text = _content_in(block)
            citations = citations_in(block) if isinstance(block, dict) and kind == "output_text" else ()
            if text or citations:
                yield Content(kind, text, block.get("index", n) if isinstance(block, dict) else n, citations)
    if extra and (refusal := extra.get("refusal")):
        yield Content("refusal", refusal)


def _content_in(block: str | dict[str, Any]) -> tuple[Kind, str]:
    match block:
        case str(text) | {"type": "text", "text": str(text)}:
            return "output_text", text
        case {"type": "thinking", "thinking": str(text)}:
            return "reasoning", text
        case {"type": "reasoning", "reasoning": str(text)}:
            return "reasoning", text
        case {"type": "reasoning", "summary": [*parts]} | {"type": "reasoning", "content": [*parts]}:
            return "reasoning", "".join(part["text"] for part in parts if isinstance(part, dict) and "text" in part)
        case {"type": "reasoning_content", "reasoning_content": {"text": str(text)}}:
            return "reasoning", text
        case {"type": "refusal", "refusal": str(text)}:
            return "refusal", text
        case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "image", "url": str(url)}:
            return "output_text", _image(url)
        case {"type": "image", "base64": str(data), "mime_type": str(mime)}:
            return "output_text", _image(f"data:{mime};base64,{data}")
        case {"type": "image_generation_call", "result": str(data)}:
            return "output_text", _image(f"data:image/png;base64,{data}")
        case _:
            return "output_text", ""


def _image(url: str) -> str:
    """An image in a message's text: there is no kind of content for it that clients know."""
    return f"![image]({url})"


def visible_text(message: BaseMessage) -> str:
    """The text of a message without its reasoning."""
    if isinstance(message, AIMessage):
        return "".join(content.text for content in content_of(message) if content.kind != "reasoning")
    content: Iterable[str | dict[str, Any]] = message.content
    return content if isinstance(content, str) else "".join(_content_in(block)[1] for block in content)


def item_id(message_id: str | None, item_type: str, n: int) -> str | None:
    """The id of a message's `n`-th item of a type. The first that is a message has the message's own."""
    return message_id if item_type == "message" and n == 0 else f"{message_id}-{item_type}-{n}"


def item_type(kind: Kind) -> str:
    """The type of the item that such content is in."""
    return "reasoning" if kind == "reasoning" else "message"


def text_item(item_id: str | None, kind: Kind, text: str, annotations: Sequence[Annotation] = ()) -> Item:
    """An item of the assistant's text, reasoning or refusal."""
    if kind == "reasoning":
        return {"id": item_id, "type": "reasoning", "summary": [part(kind, text)], "status": "completed"}
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part(kind, text, annotations)],
    }


def part(kind: Kind, text: str, annotations: Sequence[Annotation] = ()) -> Part:
    """The content of an item."""
    if kind == "output_text":
        return {"type": "output_text", "text": text, "annotations": list(annotations)}
    return {"type": "refusal", "refusal": text} if kind == "refusal" else {"type": "summary_text", "text": text}


def call_item(item_id: str | None, call_id: str, name: str, arguments: str, status: Status = "completed") -> Item:
    """An item of a tool call."""
    return {
        "id": item_id,
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def mcp_item(
    item_id: str, server: str, name: str, arguments: str = "", result: ToolMessage | None = None, *, ended: bool = False
) -> Item:
    """An item of a tool call that the server has made, and of its result."""
    status: Status = "in_progress" if not ended else "incomplete"
    output = error = None
    if result is not None and result.status == "error":
        status, error = "failed", as_unicode(visible_text(result))
    elif result is not None:
        status, output = "completed", as_unicode(visible_text(result))
    return {
        "id": item_id,
        "type": "mcp_call",
        "server_label": server,
        "name": name,
        "arguments": arguments,
        "approval_request_id": None,
        "output": output,
        "error": error,
        "status": status,
    }


def result_item(item_id: str | None, result: ToolMessage) -> Item:
    """An item of a tool's result; one that failed is incomplete."""
    return {
        "id": item_id,
        "type": "function_call_output",
        "call_id": result.tool_call_id,
        "output": as_unicode(visible_text(result)),
        "status": "incomplete" if result.status == "error" else "completed",
    }


def as_unicode(text: str) -> str:
    """Text that can be sent: half of a character (a lone surrogate) becomes a question mark."""
    return str(text) if text.isascii() else text.encode("utf-8", "replace").decode()
