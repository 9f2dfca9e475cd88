"""Clients that send the whole conversation each time: what of it is new, and where it leaves the thread. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage

from stateful_agent.responses.items import words_of


@dataclass(frozen=True)
class Continuation:
    """How a request goes on with a thread."""

    new: list[AnyMessage]
    """What the thread does not hold yet."""

    after: int | None = None
    """How many of the thread's messages it goes on after, if it departs from them; `None`: after all of them."""


@dataclass
class _Said:
    """A user's message, or all that the assistant says in answer to it."""

    role: str
    text: str
    start: int
    """The index of its first message."""


def continuation(thread: Sequence[BaseMessage], request: Sequence[AnyMessage]) -> Continuation:
    """What is new in `request`, said on a thread that holds `thread`.

    A request is a transcript if there is something of the assistant's in it. What follows that is always new: who
    says the same thing twice is heard twice. What is up to there is compared with the thread by what was said (tool
    calls and that they have results count if the request has any: many clients leave results out, others make them
    up), from wherever in the thread it begins, so that a client may send the last part only. If the thread ends with
    it, it is left out. If the two are alike and then differ, the request departs from the thread before the user's
    message that leads to the difference; before the first one, if only what comes later is alike. If nothing is
    alike, all of it is new.
    """
    end = max((n + 1 for n, message in enumerate(request) if not isinstance(message, HumanMessage)), default=0)
    with_tools = any(isinstance(message, ToolMessage) for message in request)
    theirs = _said(request[:end], with_tools)
    ours = _said(thread, with_tools) if theirs else []
    if not ours or not theirs:
        return Continuation(list(request))

    begin, alike = _alignment(_texts(ours), _texts(theirs))
    if alike == 0:
        departs = set(_texts(ours)) & set(_texts(theirs))
        return Continuation(list(request), after=0 if departs else None)
    place = begin + alike
    if place == len(ours):
        if alike == len(theirs):
            return Continuation(list(request[end:]))
        new = list(request[theirs[alike].start :])
        if theirs[alike].start == theirs[alike - 1].start:  # its words are there already, its calls are not
            new[0] = new[0].model_copy(update={"content": ""})
        return Continuation(new)
    while place > begin and ours[place].role != "user":
        place -= 1
    resumes = theirs[place - begin].start if place - begin < len(theirs) else end
    return Continuation(list(request[resumes:]), after=ours[place].start)


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


def _said(messages: Sequence[BaseMessage], with_tools: bool) -> list[_Said]:
    said: list[_Said] = []
    for n, message in enumerate(messages):
        if isinstance(message, HumanMessage):
            said.append(_Said("user", _canonical(message), n))
        elif isinstance(message, ToolMessage) and with_tools:
            said.append(_Said("tool", message.tool_call_id, n))
        elif isinstance(message, AIMessage):
            if words_of(message):
                if said and said[-1].role == "assistant":
                    said[-1].text += _canonical(message)
                else:
                    said.append(_Said("assistant", _canonical(message), n))
            if message.tool_calls and with_tools:
                said.append(_Said("call", json.dumps(message.tool_calls, sort_keys=True), n))
    return said


def _canonical(message: BaseMessage) -> str:
    """A message's content, however a client breaks its lines or cuts it into parts."""
    if isinstance(message.content, str):
        return "".join(message.content.split())
    others: list[dict[str, Any]] = []
    if isinstance(message, HumanMessage):  # an assistant's are its thoughts and calls, which clients leave out
        others = [part for part in message.content if isinstance(part, dict) and part.get("type") != "text"]
    return "".join(words_of(message).split()) + (json.dumps(others, sort_keys=True) if others else "")


def _texts(said: Sequence[_Said]) -> list[tuple[str, str]]:
    return [(one.role, one.text) for one in said]
