"""Huge and odd input, output and tools: stored faithfully, or refused cleanly."""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from conftest import say
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tools import tool
from scripted import Calling, Scripted
from walking import texts, user

from stateful_agent.errors import AgentError, InvalidRequest
from stateful_agent.graph.build import build_graph

Make = Callable[..., Any]

MEGABYTE = 1024 * 1024


@pytest.mark.parametrize(
    "text",
    [
        "x" * 10 * MEGABYTE,
        "👩‍👩‍👧‍👦 \u202e ﷽ \x7f",
        "nul \0 in the middle",
        "\\ud800 '; DROP TABLE x; -- %s {}",
    ],
    ids=["10 MB", "emoji", "NUL", "escapes"],
)
def test_text_comes_back_as_it_was(make_agent: Make, text: str) -> None:
    received: list[list[BaseMessage]] = []
    agent = make_agent(build_graph(Scripted(text, received=received), []))
    say(agent, text, thread_id="t")
    say(agent, "go on", thread_id="t")
    assert [message.content for message in received[1]] == [text, f"{text} ", "go on"]
    assert texts(agent) == [text, f"{text} ", "go on", f"{text} "]


def test_thousands_of_items(make_agent: Make) -> None:
    agent = make_agent(build_graph(Scripted("yes"), []))
    items = [user(f"{n}") for n in range(3000)]
    agent.predict({"input": items, "custom_inputs": {"thread_id": "t"}})
    assert texts(agent) == [*(f"{n}" for n in range(3000)), "yes "]


def deep(levels: int) -> str:
    return '{"a": ' * levels + "1" + "}" * levels


@pytest.mark.parametrize("levels", [50, 2000])
def test_deep_json(make_agent: Make, rows: Callable[[], int], levels: int) -> None:
    agent = make_agent(build_graph(Scripted("yes"), []))
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": deep(levels)}
    items = [user("go"), call, {"type": "function_call_output", "call_id": "c", "output": "done"}]
    try:
        agent.predict({"input": items, "custom_inputs": {"thread_id": "t"}})
    except InvalidRequest:
        assert rows() == 0
    else:
        assert agent.get_checkpoint_state("t")["messages"][1]["arguments"] == deep(levels)


def test_dozens_of_calls_with_large_results(make_agent: Make) -> None:
    @tool
    def work(n: int) -> str:
        """Work."""
        return f"{n} " + "x" * MEGABYTE

    agent = make_agent(build_graph(Calling(tool="work", arguments=tuple(f'{{"n": {n}}}' for n in range(40))), [work]))
    answer = say(agent, "go", thread_id="t")
    results = [item["output"] for item in answer["output"] if item["type"] == "function_call_output"]
    assert sorted(result.split()[0] for result in results) == sorted(str(n) for n in range(40))
    stored = [item for item in agent.get_checkpoint_state("t")["messages"] if item["type"] == "function_call_output"]
    assert [item["call_id"] for item in stored] == [f"call {n}" for n in range(40)]
    assert sum(len(item["output"]) for item in stored) > 40 * MEGABYTE


@tool
def half(n: Any) -> str:
    """Say half a character."""
    return "\ud800"


@pytest.mark.parametrize(
    "arguments", ['{"n": 123456789012345678901234567890}', '{"n": "\\ud800"}', '{"n": NaN}', "{", '{"n": 1}']
)
def test_what_a_model_or_a_tool_says_cannot_end_a_conversation(make_agent: Make, arguments: str) -> None:
    agent = make_agent(build_graph(Calling(tool="half", arguments=(arguments,)), [half]))
    with suppress(AgentError):
        say(agent, "go", thread_id="t")
    quiet = make_agent(build_graph(Scripted("yes"), []))
    say(quiet, "and now?", thread_id="t")
    assert texts(quiet)[-2:] == ["and now?", "yes "]


class Insistent(Scripted):
    """A model that calls tools for ever."""

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        call = tool_call_chunk(name="nothing", args="{}", id=f"call {len(messages)}", index=0)
        yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[call]))


class TestTooManySteps:
    @tool
    @staticmethod
    def nothing() -> str:
        """Do nothing."""
        return "done"

    @pytest.mark.parametrize("max_steps", [5, 6])
    def test_end_the_turn_politely(self, make_agent: Make, max_steps: int) -> None:
        agent = make_agent(build_graph(Insistent(), [self.nothing]), max_steps=max_steps)
        events = list(agent.predict_stream({"input": [{"role": "user", "content": "go"}]}))
        outputs = events[-1].custom_outputs
        assert f"{max_steps} steps" in events[-1].response["output"][-1]["content"][0]["text"]
        state = agent.get_checkpoint_state(outputs["thread_id"])
        assert state["checkpoint_id"] == outputs["checkpoint_id"]
        assert state["next_nodes"] == state["pending_tool_calls"] == []
        assert f"{max_steps} steps" in state["messages"][-1]["content"][0]["text"]
        again = say(agent, "go on", previous_response_id=events[-1].response["id"])["custom_outputs"]
        assert again["parent_checkpoint_id"] == outputs["checkpoint_id"]
