"""Responses input items as LangChain messages.

https://platform.openai.com/docs/api-reference/responses/create, `input`.
"""

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage

from stateful_agent.errors import InvalidRequest


def to_messages(items: Sequence[dict[str, Any]]) -> list[AnyMessage]:
    """One message per item; function calls join the assistant's message before them, as
    models expect it.

    Reasoning items are left out: no provider reads another's.

    Raises:
        InvalidRequest: an item of another kind, or without content.
    """
    messages: list[AnyMessage] = []
    for n, item in enumerate(items):
        kind = item.get("type", "message")
        param = f"input[{n}]"
        if kind == "message":
            messages.append(_message(item, param))
        elif kind == "function_call":
            call = ToolCall(name=item["name"], args=_arguments(item, param), id=item["call_id"], type="tool_call")
            last = messages[-1] if messages else None
            if isinstance(last, AIMessage):
                last.tool_calls.append(call)
            else:
                messages.append(AIMessage("", tool_calls=[call]))
        elif kind == "function_call_output":
            messages.append(ToolMessage(_as_text(item["output"]), tool_call_id=item["call_id"]))
        elif kind != "reasoning":
            raise InvalidRequest(f"This agent does not take input items of type {kind!r}.", param=param)
    return messages


def text_of(content: Any) -> str:
    """The text in a message's content, whatever its form."""
    if isinstance(content, str):
        return content
    parts = (part if isinstance(part, str) else part.get("text", "") for part in content)
    return "".join(part for part in parts if isinstance(part, str))


def unanswered_calls(messages: Sequence[BaseMessage]) -> list[ToolCall]:
    """The tool calls at the end of `messages` that have no result yet."""
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            return [call for call in message.tool_calls if call["id"] not in answered]
        else:
            break
    return []


def check_pairs(messages: Sequence[BaseMessage], before: Sequence[BaseMessage] = ()) -> None:
    """Refuse a call without its output and an output without its call: providers reject both, for ever after.

    Raises:
        InvalidRequest: `messages`, said after those `before`, have one.
    """
    pending = {call["id"] for call in unanswered_calls(before)}
    for message in messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in pending:
                raise InvalidRequest(f"The output {message.tool_call_id!r} answers no pending function call.")
            pending.remove(message.tool_call_id)
        elif pending:
            break
        elif isinstance(message, AIMessage):
            pending = {call["id"] for call in message.tool_calls}
    if pending:
        raise InvalidRequest(f"The function call {min(map(str, pending))!r} has no output.")


def _message(item: dict[str, Any], param: str) -> AnyMessage:
    content = item.get("content")
    if not content:
        raise InvalidRequest("A message needs content.", param=f"{param}.content")
    role = item.get("role")
    if role == "user":
        return HumanMessage(content if isinstance(content, str) else _parts(content, param))
    if role == "assistant":
        return AIMessage(text_of(content))
    # Stored, it would speak with the operator's voice in all later turns.
    raise InvalidRequest(
        f"Messages of role {role!r} are not taken from callers: the system prompt belongs to the agent.",
        param=f"{param}.role",
    )


def _parts(content: list[dict[str, Any]], param: str) -> str | list[str | dict[str, Any]]:
    """Content parts in the form that LangChain's chat models understand."""
    if len(content) == 1 and content[0].get("type") == "input_text":
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
            return {"type": "file", "file": {"file_data": data, "filename": part.get("filename") or "file"}}
        case {"type": "input_image" | "input_file"}:
            raise InvalidRequest("Send the data itself, as image_url or file_data: no file store here.", param=param)
        case _:
            raise InvalidRequest(f"This agent does not take content of type {part.get('type')!r}.", param=param)


def _arguments(item: dict[str, Any], param: str) -> dict[str, Any]:
    try:
        arguments = json.loads(item.get("arguments") or "{}")
    except ValueError as error:
        raise InvalidRequest("The arguments of a function call are not JSON.", param=f"{param}.arguments") from error
    if not isinstance(arguments, dict):
        raise InvalidRequest("The arguments of a function call are not a JSON object.", param=f"{param}.arguments")
    return arguments


def _as_text(output: Any) -> str:
    return output if isinstance(output, str) else json.dumps(output)
