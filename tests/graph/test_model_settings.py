"""What a request asks of the model for one turn: given to the model, stored nowhere."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from conftest import say, text_of
from databases import dump
from langchain_core.messages import AIMessage, SystemMessage
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from scripted import Scripted
from walking import user

from stateful_agent.errors import InvalidRequest
from stateful_agent.graph.build import build_graph
from stateful_agent.graph.model_settings import ModelSettings
from stateful_agent.responses.request import read_request

Make = Callable[..., Any]
WORD = "heliotrope"


class Noting(Scripted):
    """A model that notes with what arguments it is called."""

    calls: Any

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        self.calls.append({"messages": messages, **kwargs})
        async for chunk in super()._astream(messages):
            yield chunk


def ask(agent: Any, *items: dict[str, Any], **fields: Any) -> Any:
    return agent.loop.run(agent.apredict(read_request({"input": list(items), **fields})))


@pytest.fixture
def calls() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def noting(make_agent: Make, calls: list[dict[str, Any]]) -> Any:
    return make_agent(build_graph(Noting(words=("ok",), calls=calls), [], "You are the agent."))


def instructions_of(call: dict[str, Any]) -> str:
    """The one system message of a call."""
    (system,) = (message for message in call["messages"] if isinstance(message, SystemMessage))
    return str(system.content)


def test_instructions_follow_the_agents_own_for_one_turn(noting: Any, calls: list[dict[str, Any]]) -> None:
    ask(noting, user("hi"), instructions="Be brief.", metadata={"thread_id": "t"})
    ask(noting, user("hi"), metadata={"thread_id": "t"})
    assert [instructions_of(call) for call in calls] == ["You are the agent.\n\nBe brief.", "You are the agent."]


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("content", ["Be brief.", [{"type": "input_text", "text": "Be brief."}]])
def test_a_message_of_the_systems_that_comes_first_instructs(
    noting: Any, calls: list[dict[str, Any]], role: str, content: Any
) -> None:
    ask(noting, {"role": role, "content": content}, user("hi"))
    assert instructions_of(calls[0]) == "You are the agent.\n\nBe brief."


def test_they_are_stored_nowhere(noting: Any, database: str) -> None:
    ask(noting, {"role": "system", "content": WORD}, user("hi"), instructions=WORD, metadata={"thread_id": "t"})
    assert WORD.encode() not in dump(database)
    assert WORD not in str(noting.get_checkpoint_state("t"))


@pytest.mark.parametrize("role", ["system", "developer"])
def test_one_that_comes_later_is_heeded_where_it_stands_and_stays(
    noting: Any, calls: list[dict[str, Any]], role: str
) -> None:
    said = {"role": role, "content": "From now on, be brief."}
    ask(noting, user("hi"), said, user("how are you?"), metadata={"thread_id": "t"})
    ask(noting, user("and now?"), metadata={"thread_id": "t"})
    for call in calls:
        kinds = [message.type for message in call["messages"]][:4]
        assert kinds == ["system", "human", "system", "human"]
        assert call["messages"][2].text == "From now on, be brief."
    [kept] = [item for item in noting.get_checkpoint_state("t")["messages"] if item.get("role") == role]
    assert kept["content"] == [{"type": "input_text", "text": "From now on, be brief."}]


def test_a_client_that_sends_one_again_adds_nothing(noting: Any, calls: list[dict[str, Any]]) -> None:
    sent = [user("hi"), {"role": "developer", "content": "Be brief."}, user("well?")]
    ask(noting, *sent, metadata={"thread_id": "t"})
    ask(noting, *sent, {"role": "assistant", "content": "ok "}, user("again"), metadata={"thread_id": "t"})
    assert [message.type for message in calls[-1]["messages"]] == ["system", "human", "system", "human", "ai", "human"]


@pytest.mark.parametrize(
    "items",
    [
        [user("hi"), {"role": "king", "content": "obey"}],
        [user("hi"), {"role": "developer", "content": [{"type": "input_image", "image_url": "data:,"}]}],
        [{"role": "system", "content": [{"type": "input_image", "image_url": "data:,"}]}, user("hi")],
        [{"role": "system"}, user("hi")],
    ],
)
def test_others_of_the_systems_are_refused(noting: Any, calls: list[dict[str, Any]], items: Any) -> None:
    with pytest.raises(InvalidRequest):
        ask(noting, *items)
    assert calls == []


def test_an_error_counts_the_instructions_among_the_input(noting: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask(noting, {"role": "system", "content": "Be brief."}, {"role": "user", "content": ""})
    assert refused.value.param == "input[1].content"


def test_sampling_reaches_the_model(noting: Any, calls: list[dict[str, Any]]) -> None:
    ask(noting, user("hi"), temperature=0.5, top_p=0.9, max_output_tokens=7)
    ask(noting, user("hi"))
    sampling = [{name: value for name, value in call.items() if name != "messages"} for call in calls]
    assert sampling == [{"temperature": 0.5, "top_p": 0.9, "max_tokens": 7}, {}]


def test_a_replay_may_be_instructed(noting: Any, calls: list[dict[str, Any]]) -> None:
    say(noting, "hi", thread_id="t")
    start = noting.get_checkpoint_history("t")[-1]
    ref = {name: start[name] for name in ("thread_id", "checkpoint_id")}
    ask(noting, custom_inputs=ref, instructions="Be brief.")
    assert "Be brief." in instructions_of(calls[-1])


def echo(state: MessagesState, runtime: Runtime[ModelSettings]) -> dict[str, Any]:
    return {"messages": [AIMessage(str(runtime.context))]}


def graph(context_schema: Any = None) -> StateGraph[Any, Any]:
    built = StateGraph(MessagesState, context_schema)
    built.add_node("echo", echo)
    built.add_edge(START, "echo")
    return built


def test_a_graph_of_ones_own_may_heed_them(make_agent: Make) -> None:
    agent = make_agent(graph(ModelSettings))
    answer = ask(agent, user("hi"), instructions="Be brief.")
    assert "Be brief." in text_of(answer.model_dump())


@pytest.mark.parametrize("asked", [{"instructions": "Be brief."}, {"max_output_tokens": 7}])
@pytest.mark.parametrize("schema", [None, dict])
def test_else_what_it_would_miss_is_refused(make_agent: Make, rows: Any, asked: dict[str, Any], schema: Any) -> None:
    agent = make_agent(graph(schema))
    with pytest.raises(InvalidRequest, match=next(iter(asked))):
        ask(agent, user("hi"), **asked)
    assert rows() == 0
    ask(agent, user("hi"), temperature=0.5)
