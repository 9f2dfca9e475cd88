"""LangGraph's stream as a response of the OpenAI Responses API. Pure: no I/O, no clock of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata, add_usage

from stateful_agent.errors import AgentError
from stateful_agent.responses.items import Kind, ToolItems, item_type, parts_of
from stateful_agent.responses.message_stream import Call, MessageStream, calls_in, run_of
from stateful_agent.responses.output import Event, Output

MOST_METADATA = 16
"""Entries of a response's metadata, in OpenAI's API."""


def empty_response(response_id: str, created_at: int, model: str) -> Event:
    """A response that has said nothing yet, with all that the types of OpenAI's clients require."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": created_at,
        "model": model,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
    }


class ResponseEvents:
    """The events of one response, fed with the messages of one run of a graph.

    Feed it what LangGraph's `messages` stream mode yields. That something is done is said once it is `stored`.
    """

    def __init__(
        self,
        response_id: str,
        created_at: int,
        model: str,
        *,
        tool_items: ToolItems = "function_call",
        metadata: Mapping[str, str] | None = None,
        previous_response_id: str | None = None,
    ) -> None:
        """`created_at` is in seconds since the epoch; `model` is the name that clients are shown.

        The agent's tool calls are told as `tool_items` says: as function calls and their outputs; as calls that the
        server has made itself (`mcp_call`); or not at all.
        """
        self.id = response_id
        self._response = empty_response(response_id, created_at, model)
        self._response["previous_response_id"] = previous_response_id
        self._tool_items = tool_items
        self._metadata = metadata or {}
        self._output = Output(response_id)
        self._open: MessageStream | None = None
        self._waiting: dict[tuple[str, str | None], list[BaseMessage]] = {}
        self._calls: dict[str, Call] = {}
        self.goes_on = False
        """Whether a turn has more to do after what it did last: a call needs its result, and a result an answer."""
        self._usage: UsageMetadata | None = None
        self._usage_complete = True
        self.begin({})

    def begin(self, custom_outputs: dict[str, Any], messages: Sequence[BaseMessage] = ()) -> None:
        """What is known before the first event, and the messages whose calls the turn may go on with."""
        response = self._response | self._outputs(custom_outputs)
        fields = {"response": response, "custom_outputs": custom_outputs}
        self._output.opening = [{"type": f"response.{kind}"} | fields for kind in ("created", "in_progress")]
        last = next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)
        if last is not None and self._tool_items == "mcp_call":
            self._calls = {call.call_id: call for call in calls_in(last)}

    @property
    def waits(self) -> bool:
        """Whether there are events that wait for `stored`."""
        return bool(self._output.held)

    def feed(self, message: BaseMessage, step: str) -> list[Event]:
        """The events to send when the graph's step of that name has made a message, or a chunk of one."""
        self._hear(message, step)
        return self._output.now()

    def stored(self) -> list[Event]:
        """The events to send when all that the graph has done so far is on disk."""
        return self._output.stored()

    def complete(self, custom_outputs: dict[str, Any]) -> list[Event]:
        """The last events, once all is on disk; `custom_outputs` goes with the final one and inside its response."""
        while self._open is not None:
            self._close(self._open)
        for call in self._calls.values():
            self._tell_mcp_call(call, None)
        if self._output.opening:
            self.begin(custom_outputs)
        self._output.begin()
        self._show_in_text(custom_outputs)
        said = self._output.stored()
        self._response |= {"status": "completed", "output": self._output.items} | self._outputs(custom_outputs)
        if self._usage and self._usage_complete:
            self._response["usage"] = _usage(self._usage)
        self._output.send({"type": "response.completed", "response": self._response, "custom_outputs": custom_outputs})
        return [*said, *self._output.now()]

    # -- Messages --------------------------------------------------------------------------------------------------

    def _hear(self, message: BaseMessage, step: str) -> None:
        if not isinstance(message, AIMessageChunk):
            while self._open is not None and self._open.step == step:  # its model never said that it had finished
                self._close(self._open)
        if self._open is not None and not self._open.is_by(message, step):
            # Two talk at once. Clients mix up interleaved items, so one of them waits.
            self._waiting.setdefault((step, run_of(message)), []).append(message)
        elif isinstance(message, AIMessage):
            self._hear_assistant(message, step)
        elif isinstance(message, ToolMessage):
            self._hear_result(message)

    def _hear_assistant(self, message: AIMessage, step: str) -> None:
        speech = self._open
        if speech is None:
            speech = self._open = MessageStream(step)
        speech.add(message)
        for kind, text in parts_of(message):
            if speech.calls and speech.calls[0].is_open:
                speech.after_calls.append((kind, text))
            else:
                self._say(speech, kind, text)
        if speech.calls and speech.calls[0].is_known and self._tool_items == "function_call":
            self._tell_call(speech, speech.calls[0])  # the others wait: the pieces of several may come mixed
        if not isinstance(message, AIMessageChunk) or message.chunk_position == "last":
            self._close(speech)

    def _say(self, speech: MessageStream, kind: Kind, text: str) -> None:
        if self._output.kind != kind:
            self._output.end_text()
            self._output.begin_text(kind, speech.next_id(item_type(kind)))
        self._output.say(text)

    def _close(self, speech: MessageStream) -> None:
        """Close the open message, and let one that waits have its say."""
        self._output.end_text()
        for call in speech.calls:
            self._end_call(speech, call)
        for kind, text in speech.after_calls:
            self._say(speech, kind, text)
        self._output.end_text()
        self.goes_on = bool(speech.calls)
        # Usage is complete or absent: a model call that reports none makes the sum meaningless.
        self._usage_complete = self._usage_complete and speech.usage is not None
        self._usage = add_usage(self._usage, speech.usage)
        self._open = None
        while self._waiting and self._open is None:
            step, run = next(iter(self._waiting))
            for message in self._waiting.pop((step, run)):
                self._hear(message, step)

    # -- Calls and their results -----------------------------------------------------------------------------------

    def _tell_call(self, speech: MessageStream, call: Call) -> None:
        """Tell what is known of a call that was not told yet."""
        if not call.is_open:
            self._output.end_text()
            item_id = speech.next_id("function_call")
            call.item_id = self._output.begin_call(item_id, call.call_id, call.name)
            call.is_open = True
        self._output.arguments(call.item_id, call.untold())

    def _end_call(self, speech: MessageStream, call: Call) -> None:
        arguments, is_complete = call.finished()
        if self._tool_items == "function_call":
            self._tell_call(speech, call)
            self._output.end_call(call.item_id, call.call_id, call.name, arguments, is_complete=is_complete)
        elif self._tool_items == "mcp_call":
            call.item_id = speech.next_id("function_call") or ""
            self._calls[call.call_id] = call

    def _hear_result(self, message: ToolMessage) -> None:
        self.goes_on = True
        if self._tool_items == "function_call":
            self._output.result(message)
        elif self._tool_items == "mcp_call":
            call = self._calls.pop(message.tool_call_id, None) or Call(message.id, message.name)
            self._tell_mcp_call(call, message)

    def _tell_mcp_call(self, call: Call, result: ToolMessage | None) -> None:
        """Tell a call and its result as one item, when the result is there: so calls at once do not mix."""
        self._output.mcp_call(call.item_id, self._response["model"], call.name, call.finished()[0], result)

    # -- What goes with the events ---------------------------------------------------------------------------------

    def _outputs(self, custom_outputs: dict[str, Any]) -> dict[str, Any]:
        """`custom_outputs`, and what of them is text beside the caller's own metadata, as far as there is room."""
        ids = {name: value for name, value in custom_outputs.items() if isinstance(value, str)}
        mirrored = list((dict(self._metadata) | ids).items())[:MOST_METADATA]
        return {"custom_outputs": custom_outputs, "metadata": dict(mirrored)}

    def _show_in_text(self, custom_outputs: dict[str, Any]) -> None:
        """Add an empty delta to the last text: LangChain's ChatDatabricks sees `custom_outputs` nowhere else."""
        held = self._output.held
        ends = [n for n, event in enumerate(held) if event["type"] == "response.output_text.done"]
        if ends and custom_outputs:
            place = {name: held[ends[-1]][name] for name in ("item_id", "output_index", "content_index")}
            delta = {"type": "response.output_text.delta", **place, "delta": "", "custom_outputs": custom_outputs}
            held.insert(ends[-1], delta)


def error_event(error: AgentError, sequence_number: int) -> Event:
    """The terminal event of a stream that has begun, in the form that raises in every OpenAI client."""
    fields = error.as_dict()
    flat = {name: fields[name] for name in ("code", "message", "param")}
    return {"type": "error", "sequence_number": sequence_number, **flat, "error": fields}


def _usage(usage: UsageMetadata) -> dict[str, Any]:
    return {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {"cached_tokens": usage.get("input_token_details", {}).get("cache_read", 0)},
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": usage.get("output_token_details", {}).get("reasoning", 0)},
        "total_tokens": usage["total_tokens"],
    }
