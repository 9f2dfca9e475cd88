import asyncio
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage
from langchain_core.tools import tool
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from stateful_agent.errors import Misconfigured
from stateful_agent.graph.build import build_graph, check_graph

runs: list[str] = []


@tool
def works(name: str) -> str:
    """Work."""
    runs.append(name)
    return f"{name} done"


@tool
def fails(name: str) -> str:
    """Fail."""
    raise ValueError("out of order")


class Model(GenericFakeChatModel):
    disable_streaming: bool = True  # it cannot stream calls

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def call(name: str, n: int) -> ToolCall:
    return ToolCall(name=name, args={"name": f"call {n}"}, id=f"c{n}", type="tool_call")


def graph(*answers: AIMessage) -> Any:
    return build_graph(Model(messages=iter(answers)), [works, fails]).compile(checkpointer=InMemorySaver())


def messages_of(*answers: AIMessage) -> list[Any]:
    """The text that a turn emits in which the model gives `answers`."""
    return asyncio.run(graph(*answers).ainvoke(GO, CONFIG))["messages"]


CONFIG: Any = {"configurable": {"thread_id": "t"}}
GO = {"messages": [HumanMessage("go")]}


def test_it_runs_the_tools_and_calls_the_model_again() -> None:
    messages = messages_of(AIMessage("", tool_calls=[call("works", 1)]), AIMessage("end"))
    assert [type(message) for message in messages] == [HumanMessage, AIMessage, ToolMessage, AIMessage]


def test_a_tool_that_raises_becomes_a_message_that_says_so() -> None:
    messages = messages_of(AIMessage("", tool_calls=[call("fails", 1)]), AIMessage("end"))
    assert messages[2].status == "error"
    assert "out of order" in messages[2].text


@tool
async def hangs() -> str:
    """Never return."""
    await asyncio.sleep(3600)
    return "never"


def test_a_tool_that_takes_too_long_becomes_one_too() -> None:
    model = Model(messages=iter([AIMessage("", tool_calls=[call("hangs", 1), call("works", 2)]), AIMessage("end")]))
    agent: Any = build_graph(model, [hangs, works], tool_timeout=0.1).compile()
    _, _, hung, worked, answer = asyncio.run(agent.ainvoke(GO))["messages"]
    assert (hung.status, worked.status, answer.text) == ("error", "success", "end")
    assert "not finished after 0.1 seconds" in hung.text


@tool
async def breaks() -> str:
    """Fail when given up."""
    try:
        await asyncio.sleep(3600)
    finally:
        raise ConnectionError("broken")


def test_what_a_tool_answers_to_being_given_up_is_not_why() -> None:
    model = Model(messages=iter([AIMessage("", tool_calls=[call("breaks", 1)]), AIMessage("end")]))
    agent: Any = build_graph(model, [breaks], tool_timeout=0.1).compile()
    result = asyncio.run(agent.ainvoke(GO))["messages"][2]
    assert (result.status, result.name, result.tool_call_id) == ("error", "breaks", "c1")
    assert "not finished after 0.1 seconds" in result.text


@tool
async def times_out() -> str:
    """Ask somebody who does not answer."""
    raise TimeoutError("the shop does not answer")


def test_a_tools_own_timeout_is_its_error_and_not_that_it_took_too_long() -> None:
    model = Model(messages=iter([AIMessage("", tool_calls=[call("times_out", 1)]), AIMessage("end")]))
    agent: Any = build_graph(model, [times_out], tool_timeout=60).compile()
    result = asyncio.run(agent.ainvoke(GO))["messages"][2]
    assert (result.status, result.text) == ("error", "Error: the shop does not answer")


def test_a_tool_that_does_not_exist_becomes_one_too() -> None:
    messages = messages_of(AIMessage("", tool_calls=[call("missing", 1)]), AIMessage("end"))
    assert messages[2].status == "error"


def test_each_call_is_a_task_of_its_own() -> None:
    agent = graph(AIMessage("", tool_calls=[call("works", 1), call("works", 2)]), AIMessage("end"))
    asyncio.run(agent.ainvoke(GO, CONFIG, interrupt_before=["tools"]))
    assert agent.get_state(CONFIG).next == ("tools", "tools")


def test_the_system_prompt_is_told_but_not_kept() -> None:
    received: list[Any] = []

    class Listening(Model):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            received.extend(messages)
            return super()._generate(messages, *args, **kwargs)

    agent: Any = build_graph(Listening(messages=iter([AIMessage("end")])), [], "Be kind.").compile()
    kept = asyncio.run(agent.ainvoke(GO))["messages"]
    assert received[0] == SystemMessage("Be kind.")
    assert [type(message) for message in kept] == [HumanMessage, AIMessage]


class Deltas(TypedDict):
    messages: Annotated[list[Any], DeltaChannel(lambda old, new: [*old, *new])]


class Silent(TypedDict):
    words: str


@pytest.mark.parametrize("state", [Deltas, Silent])
def test_a_graph_that_cannot_be_served_is_refused(state: Any) -> None:
    bare: Any = StateGraph(state)
    bare.add_node("nothing", lambda state: {})
    bare.add_edge(START, "nothing")
    with pytest.raises(Misconfigured, match="messages"):
        check_graph(bare.compile())
