"""LangGraph's stream as a response of the OpenAI Responses API. Pure: no I/O, no clock of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    RemoveMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.messages.ai import UsageMetadata, add_usage

from stateful_agent.errors import AgentError
from stateful_agent.responses.interrupts import approval_items, words
from stateful_agent.responses.items import Content, as_unicode, content_of, item_type, items_of, visible_text
from stateful_agent.responses.message_stream import Call, MessageStream, calls_in, incomplete_reason, run_of
from stateful_agent.responses.output import Output
from stateful_agent.responses.response import outputs_in
from stateful_agent.responses.types import CustomOutputs, Event, Interrupt, Item, Response, ToolItems, When
from stateful_agent.responses.usage import to_usage


@dataclass
class _KeptBack:
    """A message, or the chunks of one, whose words are not told yet."""

    step: str
    when: When
    messages: list[BaseMessage]


@dataclass(frozen=True)
class _Emitted:
    """A message of the assistant's, and the numbers of its items."""

    step: str
    message_id: str | None
    begin: int
    end: int


class ResponseEvents:
    """The events of one response, fed with the messages of one run of a graph.

    Feed it what LangGraph's `messages` stream mode yields. Events that something is done come once it is `stored`.
    """

    def __init__(
        self,
        response: Response,
        *,
        tool_items: ToolItems = "function_call",
    ) -> None:
        """`response` is the response object as it begins.

        `tool_items` is how the agent's tool calls are shown: as function calls and their outputs; as calls that the
        server has made itself (`mcp_call`); or not at all.
        """
        self.id = str(response["id"])
        self._response = response
        self._tool_items = tool_items
        self._clients = {tool["name"] for tool in response["tools"]}
        """The client's functions, calls of which are shown as such in any case."""
        self._metadata = dict(response["metadata"])
        self._output = Output(self.id)
        self._open: MessageStream | None = None
        self._waiting: dict[tuple[str, str | None], list[BaseMessage]] = {}
        self._calls: dict[str, Call] = {}
        self.turn_goes_on = False
        """Whether a turn has more to do after its last message: a call needs its result, and a result an answer."""
        self._usage: UsageMetadata | None = None
        self._usage_complete = True
        self._kept_back: dict[str, _KeptBack] = {}
        """The messages whose words are not told yet, by their ids."""
        self._written: dict[str | None, BaseMessage] = {}
        """The messages that the graph's steps have written to `messages`, by their ids."""
        self._knows_all_written = True
        self._emitted: list[_Emitted] = []
        self.dropped: list[str] = []
        """The steps whose words were told and are not in the thread, as they turned out."""
        self._begins_at = 0
        """The number of the first item of the message that is open."""
        self._incomplete_reason: str | None = None
        """Why the last message is not whole, if it is not."""
        self.begin({})

    def begin(self, custom_outputs: CustomOutputs, messages: Sequence[BaseMessage] = ()) -> None:
        """What is known before the first event, and the messages whose calls the turn may go on with."""
        response = self._response | outputs_in(self._metadata, custom_outputs)
        fields = {"response": response, "custom_outputs": custom_outputs}
        self._output.opening = [{"type": f"response.{kind}"} | fields for kind in ("created", "in_progress")]
        last = next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)
        if last is not None and self._tool_items == "mcp_call":
            self._calls = {call.call_id: call for call in calls_in(last)}

    @property
    def has_held(self) -> bool:
        """Whether there are events that wait for `stored`."""
        return bool(self._output.held)

    def feed(self, message: BaseMessage, step: str, when: When = "at once") -> list[Event]:
        """The events to send when the graph's step of that name has made a message, or a chunk of one.

        `when` is when its words are told: until they are known to stay, they are kept back.
        """
        follows = any(kept.when == "at the end" for kept in self._kept_back.values())
        if not follows and (when == "at once" or isinstance(message, ToolMessage)):
            self._add(message, step)
        elif isinstance(message, AIMessage | ToolMessage):
            key = message.id or f"{step} {len(self._kept_back)}"
            self._kept_back.setdefault(key, _KeptBack(step, when, [])).messages.append(message)
        return self._output.ready()

    def written(self, values: Any) -> list[Event]:
        """The events to send when a step has written to the graph's `messages`.

        The response holds what the thread holds.
        """
        try:
            messages = convert_to_messages(values if isinstance(values, list) else [values])
        except (NotImplementedError, ValueError, TypeError):  # in a form of the graph's own
            self._knows_all_written = False
            messages = []
        for message in messages:
            if isinstance(message, RemoveMessage):
                self._written.pop(message.id, None)
            else:
                self._written[message.id] = message
        for message in messages:
            kept = self._kept_back.get(message.id or "")
            if kept and kept.when == "after the step":
                self._release(str(message.id))
        return self._output.ready()

    def _release(self, key: str) -> None:
        """Emit a message that was kept back, as it is written, if it is."""
        kept = self._kept_back.pop(key)
        written = self._written.get(key)
        if written is None and not self._knows_all_written:
            for message in kept.messages:
                self._add(message, kept.step)
        elif written is not None:
            self._add(written, kept.step)
        else:
            for message in kept.messages:
                if isinstance(message, AIMessage):
                    self._usage = add_usage(self._usage, message.usage_metadata)

    def stored(self) -> list[Event]:
        """The events to send when all that the graph has done so far is on disk."""
        return self._output.stored()

    def ask(self, interrupts: Sequence[Interrupt]) -> list[Event]:
        """The events to send when the graph waits for these, and all that it has done so far is on disk."""
        for key in list(self._kept_back):
            self._release(key)
        self._close_open()
        for interrupt in interrupts:
            for item in approval_items(interrupt, self._response["model"]):
                self._output.add_item(item)
            self._output.begin_text("output_text", f"wait_{interrupt['id']}")
            self._output.add_text(words(interrupt))
            self._output.end_text()
        return self._output.stored()

    def complete(self, custom_outputs: CustomOutputs, completed_at: int) -> list[Event]:
        """The last events, once all is on disk, at that second since the epoch; `custom_outputs` goes with the final
        one and inside its response."""
        for key in list(self._kept_back):
            self._release(key)
        self._close_open()
        for call in self._calls.values():
            self._add_mcp_call(call, None)
        if self._output.opening:
            self.begin(custom_outputs)
        self._output.begin()
        self._add_to_last_text(custom_outputs)
        events = self._output.stored()
        status, reason = ("incomplete", self._incomplete_reason) if self._incomplete_reason else ("completed", None)
        self._response |= {"status": status, "output": self._final_output()}
        self._response |= outputs_in(self._metadata, custom_outputs)
        self._response["incomplete_details"] = reason and {"reason": reason}
        self._response["completed_at"] = None if reason else completed_at
        if self._usage and self._usage_complete:
            self._response["usage"] = to_usage(self._usage)
        self._output.send({"type": f"response.{status}", "response": self._response, "custom_outputs": custom_outputs})
        return [*events, *self._output.ready()]

    # -- Messages --------------------------------------------------------------------------------------------------

    def _add(self, message: BaseMessage, step: str) -> None:
        if not isinstance(message, AIMessageChunk):
            while self._open is not None and self._open.step == step:  # its model never marked its last chunk
                self._close(self._open)
        stream = self._open
        if stream and (message.id, step) != (stream.id, stream.step) and not stream.continues_with(message, step):
            # Two stream at once. Clients mix up interleaved items, so one of them waits.
            self._waiting.setdefault((step, run_of(message)), []).append(message)
        elif isinstance(message, AIMessage):
            self._add_assistant(message, step)
        elif isinstance(message, ToolMessage):
            self._add_result(message)

    def _add_assistant(self, message: AIMessage, step: str) -> None:
        stream = self._open
        if stream is None:
            stream = self._open = MessageStream(step)
            self._begins_at = len(self._output.items)
        calls = getattr(message, "tool_call_chunks", message.tool_calls or message.invalid_tool_calls)
        if message.id != stream.id or message.usage_metadata or calls:  # most chunks have nothing but text
            stream.add(message)
        if message.response_metadata:
            stream.broken_off = stream.broken_off or incomplete_reason(message)
        content = message.content
        if isinstance(content, str) and not message.additional_kwargs:
            if content:
                self._add_content(stream, Content("output_text", content))
        else:
            for each in content_of(message):
                self._add_content(stream, each)
        if stream.calls and stream.calls[0].is_known and self._is_function(stream.calls[0].name):
            self._emit_call(stream, stream.calls[0])  # the others wait: the chunks of several may come mixed
        if not isinstance(message, AIMessageChunk) or message.chunk_position == "last":
            self._close(stream)

    def _add_content(self, stream: MessageStream, content: Content) -> None:
        if stream.calls and stream.calls[0].is_open:
            stream.after_calls.append(content)
        else:
            self._emit_text(stream, content)

    def _emit_text(self, stream: MessageStream, content: Content) -> None:
        if self._output.kind != content.kind:
            self._output.end_text()
            self._output.begin_text(content.kind, stream.next_id(item_type(content.kind)))
        self._output.add_text(content.text, content.block, content.citations)

    def _close_open(self) -> None:
        while self._open is not None:
            self._close(self._open)

    def _close(self, stream: MessageStream) -> None:
        """Close the open message, and add those that wait, up to one that stays open."""
        self._output.end_text()
        for call in stream.calls:
            self._end_call(stream, call)
        for content in stream.after_calls:
            self._emit_text(stream, content)
        self._output.end_text()
        self._emitted.append(_Emitted(stream.step, stream.id, self._begins_at, len(self._output.items)))
        self.turn_goes_on = bool(stream.calls)
        self._incomplete_reason = stream.broken_off
        # Usage is complete or absent: a model call that reports none makes the sum meaningless.
        self._usage_complete = self._usage_complete and stream.usage is not None
        self._usage = add_usage(self._usage, stream.usage)
        self._open = None
        while self._waiting and self._open is None:
            step, run = next(iter(self._waiting))
            for message in self._waiting.pop((step, run)):
                self._add(message, step)

    # -- Calls and their results -----------------------------------------------------------------------------------

    def _is_function(self, name: str | None) -> bool:
        """Whether a call is shown as that of a function."""
        return self._tool_items == "function_call" or name in self._clients

    def _emit_call(self, stream: MessageStream, call: Call) -> None:
        """Emit what is known of a call and was not emitted yet."""
        if not call.is_open:
            self._output.end_text()
            item_id = stream.next_id("function_call")
            call.item_id = self._output.begin_call(item_id, call.call_id, call.name)
            call.is_open = True
        self._output.add_arguments(call.item_id, call.new_arguments())

    def _end_call(self, stream: MessageStream, call: Call) -> None:
        arguments, is_complete = call.finished()
        if self._is_function(call.name):
            self._emit_call(stream, call)
            self._output.end_call(call.item_id, call.call_id, call.name, arguments, is_complete=is_complete)
        elif self._tool_items == "mcp_call":
            call.item_id = stream.next_id("function_call") or ""
            self._calls[call.call_id] = call

    def _add_result(self, message: ToolMessage) -> None:
        self.turn_goes_on = True
        if self._tool_items == "function_call":
            self._output.add_result(message)
        elif self._tool_items == "mcp_call":
            call = self._calls.pop(message.tool_call_id, None) or Call(message.id, message.name)
            self._add_mcp_call(call, message)

    def _add_mcp_call(self, call: Call, result: ToolMessage | None) -> None:
        """Add a call and its result as one item, when the result is there: so calls at once do not mix."""
        self._output.add_mcp_call(call.item_id, self._response["model"], call.name, call.finished()[0], result)

    # -- What goes with the events ---------------------------------------------------------------------------------

    def _final_output(self) -> list[Item]:
        """The items of the response: what was emitted, but messages as the thread holds them, if it does."""
        items = list(self._output.items)
        if not (self._written and self._knows_all_written):
            return items
        texts = {visible_text(message) for message in self._written.values() if isinstance(message, AIMessage)}
        for emitted in reversed(self._emitted):
            own = items[emitted.begin : emitted.end]
            parts = [part for item in own for part in item.get("content", ())]
            text = "".join(part.get("text") or part.get("refusal", "") for part in parts)
            written = self._written.get(emitted.message_id)
            if written is None and text and text not in texts:
                self.dropped.append(emitted.step)
                del items[emitted.begin : emitted.end]
            elif isinstance(written, AIMessage) and as_unicode(visible_text(written)) != text:
                items[emitted.begin : emitted.end] = [
                    item
                    for item in items_of(written)
                    if item["type"] != "function_call" or self._is_function(item["name"])
                ]
        return items

    def _add_to_last_text(self, custom_outputs: CustomOutputs) -> None:
        """Add an empty delta to the last text: LangChain's ChatDatabricks sees `custom_outputs` nowhere else."""
        held = self._output.held
        ends = [n for n, event in enumerate(held) if event["type"] == "response.output_text.done"]
        if ends and custom_outputs:
            about = {name: held[ends[-1]][name] for name in ("item_id", "output_index", "content_index")}
            delta = {"type": "response.output_text.delta", **about, "delta": "", "logprobs": []}
            delta["custom_outputs"] = custom_outputs
            held.insert(ends[-1], delta)


def error_event(error: AgentError, sequence_number: int) -> Event:
    """The terminal event of a stream that has begun, in the form that raises in every OpenAI client."""
    fields = error.as_dict()
    flat = {name: fields[name] for name in ("code", "message", "param")}
    return {"type": "error", "sequence_number": sequence_number, **flat, "error": fields}
