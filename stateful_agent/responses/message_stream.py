"""A message of the assistant while it is being said, put together from its chunks as LangChain does it."""

import json
from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage

from stateful_agent.responses.items import Kind, item_id, unicode

RUN, OWN = "lc_run-", "lc_"
"""How ids begin that LangChain has made, for a run of a model or otherwise: a provider's goes before them."""


class MessageStream:
    """A message that has begun, by a step of the graph."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.run: str | None = None
        self.id: str | None = None
        self.usage: UsageMetadata | None = None
        self.calls: list[Call] = []
        self.after_calls: list[tuple[Kind, str]] = []
        """What is said while a call is open."""
        self._items: list[str] = []

    def add(self, message: AIMessage) -> None:
        """Take in all of a chunk but its words."""
        if message.id != self.id:
            self.run = self.run or run_of(message)
            self.id = min((known for known in (self.id, message.id) if known), key=_rank, default=None)
        for piece in _pieces(message):
            call = next((call for call in self.calls if call.goes_on_with(piece)), None)
            if call is None:
                self.calls.append(call := Call(index=piece.get("index")))
            call.add(piece)
        if message.usage_metadata:
            self.usage = add_usage(self.usage, message.usage_metadata)

    def is_by(self, message: BaseMessage, step: str) -> bool:
        """Whether a chunk goes on with this message: a step may ask two models at once."""
        return step == self.step and (self.run is None or run_of(message) in (None, self.run))

    def next_id(self, item_type: str) -> str | None:
        """The id of the message's next item of a type."""
        self._items.append(item_type)
        return item_id(self.id, item_type, self._items.count(item_type) - 1)


class Call:
    """A tool call, with its arguments as far as they are known."""

    def __init__(self, item_id: str | None = None, name: str | None = None, index: int | None = None) -> None:
        self.name = name or ""
        self.call_id = ""
        self.item_id = item_id or ""
        self.is_open = False
        self._index = index
        self._arguments: list[str] = []
        self._told = 0

    @property
    def is_known(self) -> bool:
        """Whether it is known what is called, if not yet with which arguments."""
        return bool(self.name and self.call_id)

    def goes_on_with(self, piece: Any) -> bool:
        """Whether a piece is of this call."""
        is_its_own = self._index is not None and piece.get("index") == self._index
        return is_its_own and piece.get("id") in (None, "", self.call_id)

    def add(self, piece: Any) -> None:
        """Take in a piece."""
        self.name = self.name or piece.get("name") or ""
        self.call_id = self.call_id or piece.get("id") or ""
        if piece.get("args"):
            self._arguments.append(unicode(piece["args"]))

    def untold(self) -> str:
        """The arguments that are new since it was last asked."""
        new = "".join(self._arguments[self._told :])
        self._told = len(self._arguments)
        return new

    def finished(self) -> tuple[str, bool]:
        """All arguments, and whether they are complete: a model may break off."""
        self._arguments = self._arguments or ["{}"]
        arguments = "".join(self._arguments)
        try:
            return arguments, isinstance(json.loads(arguments), dict)
        except ValueError:
            return arguments, False


def calls_in(message: AIMessage) -> list[Call]:
    """The calls of a whole message."""
    speech = MessageStream("")
    speech.add(message)
    for n, call in enumerate(speech.calls):
        call.item_id = item_id(message.id, "function_call", n) or ""
    return speech.calls


def run_of(message: BaseMessage) -> str | None:
    """The model's run that a message is from, as far as its id tells."""
    return message.id if message.id is not None and message.id.startswith(RUN) else None


def _rank(message_id: str) -> int:
    return 1 if message_id.startswith(RUN) else 2 if message_id.startswith(OWN) else 0


def _pieces(message: AIMessage) -> Iterator[Any]:
    if isinstance(message, AIMessageChunk):
        yield from message.tool_call_chunks
    else:
        for n, call in enumerate(message.tool_calls):
            yield {"name": call["name"], "args": json.dumps(call["args"]), "id": call["id"], "index": n}
