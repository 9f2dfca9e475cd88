"""Databricks' ChatDatabricks, which finds the server as it finds a workspace."""

from typing import Any

from databricks.sdk import WorkspaceClient
from databricks_langchain import ChatDatabricks
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
    use_as_databricks,
)
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.tools import tool


def connect(url: str) -> Any:
    use_as_databricks(url)
    return ChatDatabricks(endpoint="agent", use_responses_api=True, workspace_client=WorkspaceClient())


chat, strict = connect(URL), connect(STRICT_URL)


def receive(saw: Saw, chat: Any, text: str) -> list[Any]:
    chunks = []
    for chunk in chat.stream(text, **saw.custom_inputs()):
        if isinstance(chunk, AIMessageChunk):  # and not a tool's output
            saw.receive(chunk.text)
            chunks.append(chunk)
    return chunks


def calls_in(*messages: Any) -> list[str]:
    return [call["name"] for message in messages for call in message.tool_calls if call["args"]]


@case("answer")
def answer(saw: Saw) -> None:
    saw.text = chat.invoke(SF, **saw.custom_inputs()).text


@case("stream")
def stream(saw: Saw) -> None:
    receive(saw, chat, SF)


@case("tool call", by="invoke")
def tool_call(saw: Saw) -> None:
    message = chat.invoke(WEATHER, **saw.custom_inputs())
    saw.text, saw.calls = message.text, calls_in(message)


@case("tool call", by="stream")
def tool_call_in_stream(saw: Saw) -> None:
    saw.calls = calls_in(*receive(saw, chat, WEATHER))


@case("second turn", by="history")
def second_turn(saw: Saw) -> None:
    history: list[Any] = [HumanMessage(WEATHER)]
    history += [chat.invoke(history, **saw.custom_inputs()), HumanMessage(WARMER)]
    saw.text = chat.invoke(history, **saw.custom_inputs()).text


@case("second turn", by="custom_inputs")
def second_turn_in_thread(saw: Saw) -> None:
    first = chat.invoke(WEATHER, **saw.custom_inputs())
    saw.text = chat.invoke(WARMER, custom_inputs={"thread_id": first.custom_outputs["thread_id"]}).text


@tool
def get_weather(location: str) -> str:
    """The weather there."""
    return OUTPUT


@case("client function", by="bind_tools")
def client_function(saw: Saw) -> None:
    bound = chat.bind_tools([get_weather])
    history: list[Any] = [HumanMessage(SF_WEATHER)]
    history.append(bound.invoke(history, **saw.custom_inputs()))
    saw.calls = calls_in(history[-1])
    history += [get_weather.invoke(call) for call in history[-1].tool_calls]
    saw.text = bound.invoke(history, **saw.custom_inputs()).text


@case("fork", by="custom_inputs")
def fork(saw: Saw) -> None:
    first = chat.invoke(SF, **saw.custom_inputs())
    chat.invoke(OSLO, **saw.custom_inputs())
    saw.text = chat.invoke(WHERE, custom_inputs=first.custom_outputs).text


@case("fork", by="custom_inputs after a stream")
def fork_of_stream(saw: Saw) -> None:
    outputs = [chunk.custom_outputs for chunk in receive(saw, chat, SF) if getattr(chunk, "custom_outputs", None)][-1]
    chat.invoke(OSLO, **saw.custom_inputs())
    saw.text = chat.invoke(WHERE, custom_inputs=outputs).text


@case("refused")
def refused(saw: Saw) -> None:
    chat.invoke(SF, **saw.custom_inputs(checkpoint_id="none"))


@case("broken off")
def broken_off(saw: Saw) -> None:
    receive(saw, strict, BREAK_OFF)
