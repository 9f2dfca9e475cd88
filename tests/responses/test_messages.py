import time
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolCall, ToolMessage

from stateful_agent.errors import InvalidRequest
from stateful_agent.responses.messages import (
    check_pairs,
    text_of,
    to_items,
    to_messages,
    unanswered_calls,
    without_lost_calls,
)
from stateful_agent.responses.strict_json import read_json


def test_function_calls_are_one_message() -> None:
    call = {"type": "function_call", "name": "f", "arguments": '{"x": 1}'}
    messages = to_messages(
        [
            {"role": "user", "content": "go"},
            call | {"call_id": "1"},
            call | {"call_id": "2"},
            {"type": "reasoning", "id": "r", "summary": []},
            {"type": "function_call_output", "call_id": "1", "output": "one"},
            {"type": "function_call_output", "call_id": "2", "output": [{"a": 2}]},
        ]
    )
    assert [type(message) for message in messages] == [HumanMessage, AIMessage, ToolMessage, ToolMessage]
    assert [call["id"] for call in unanswered_calls(messages[:2])] == ["1", "2"]
    assert [call["id"] for call in unanswered_calls(messages[:3])] == ["2"]
    assert unanswered_calls(messages) == []
    check_pairs(messages)


@pytest.mark.parametrize(
    "part", [{"type": "input_image", "file_id": "f"}, {"type": "input_audio"}, {"type": "input_text"}]
)
def test_content_that_no_model_would_see_is_refused(part: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        to_messages([{"role": "user", "content": [{"type": "input_text", "text": "look"}, part]}])


def test_calls_and_results_come_in_pairs() -> None:
    before = [AIMessage("", tool_calls=[ToolCall(name="f", args={}, id="1", type="tool_call")])]
    check_pairs([*before, ToolMessage("done", tool_call_id="1")])
    with pytest.raises(InvalidRequest, match="no output"):
        check_pairs([*before, HumanMessage("never mind")])
    with pytest.raises(InvalidRequest, match="no pending function call"):
        check_pairs([ToolMessage("done", tool_call_id="2")])


@pytest.mark.parametrize(
    "content", ["text", [{"type": "text", "text": "te"}, "xt", {"type": "image_url", "image_url": {}}]]
)
def test_text_of_any_content(content: object) -> None:
    assert text_of(content) == "text"


def test_the_state_gives_back_the_messages() -> None:
    messages = [
        HumanMessage("look", id="1"),
        HumanMessage([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}], id="2"),
        AIMessage("well", id="3", tool_calls=[{"name": "f", "args": {"x": 1}, "id": "c", "type": "tool_call"}]),
        ToolMessage("done", id="4", tool_call_id="c", status="error"),
        AIMessage("", id="5", tool_calls=[{"name": "f", "args": {}, "id": "d", "type": "tool_call"}]),
        ToolMessage("done", id="6", tool_call_id="d"),
        AIMessage("so", id="7"),
    ]
    assert to_messages(to_items(messages)) == messages


def called(call_id: str, arguments: str = "{}") -> dict[str, str]:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": arguments}


def output(call_id: str) -> dict[str, str]:
    return {"type": "function_call_output", "call_id": call_id, "output": "done"}


HELLO, SAID = {"role": "user", "content": "hello"}, {"role": "assistant", "content": "it is done"}


@pytest.mark.parametrize(
    ("resent", "kept"),
    [
        # As LangChain's client resends what the agent did: without outputs. Databricks' sends calls twice.
        ([HELLO, called("1"), called("2"), SAID, HELLO], [HELLO, SAID, HELLO]),
        ([HELLO, called("1"), SAID, called("1"), HELLO], [HELLO, SAID, HELLO]),
        ([called("1"), called("1"), output("1"), SAID], [called("1"), output("1"), SAID]),
        ([called("1"), called("2"), output("1"), HELLO], [called("1"), output("1"), HELLO]),
        ([called("1"), HELLO, called("1"), output("1")], [HELLO, called("1"), output("1")]),
        # A call at the end is not one that was left out.
        ([HELLO, called("1")], [HELLO, called("1")]),
        ([HELLO, called("1"), output("1"), output("2")], [HELLO, called("1"), output("1"), output("2")]),
        # Two calls of one id that differ are not one.
        ([called("1"), called("1", '{"x": 1}'), output("1")], [called("1"), called("1", '{"x": 1}'), output("1")]),
    ],
)
def test_calls_that_a_client_lost_the_outputs_of(resent: list[dict[str, str]], kept: list[dict[str, str]]) -> None:
    assert without_lost_calls(to_messages(resent)) == to_messages(kept)


