"""The OpenAI Agents SDK, with the served agent as the model of one of its own. Tools show as `mcp_call` items."""

import asyncio
from typing import Any, cast

from agents import (
    Agent,
    HostedMCPTool,
    MCPToolApprovalFunctionResult,
    MCPToolApprovalRequest,
    ModelSettings,
    OpenAIResponsesModel,
    Runner,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from driver import (
    BREAK_OFF,
    CAREFUL,
    OSLO,
    OUTPUT,
    SF,
    SF_WEATHER,
    STRICT_URL,
    URL,
    WARMER,
    WEATHER,
    WHERE,
    Saw,
    case,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)
loop = asyncio.Runner()
Json = dict[str, Any]


def agent(url: str, custom_inputs: Json) -> Agent[None]:
    model = OpenAIResponsesModel("agent", AsyncOpenAI(base_url=url, api_key="none"))
    extra_body = {"custom_inputs": {"tool_items": "mcp_call"} | custom_inputs}
    return Agent("client", model=model, model_settings=ModelSettings(extra_body=extra_body))


def run(text: str, custom_inputs: Json, **fields: Any) -> Any:
    return loop.run(Runner.run(agent(URL, custom_inputs), text, **fields))


def receive(saw: Saw, text: str, url: str = URL) -> Any:
    async def listen() -> Any:
        result = Runner.run_streamed(agent(url, {"thread_id": saw.thread_id}), text)
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                saw.receive(event.data.delta)
        return result

    return loop.run(listen())


def calls_in(result: Any) -> list[str]:
    return [item.raw_item.name for item in result.new_items if item.type == "tool_call_item"]


@case("answer")
def answer(saw: Saw) -> None:
    saw.text = run(SF, {"thread_id": saw.thread_id}).final_output


@case("stream")
def stream(saw: Saw) -> None:
    assert receive(saw, SF).final_output == saw.text


@case("tool call", by="run")
def tool_call(saw: Saw) -> None:
    result = run(WEATHER, {"thread_id": saw.thread_id})
    saw.text, saw.calls = result.final_output, calls_in(result)


@case("tool call", by="run_streamed")
def tool_call_in_stream(saw: Saw) -> None:
    saw.calls = calls_in(receive(saw, WEATHER))


@case("second turn", by="session")
def second_turn(saw: Saw) -> None:
    session, custom_inputs = SQLiteSession(saw.thread_id), {"thread_id": saw.thread_id}
    run(WEATHER, custom_inputs, session=session)
    saw.text = run(WARMER, custom_inputs, session=session).final_output


@case("second turn", by="previous_response_id")
def second_turn_by_response(saw: Saw) -> None:
    first = run(WEATHER, {"thread_id": saw.thread_id}).last_response_id
    saw.text = run(WARMER, {}, previous_response_id=first).final_output


@case("fork", by="previous_response_id")
def fork(saw: Saw) -> None:
    first = run(SF, {"thread_id": saw.thread_id}).last_response_id
    run(OSLO, {}, previous_response_id=first)
    saw.text = run(WHERE, {}, previous_response_id=first).final_output


@function_tool
def get_weather(location: str) -> str:
    """The weather there."""
    return OUTPUT


@case("client function", by="run")
def client_function(saw: Saw) -> None:
    equipped = agent(URL, {"thread_id": saw.thread_id})
    equipped.tools = [get_weather]
    result = loop.run(Runner.run(equipped, SF_WEATHER))
    saw.text, saw.calls = result.final_output, calls_in(result)


@case("client function", by="run_streamed")
def client_function_in_stream(saw: Saw) -> None:
    async def listen() -> Any:
        equipped = agent(URL, {"thread_id": saw.thread_id})
        equipped.tools = [get_weather]
        result = Runner.run_streamed(equipped, SF_WEATHER)
        async for _ in result.stream_events():
            pass
        return result

    result = loop.run(listen())
    saw.text, saw.calls = result.final_output, calls_in(result)


@case("JSON schema", by="output_type")
def json_schema(saw: Saw) -> None:
    class Trip(BaseModel):
        city: str
        days: int

    formed = agent(URL, {"thread_id": saw.thread_id})
    formed.output_type = Trip
    saw.text = loop.run(Runner.run(formed, SF)).final_output.model_dump_json()


@case("approval", by="on_approval_request")
def approval(saw: Saw) -> None:
    def approve(request: MCPToolApprovalRequest) -> MCPToolApprovalFunctionResult:
        saw.calls.append(request.data.name)
        return {"approve": True}

    own = {"type": "mcp", "server_label": "stateful-agent", "server_url": STRICT_URL}
    reviewed = agent(STRICT_URL, {"thread_id": saw.thread_id})
    reviewed.tools = [HostedMCPTool(cast(Any, own), on_approval_request=approve)]
    saw.text = loop.run(Runner.run(reviewed, CAREFUL)).final_output


@case("refused")
def refused(saw: Saw) -> None:
    run(SF, {"thread_id": saw.thread_id, "checkpoint_id": "none"})


@case("broken off")
def broken_off(saw: Saw) -> None:
    receive(saw, BREAK_OFF, STRICT_URL)
