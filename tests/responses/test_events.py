import json
from functools import reduce
from operator import add
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolCall, ToolMessage
from mlflow.types.responses import ResponsesAgentStreamEvent
from well_formed import kinds, output, well_formed

from stateful_agent.errors import ThreadNotFound
from stateful_agent.responses.events import ResponseEvents, error_event
from stateful_agent.responses.messages import to_items
from stateful_agent.responses.response import empty_response
from stateful_agent.responses.types import CustomOutputs, Event, ToolItems

CALL = ToolCall(name="search", args={"q": "x"}, id="c1", type="tool_call")
OUTPUTS: CustomOutputs = {"thread_id": "t", "checkpoint_id": "c"}


def chunk(content: Any, message_id: str | None = "m1", last: bool = False, **fields: Any) -> AIMessageChunk:
    return AIMessageChunk(content=content, id=message_id, chunk_position="last" if last else None, **fields)


def call_chunk(index: int, args: str, name: str | None = None, call_id: str | None = None) -> dict[str, Any]:
    """A chunk of a call, as a model streams it."""
    return {"index": index, "args": args, "name": name, "id": call_id, "type": "tool_call_chunk"}


def emit(*messages: tuple[BaseMessage, str], metadata: Any = None, **fields: Any) -> list[Event]:
    """The events of a turn that is stored after each message."""
    events = ResponseEvents(empty_response("resp_1", 1) | {"metadata": metadata or {}}, **fields)
    events.begin({"thread_id": "t"})
    emitted: list[Event] = []
    for message, step in messages:
        emitted += [*events.stored(), *events.feed(message, step)]
    return [*emitted, *events.complete(OUTPUTS, 2)]


