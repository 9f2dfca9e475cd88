import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolCall, ToolMessage

from stateful_agent.errors import InvalidRequest
from stateful_agent.messages import check_pairs, text_of, to_messages, unanswered_calls


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
    from stateful_agent.messages import to_items, to_messages

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
