"""Every key of a graph's state can be sent, is told, and travels in time: with its context, and in its subgraphs."""

import asyncio
import dataclasses
import datetime
import operator
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from conftest import http, say, text_of
from langchain_core.messages import AIMessage
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import get_runtime
from langgraph.types import interrupt
from listening_servers import served
from pydantic import BaseModel
from typing_extensions import TypedDict
from walking import Branches, at, user

from stateful_agent.errors import InvalidRequest, Misconfigured
from stateful_agent.graph.model_settings import ModelSettings

Make = Callable[..., Any]


class Trip(BaseModel):
    city: str
    starts: datetime.date


class Planning(MessagesState):
    trip: Trip | None
    notes: Annotated[list[str], operator.add]
    tags: set[str]
    mood: Literal["good", "bad"]


class Output(MessagesState):
    notes: list[str]
    trip: Trip | None


@dataclasses.dataclass
class Context:
    tone: str = "plain"


def planner() -> StateGraph[Any, Any, Any, Any]:
    """A graph that notes what it is given, and answers with it."""

    async def note(state: Planning) -> dict[str, Any]:
        return {"notes": [f"{state.get('mood')}"]}

    async def tell(state: Planning) -> dict[str, Any]:
        trip, context = state.get("trip"), get_runtime(Context).context or Context()
        return {"messages": [AIMessage(f"{trip.city if trip else 'nowhere'}, {context.tone}, {state['notes']}")]}

    graph = StateGraph(Planning, Context, output_schema=Output)
    graph.add_node("note", note)
    graph.add_node("tell", tell)
    graph.add_edge(START, "note")
    graph.add_edge("note", "tell")
    return graph


@pytest.fixture
def agent(make_agent: Make) -> Any:
    return make_agent(planner())


ROME = {"city": "Rome", "starts": "2026-12-01"}