class TestText:
    def test_is_told_as_it_comes(self) -> None:
        events = emit((chunk("Hel"), "s"), (chunk("lo"), "s"), (chunk("", last=True), "s"))
        assert kinds(events) == [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
        assert output(events)[0]["content"][0]["text"] == "Hello"
        well_formed(events)

    def test_that_it_is_done_is_said_once_it_is_stored(self) -> None:
        events = ResponseEvents(empty_response("resp_1", 1))
        emitted = [*events.feed(chunk("Hello"), "s"), *events.feed(chunk("", last=True), "s")]
        assert kinds(emitted)[-1] == "output_text.delta"
        assert events.has_held
        assert not events.turn_goes_on
        assert kinds(events.stored()) == ["output_text.done", "content_part.done", "output_item.done"]
        assert not events.has_held

    def test_nothing_said(self) -> None:
        events = emit((HumanMessage("hi", id="h"), "s"), (AIMessage("", id="m"), "s"))
        assert kinds(events) == ["created", "in_progress", "completed"]

    def test_half_of_a_character(self) -> None:
        assert output(emit((AIMessage("a\ud800", id="m"), "s")))[0]["content"][0]["text"] == "a?"

    def test_an_image_is_not_lost(self) -> None:
        image = {"type": "image", "base64": "AA==", "mime_type": "image/png"}
        events = emit((AIMessage([image], id="m"), "s"))
        assert output(events)[0]["content"][0]["text"] == "![image](data:image/png;base64,AA==)"


REASONING = [
    ([{"type": "thinking", "thinking": "Hm.", "signature": "s", "index": 0}], {}),
    ([{"type": "reasoning", "reasoning": "Hm."}], {}),
    ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm.", "index": 0}], "id": "rs_1"}], {}),
    ([{"type": "reasoning_content", "reasoning_content": {"text": "Hm."}}], {}),
    ("", {"additional_kwargs": {"reasoning_content": "Hm."}}),
]


class TestReasoning:
    @pytest.mark.parametrize(("content", "fields"), REASONING)
    def test_in_every_form(self, content: Any, fields: Any) -> None:
        events = emit((chunk(content, **fields), "s"), (chunk("So.", last=True), "s"))
        assert [item["type"] for item in output(events)] == ["reasoning", "message"]
        assert output(events)[0]["summary"] == [{"type": "summary_text", "text": "Hm."}]
        well_formed(events)

    def test_its_events(self) -> None:
        events = emit((chunk([{"type": "thinking", "thinking": "Hm."}]), "s"))
        assert kinds(events)[2:-1] == [
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
        ]

    def test_does_not_hold_up_the_answer(self) -> None:
        events = ResponseEvents(empty_response("resp_1", 1))
        events.feed(chunk([{"type": "thinking", "thinking": "Hm."}]), "s")
        assert kinds(events.feed(chunk("So"), "s"))[-1] == "output_text.delta"


def test_a_refusal() -> None:
    for message in (
        AIMessage([{"type": "refusal", "refusal": "No."}], id="m"),
        AIMessage("", additional_kwargs={"refusal": "No."}, id="m"),
    ):
        events = emit((message, "s"))
        assert output(events)[0]["content"] == [{"type": "refusal", "refusal": "No."}]
        assert "refusal.delta" in kinds(events)
        assert "refusal.done" in kinds(events)
        well_formed(events)
        assert [item | {"message_id": "m"} for item in output(events)] == to_items([message])


TOOL_TURN: list[tuple[BaseMessage, str]] = [
    (AIMessage("Let me see. ", id="m1", tool_calls=[CALL, CALL | {"id": "c2"}]), "s1"),
    (ToolMessage("lost", tool_call_id="c2", id="m3", status="error"), "s3"),
    (ToolMessage("found", tool_call_id="c1", id="m2"), "s2"),
    (AIMessage("Done.", id="m4"), "s4"),
]


class TestTools:
    def test_as_function_calls(self) -> None:
        events = emit(*TOOL_TURN)
        assert [item["type"] for item in output(events)] == [
            "message",
            "function_call",
            "function_call",
            "function_call_output",
            "function_call_output",
            "message",
        ]
        assert [item["status"] for item in output(events)].index("incomplete") == 3
        well_formed(events)

    def test_hidden(self) -> None:
        events = emit(*TOOL_TURN, tool_items="hidden")
        assert [item["content"][0]["text"] for item in output(events)] == ["Let me see. ", "Done."]
        well_formed(events)

    def test_as_calls_that_the_server_made(self) -> None:
        events = emit(*TOOL_TURN, tool_items="mcp_call")
        well_formed(events, mlflow=False)
        assert [item["type"] for item in output(events)] == ["message", "mcp_call", "mcp_call", "message"]
        failed, made = output(events)[1:3]
        assert (failed["status"], failed["output"], failed["error"]) == ("failed", None, "lost")
        assert (made["status"], made["output"], made["error"]) == ("completed", "found", None)
        assert json.loads(made["arguments"]) == {"q": "x"}
        assert {"mcp_call.in_progress", "mcp_call.completed", "mcp_call.failed"} <= set(kinds(events))

    def test_a_call_of_the_server_without_a_result(self) -> None:
        events = emit(TOOL_TURN[0], tool_items="mcp_call")
        assert [item["status"] for item in output(events)] == ["completed", "incomplete", "incomplete"]

    def test_a_replay_knows_the_calls_from_before(self) -> None:
        events = ResponseEvents(empty_response("resp_1", 1), tool_items="mcp_call")
        events.begin({}, [HumanMessage("go"), TOOL_TURN[0][0]])
        events.feed(TOOL_TURN[1][0], "s")
        made = output(events.complete({}, 2))[0]
        assert (made["id"], made["name"], json.loads(made["arguments"])) == ("m1-function_call-1", "search", {"q": "x"})

    def test_arguments_are_told_as_they_come(self) -> None:
        events = ResponseEvents(empty_response("resp_1", 1))
        opened = events.feed(chunk("", tool_call_chunks=[call_chunk(0, "", "search", "c1")]), "s")
        assert kinds(opened)[-1] == "output_item.added"
        more = [events.feed(chunk("", tool_call_chunks=[call_chunk(0, args)]), "s") for args in ('{"q":', '"x"}')]
        assert [[event["delta"] for event in emitted] for emitted in more] == [['{"q":'], ['"x"}']]

    def test_calls_whose_chunks_come_mixed(self) -> None:
        call_chunks = [
            call_chunk(0, "", "f", "c1"),
            call_chunk(1, "", "g", "c2"),
            call_chunk(0, "{}"),
            call_chunk(1, '{"x": '),
            call_chunk(1, "1}"),
        ]
        chunks = [(chunk("", tool_call_chunks=[one]), "s") for one in call_chunks]
        events = emit(*chunks, (chunk("", last=True), "s"))
        called = [(item["name"], item["call_id"], item["arguments"]) for item in output(events)]
        assert called == [("f", "c1", "{}"), ("g", "c2", '{"x": 1}')]
        well_formed(events)

    def test_what_is_said_after_a_call(self) -> None:
        call = chunk("", tool_call_chunks=[call_chunk(0, "{}", "f", "c1")])
        events = emit((call, "s"), (chunk("And "), "s"), (chunk("so", last=True), "s"))
        assert [item["type"] for item in output(events)] == ["function_call", "message"]
        assert output(events)[1]["content"][0]["text"] == "And so"
        well_formed(events)

    @pytest.mark.parametrize(("args", "status"), [("", "completed"), ("[1]", "incomplete"), ('{"q": "x', "incomplete")])
    def test_odd_arguments(self, args: str, status: str) -> None:
        events = emit((chunk("", last=True, tool_call_chunks=[call_chunk(0, args, "f", "c1")]), "s"))
        assert output(events)[0]["status"] == status
        assert output(events)[0]["arguments"] == (args or "{}")
        well_formed(events)


class TestSpeakers:
    def test_two_steps_that_talk_at_once_are_told_apart(self) -> None:
        events = emit(
            (chunk("A1 ", "a"), "s1"),
            (chunk("B1 ", "b"), "s2"),
            (ToolMessage("T", tool_call_id="c", id="t"), "s3"),
            (chunk("A2", "a", last=True), "s1"),
            (chunk("B2", "b", last=True), "s2"),
        )
        texts = [item["content"][0]["text"] for item in output(events) if item["type"] == "message"]
        assert texts == ["A1 A2", "B1 B2"]
        assert len(output(events)) == 3
        well_formed(events)

    def test_two_models_that_one_step_asks_at_once(self) -> None:
        a, b = "lc_run--a", "lc_run--b"
        events = emit(
            (chunk("A1 ", a), "s"),
            (chunk("B1 ", b), "s"),
            (chunk("A2", a, last=True), "s"),
            (chunk("B2", b, last=True), "s"),
        )
        assert [(item["id"], item["content"][0]["text"]) for item in output(events)] == [(a, "A1 A2"), (b, "B1 B2")]
        well_formed(events)

    def test_a_model_that_never_says_that_it_has_finished(self) -> None:
        events = emit((chunk("A"), "s1"), (chunk("B", "m2"), "s2"), (AIMessage("C", id="m3"), "s1"))
        assert [item["id"] for item in output(events)] == ["m1", "m2", "m3"]
        well_formed(events)

    def test_a_model_that_gives_all_messages_one_id_or_none(self) -> None:
        texts = [(chunk(text, message_id, last=True), text) for text in "AB" for message_id in ("same", None)]
        events = emit(*texts)
        assert [item["content"][0]["text"] for item in output(events)] == ["A", "A", "B", "B"]
        well_formed(events)

    @pytest.mark.parametrize("ids", [("resp_9", "lc_run--a"), ("lc_run--a", "resp_9")])
    def test_a_providers_id_goes_before_langchains(self, ids: tuple[str, str]) -> None:
        """LangChain gives its own id to the chunks that have none, and the message in the thread the provider's."""
        chunks = [chunk("", ids[0]), chunk("Hi", ids[1]), chunk("", "lc_run--a", last=True)]
        events = emit(*((one, "s") for one in chunks))
        assert output(events)[0]["id"] == reduce(add, chunks).id == "resp_9"


class TestOutputs:
    def test_where_each_client_looks(self) -> None:
        events = emit((AIMessage("Hi", id="m"), "s"))
        completed = events[-1]
        assert events[0]["custom_outputs"] == events[0]["response"]["custom_outputs"] == {"thread_id": "t"}
        assert completed["custom_outputs"] == completed["response"]["custom_outputs"] == OUTPUTS
        deltas = [event for event in events if event["type"] == "response.output_text.delta"]
        assert [(event["delta"], event.get("custom_outputs")) for event in deltas] == [("Hi", None), ("", OUTPUTS)]
        well_formed(events)

    def test_metadata_is_the_callers_and_ours(self) -> None:
        events = emit(metadata={"team": "a", "checkpoint_id": "old"})
        assert events[-1]["response"]["metadata"] == {"team": "a", "thread_id": "t", "checkpoint_id": "c"}

    def test_metadata_has_no_more_than_16_entries(self) -> None:
        given = {f"key {n}": "x" for n in range(15)}
        metadata = emit(metadata=given)[-1]["response"]["metadata"]
        assert metadata == given | {"thread_id": "t"}

    def test_no_text_in_metadata_but_text(self) -> None:
        events = ResponseEvents(empty_response("resp_1", 1)).complete({"thread_id": "t", "result": [1]}, 2)
        assert events[0]["custom_outputs"] == {"thread_id": "t", "result": [1]}
        assert events[-1]["response"]["metadata"] == {"thread_id": "t"}


USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize(("second", "total"), [(USAGE, 10), (None, None)])
def test_usage_is_complete_or_absent(second: Any, total: int | None) -> None:
    events = emit(
        (chunk("a", "m1", last=True, usage_metadata=USAGE), "s1"),
        (chunk("b", "m2", last=True, usage_metadata=second), "s2"),
    )
    assert (events[-1]["response"]["usage"] or {}).get("total_tokens") == total


def test_an_error_raises_in_every_client() -> None:
    event = error_event(ThreadNotFound(param="thread_id"), sequence_number=7)
    assert event["type"] == "error"
    assert event["error"]["message"] == event["message"]
    ResponsesAgentStreamEvent(**event)


parts = st.sampled_from(["text", "text", "block", "thinking", "refusal", "call 0", "call 1"])
ids = st.sampled_from(["lc_run--", "same", None])
messages = st.lists(st.tuples(ids, st.lists(parts, max_size=6), st.booleans()), max_size=4)


def chunks_of(n: int, message_id: str | None, texts: list[str], ends: bool) -> list[AIMessageChunk]:
    """A message in chunks, each of which says a word that no other does."""
    own = f"lc_run--{n}" if message_id == "lc_run--" else message_id
    chunks, called = [], set()
    for k, kind in enumerate(texts):
        word = f"<{n}.{k}>"
        content: Any = {
            "text": word,
            "block": [{"type": "text", "text": word}],
            "thinking": [{"type": "thinking", "thinking": word}],
            "refusal": [{"type": "refusal", "refusal": word}],
        }.get(kind, "")
        index = int(kind[-1]) if kind.startswith("call") else None
        call_chunks = []
        if index is not None:
            name, call_id = ("f", f"call {n}.{index}") if index not in called else (None, None)
            call_chunks = [call_chunk(index, f'{{"{word}": [' if index not in called else f'"{word}", ', name, call_id)]
            called.add(index)
        chunks.append(chunk(content, own, tool_call_chunks=call_chunks))
    return [*chunks, chunk("", own, last=True)] if ends else chunks


@given(messages, st.randoms(use_true_random=False), st.sampled_from(["function_call", "mcp_call", "hidden"]))
@settings(max_examples=150, deadline=None)
def test_any_sequence_of_chunks(texts: list[Any], random: Any, tool_items: ToolItems) -> None:
    """However many speak at once, in whatever form: the sequence is well-formed, and each word is emitted once."""
    queues = [chunks_of(n, *message) for n, message in enumerate(texts)]
    words = [f"<{n}.{k}>" for n, (_, kinds_of, _) in enumerate(texts) for k, _ in enumerate(kinds_of)]
    hidden = {f"<{n}.{k}>" for n, (_, kinds, _) in enumerate(texts) for k, kind in enumerate(kinds) if "call" in kind}
    events = ResponseEvents(empty_response("resp_1", 1), tool_items=tool_items)
    emitted: list[Event] = []
    while any(queues):
        n = random.choice([n for n, queue in enumerate(queues) if queue])
        emitted += events.feed(queues[n].pop(0), f"step {n}")
        if random.random() < 0.5:
            emitted += events.stored()
    emitted += events.complete(OUTPUTS, 2)
    well_formed(emitted, mlflow=tool_items != "mcp_call")
    all_output = json.dumps(output(emitted))
    assert [all_output.count(word) for word in words] == [int(tool_items != "hidden" or w not in hidden) for w in words]


@given(st.lists(parts, max_size=8))
@settings(max_examples=80, deadline=None)
def test_a_message_is_emitted_as_the_thread_shows_it(texts: list[str]) -> None:
    chunks = chunks_of(0, "lc_run--", sorted(texts, key=lambda kind: kind.startswith("call")), ends=True)
    whole: Any = reduce(add, chunks)
    emitted = output(emit(*((one, "s") for one in chunks)))
    shown = to_items([AIMessage(whole.content, tool_calls=whole.tool_calls, id=whole.id)])

    def content_of(items: list[Any]) -> list[Any]:
        """Less the empty message, which is shown and not emitted and a call's arguments, which break off."""
        fields = ("id", "type", "content", "summary", "call_id", "name")
        return [[item.get(name) for name in fields] for item in items if item.get("content") != EMPTY]

    assert content_of(emitted) == content_of(shown)


EMPTY = [{"type": "output_text", "text": "", "annotations": []}]
