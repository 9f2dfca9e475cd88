"""What the caller is told is what the thread holds: a guardrail's words instead of the model's, and no asides."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from conftest import eventually, text_of
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, PIIMiddleware
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import START, MessagesState, StateGraph
from listening_servers import served
from scripted import Scripted
from walking import texts, user
from well_formed import kinds, well_formed

from stateful_agent.graph import OfflineModel, build_graph
from stateful_agent.graph.streaming import StepStreams

Make = Callable[..., Any]


class State(MessagesState):
    route: str
    summary: str


class Saying(Scripted):
    """A model that says its words as they are."""

    def __init__(self, *words: str) -> None:
        super().__init__(*words)

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for word in self.words:
            yield ChatGenerationChunk(message=AIMessageChunk(content=str(word)))


answering, aside = Saying("The ", "answer"), Saying("an ", "aside")


async def answer(state: State) -> dict[str, Any]:
    return {"messages": [await answering.ainvoke(state["messages"])]}


async def route(state: State) -> dict[str, Any]:
    chosen = await aside.ainvoke(state["messages"])
    return {"route": chosen.text}


async def opaque_route(state: State) -> dict[str, Any]:
    update: Any = {}
    update["route"] = (await aside.ainvoke(state["messages"])).text
    return update


async def opaque_end(state: State) -> dict[str, Any]:
    update: Any = {}
    update["summary"] = (await aside.ainvoke(state["messages"])).text
    return update


async def guard(state: State) -> dict[str, Any]:
    last = state["messages"][-1]
    return {"messages": [AIMessage(last.text.replace("answer", "[REDACTED]"), id=last.id)]}


def chain(*steps: Any, kept: dict[str, Any] | None = None) -> StateGraph[Any, Any, Any, Any]:
    """A graph of these steps, one after the other, of which some have metadata."""
    graph = StateGraph(State)
    before = START
    for step in steps:
        graph.add_node(step.__name__, step, metadata=(kept or {}).get(step.__name__))
        graph.add_edge(before, step.__name__)
        before = step.__name__
    return graph


def run(agent: Any) -> tuple[str, str]:
    """What a stream tells, delta by delta, and what its final response holds."""
    request = {"input": [user("go")], "custom_inputs": {"thread_id": "t"}}
    events = [event.model_dump() for event in agent.predict_stream(request)]
    assert kinds(events)[-1] == "completed"
    told = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    return told, text_of(events[-1]["response"])


@pytest.mark.parametrize(
    "steps",
    [(answer,), (route, answer), (answer, route), (opaque_route, answer)],
    ids=lambda steps: " ".join(step.__name__ for step in steps),
)
def test_an_aside_is_not_told(make_agent: Make, steps: Any) -> None:
    agent = make_agent(chain(*steps))
    assert run(agent) == ("The answer", "The answer")
    assert texts(agent) == ["go", "The answer"]


def test_an_aside_that_nothing_shows_is_in_no_response_and_told_once(make_agent: Make) -> None:
    agent = make_agent(chain(answer, opaque_end))
    told, response = run(agent)
    assert response == "The answer"
    assert told == "The answeran aside"
    assert run(agent) == ("The answer", "The answer")


def test_a_guardrails_words_are_told_instead(make_agent: Make) -> None:
    agent = make_agent(chain(answer, guard))
    assert run(agent) == ("The [REDACTED]", "The [REDACTED]")
    assert texts(agent) == ["go", "The [REDACTED]"]


def test_langchains_guardrail(make_agent: Make) -> None:
    model = Saying("Write to ", "ann@example.org", " please")
    hidden = PIIMiddleware("email", strategy="redact", apply_to_output=True)
    agent = make_agent(create_agent(model, [], middleware=[hidden]))
    told, response = run(agent)
    assert told == response == texts(agent)[-1]
    assert "ann@" not in told
    with served(agent) as url:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        begun = client.responses.create(model="m", input="go", background=True)
        eventually(lambda: client.responses.retrieve(begun.id).status == "completed")
        assert client.responses.retrieve(begun.id).output_text == response


def test_a_graph_says_what_it_wants_told(make_agent: Make) -> None:
    late = make_agent(chain(answer, kept={"answer": {"stream": False}}))
    request = {"input": [user("go")]}
    events = [event.model_dump() for event in late.predict_stream(request)]
    well_formed(events)
    assert [event["delta"] for event in events if event["type"] == "response.output_text.delta"][:1] == ["The answer"]
    soon = make_agent(chain(answer, guard, kept={"answer": {"stream": True}}))
    told, response = run(soon)
    assert told.startswith("The answer")
    assert response == "The [REDACTED]"


def test_answers_of_known_graphs_are_told_as_they_come() -> None:
    model, review = OfflineModel(), HumanInTheLoopMiddleware({"search": True})
    for graph in (
        build_graph(model, []).compile(),
        create_agent(model, []),
        create_agent(model, [], middleware=[review]),
    ):
        assert StepStreams(graph).when("model") == "at once"
