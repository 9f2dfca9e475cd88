"""A message of the assistant while it streams, put together from its chunks as LangChain does it. Pure."""

import json
from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage

from stateful_agent.responses.items import Content, as_unicode, item_id

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
        self.broken_off: str | None = None
        """Why the model did not finish, if it said so: a reason of OpenAI's `incomplete_details`."""
        self.after_calls: list[Content] = []
        """Content that comes while a call is open."""
        self._items: list[str] = []

    def add(self, message: AIMessage) -> None:
        """Take in all of a chunk but its content."""
        if message.id != self.id:
            self.run = self.run or run_of(message)
            self.id = min((known for known in (self.id, message.id) if known), key=_rank, default=None)
        for chunk in _call_chunks(message):
            call = next((call for call in self.calls if call.continues_with(chunk)), None)
            if call is None:
                self.calls.append(call := Call(index=chunk.get("index")))
            call.add(chunk)
        if message.usage_metadata:
            self.usage = add_usage(self.usage, message.usage_metadata)

    def continues_with(self, message: BaseMessage, step: str) -> bool:
        """Whether a chunk is of this message: a step may ask two models at once."""
        return step == self.step and (self.run is None or run_of(message) in (None, self.run))

    def next_id(self, item_type: str) -> str | None:
        """The id of the message's next item of a type."""
        self._items.append(item_type)
        return item_id(self.id, item_type, self._items.count(item_type) - 1)


REASONS = {
    "length": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "max_output_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
}
"""Why a model did not finish, by the words that providers have for it."""


def incomplete_reason(message: AIMessage) -> str | None:
    """Why the model did not finish a message, as OpenAI's `incomplete_details` says it; `None` if it did."""
    metadata = message.response_metadata
    details = metadata.get("incomplete_details")
    given = [metadata.get(name) for name in ("finish_reason", "stop_reason", "stopReason", "done_reason")]
    given.append(details.get("reason") if isinstance(details, dict) else None)
    return next((REASONS[one.lower()] for one in given if isinstance(one, str) and one.lower() in REASONS), None)


class Call:
    """A tool call, with its arguments as far as they are known."""

    def __init__(self, item_id: str | None = None, name: str | None = None, index: int | None = None) -> None:
        self.name = name or ""
        self.call_id = ""
        self.item_id = item_id or ""
        self.is_open = False
        self._index = index
        self._arguments: list[str] = []
        self._emitted = 0

    @property
    def is_known(self) -> bool:
        """Whether it is known what is called, if not yet with which arguments."""
        return bool(self.name and self.call_id)

    def continues_with(self, chunk: Any) -> bool:
        """Whether a chunk is of this call."""
        is_its_own = self._index is not None and chunk.get("index") == self._index
        return is_its_own and chunk.get("id") in (None, "", self.call_id)

    def add(self, chunk: Any) -> None:
        """Take in a chunk."""
        self.name = self.name or chunk.get("name") or ""
        self.call_id = self.call_id or chunk.get("id") or ""
        if chunk.get("args"):
            self._arguments.append(as_unicode(chunk["args"]))

    def new_arguments(self) -> str:
        """The arguments that have come since it was last asked."""
        new = "".join(self._arguments[self._emitted :])
        self._emitted = len(self._arguments)
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
    stream = MessageStream("")
    stream.add(message)
    for n, call in enumerate(stream.calls):
        call.item_id = item_id(message.id, "function_call", n) or ""
    return stream.calls


def run_of(message: BaseMessage) -> str | None:
    """The model's run that a message is from, as far as its id shows."""
    return message.id if message.id is not None and message.id.startswith(RUN) else None


def _rank(message_id: str) -> int:
    return 1 if message_id.startswith(RUN) else 2 if message_id.startswith(OWN) else 0


def _call_chunks(message: AIMessage) -> Iterator[Any]:
    if isinstance(message, AIMessageChunk):
        yield from message.tool_call_chunks
    else:
        for n, call in enumerate(message.tool_calls):
            yield {"name": call["name"], "args": json.dumps(call["args"]), "id": call["id"], "index": n}
        for n, broken in enumerate(message.invalid_tool_calls, len(message.tool_calls)):
            yield broken | {"index": n}
