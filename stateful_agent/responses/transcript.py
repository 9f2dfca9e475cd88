"""Clients that send the whole conversation each time: what of it is new, and where it leaves the thread. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage

from stateful_agent.responses.interrupts import WAITING
from stateful_agent.responses.items import visible_text


@dataclass(frozen=True)
class Continuation:
    """How a request goes on with a thread."""

    new: list[AnyMessage]
    """What the thread does not hold yet."""

    after: int | None = None
    """How many of the thread's messages it goes on after, if it departs from them; `None`: after all of them."""


@dataclass
class _Entry:
    """A user's message, or all that the assistant says in answer to it."""

    role: str
    text: str
    start: int
    """The index of its first message."""


def continuation(thread: Sequence[BaseMessage], request: Sequence[AnyMessage]) -> Continuation:
    """What is new in `request`, sent on a thread that holds `thread`.

    A request is a transcript if it holds a message of the assistant's. What follows the last of these is always new:
    a user may send the same text twice. What is up to there is compared with the thread by its text (tool calls, and
    that they have results, count if the request has any: many clients leave results out, others make them up), from
    wherever in the thread it begins, so that a client may send the last part only. If the thread ends with it, it is
    left out. If the two are alike and then differ, the request departs from the thread before the user's message that
    leads to the difference; before the first one, if only what comes later is alike. If nothing is alike, all of it is
    new. What the assistant said while it waited for a person is in no thread, and never new.
    """
    found = _continuation(thread, _in_order_of(thread, request))
    return Continuation([message for message in found.new if not _is_waiting(message)], found.after)


def _in_order_of(thread: Sequence[BaseMessage], request: Sequence[AnyMessage]) -> list[AnyMessage]:
    """A request with the results of calls that ran at once in the order that the thread has them in.

    A client has them in the order in which they came.
    """
    if not any(isinstance(message, ToolMessage) for message in request):
        return list(request)
    places = {message.tool_call_id: n for n, message in enumerate(thread) if isinstance(message, ToolMessage)}
    ordered: list[AnyMessage] = []
    for are_results, group in groupby(request, lambda message: isinstance(message, ToolMessage)):
        if are_results:
            ordered += sorted(group, key=lambda one: places.get(getattr(one, "tool_call_id", ""), len(thread)))
        else:
            ordered += group
    return ordered


def _continuation(thread: Sequence[BaseMessage], request: Sequence[AnyMessage]) -> Continuation:
    said = (n + 1 for n, message in enumerate(request) if isinstance(message, AIMessage | ToolMessage))
    end = max(said, default=0)
    with_tools = any(isinstance(message, ToolMessage) for message in request)
    theirs = _entries(request[:end], with_tools)
    ours = _entries(thread, with_tools) if theirs else []
    if not ours or not theirs:
        return Continuation(list(request))

    begin, alike = _alignment(_texts(ours), _texts(theirs))
    if alike == 0:
        departs = set(_texts(ours)) & set(_texts(theirs))
        return Continuation(list(request), after=0 if departs else None)
    position = begin + alike
    if position == len(ours):
        if alike == len(theirs):
            return Continuation(list(request[end:]))
        new = list(request[theirs[alike].start :])
        if theirs[alike].start == theirs[alike - 1].start:  # its text is there already, its calls are not
            new[0] = new[0].model_copy(update={"content": ""})
        return Continuation(new)
    while position > begin and ours[position].role != "user":
        position -= 1
    resumes = theirs[position - begin].start if position - begin < len(theirs) else end
    return Continuation(list(request[resumes:]), after=ours[position].start)


def _alignment(ours: list[tuple[str, str]], theirs: list[tuple[str, str]]) -> tuple[int, int]:
    """Where in `ours` most of `theirs` follows, the latest such place, and how many of them do."""
    best = (0, 0)
    for begin in range(len(ours)):
        alike = 0
        while alike < min(len(ours) - begin, len(theirs)) and ours[begin + alike] == theirs[alike]:
            alike += 1
        if alike >= best[1]:
            best = (begin, alike)
    return best


def _entries(messages: Sequence[BaseMessage], with_tools: bool) -> list[_Entry]:
    entries: list[_Entry] = []
    for n, message in enumerate(messages):
        if isinstance(message, HumanMessage):
            entries.append(_Entry("user", _canonical(message), n))
        elif isinstance(message, ToolMessage) and with_tools:
            entries.append(_Entry("tool", message.tool_call_id, n))
        elif isinstance(message, AIMessage) and not _is_waiting(message):
            if visible_text(message):
                if entries and entries[-1].role == "assistant":
                    entries[-1].text += _canonical(message)
                else:
                    entries.append(_Entry("assistant", _canonical(message), n))
            if message.tool_calls and with_tools:
                entries.append(_Entry("call", json.dumps(message.tool_calls, sort_keys=True), n))
    return entries


def _is_waiting(message: BaseMessage) -> bool:
    return isinstance(message, AIMessage) and visible_text(message).startswith(WAITING)


def _canonical(message: BaseMessage) -> str:
    """A message's content, however a client breaks its lines or cuts it into parts."""
    if isinstance(message.content, str):
        return "".join(message.content.split())
    others: list[dict[str, Any]] = []
    if isinstance(message, HumanMessage):  # an assistant's are its thoughts and calls, which clients leave out
        others = [part for part in message.content if isinstance(part, dict) and part.get("type") != "text"]
    return "".join(visible_text(message).split()) + (json.dumps(others, sort_keys=True) if others else "")


def _texts(entries: Sequence[_Entry]) -> list[tuple[str, str]]:
    return [(one.role, one.text) for one in entries]
