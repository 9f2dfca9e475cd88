"""LangChain's ChatOpenAI, by the Responses API."""

from typing import Any

from driver import (
    BREAK_OFF,
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
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr


def connect(url: str, **fields: Any) -> ChatOpenAI:
    return ChatOpenAI(model="agent", base_url=url, api_key=SecretStr("none"), use_responses_api=True, **fields)


chat, strict = connect(URL), connect(STRICT_URL)


def receive(saw: Saw, chat: ChatOpenAI, text: str) -> Any:
    whole = None
    for chunk in chat.stream(text, extra_body=saw.custom_inputs()):
        saw.receive(chunk.text)
        whole = chunk if whole is None else whole + chunk
    return whole


def calls_in(message: AIMessage) -> list[str]:
    return [call["name"] for call in message.tool_calls if call["args"]]


@case("answer")
def answer(saw: Saw) -> None:
    saw.text = chat.invoke(SF, extra_body=saw.custom_inputs()).text


@case("stream")
def stream(saw: Saw) -> None:
    receive(saw, chat, SF)


@case("tool call", by="invoke")
def tool_call(saw: Saw) -> None:
    message = chat.invoke(WEATHER, extra_body=saw.custom_inputs())
    saw.text, saw.calls = message.text, calls_in(message)


@case("tool call", by="stream")
def tool_call_in_stream(saw: Saw) -> None:
    saw.calls = calls_in(receive(saw, chat, WEATHER))


@case("second turn", by="history")
def second_turn(saw: Saw) -> None:
    history: list[Any] = [HumanMessage(WEATHER)]
    history += [chat.invoke(history, extra_body=saw.custom_inputs()), HumanMessage(WARMER)]
    saw.text = chat.invoke(history, extra_body=saw.custom_inputs()).text


@case("second turn", by="previous_response_id")
def second_turn_by_response(saw: Saw) -> None:
    first = chat.invoke(WEATHER, extra_body=saw.custom_inputs())
    history = [HumanMessage(WEATHER), first, HumanMessage(WARMER)]
    saw.text = connect(URL, use_previous_response_id=True).invoke(history).text


@tool
def get_weather(location: str) -> str:
    """The weather there."""
    return OUTPUT


@case("client function", by="bind_tools")
def client_function(saw: Saw) -> None:
    bound = chat.bind_tools([get_weather])
    history: list[Any] = [HumanMessage(SF_WEATHER)]
    history.append(bound.invoke(history, extra_body=saw.custom_inputs()))
    saw.calls = calls_in(history[-1])
    history += [get_weather.invoke(call) for call in history[-1].tool_calls]
    saw.text = bound.invoke(history, extra_body=saw.custom_inputs()).text


@case("JSON schema", by="with_structured_output")
def json_schema(saw: Saw) -> None:
    class Trip(BaseModel):
        """A trip."""

        city: str
        days: int

    structured = connect(URL, extra_body=saw.custom_inputs()).with_structured_output(Trip)
    trip: Any = structured.invoke(SF)
    saw.text = trip.model_dump_json()


@case("fork", by="metadata")
def fork(saw: Saw) -> None:
    first = chat.invoke(SF, extra_body={"metadata": {"thread_id": saw.thread_id}})
    chat.invoke(OSLO, extra_body={"metadata": {"thread_id": saw.thread_id}})
    saw.text = chat.invoke(WHERE, extra_body={"metadata": first.response_metadata["metadata"]}).text


@case("fork", by="previous_response_id")
def fork_by_response(saw: Saw) -> None:
    first = chat.invoke(SF, extra_body=saw.custom_inputs()).response_metadata["id"]
    chat.invoke(OSLO, previous_response_id=first)
    saw.text = chat.invoke(WHERE, previous_response_id=first).text


@case("refused")
def refused(saw: Saw) -> None:
    chat.invoke(SF, extra_body=saw.custom_inputs(checkpoint_id="none"))


@case("broken off")
def broken_off(saw: Saw) -> None:
    receive(saw, strict, BREAK_OFF)
