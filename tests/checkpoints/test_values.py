"""Every key of a graph's state is kept as it is; what cannot be kept is named, and says how to keep it."""

import logging
import math
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from conftest import say
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from walking import execute

from stateful_agent.errors import AgentError

Make = Callable[..., Any]


class Holding(MessagesState):
    value: Any
    other: Any


def holding(*values: Any) -> StateGraph[Any, Any, Any, Any]:
    """A graph that puts the next of the values into its state each turn, and says how it finds it in its next step."""

    async def put(state: Holding) -> dict[str, Any]:
        turn = len(state["messages"]) // 2
        return {"value": values[turn]} if turn < len(values) else {"other": "x"}

    async def tell(state: Holding) -> dict[str, Any]:
        return {"messages": [AIMessage(ascii(state["value"]))]}

    graph = StateGraph(Holding)
    graph.add_node("put", put)
    graph.add_node("tell", tell)
    graph.add_edge(START, "put")
    graph.add_edge("put", "tell")
    return graph


def stored(agent: Any, checkpoint_id: str | None = None) -> Any:
    """The value as another process reads it, in Python."""

    async def read() -> Any:
        _, saver = await agent.store.graph_with_saver()
        checkpoint = await saver.load("t", checkpoint_id)
        return checkpoint.checkpoint["channel_values"]["value"]

    return agent.loop.run(read())


VALUES = [
    float("nan"),
    float("inf"),
    -0.0,
    1e16,
    0.1,
    1.0,
    "a\0b",
    "\ud800",
    "é",
    2**70,
    -(2**63) - 1,
    2**53 + 1,
    True,
    None,
    {"a": float("nan"), "b": "\0"},
    {1, 2},
]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_it_comes_back_as_it_was(make_agent: Make, value: Any, encrypted: bool) -> None:
    settings = {"langgraph_aes_key": "0123456789abcdef"} if encrypted else {}
    agent = make_agent(holding(value, "another"), **settings)
    first = say(agent, "one", thread_id="t")["custom_outputs"]["checkpoint_id"]
    say(agent, "two", thread_id="t")
    other = make_agent(holding(value), **settings)
    assert stored(other) == "another"
    found = stored(other, first)
    assert type(found) is type(value)
    assert repr(found) == repr(value)


def test_so_does_one_that_an_edit_gives(make_agent: Make) -> None:
    agent = make_agent(holding("one"))
    head = say(agent, "one", thread_id="t")["custom_outputs"]["checkpoint_id"]
    agent.update_checkpoint_state("t", head, values={"value": math.nan})
    assert math.isnan(stored(agent))


def test_what_the_version_before_kept_in_json_is_kept(make_agent: Make, database: str) -> None:
    agent = make_agent(holding(0.5))
    say(agent, "one", thread_id="t")
    execute(
        database,
        "UPDATE checkpoints SET checkpoint = jsonb_set(checkpoint, '{channel_values,value}', '0.5') "
        "WHERE checkpoint -> 'channel_versions' ? 'value'",
        "DELETE FROM checkpoint_blobs WHERE channel = 'value'",
    )
    say(agent, "two", thread_id="t")
    assert stored(make_agent(holding())) == 0.5


def test_the_state_is_told_as_json(make_agent: Make) -> None:
    agent = make_agent(holding({"nan": math.nan, "inf": -math.inf, "set": {1}, "half": "\ud800", "bytes": b"\xff"}))
    say(agent, "one", thread_id="t")
    value = agent.get_checkpoint_state("t")["values"]["value"]
    assert value == {"nan": "NaN", "inf": "-Infinity", "set": [1], "half": "?", "bytes": "_w=="}


@pytest.mark.parametrize(
    ("value", "kind"), [(threading.Lock(), "lock"), (lambda: 1, "function")], ids=["lock", "function"]
)
def test_what_cannot_be_kept_is_named(make_agent: Make, value: Any, kind: str) -> None:
    with pytest.raises(AgentError, match=rf"The state's 'value' holds a .*{kind}, which cannot be stored") as caught:
        say(make_agent(holding(value)), "one", thread_id="t")
    assert caught.value.code == "state_not_storable"


def test_an_interrupt_that_cannot_be_kept_is_named(make_agent: Make) -> None:
    async def ask(state: MessagesState) -> dict[str, Any]:
        interrupt(threading.Lock())
        return {}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    with pytest.raises(AgentError, match=r"An interrupt holds a .*lock"):
        say(make_agent(graph), "one", thread_id="t")


def test_an_artifact_that_cannot_be_kept_costs_the_artifact(make_agent: Make, caplog: Any) -> None:
    async def call(state: MessagesState) -> dict[str, Any]:
        called = {"name": "f", "args": {}, "id": "c"}
        result = ToolMessage("done", tool_call_id="c", artifact=threading.Lock())
        return {"messages": [AIMessage("", tool_calls=[cast(Any, called)]), result, AIMessage("all done")]}

    graph = StateGraph(MessagesState)
    graph.add_node("call", call)
    graph.add_edge(START, "call")
    agent = make_agent(graph)
    with caplog.at_level(logging.WARNING):
        say(agent, "one", thread_id="t")
    assert "artifact holds a" in caplog.text
    items = make_agent(graph).get_checkpoint_state("t")["messages"]
    assert [item["type"] for item in items] == ["message", "function_call", "function_call_output", "message"]
