"""A client's own functions: the model calls them, the client runs them, and the turn goes on with their outputs."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from conftest import http
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import MessagesState, StateGraph
from langgraph.runtime import Runtime
from listening_servers import served
from open_responses import check_event, check_response, events_in
from scripted import Scripted

from stateful_agent.graph import ModelSettings, OfflineModel, build_graph, current_time, search_tool

Make = Callable[..., Any]
Ask = Callable[..., Any]


def function(name: str, *arguments: str, **fields: Any) -> dict[str, Any]:
    properties = {argument: {"type": "string"} for argument in arguments}
    schema = {"type": "object", "properties": properties, "required": list(arguments)}
    return {"type": "function", "name": name, "description": name, "parameters": schema, **fields}


GET_WEATHER = function("get_weather", "location")
BOTH = "What is the weather in SF and LA?"


@pytest.fixture
def url(make_agent: Make) -> Iterator[str]:
    with served(make_agent(build_graph(OfflineModel(), [current_time, search_tool(None)]))) as url:
        yield url


@pytest.fixture(params=[False, True], ids=["json", "stream"])
def ask(request: pytest.FixtureRequest, url: str) -> Ask:
    return lambda input, **fields: take(url, input=input, stream=request.param, **fields)


def take(url: str, **body: Any) -> Any:
    answered = http.post(f"{url}/v1/responses", json=body, timeout=30)
    assert answered.status_code == 200, answered.text
    if not body.get("stream"):
        check_response(answered.json())
        return answered.json()
    events = events_in(answered.text)
    for event in events:
        check_event(event)
    return events[-1]["response"]


def refused(url: str, **body: Any) -> dict[str, Any]:
    answered = http.post(f"{url}/v1/responses", json=body)
    assert answered.status_code == 400
    return dict(answered.json()["error"])


def calls_in(response: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in response["output"] if item["type"] == "function_call"]


def output(call: dict[str, Any], text: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call["call_id"], "output": text}


def text_in(response: dict[str, Any]) -> str:
    return str(response["output"][-1]["content"][0]["text"])


class TestRoundTrip:
    def test_a_call_ends_the_turn(self, ask: Ask) -> None:
        response = ask("What is the weather in SF?", tools=[GET_WEATHER])
        [call] = response["output"]
        assert (call["type"], call["name"], call["arguments"]) == ("function_call", "get_weather", '{"location": "SF"}')
        assert (response["status"], call["status"]) == ("completed", "completed")
        assert response["tools"] == [GET_WEATHER | {"strict": None}]

    @pytest.mark.parametrize("by", ["previous_response_id", "conversation", "thread_id"])
    def test_its_output_goes_on_without_the_tools(self, ask: Ask, by: str) -> None:
        asked = ask("What is the weather in SF?", tools=[GET_WEATHER])
        thread_id = asked["custom_outputs"]["thread_id"]
        reference: dict[str, Any] = {
            "previous_response_id": {"previous_response_id": asked["id"]},
            "conversation": {"conversation": thread_id},
            "thread_id": {"custom_inputs": {"thread_id": thread_id}},
        }[by]
        answer = ask([output(calls_in(asked)[0], "SF: 60°F")], **reference)
        assert "SF: 60°F" in text_in(answer)
        assert calls_in(answer) == []

    def test_several_at_once(self, ask: Ask) -> None:
        asked = ask(BOTH, tools=[GET_WEATHER])
        first, second = calls_in(asked)
        outputs = [output(first, "SF: 60°F"), output(second, "LA: 70°F")]
        answer = ask(outputs, previous_response_id=asked["id"])
        assert "SF: 60°F\nLA: 70°F" in text_in(answer)

    def test_a_message_may_follow_the_output(self, ask: Ask) -> None:
        asked = ask(BOTH, tools=[GET_WEATHER])
        outputs = [output(call, f"{n}°F") for n, call in enumerate(calls_in(asked))]
        said = {"role": "user", "content": "My name is Ann."}
        assert "Ann" in text_in(ask([*outputs, said], previous_response_id=asked["id"]))

    def test_a_client_that_sends_all_of_it_again(self, ask: Ask) -> None:
        """With a thread, without one, and without keeping anything."""
        asked = ask("What is the weather in SF?", tools=[GET_WEATHER])
        [call] = calls_in(asked)
        sent = [{"role": "user", "content": "What is the weather in SF?"}, call, output(call, "SF: 60°F")]
        on_thread = {"custom_inputs": {"thread_id": asked["custom_outputs"]["thread_id"]}}
        for fields in (on_thread, {}, {"store": False}):
            assert "SF: 60°F" in text_in(ask(sent, tools=[GET_WEATHER], **fields))

    @pytest.mark.parametrize("tool_items", ["mcp_call", "hidden"])
    def test_it_is_a_function_call_however_others_are_shown(self, ask: Ask, tool_items: str) -> None:
        asked = ask("What is the weather in SF?", tools=[GET_WEATHER], custom_inputs={"tool_items": tool_items})
        assert [item["type"] for item in asked["output"]] == ["function_call"]


class Calling(Scripted):
    """A model that calls a tool of the agent's and a function of the client's in one message."""

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        if isinstance(messages[-1], ToolMessage):
            yield ChatGenerationChunk(
                message=AIMessageChunk(content=" | ".join(message.text for message in messages[2:]))
            )
            return
        called = ("current_time", '{"time_zone": "UTC"}'), ("get_weather", '{"location": "SF"}')
        calls = [tool_call_chunk(name=c, args=args, id=f"call-{c}", index=n) for n, (c, args) in enumerate(called)]
        yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=calls))


class TestBothKinds:
    """The model calls a function of the client's and a tool of the agent's in one message."""

    @pytest.fixture
    def url(self, make_agent: Make) -> Iterator[str]:
        with served(make_agent(build_graph(Calling(), [current_time]))) as url:
            yield url

    def test_the_agents_runs_and_the_clients_is_told(self, ask: Ask) -> None:
        asked = ask("Both!", tools=[GET_WEATHER])
        kinds = [(item["type"], item["call_id"]) for item in asked["output"]]
        assert kinds == [
            ("function_call", "call-current_time"),
            ("function_call", "call-get_weather"),
            ("function_call_output", "call-current_time"),
        ]
        answer = ask([output({"call_id": "call-get_weather"}, "SF: 60°F")], previous_response_id=asked["id"])
        assert "SF: 60°F" in text_in(answer)
        assert "UTC" in text_in(answer)

    def test_an_output_for_the_agents_own_tool_is_refused(self, url: str) -> None:
        asked = take(url, input="Both!", tools=[GET_WEATHER])
        made_up = [output({"call_id": "call-current_time"}, "midnight")]
        assert "answers no pending" in refused(url, input=made_up, previous_response_id=asked["id"])["message"]


class TestTimeTravel:
    def test_another_input_closes_the_call(self, ask: Ask, url: str) -> None:
        asked = ask("What is the weather in SF?", tools=[GET_WEATHER])
        thread_id = asked["custom_outputs"]["thread_id"]
        assert "Ann" in text_in(ask("My name is Ann.", custom_inputs={"thread_id": thread_id}))
        items = http.get(f"{url}/threads/{thread_id}/state").json()["messages"]
        [closed] = [item for item in items if item["type"] == "function_call_output"]
        assert closed["output"] == "This call has no result: the conversation went on without one."

    def test_two_outputs_of_one_call_are_two_branches(self, ask: Ask, url: str) -> None:
        asked = ask("What is the weather in SF?", tools=[GET_WEATHER])
        [call] = calls_in(asked)
        at = {key: asked["custom_outputs"][key] for key in ("thread_id", "checkpoint_id")}
        for degrees in ("60°F", "70°F"):
            assert degrees in text_in(ask([output(call, degrees)], custom_inputs=at))
        branches = http.get(f"{url}/threads/{at['thread_id']}/branches").json()
        assert len(branches) == 2

    def test_the_pending_call_is_seen_in_the_state(self, ask: Ask, url: str) -> None:
        asked = ask("What is the weather in SF?", tools=[GET_WEATHER])
        state = http.get(f"{url}/threads/{asked['custom_outputs']['thread_id']}/state").json()
        assert (state["messages"][-1]["name"], state["next_nodes"]) == ("get_weather", [])

    def test_an_output_that_is_sent_twice_is_taken_once(self, ask: Ask, url: str) -> None:
        asked = ask("What is the weather in SF?", tools=[GET_WEATHER])
        thread = {"custom_inputs": {"thread_id": asked["custom_outputs"]["thread_id"]}}
        outputs = [output(calls_in(asked)[0], "60°F")]
        ask(outputs, **thread)
        assert refused(url, input=outputs, **thread)["type"] == "invalid_request_error"


ONE = {"type": "function", "name": "get_weather"}


class TestChoice:
    @pytest.mark.parametrize(
        ("choice", "called"),
        [
            ("none", []),
            ("auto", ["get_weather"]),
            ("required", ["get_weather"]),
            (ONE, ["get_weather"]),
            ({"type": "allowed_tools", "mode": "auto", "tools": [ONE]}, ["get_weather"]),
            ({"type": "allowed_tools", "mode": "auto", "tools": [ONE | {"name": "book_flight"}]}, []),
            ({"type": "allowed_tools", "mode": "required", "tools": [ONE | {"name": "book_flight"}]}, ["book_flight"]),
        ],
        ids=str,
    )
    def test_of_tools(self, ask: Ask, choice: Any, called: list[str]) -> None:
        response = ask("How is the weather?", tools=[GET_WEATHER, function("book_flight", "to")], tool_choice=choice)
        assert [call["name"] for call in calls_in(response)] == called
        assert response["tool_choice"] == choice

    @pytest.mark.parametrize("choice", ["required", ONE])
    def test_that_is_forced_is_so_whatever_was_asked(self, ask: Ask, choice: Any) -> None:
        tools = [function("get_weather", "location")]
        assert len(calls_in(ask("hello", tools=tools, tool_choice=choice))) == 1

    def test_one_call_at_a_time(self, ask: Ask) -> None:
        response = ask(BOTH, tools=[GET_WEATHER], parallel_tool_calls=False)
        assert len(calls_in(response)) == 1
        assert response["parallel_tool_calls"] is False

    def test_a_forced_tool_of_the_agents_runs_once(self, ask: Ask) -> None:
        response = ask("hello", tool_choice={"type": "function", "name": "search"})
        assert [item["type"] for item in response["output"]] == ["function_call", "function_call_output", "message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [function("search", "query")]}, "tools"),
        ({"tools": [GET_WEATHER, GET_WEATHER]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [function("a b")]}, "tools[0].name"),
        ({"tools": [GET_WEATHER | {"parameters": "x"}]}, "tools[0].parameters"),
        ({"tools": [GET_WEATHER | {"strict": 1}]}, "tools[0].strict"),
        ({"tools": "x"}, "tools"),
        ({"tool_choice": {"type": "function", "name": "nothing"}}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "tools": []}}, "tool_choice"),
        ({"input": [output({"call_id": "call_1"}, "60°F")]}, None),
        ({"input": [output({"call_id": "call_1"}, "60°F")], "custom_inputs": {"thread_id": "new"}}, "input"),
    ],
)
def test_what_is_refused(url: str, fields: Any, param: str | None) -> None:
    assert refused(url, **({"input": "hello"} | fields))["param"] == param


class TestAGraphOfOnesOwn:
    def test_takes_part_through_its_context(self, make_agent: Make) -> None:
        async def answer(state: MessagesState, runtime: Runtime[ModelSettings]) -> dict[str, Any]:
            settings = runtime.context or ModelSettings()
            return {"messages": await settings.bind(OfflineModel(), [], state["messages"]).ainvoke(state["messages"])}

        graph = StateGraph(MessagesState, ModelSettings).add_node("answer", answer).set_entry_point("answer")
        with served(make_agent(graph)) as url:
            asked = take(url, input="What is the weather in SF?", tools=[GET_WEATHER])
            answered = take(url, input=[output(calls_in(asked)[0], "60°F")], previous_response_id=asked["id"])
        assert "60°F" in text_in(answered)

    def test_or_says_how_it_could(self, make_agent: Make) -> None:
        async def answer(state: MessagesState) -> dict[str, Any]:
            return {"messages": [AIMessage("hi")]}

        with served(make_agent(StateGraph(MessagesState).add_node("answer", answer).set_entry_point("answer"))) as url:
            error = refused(url, input="hello", tools=[GET_WEATHER])
        assert error["param"] == "tools"
        assert "ModelSettings" in error["message"]


def test_a_model_that_cannot_make_one_call_at_a_time(make_agent: Make) -> None:
    with served(make_agent(build_graph(Calling(), [current_time]))) as url:
        thread = {"custom_inputs": {"thread_id": "t"}}
        error = refused(url, input="Both!", tools=[GET_WEATHER], parallel_tool_calls=False, **thread)
        assert error["param"] == "parallel_tool_calls"
        asked = take(url, input="Again!", tools=[GET_WEATHER], **thread)
        assert len(calls_in(asked)) == 2
        assert "Both!" not in http.get(f"{url}/threads/t/state").text
