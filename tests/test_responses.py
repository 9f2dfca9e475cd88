from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolCall, ToolMessage
from mlflow.types.responses import ResponsesAgentResponse, ResponsesAgentStreamEvent

from stateful_agent.errors import ThreadNotFound
from stateful_agent.output import Event
from stateful_agent.responses import ResponseEvents, error_event

CALL = ToolCall(name="search", args={"q": "x"}, id="c1", type="tool_call")


def chunk(text: str, message_id: str = "m1", last: bool = False, **fields: Any) -> AIMessageChunk:
    return AIMessageChunk(content=text, id=message_id, chunk_position="last" if last else None, **fields)


def tell(*messages: tuple[BaseMessage, str]) -> list[Event]:
    events = ResponseEvents("resp_1", 1, "m")
    told: list[Event] = []
    for message, step in messages:
        told += [*events.stored(), *events.feed(message, step)]
    return [*told, *events.complete({"thread_id": "t"})]


def kinds(events: list[Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_text() -> None:
    events = tell((chunk("Hel"), "s"), (chunk("lo"), "s"), (chunk("", last=True), "s"))
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
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Hello"


def test_tools_then_text() -> None:
    events = tell(
        (AIMessage("Let me see. ", id="m1", tool_calls=[CALL]), "s1"),
        (ToolMessage("found", tool_call_id="c1", id="m2"), "s2"),
        (ToolMessage("lost", tool_call_id="c2", id="m3", status="error"), "s3"),
        (AIMessage("Done.", id="m4"), "s4"),
    )
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == [
        "message",
        "function_call",
        "function_call_output",
        "function_call_output",
        "message",
    ]
    assert [item["status"] for item in output] == ["completed", "completed", "completed", "incomplete", "completed"]
    well_formed(events)


def test_two_steps_that_talk_at_once_are_told_apart() -> None:
    events = tell(
        (chunk("A1 ", "a"), "s1"),
        (chunk("B1 ", "b"), "s2"),
        (ToolMessage("T", tool_call_id="c", id="t"), "s3"),
        (chunk("A2", "a", last=True), "s1"),
        (chunk("B2", "b", last=True), "s2"),
    )
    said = [item["content"][0]["text"] for item in events[-1]["response"]["output"] if item["type"] == "message"]
    assert said == ["A1 A2", "B1 B2"]
    assert len(events[-1]["response"]["output"]) == 3
    well_formed(events)


def test_a_model_that_never_says_that_it_has_finished() -> None:
    events = tell((chunk("A"), "s1"), (chunk("B", "m2"), "s2"))
    assert len(events[-1]["response"]["output"]) == 2
    well_formed(events)


def test_nothing_said() -> None:
    assert kinds(tell((HumanMessage("hi", id="h"), "s"), (AIMessage("", id="m"), "s"))) == ["created", "in_progress", "completed"]


def well_formed(events: list[Event]) -> None:
    """One item at a time, with indices 0 to n-1; MLflow's own types accept every event."""
    open_index = None
    done = 0
    for number, event in enumerate(events):
        assert event["sequence_number"] == number
        ResponsesAgentStreamEvent(**event)
        if event["type"] == "response.output_item.added":
            assert open_index is None
            open_index = event["output_index"]
            assert open_index == done
        elif event["type"] == "response.output_item.done":
            assert open_index == event["output_index"]
            open_index, done = None, done + 1
        elif "output_index" in event:
            assert event["output_index"] == open_index
    ResponsesAgentResponse(**events[-1]["response"])
    ids = [item["id"] for item in events[-1]["response"]["output"]]
    assert len(set(ids)) == len(ids)


USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize(("second", "total"), [(USAGE, 10), (None, None)])
def test_usage_is_complete_or_absent(second: Any, total: int | None) -> None:
    events = tell(
        (chunk("a", "m1", last=True, usage_metadata=USAGE), "s1"),
        (chunk("b", "m2", last=True, usage_metadata=second), "s2"),
    )
    assert events[-1]["response"].get("usage", {}).get("total_tokens") == total


def test_an_error_raises_in_every_client() -> None:
    event = error_event(ThreadNotFound(param="thread_id"), sequence_number=7)
    assert event["type"] == "error"
    assert event["error"]["message"] == event["message"]
    ResponsesAgentStreamEvent(**event)
