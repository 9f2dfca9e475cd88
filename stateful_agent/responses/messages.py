"""Responses items as LangChain messages, and back.

https://platform.openai.com/docs/api-reference/responses/create, `input`.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)

from stateful_agent.errors import InvalidRequest
from stateful_agent.responses.compaction import text_of_compaction
from stateful_agent.responses.files import file_block, filename_of
from stateful_agent.responses.items import items_of, result_item
from stateful_agent.responses.strict_json import read_json

TEXT_PARTS = ("output_text", "input_text", "text", "refusal")
ROLE = "__openai_role__"
"""The key by which LangChain's messages of the system's know a developer's, among what goes with a message."""

LEFT_OUT = ("reasoning", "mcp_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response")


def to_messages(items: Any, name: str = "input", first: int = 0) -> list[AnyMessage]:
    """One message per item; function calls join the assistant's message before them, as models expect it.

    A message keeps the id of its item (of a function call: its `message_id`). Reasoning is left out, as no provider
    reads another's, and so is what a server says of the tools that it ran itself.

    Raises:
        InvalidRequest: an item of another kind, or without content; `name` is what the error calls the list, `first`
            its first item's number there.
    """
    if not _is_list_of_dicts(items):
        raise InvalidRequest(f"{name} must be a list of Responses items.", param=name)
    messages: list[AnyMessage] = []
    for n, item in enumerate(items, first):
        kind = item.get("type") or "message"
        param = f"{name}[{n}]"
        for key in ("id", "message_id"):
            if item.get(key) is not None:
                _string(item, key, param)
        if kind == "message":
            message, last = _message(item, param), messages[-1] if messages else None
            if isinstance(last, AIMessage) and last.id is not None and item.get("message_id") == last.id:
                last.content = text_of(last.content) + text_of(message.content)  # one message, in several items
            else:
                messages.append(message)
        elif kind == "function_call":
            called, call_id = _string(item, "name", param), _string(item, "call_id", param)
            arguments = {} if item.get("status") == "incomplete" else _arguments(item, param)
            call = ToolCall(name=called, args=arguments, id=call_id, type="tool_call")
            last = messages[-1] if messages else None
            if isinstance(last, AIMessage) and item.get("message_id") in (None, last.id):
                last.tool_calls.append(call)
            else:
                messages.append(AIMessage("", tool_calls=[call], id=item.get("message_id")))
        elif kind == "function_call_output":
            status = "error" if item.get("status") == "incomplete" else "success"
            call_id, output = _string(item, "call_id", param), _as_text(item.get("output", ""))
            messages.append(ToolMessage(output, tool_call_id=call_id, id=item.get("id"), status=status))
        elif kind == "compaction":
            messages.append(AIMessage(text_of_compaction(item, param), id=item.get("id")))
        elif kind not in LEFT_OUT:
            raise InvalidRequest(f"This agent does not take input items of type {kind!r}.", param=param)
    return messages


def to_items(messages: Sequence[BaseMessage]) -> list[Any]:
    """The reverse: each message as one item, or as several (see `items`); `message_id` says which belong together."""
    return [item | {"message_id": message.id} for message in messages for item in _items(message)]


def _items(message: BaseMessage) -> Iterator[Any]:
    if isinstance(message, ToolMessage):
        yield result_item(message.id, message)
    elif isinstance(message, AIMessage):
        yield from items_of(message)
    else:
        parts = message.content if isinstance(message.content, list) else [message.content]
        role = "user" if isinstance(message, HumanMessage) else message.additional_kwargs.get(ROLE, message.type)
        content = [_input_part(part) for part in parts]
        yield {"id": message.id, "type": "message", "role": role, "status": "completed", "content": content}


def _input_part(part: str | dict[str, Any]) -> dict[str, Any]:
    match part:
        case str(text) | {"type": "text", "text": str(text)}:
            return {"type": "input_text", "text": text}
        case {"type": "image_url", "image_url": {"url": url} as image}:
            detail = {"detail": image["detail"]} if "detail" in image else {}
            return {"type": "input_image", "image_url": url, **detail}
        case {"type": "file", "file": {"file_data": data, "filename": name}}:  # as version 0.2 has stored it
            return {"type": "input_file", "file_data": data, "filename": name}
        case {"type": "file", "base64": str(data), "mime_type": str(kind)}:
            return {"type": "input_file", "file_data": f"data:{kind};base64,{data}", "filename": filename_of(part)}
        case {"type": "file", "url": str(url)}:
            return {"type": "input_file", "file_url": url}
        case _:
            return dict(part)


def text_of(content: Any) -> str:
    """The text in a message's content, whatever its form."""
    if isinstance(content, str):
        return content
    parts = (part if isinstance(part, str) else part.get("text") or part.get("refusal", "") for part in content)
    return "".join(part for part in parts if isinstance(part, str))


def unanswered_calls(messages: Sequence[BaseMessage], *, with_broken: bool = False) -> list[ToolCall]:
    """The tool calls at the end of `messages` that have no result yet.

    With `with_broken`, also those whose arguments are not JSON: they never run, but providers want a result.
    """
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            calls = list(message.tool_calls)
            if with_broken:
                broken = (call for call in message.invalid_tool_calls if call["id"])
                calls += [ToolCall(name=call["name"] or "", args={}, id=call["id"]) for call in broken]
            return [call for call in calls if call["id"] not in answered]
        else:
            break
    return []


def holds_result(value: Any) -> bool:
    """Whether a value is a tool call's result, or a list with one in it."""
    return any(isinstance(part, ToolMessage) for part in (value if isinstance(value, list) else [value]))


