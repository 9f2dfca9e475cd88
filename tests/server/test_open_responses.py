"""The agent over HTTP, as the Open Responses specification and OpenAI's own types have it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import eventually, http
from langchain_core.messages import AIMessage
from langgraph.graph import MessagesState, StateGraph
from listening_servers import served
from open_responses import check_event, check_response, events_in
from paying import approval, per_call
from scripted import Scripted

from stateful_agent.graph.build import build_graph

Make = Callable[..., Any]
Ask = Callable[..., Any]

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
PDF = "data:application/pdf;base64,JVBERi0xLjQKJSVFT0YK"


def message(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": text}


def parts(*content: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "message", "role": "user", "content": list(content)}]


@pytest.fixture
def url(make_agent: Make) -> Iterator[str]:
    with served(make_agent()) as url:
        yield url


@pytest.fixture(params=[False, True], ids=["json", "stream"])
def ask(request: pytest.FixtureRequest, url: str) -> Ask:
    """Take a turn in either form. All that is answered is checked."""

    def take(input: Any, **fields: Any) -> Any:
        return answer(url, input=input, stream=request.param, **fields)

    return take


def answer(url: str, **body: Any) -> Any:
    """The response to a request, in which, and in whose events, everything is as it should be."""
    answered = http.post(f"{url}/v1/responses", json={"model": "any"} | body, timeout=30)
    assert answered.status_code == 200, answered.text
    if not body.get("stream"):
        check_response(answered.json())
        return answered.json()
    assert answered.headers["content-type"].startswith("text/event-stream")
    events = events_in(answered.text)
    for event in events:
        check_event(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events[-1].get("response", events[-1])


class TestTheOfficialCases:
    def test_basic_response(self, ask: Ask) -> None:
        response = ask([message("user", "Say hello in exactly 3 words.")])
        assert response["status"] == "completed"
        assert response["output"]

    def test_system_prompt(self, ask: Ask) -> None:
        assert ask([message("system", "You are a pirate."), message("user", "Say hello.")])["output"]

    def test_image_input(self, ask: Ask) -> None:
        content = {"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": PIXEL}
        assert ask(parts(*content))["status"] == "completed"

    def test_file_input(self, ask: Ask) -> None:
        file = {"type": "input_file", "filename": "a.pdf", "file_data": PDF}
        assert ask(parts({"type": "input_text", "text": "What is this?"}, file))["status"] == "completed"

    def test_multi_turn(self, ask: Ask) -> None:
        said = [message("user", "My name is Alice."), message("assistant", "Hello Alice!")]
        assert ask([*said, message("user", "What is my name?")])["status"] == "completed"

    def test_previous_response_id(self, ask: Ask) -> None:
        first = ask("I'm headed to SF!")
        second = ask("Where am I going?", previous_response_id=first["id"])
        assert second["previous_response_id"] == first["id"]
        assert "SF" in second["output"][-1]["content"][0]["text"]


class TestEchoes:
    def test_the_standards_defaults(self, ask: Ask) -> None:
        response = ask("hello")
        assert (response["temperature"], response["top_p"], response["tool_choice"]) == (1, 1, "auto")
        assert (response["store"], response["background"], response["truncation"]) == (True, False, "disabled")
        assert (response["tools"], response["text"]) == ([], {"format": {"type": "text"}})

    @pytest.mark.parametrize(
        "asked",
        [
            {"temperature": 0.5, "top_p": 0.25, "max_output_tokens": 100},
            {"instructions": "Be brief.", "prompt_cache_key": "k", "safety_identifier": "u"},
            {"store": False},
            {"truncation": "auto"},
            {"parallel_tool_calls": True, "tool_choice": "auto"},
        ],
        ids=lambda asked: next(iter(asked)),
    )
    def test_what_was_asked(self, ask: Ask, asked: dict[str, Any]) -> None:
        response = ask("hello", **asked)
        assert {name: response[name] for name in asked} == asked

    def test_metadata(self, ask: Ask) -> None:
        assert ask("hello", metadata={"team": "a"})["metadata"]["team"] == "a"

    def test_the_conversation(self, ask: Ask) -> None:
        thread_id = ask("hello")["custom_outputs"]["thread_id"]
        assert ask("hello again", conversation=thread_id)["conversation"] == {"id": thread_id}

    def test_times_add_up(self, ask: Ask) -> None:
        response = ask("hello")
        assert 0 <= response["completed_at"] - response["created_at"] <= 5


class TestEveryPath:
    def test_tools(self, ask: Ask) -> None:
        response = ask("What is the weather in SF and LA?")
        assert {item["type"] for item in response["output"]} == {"function_call", "function_call_output", "message"}

    @pytest.mark.parametrize("tool_items", ["mcp_call", "hidden"])
    def test_tools_in_other_forms(self, ask: Ask, tool_items: str) -> None:
        assert ask("What is the weather in SF and LA?", custom_inputs={"tool_items": tool_items})["output"]

    @pytest.mark.parametrize("stream", [False, True])
    def test_approvals(self, make_agent: Make, stream: bool) -> None:
        with served(make_agent(per_call())) as url:
            asked = answer(url, input="Pay!", stream=stream)
            [item] = [item for item in asked["output"] if item["type"] == "mcp_approval_request"]
            approved = [approval(item["id"], True)]
            paid = answer(url, input=approved, previous_response_id=asked["id"], stream=stream)
        assert paid["output"][-1]["content"][0]["text"] == "found it | paid 5"

    @pytest.mark.parametrize("stream", [False, True])
    def test_reasoning_and_a_refusal(self, make_agent: Make, stream: bool) -> None:
        words = AIMessage(
            [{"type": "reasoning", "reasoning": "Hm."}, {"type": "refusal", "refusal": "No."}],
            usage_metadata={"input_tokens": 2, "output_tokens": 1, "total_tokens": 3},
        )
        with served(make_agent(saying(words))) as url:
            response = answer(url, input="hello", stream=stream)
        assert [item["type"] for item in response["output"]] == ["reasoning", "message"]
        assert response["output"][1]["content"] == [{"type": "refusal", "refusal": "No."}]
        assert response["usage"]["total_tokens"] == 3

    @pytest.mark.parametrize("stream", [False, True])
    def test_half_an_answer(self, make_agent: Make, stream: bool) -> None:
        with served(make_agent(saying(AIMessage("So", response_metadata={"finish_reason": "length"})))) as url:
            response = answer(url, input="hello", stream=stream)
        assert (response["status"], response["completed_at"]) == ("incomplete", None)
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}

    def test_a_failure_in_a_stream_and_the_response_then(self, make_agent: Make) -> None:
        with served(make_agent(build_graph(Scripted("so", failure=ValueError("no")), []))) as url:
            error = answer(url, input="hello", stream=True, custom_inputs={"thread_id": "t"})
            assert error["type"] == "error"
            failed = started_in_background(url, "hello")
            eventually(lambda: retrieved(url, failed)["status"] == "failed")
            assert retrieved(url, failed)["error"]["code"] == "internal_error"

    def test_in_the_background(self, url: str) -> None:
        response_id = started_in_background(url, "hello")
        eventually(lambda: retrieved(url, response_id)["status"] == "completed")
        assert retrieved(url, response_id)["completed_at"]
        again = http.get(f"{url}/v1/responses/{response_id}", params={"stream": "true"}).text
        for event in events_in(again):
            check_event(event)

    def test_cancelled(self, make_agent: Make) -> None:
        go_on: list[bool] = []
        with served(make_agent(build_graph(Scripted("one", lambda: bool(go_on), "two"), []))) as url:
            response_id = started_in_background(url, "hello")
            cancelled = http.post(f"{url}/v1/responses/{response_id}/cancel").json()
            check_response(cancelled)
            assert cancelled["status"] == "cancelled"
            assert retrieved(url, response_id)["status"] == "cancelled"


def saying(message: AIMessage) -> Any:
    """A graph that always says the same."""

    async def say(state: MessagesState) -> dict[str, Any]:
        return {"messages": [message.model_copy(update={"id": None})]}

    return StateGraph(MessagesState).add_node("say", say).set_entry_point("say")


def started_in_background(url: str, text: str) -> str:
    started = answer(url, input=text, background=True)
    assert started["background"]
    return str(started["id"])


def retrieved(url: str, response_id: str) -> Any:
    response = http.get(f"{url}/v1/responses/{response_id}").json()
    check_response(response)
    return response