def test_many_calls_are_looked_through_once() -> None:
    messages = to_messages([item for n in range(20_000) for item in (called(str(n)), SAID)])
    started = time.perf_counter()
    without_lost_calls(messages)
    assert time.perf_counter() - started < 10  # each beside each other would take an hour


@pytest.mark.parametrize(
    "output",
    [
        "a b",
        [{"type": "input_text", "text": "a b"}],
        [{"type": "output_text", "text": "a"}, {"type": "text", "text": " b"}],
    ],
)
def test_an_output_in_parts_is_text(output: object) -> None:
    (message,) = to_messages([{"type": "function_call_output", "call_id": "1", "output": output}])
    assert message.content == "a b"


def test_a_refusal_is_something_said() -> None:
    (message,) = to_messages([{"role": "assistant", "content": [{"type": "refusal", "refusal": "I will not."}]}])
    assert message.content == "I will not."


@pytest.mark.parametrize("kind", ["reasoning", "mcp_call", "mcp_list_tools"])
def test_what_no_model_needs_is_left_out(kind: str) -> None:
    assert to_messages([{"type": kind, "id": "1", "summary": None}]) == []


@pytest.mark.parametrize(
    "text", ["{", "[1,]", '{"a": 1, "a": 1}', '{"x": {"a": 1, "a": 2}}', "[" * 100_000, "1e999", "NaN"]
)
def test_json_that_others_would_read_otherwise_is_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_json(text)


def test_json_may_be_nested_a_hundred_deep() -> None:
    assert read_json("[" * 100 + "]" * 100)
    assert read_json('{"a":' * 100 + "1" + "}" * 100)
    for text in ("[" * 101 + "]" * 101, '{"a":' * 101 + "1" + "}" * 101, "[" * 900 + "]" * 900):
        with pytest.raises(ValueError, match="more than 100 deep"):
            read_json(text)


@pytest.mark.parametrize(
    ("part", "mime_type", "encoded", "name"),
    [
        ({"file_data": "data:text/csv;base64,YSxi", "filename": "a.txt"}, "text/csv", "YSxi", "a.txt"),
        ({"file_data": "data:text/plain,a%20b", "filename": "a.txt"}, "text/plain", "YSBi", "a.txt"),
        ({"file_data": "data:;base64,YSxi"}, "text/plain", "YSxi", "file"),
        ({"file_data": "YSxi", "filename": "a.csv"}, "text/csv", "YSxi", "a.csv"),
        ({"file_data": "YSxi"}, "application/pdf", "YSxi", "file"),
    ],
    ids=str,
)
def test_a_file(part: Any, mime_type: str, encoded: str, name: str) -> None:
    [message] = to_messages([{"role": "user", "content": [{"type": "input_file"} | part]}])
    block = {"type": "file", "base64": encoded, "mime_type": mime_type, "extras": {"filename": name}}
    assert message.content == [block]
    [item] = to_items([message])
    file = {"file_data": f"data:{mime_type};base64,{encoded}", "filename": name}
    assert item["content"] == [{"type": "input_file"} | file]
    assert to_messages([item])[0].content == [block]


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"base64": "YQ==", "mime_type": "a/b"}, {"file_data": "data:a/b;base64,YQ==", "filename": "file"}),
        ({"url": "https://a.example", "mime_type": "a/b"}, {"file_url": "https://a.example"}),
    ],
    ids=str,
)
def test_a_file_of_a_graphs_own(block: Any, part: Any) -> None:
    [item] = to_items([HumanMessage([{"type": "file"} | block])])
    assert item["content"] == [{"type": "input_file"} | part]


def test_a_file_of_another_form_is_shown_as_it_is() -> None:
    [item] = to_items([HumanMessage([{"type": "file", "file_id": "f"}])])
    assert item["content"] == [{"type": "file", "file_id": "f"}]


def test_a_file_as_version_0_2_has_stored_it() -> None:
    file = {"file_data": "data:text/csv;base64,YSxi", "filename": "a.csv"}
    [item] = to_items([HumanMessage([{"type": "file", "file": file}])])
    assert item["content"] == [{"type": "input_file"} | file]


@pytest.mark.parametrize(
    "data",
    ["", "data:", "data:a/b;base64,", "data:text/plain;base64,%%%", "no base64!", "data:application/pdf;base64,YSx"],
)
def test_a_file_that_is_no_data(data: str) -> None:
    with pytest.raises(InvalidRequest, match=r"file_data|empty") as caught:
        to_messages([{"role": "user", "content": [{"type": "input_file", "file_data": data}]}])
    assert caught.value.param == "input[0].content[0].file_data"


def test_a_files_name_is_a_text() -> None:
    with pytest.raises(InvalidRequest, match="filename must be a string"):
        to_messages([{"role": "user", "content": [{"type": "input_file", "file_data": "YSxi", "filename": 7}]}])
