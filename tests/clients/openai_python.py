"""The OpenAI client for Python, of either major version, and Databricks' subclass of it."""

import time
from typing import Any

import openai
from driver import (
    BREAK_OFF,
    CAREFUL,
    FORM,
    FUNCTION,
    NAME,
    OSLO,
    OUTPUT,
    SF,
    SF_WEATHER,
    SLOWLY,
    STRICT_URL,
    URL,
    WARMER,
    WEATHER,
    WHERE,
    Saw,
    case,
    use_as_databricks,
)
from pydantic import BaseModel


def connect(url: str) -> openai.OpenAI:
    if NAME != "DatabricksOpenAI":
        return openai.OpenAI(base_url=url, api_key="none")
    use_as_databricks(url)
    from databricks_openai import DatabricksOpenAI

    return DatabricksOpenAI()


client, strict = connect(URL), connect(STRICT_URL)


def ask(input: Any, custom: dict[str, Any] | None = None, **fields: Any) -> Any:
    return client.responses.create(model="agent", input=input, extra_body=custom, **fields)


def calls_in(response: Any) -> list[str]:
    return [item.name for item in response.output if item.type == "function_call"]


def receive(saw: Saw, client: openai.OpenAI, text: str) -> None:
    for event in client.responses.create(model="agent", input=text, stream=True, extra_body=saw.custom_inputs()):
        if event.type == "response.output_text.delta":
            saw.receive(event.delta)


def hear_by_helper(saw: Saw, client: openai.OpenAI, text: str) -> Any:
    with client.responses.stream(model="agent", input=text, extra_body=saw.custom_inputs()) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                saw.receive(event.delta)
        return stream.get_final_response()


@case("answer")
def answer(saw: Saw) -> None:
    saw.text = ask(SF, saw.custom_inputs()).output_text


@case("stream", by="create")
def stream(saw: Saw) -> None:
    receive(saw, client, SF)


@case("stream", by="stream")
def stream_by_helper(saw: Saw) -> None:
    assert hear_by_helper(saw, client, SF).output_text == saw.text


@case("tool call", by="create")
def tool_call(saw: Saw) -> None:
    response = ask(WEATHER, saw.custom_inputs())
    saw.text, saw.calls = response.output_text, calls_in(response)


@case("tool call", by="stream")
def tool_call_by_helper(saw: Saw) -> None:
    saw.calls = calls_in(hear_by_helper(saw, client, WEATHER))


@case("second turn", by="previous_response_id")
def second_turn(saw: Saw) -> None:
    saw.text = ask(WARMER, previous_response_id=ask(WEATHER, saw.custom_inputs()).id).output_text


@case("second turn", by="conversation")
def second_turn_by_conversation(saw: Saw) -> None:
    ask(WEATHER, saw.custom_inputs())
    saw.text = ask(WARMER, conversation=saw.thread_id).output_text


@case("second turn", by="history")
def second_turn_resent(saw: Saw) -> None:
    history: list[Any] = [{"role": "user", "content": WEATHER}]
    history += [*ask(history, saw.custom_inputs()).output, {"role": "user", "content": WARMER}]
    saw.text = ask(history, saw.custom_inputs()).output_text


@case("client function", by="create")
def client_function(saw: Saw) -> None:
    asked = ask(SF_WEATHER, saw.custom_inputs(), tools=[FUNCTION])
    saw.calls, call = calls_in(asked), asked.output[-1]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": OUTPUT}
    saw.text = ask([output], previous_response_id=asked.id).output_text


@case("client function", by="stream")
def client_function_by_helper(saw: Saw) -> None:
    tools: Any = [FUNCTION]
    history: list[Any] = [{"role": "user", "content": SF_WEATHER}]
    while not saw.text:
        with client.responses.stream(
            model="agent", input=history, tools=tools, extra_body=saw.custom_inputs()
        ) as stream:
            response = stream.get_final_response()
        history += response.output
        for item in response.output:
            if item.type == "function_call":
                saw.calls.append(item.name)
                history.append({"type": "function_call_output", "call_id": item.call_id, "output": OUTPUT})
        saw.text = response.output_text


@case("JSON schema", by="create")
def json_schema(saw: Saw) -> None:
    saw.text = ask(SF, saw.custom_inputs(), text=FORM).output_text


@case("JSON schema", by="parse")
def json_schema_by_helper(saw: Saw) -> None:
    class Trip(BaseModel):
        city: str
        days: int

    response = client.responses.parse(model="agent", input=SF, text_format=Trip, extra_body=saw.custom_inputs())
    assert response.output_parsed
    saw.text = response.output_parsed.model_dump_json()


@case("fork", by="custom_inputs")
def fork(saw: Saw) -> None:
    first = ask(SF, saw.custom_inputs())
    ask(OSLO, saw.custom_inputs())
    saw.text = ask(WHERE, {"custom_inputs": first.custom_outputs}).output_text


@case("fork", by="previous_response_id")
def fork_by_response(saw: Saw) -> None:
    first = ask(SF, saw.custom_inputs())
    ask(OSLO, previous_response_id=first.id)
    saw.text = ask(WHERE, previous_response_id=first.id).output_text


@case("approval")
def approval(saw: Saw) -> None:
    asked = strict.responses.create(model="agent", input=CAREFUL, extra_body=saw.custom_inputs())
    [request] = [item for item in asked.output if item.type == "mcp_approval_request"]
    answer: Any = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
    saw.calls = [request.name]
    saw.text = strict.responses.create(model="agent", input=[answer], previous_response_id=asked.id).output_text


@case("refused")
def refused(saw: Saw) -> None:
    ask(SF, saw.custom_inputs(checkpoint_id="none"))


@case("broken off", by="create")
def broken_off(saw: Saw) -> None:
    receive(saw, strict, BREAK_OFF)


@case("broken off", by="stream")
def broken_off_by_helper(saw: Saw) -> None:
    hear_by_helper(saw, strict, BREAK_OFF)


if NAME == "DatabricksOpenAI":  # Databricks has no route to a response, or to conversations
    raise SystemExit


@case("second turn", by="conversations.create")
def second_turn_in_a_conversation(saw: Saw) -> None:
    saw.thread_id = client.conversations.create().id
    ask(WEATHER, conversation=saw.thread_id)
    saw.text = ask(WARMER, conversation=saw.thread_id).output_text


@case("background")
def background(saw: Saw) -> None:
    response = strict.responses.create(model="agent", input=SLOWLY, background=True, extra_body=saw.custom_inputs())
    saw.statuses.append(response.status)
    while response.status in ("queued", "in_progress"):
        time.sleep(0.2)
        response = strict.responses.retrieve(response.id)
    saw.statuses.append(response.status)
    saw.text = response.output_text


@case("resumed")
def resumed(saw: Saw) -> None:
    received = strict.responses.create(
        model="agent", input=SLOWLY, stream=True, background=True, extra_body=saw.custom_inputs()
    )
    created = next(received)
    assert created.type == "response.created"
    first = next(event for event in received if event.type == "response.output_text.delta")
    saw.receive(first.delta)
    received.close()
    rest = strict.responses.retrieve(created.response.id, stream=True, starting_after=first.sequence_number)
    for event in rest:
        if event.type == "response.output_text.delta":
            saw.receive(event.delta)
        saw.statuses = [event.type]


@case("cancelled")
def cancelled(saw: Saw) -> None:
    response = strict.responses.create(model="agent", input=SLOWLY, background=True, extra_body=saw.custom_inputs())
    saw.statuses += [response.status, strict.responses.cancel(response.id).status]
    saw.statuses.append(strict.responses.retrieve(response.id).status)