class TestInput:
    def test_state_and_context_reach_the_graph(self, agent: Any) -> None:
        answer = say(agent, "go", state={"trip": ROME, "notes": ["first"], "mood": "good"}, context={"tone": "merry"})
        assert text_of(answer) == "Rome, merry, ['first', 'good']"

    def test_state_alone_is_input(self, agent: Any) -> None:
        thread_id = say(agent, "go", state={"mood": "good"})["custom_outputs"]["thread_id"]
        request = {"input": [], "custom_inputs": {"thread_id": thread_id, "state": {"mood": "bad", "trip": ROME}}}
        assert text_of(agent.predict(request).model_dump(exclude_none=True)) == "Rome, plain, ['good', 'bad']"

    @pytest.mark.parametrize(
        ("inputs", "param"),
        [
            ({"state": {"trip": {"city": "Rome"}}}, "custom_inputs.state.trip"),
            ({"state": {"mood": "fine"}}, "custom_inputs.state.mood"),
            ({"state": {"unknown": 1}}, "custom_inputs.state.unknown"),
            ({"state": {"messages": []}}, "custom_inputs.state.messages"),
            ({"state": [1]}, "custom_inputs.state"),
            ({"context": {"tone": 5}}, "custom_inputs.context"),
            ({"context": {"volume": 5}}, "custom_inputs.context"),
            ({"context": "merry"}, "custom_inputs.context"),
        ],
    )
    def test_what_is_not_of_the_schema_is_refused(self, agent: Any, inputs: Any, param: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            say(agent, "go", thread_id="t", **inputs)
        assert caught.value.param == param
        assert agent.list_threads() == []

    def test_a_graph_without_either_says_so(self, make_agent: Make) -> None:
        agent = make_agent()
        with pytest.raises(InvalidRequest, match="it has none beside messages"):
            say(agent, "go", state={"mood": "good"})
        with pytest.raises(InvalidRequest, match="takes no 'tone' in its context"):
            say(agent, "go", context={"tone": "merry"})

    def test_the_models_settings_are_not_context(self, make_agent: Make) -> None:
        @dataclasses.dataclass(frozen=True)
        class Toned(ModelSettings):
            tone: str = ""

        async def tell(state: MessagesState) -> dict[str, Any]:
            context = get_runtime(Toned).context
            return {"messages": [AIMessage(f"{context.tone} {context.instructions}")]}

        graph = StateGraph(MessagesState, Toned)
        graph.add_node("tell", tell)
        graph.add_edge(START, "tell")
        agent = make_agent(graph)
        request = {"input": [user("go")], "instructions": "Be brief.", "custom_inputs": {"context": {"tone": "merry"}}}
        assert text_of(asyncio.run(agent.apredict(request)).model_dump(exclude_none=True)) == "merry Be brief."
        with pytest.raises(InvalidRequest, match="is a parameter of the request"):
            say(agent, "go", context={"instructions": "Be long."})


class TestOutput:
    def test_the_other_keys_of_the_output_are_told(self, agent: Any) -> None:
        outputs = say(agent, "go", thread_id="t", state={"trip": ROME, "mood": "good", "tags": ["a"]})["custom_outputs"]
        assert outputs["state"] == {"trip": ROME, "notes": ["good"]}
        assert agent.get_checkpoint_state("t")["values"] == {
            "trip": ROME,
            "notes": ["good"],
            "mood": "good",
            "tags": ["a"],
        }

    def test_without_a_thread_too(self, agent: Any) -> None:
        request = {"input": [user("go")], "store": False, "custom_inputs": {"state": {"mood": "good"}}}
        response = asyncio.run(agent.apredict(request)).model_dump(exclude_none=True)
        assert response["custom_outputs"] == {"state": {"notes": ["good"]}}

    def test_a_graph_with_messages_alone_tells_none(self, make_agent: Make) -> None:
        assert "state" not in say(make_agent(), "hello")["custom_outputs"]


class TestEdits:
    @pytest.fixture
    def head(self, agent: Any) -> dict[str, Any]:
        outputs: dict[str, Any] = say(agent, "go", thread_id="t", state={"mood": "good"})["custom_outputs"]
        return outputs

    def test_any_key_by_its_reducer(self, agent: Any, head: Any) -> None:
        branches = Branches(agent)
        edited = agent.update_checkpoint_state("t", head["checkpoint_id"], values={"notes": ["more"], "trip": ROME})
        assert edited["next_nodes"] == []
        values = agent.get_checkpoint_state("t")["values"]
        assert (values["notes"], values["trip"]) == (["good", "more"], ROME)
        branches.check()
        assert text_of(say(agent, "and?", thread_id="t")).startswith("Rome, plain, ['good', 'more', ")

    def test_amid_a_turn_it_goes_on_where_it_was(self, agent: Any, head: Any) -> None:
        amid = at(agent, ["tell"])["checkpoint_id"]
        edited = agent.update_checkpoint_state("t", amid, values={"trip": ROME})
        assert edited["next_nodes"] == ["tell"]
        request = {"input": [], "custom_inputs": {"thread_id": "t"}}
        assert text_of(agent.predict(request).model_dump(exclude_none=True)) == "Rome, plain, ['good']"

    def test_before_a_turn_the_other_input_stays(self, agent: Any, head: Any) -> None:
        start = at(agent, ["__start__"])["checkpoint_id"]
        agent.update_checkpoint_state("t", start, values={"trip": ROME})
        request = {"input": [], "custom_inputs": {"thread_id": "t"}}
        assert text_of(agent.predict(request).model_dump(exclude_none=True)) == "Rome, plain, ['good']"

    @pytest.mark.parametrize(
        ("edit", "param"),
        [
            ({"values": {"mood": "fine"}}, "values.mood"),
            ({"values": {"unknown": 1}}, "values.unknown"),
            ({"values": {"messages": []}}, "values.messages"),
            ({"values": {}}, "new_messages"),
            ({"values": {"mood": "bad"}, "as_node": "__copy__"}, "as_node"),
        ],
    )
    def test_what_is_refused(self, agent: Any, head: Any, edit: Any, param: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            agent.update_checkpoint_state("t", head["checkpoint_id"], **edit)
        assert caught.value.param == param
        assert agent.get_checkpoint_state("t")["checkpoint_id"] == head["checkpoint_id"]

    def test_a_copy_is_the_head(self, agent: Any, head: Any) -> None:
        amid = at(agent, ["tell"])
        copied = agent.update_checkpoint_state("t", amid["checkpoint_id"], as_node="__copy__")
        state = agent.get_checkpoint_state("t")
        assert state["checkpoint_id"] == copied["checkpoint_id"]
        assert (state["next_nodes"], state["source"]) == (["tell"], "fork")

    def test_an_edit_of_a_waiting_checkpoint_keeps_waiting(self, make_agent: Make) -> None:
        async def ask(state: Planning) -> dict[str, Any]:
            return {"messages": [AIMessage(f"{interrupt('Go?')} {state['trip']}")]}

        graph = StateGraph(Planning)
        graph.add_node("ask", ask)
        graph.add_edge(START, "ask")
        agent = make_agent(graph)
        asked = say(agent, "go", thread_id="t")["custom_outputs"]["checkpoint_id"]
        agent.update_checkpoint_state("t", asked, values={"trip": ROME})
        assert [one["value"] for one in agent.get_checkpoint_state("t")["interrupts"]] == ["Go?"]
        request = {"input": [], "custom_inputs": {"thread_id": "t", "resume": "yes"}}
        assert text_of(agent.predict(request).model_dump(exclude_none=True)).startswith("yes city='Rome'")

    def test_over_rest_in_both_forms(self, agent: Any, head: Any) -> None:
        with served(agent) as url:
            ours = {"checkpoint_id": head["checkpoint_id"], "values": {"trip": ROME}}
            assert http.post(f"{url}/threads/t/state", json=ours).status_code == 200
            theirs = {"values": {"notes": ["x"]}, "as_node": "note"}
            assert http.post(f"{url}/threads/t/state", json=theirs).status_code == 200
            state = http.get(f"{url}/threads/t/state").json()
            assert (state["values"]["trip"], state["values"]["notes"]) == (ROME, ["good", "x"])
            again = {"values": None, "as_node": "__copy__", "checkpoint_id": head["checkpoint_id"]}
            copied = http.post(f"{url}/threads/t/state", json=again).json()
            assert http.get(f"{url}/threads/t/state").json()["checkpoint_id"] == copied["checkpoint_id"]
            refused = http.post(f"{url}/threads/t/state", json=ours | {"values": {"mood": "fine"}})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "values.mood")


class Counting(TypedDict):
    messages: Annotated[list[Any], operator.add]
    count: Annotated[list[str], operator.add]


def remembering() -> StateGraph[Any, Any, Any, Any]:
    """A graph with a subgraph that has a memory of its own, in which it notes each message."""

    async def note(state: Any) -> dict[str, Any]:
        return {"count": [state["messages"][-1].text]}

    async def look(state: Any) -> dict[str, Any]:
        return {}

    inner = StateGraph(Counting)
    inner.add_node("note", note)
    inner.add_node("look", look)
    inner.add_edge(START, "note")
    inner.add_edge("note", "look")
    memory = inner.compile(checkpointer=True)

    async def run(state: MessagesState) -> dict[str, Any]:
        result: dict[str, Any] = await memory.ainvoke({"messages": state["messages"][-1:], "count": []})
        return {"messages": [AIMessage(", ".join(result["count"]))]}

    outer = StateGraph(MessagesState)
    outer.add_node("run", run)
    outer.add_edge(START, "run")
    return outer


class TestSubgraphs:
    def test_one_with_memory_of_its_own_forks_with_its_parent(self, make_agent: Make) -> None:
        agent = make_agent(remembering())
        first = say(agent, "one", thread_id="t")["custom_outputs"]
        assert text_of(say(agent, "two", thread_id="t")) == "one, two"
        fork = {"thread_id": "t", "checkpoint_id": first["checkpoint_id"]}
        assert text_of(say(agent, "three", **fork)) == "one, three"
        assert text_of(say(agent, "four", thread_id="t")) == "one, three, four"
        assert text_of(say(make_agent(remembering()), "five", **fork)) == "one, five"

    def test_their_states_are_shown(self, make_agent: Make) -> None:
        async def ask(state: Planning) -> dict[str, Any]:
            interrupt("Go?")
            return {}

        async def note(state: Planning) -> dict[str, Any]:
            return {"notes": ["inner"]}

        inner = StateGraph(Planning)
        inner.add_node("note", note)
        inner.add_node("ask", ask)
        inner.add_edge(START, "note")
        inner.add_edge("note", "ask")
        outer = StateGraph(Planning)
        outer.add_node("inner", inner.compile())
        outer.add_edge(START, "inner")
        agent = make_agent(outer)
        say(agent, "go", thread_id="t")
        [state] = agent.get_checkpoint_state("t", subgraphs=True)["subgraphs"]
        assert (state["node"], state["next_nodes"], state["values"]["notes"]) == ("inner", ["ask"], ["inner"])
        assert state["messages"][0]["content"][0]["text"] == "go"
        assert "subgraphs" not in agent.get_checkpoint_state("t")


def test_the_functional_api_is_refused_with_a_reason(make_agent: Make) -> None:
    @entrypoint()
    def flow(messages: list[Any]) -> list[Any]:
        return messages

    with pytest.raises(Misconfigured, match="functional API"):
        make_agent(flow)


def test_what_is_no_graph_is_refused(make_agent: Make) -> None:
    with pytest.raises(Misconfigured, match="is a str"):
        make_agent("graph")
