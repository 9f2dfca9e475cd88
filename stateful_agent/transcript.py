"""Clients that send the whole conversation each time: what of it is new, and where it leaves the thread. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage

from stateful_agent.messages import text_of


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
    says the same thing twice is heard twice. What is up to there is compared with the thread by what was said; tool
    calls do not count, because many clients leave them out. If the thread ends with it, it is left out. If the two
    begin alike and then differ, the request departs from the thread before the user's message that leads to the
    difference. If they do not even begin alike, all of it is new.
    """
    end = max((n + 1 for n, message in enumerate(request) if not isinstance(message, HumanMessage)), default=0)
    ours, theirs = _said(thread), _said(request[:end])
    if not theirs:
        return Continuation(list(request))
    if _texts(ours)[-len(theirs) :] == _texts(theirs):
        return Continuation(list(request[end:]))

    alike = 0
    while alike < min(len(ours), len(theirs)) and _texts(ours[alike : alike + 1]) == _texts(theirs[alike : alike + 1]):
        alike += 1
    if alike == 0:
        return Continuation(list(request))
    if alike == len(ours):
        return Continuation(list(request[theirs[alike].start :]))
    while ours[alike].role != "user":
        alike -= 1
    begin = theirs[alike].start if alike < len(theirs) else end
    return Continuation(list(request[begin:]), after=ours[alike].start)


def _said(messages: Sequence[BaseMessage]) -> list[_Said]:
    said: list[_Said] = []
    for n, message in enumerate(messages):
        if isinstance(message, HumanMessage):
            said.append(_Said("user", _canonical(message), n))
        elif isinstance(message, AIMessage) and text_of(message.content):
            if said and said[-1].role == "assistant":
                said[-1].text += _canonical(message)
            else:
                said.append(_Said("assistant", _canonical(message), n))
    return said


def _canonical(message: BaseMessage) -> str:
    """A message's content, however a client breaks its lines or cuts it into parts."""
    others = [part for part in message.content if isinstance(part, dict) and part.get("type") != "text"]
    return "".join(text_of(message.content).split()) + (json.dumps(others, sort_keys=True) if others else "")


def _texts(said: Sequence[_Said]) -> list[tuple[str, str]]:
    return [(one.role, one.text) for one in said]
