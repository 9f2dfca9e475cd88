"""LangGraph's stream as the event sequence of the OpenAI Responses API. Pure: no I/O, no clock of its own.

https://platform.openai.com/docs/api-reference/responses-streaming. Each item is opened, filled and closed before
the next one opens; ids and output indices are the same in every event about an item.
"""

import json
from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata, add_usage

from stateful_agent.errors import AgentError

Event = dict[str, Any]


class ResponseEvents:
    """The events of one response, fed with the messages of one run of a graph.

    Feed it what LangGraph's `messages` stream mode yields; each call yields the events to send, as dicts.
    """

    def __init__(self, response_id: str, created_at: int, model: str) -> None:
        """`created_at` is in seconds since the epoch; `model` is the name that clients are shown."""
        self.id = response_id
        self._response: Event = {
            "id": response_id,
            "object": "response",
            "created_at": created_at,
            "model": model,
            "status": "in_progress",
            "output": [],
        }
        self._sequence_number = 0
        self._begun = False
        self._open: _OpenMessage | None = None
        self._waiting: dict[str, list[BaseMessage]] = {}
        self._usage: UsageMetadata | None = None
        self._usage_complete = True

    def feed(self, message: BaseMessage, step: str) -> Iterator[Event]:
        """The events of a message, or of a chunk of one, made by the graph's step of that name."""
        if self._open is not None and self._open.step != step:
            # Two steps talk at once. Clients mix up interleaved items, so one of them waits.
            self._waiting.setdefault(step, []).append(message)
        elif isinstance(message, AIMessageChunk):
            if self._open is None:
                self._open = _OpenMessage(step)
            if text := unicode(message.text):
                yield from self._delta(self._open, message, text)
            self._open.add(message)
            if message.chunk_position == "last":
                yield from self._close()
        elif isinstance(message, AIMessage):
            whole = AIMessageChunk(
                content=message.text,
                id=message.id,
                tool_call_chunks=[
                    {"name": call["name"], "args": json.dumps(call["args"]), "id": call["id"], "index": n}
                    for n, call in enumerate(message.tool_calls)
                ],
                usage_metadata=message.usage_metadata,
                chunk_position="last",
            )
            yield from self.feed(whole, step)
        elif isinstance(message, ToolMessage):
            item = {
                "id": message.id,
                "type": "function_call_output",
                "call_id": message.tool_call_id,
                "output": unicode(message.text),
                "status": "incomplete" if message.status == "error" else "completed",
            }
            yield from self._added(item)
            yield from self._done(item)

    def complete(self, custom_outputs: dict[str, Any]) -> Iterator[Event]:
        """The last events; `custom_outputs` goes with the final one and inside its response."""
        while self._open is not None:
            yield from self._close()
        yield from self._begin()
        self._response |= {"status": "completed", "custom_outputs": custom_outputs}
        if self._usage and self._usage_complete:
            self._response["usage"] = _usage(self._usage)
        yield self._event("response.completed", response=self._response, custom_outputs=custom_outputs)

    def _begin(self) -> Iterator[Event]:
        if not self._begun:
            self._begun = True
            yield self._event("response.created", response=self._response | {"output": []})

    def _delta(self, message: "_OpenMessage", chunk: AIMessageChunk, text: str) -> Iterator[Event]:
        if not message.text:
            message.id = chunk.id
            yield from self._added(
                {"id": message.id, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
            )
            part = {"type": "output_text", "text": "", "annotations": []}
            yield self._part_event("response.content_part.added", message, part=part)
        message.text.append(text)
        yield self._part_event("response.output_text.delta", message, delta=text)

    def _close(self) -> Iterator[Event]:
        """Close the open message, and let one that waits have its say."""
        message, self._open = self._open, None
        if message is None:
            return
        if message.text:
            text = "".join(message.text)
            part = {"type": "output_text", "text": text, "annotations": []}
            yield self._part_event("response.output_text.done", message, text=text)
            yield self._part_event("response.content_part.done", message, part=part)
            yield from self._done(
                {"id": message.id, "type": "message", "role": "assistant", "status": "completed", "content": [part]}
            )
        for n, call in enumerate(message.calls.tool_calls if message.calls else ()):
            yield from self._function_call(f"{message.calls.id}-{n}" if message.calls else "", call)
        self._count(message.usage)
        while self._waiting and self._open is None:
            step = next(iter(self._waiting))
            for waiting in self._waiting.pop(step):
                yield from self.feed(waiting, step)

    def _function_call(self, item_id: str, call: Any) -> Iterator[Event]:
        arguments = json.dumps(call["args"])
        item = {"id": item_id, "type": "function_call", "call_id": call["id"], "name": call["name"]}
        place = {"item_id": item_id, "output_index": len(self._response["output"])}
        yield from self._added(item | {"status": "in_progress", "arguments": ""})
        yield self._event("response.function_call_arguments.delta", **place, delta=arguments)
        yield self._event("response.function_call_arguments.done", **place, arguments=arguments)
        yield from self._done(item | {"status": "completed", "arguments": arguments})

    def _added(self, item: Event) -> Iterator[Event]:
        yield from self._begin()
        yield self._event("response.output_item.added", output_index=len(self._response["output"]), item=item)

    def _done(self, item: Event) -> Iterator[Event]:
        yield self._event("response.output_item.done", output_index=len(self._response["output"]), item=item)
        self._response["output"].append(item)

    def _part_event(self, kind: str, message: "_OpenMessage", **fields: Any) -> Event:
        place = {"item_id": message.id, "output_index": len(self._response["output"]), "content_index": 0}
        return self._event(kind, **place, **fields)

    def _event(self, kind: str, **fields: Any) -> Event:
        event = {"type": kind, "sequence_number": self._sequence_number, **fields}
        self._sequence_number += 1
        return event

    def _count(self, usage: UsageMetadata | None) -> None:
        """Usage is complete or absent: a model call that reports none makes the sum meaningless."""
        self._usage_complete = self._usage_complete and usage is not None
        self._usage = add_usage(self._usage, usage)


def unicode(text: str) -> str:
    """Text that can be sent: half of a character (a lone surrogate) becomes a question mark."""
    return str(text) if text.isascii() else text.encode("utf-8", "replace").decode()


def until_done(events: list[Event]) -> tuple[list[Event], list[Event]]:
    """The events before the first that says that something is done, and the others."""
    done = next((n for n, event in enumerate(events) if event["type"].endswith(".done")), len(events))
    return events[:done], events[done:]


def goes_on_after(event: Event) -> bool:
    """Whether a turn has more to do after this item: a call needs its result, and a result an answer."""
    return event.get("item", {}).get("type") in ("function_call", "function_call_output")


def error_event(error: AgentError, sequence_number: int) -> Event:
    """The terminal event of a stream that has begun, in the form that raises in every OpenAI client."""
    fields = error.as_dict()
    flat = {name: fields[name] for name in ("code", "message", "param")}
    return {"type": "error", "sequence_number": sequence_number, **flat, "error": fields}


class _OpenMessage:
    """An assistant's message that is still being said."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.id: str | None = None
        self.text: list[str] = []
        self.calls: AIMessageChunk | None = None
        self.usage: UsageMetadata | None = None

    def add(self, chunk: AIMessageChunk) -> None:
        if chunk.tool_call_chunks:
            self.calls = chunk if self.calls is None else self.calls + chunk
        if chunk.usage_metadata:
            self.usage = add_usage(self.usage, chunk.usage_metadata)


def _usage(usage: UsageMetadata) -> dict[str, Any]:
    return {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {"cached_tokens": usage.get("input_token_details", {}).get("cache_read", 0)},
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": usage.get("output_token_details", {}).get("reasoning", 0)},
        "total_tokens": usage["total_tokens"],
    }