def check_pairs(messages: Sequence[BaseMessage]) -> None:
    """Refuse a call without its output and an output without its call: providers reject both, for ever after.

    Raises:
        InvalidRequest: there is one among `messages`.
    """
    pending: set[str | None] = set()
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in pending:
                raise InvalidRequest(f"The output {message.tool_call_id!r} answers no pending function call.")
            pending.remove(message.tool_call_id)
        elif pending:
            break
        elif isinstance(message, AIMessage):
            pending = {call["id"] for call in message.tool_calls}
            if len(pending) < len(message.tool_calls):
                raise InvalidRequest("Two function calls have one call_id.")
    if pending:
        raise InvalidRequest(f"The function call {min(map(str, pending))!r} has no output.")


def leading_instructions(items: Sequence[dict[str, Any]]) -> list[str]:
    """The texts of the system's and developer's messages that `items` begins with.

    Raises:
        InvalidRequest: one of them is no text.
    """
    texts: list[str] = []
    for n, item in enumerate(items):
        if item.get("role") not in ("system", "developer"):
            break
        content = item.get("content")
        if not (isinstance(content, str) or _is_text(content)):
            raise InvalidRequest("Instructions are text.", param=f"input[{n}].content")
        texts.append(text_of(content))
    return texts


def without_lost_calls(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The messages without function calls that have no output although something follows, and without repeated ones.

    Clients resend the calls that the agent ran itself, some twice, and leave out the outputs, which are not theirs.
    """
    kept: list[AnyMessage] = []
    answered: set[str] = set()
    is_last = True
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
            kept.append(message)
            continue
        if isinstance(message, AIMessage) and message.tool_calls:
            calls = {json.dumps(call, sort_keys=True): call for call in message.tool_calls}
            message.tool_calls = [call for call in calls.values() if is_last or call["id"] in answered]
        if not isinstance(message, AIMessage) or message.content or message.tool_calls:
            kept.append(message)
        answered, is_last = set(), False
    return kept[::-1]


def _message(item: dict[str, Any], param: str) -> AnyMessage:
    content = item.get("content")
    if not content or not (isinstance(content, str) or _is_list_of_dicts(content)):
        raise InvalidRequest("A message needs content.", param=f"{param}.content")
    role = item.get("role")
    if role == "user" and not any(_says_something(part) for part in content):  # providers refuse it, for ever after
        raise InvalidRequest("A message needs content: this one is blank.", param=f"{param}.content")
    if role == "user":
        return HumanMessage(content if isinstance(content, str) else _parts(content, param), id=item.get("id"))
    if role == "assistant":
        if not (isinstance(content, str) or _is_text(content)):
            raise InvalidRequest(f"An assistant's content is text: {', '.join(TEXT_PARTS)}.", param=f"{param}.content")
        return AIMessage(text_of(content), id=item.get("id"))
    if role in ("system", "developer"):
        if not (isinstance(content, str) or _is_text(content)):
            raise InvalidRequest("Instructions are text.", param=f"{param}.content")
        return SystemMessage(text_of(content), id=item.get("id"), additional_kwargs={ROLE: role})
    raise InvalidRequest(f"There is no role {role!r}.", param=f"{param}.role")


def _says_something(part: str | dict[str, Any]) -> bool:
    """Whether a part of a message, or a character, is more than blank."""
    text = part if isinstance(part, str) else part.get("text") if part.get("type") in TEXT_PARTS else None
    return not isinstance(text, str) or bool(text.strip())


def _is_text(content: Any) -> bool:
    return _is_list_of_dicts(content) and all(_is_text_part(part) for part in content)


def _is_text_part(part: dict[str, Any]) -> bool:
    kind = part.get("type")
    return isinstance(part.get("refusal" if kind == "refusal" else "text"), str) and kind in TEXT_PARTS


def _parts(content: list[dict[str, Any]], param: str) -> str | list[str | dict[str, Any]]:
    """Content parts in the form that LangChain's chat models understand."""
    if len(content) == 1 and content[0].get("type") == "input_text" and isinstance(content[0].get("text"), str):
        return str(content[0]["text"])
    return [_part(part, f"{param}.content[{n}]") for n, part in enumerate(content)]


def _part(part: dict[str, Any], param: str) -> dict[str, Any]:
    match part:
        case {"type": "input_text" | "output_text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "input_image", "image_url": str(url)}:
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case {"type": "input_file", "file_data": str(data)}:
            name = None if part.get("filename") is None else _string(part, "filename", param)
            return file_block(data, name, f"{param}.file_data")
        case {"type": "input_file", "file_url": str(url)}:
            return {"type": "file", "url": url}
        case {"type": "input_image" | "input_file"}:
            raise InvalidRequest("Send image_url, file_data or file_url: no file store here.", param=param)
        case _:
            raise InvalidRequest(f"This agent does not take content of type {part.get('type')!r}.", param=param)


def _arguments(item: dict[str, Any], param: str) -> dict[str, Any]:
    try:
        arguments = read_json(item.get("arguments") or "{}")
    except (ValueError, TypeError) as error:
        raise InvalidRequest("The arguments of a function call are not JSON.", param=f"{param}.arguments") from error
    if not isinstance(arguments, dict):
        raise InvalidRequest("The arguments of a function call are not a JSON object.", param=f"{param}.arguments")
    return arguments


def _is_list_of_dicts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _string(item: dict[str, Any], key: str, param: str) -> str:
    if not isinstance(item.get(key), str):
        raise InvalidRequest(f"{key} must be a string.", param=f"{param}.{key}")
    return str(item[key])


def _as_text(output: Any) -> str:
    if isinstance(output, str) or (output and _is_text(output)):
        return text_of(output)
    return json.dumps(output)
