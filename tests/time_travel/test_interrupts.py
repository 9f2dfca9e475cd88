"""A graph can stop and ask a person; the answer goes on from there, and another answer makes another branch."""

import operator
from typing import Annotated, Any, cast

import pytest
from conftest import text_of
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send, interrupt
from paying import batched, per_call, runs
from walking import answer, assistant, read_all, texts, turn, user

from stateful_agent.errors import AgentError, InvalidRequest, ThreadNotFound

Make = Any


class Trip(MessagesState):
    ran: Annotated[list[str], operator.add]


def asking(*questions: Any) -> StateGraph[Any, Any, Any, Any]:
    """A graph that looks, asks each of the questions in one step, and answers with what it was answered."""

    async def look(state: Trip) -> dict[str, Any]:
        return {"ran": ["look"]}

    async def ask(state: Trip) -> dict[str, Any]:
        answers = [interrupt(question) for question in questions]
        return {"ran": ["ask"], "messages": [AIMessage(f"answered: {answers}")]}

    graph = StateGraph(Trip)
    graph.add_node("look", look)
    graph.add_node("ask", ask)
    graph.add_edge(START, "look")
    graph.add_edge("look", "ask")
    return graph


class TestAsks:
    def test_the_response_tells_what_waits(self, make_agent: Make) -> None:
        agent = make_agent(asking({"question": "Book it?"}))
        response = turn(agent, "Rome")
        [waiting] = response["custom_outputs"]["interrupts"]
        assert (waiting["value"], waiting["node"]) == ({"question": "Book it?"}, "ask")
        assert text_of(response) == "⏸ Book it?"

    def test_the_state_and_the_history_tell_it_too(self, make_agent: Make) -> None:
        agent = make_agent(asking("Book it?"))
        outputs = turn(agent, "Rome")["custom_outputs"]
        state, history = agent.get_checkpoint_state("t"), agent.get_checkpoint_history("t")
        assert state["interrupts"] == history[0]["interrupts"] == outputs["interrupts"]
        assert state["checkpoint_id"] == outputs["checkpoint_id"]
        assert [entry["interrupts"] for entry in history[1:]] == [[]] * len(history[1:])

    def test_the_answer_is_the_interrupts_value(self, make_agent: Make) -> None:
        agent = make_agent(asking("Book it?"))
        asked = turn(agent, "Rome")["custom_outputs"]
        response = turn(agent, resume={"yes": True})
        assert text_of(response) == "answered: [{'yes': True}]"
        assert response["custom_outputs"]["parent_checkpoint_id"] == asked["checkpoint_id"]
        assert "interrupts" not in response["custom_outputs"]
        assert agent.get_checkpoint_state("t")["values"]["ran"] == ["look", "ask"]

    def test_several_in_one_step(self, make_agent: Make) -> None:
        agent = make_agent(asking("one?", "two?"))
        first = turn(agent, "Rome")["custom_outputs"]
        second = turn(agent, resume=1)["custom_outputs"]
        assert second["interrupts"][0]["value"] == "two?"
        assert second["parent_checkpoint_id"] == first["checkpoint_id"] != second["checkpoint_id"]
        assert text_of(turn(agent, resume=2)) == "answered: [1, 2]"

    def test_a_replay_asks_again(self, make_agent: Make) -> None:
        agent = make_agent(asking("one?", "two?"))
        turn(agent, "Rome")
        assert text_of(turn(agent)) == "⏸ one?"
        turn(agent, resume=1)
        assert text_of(turn(agent)) == "⏸ two?"

    def test_a_step_that_fails_after_its_answer_asks_again(self, make_agent: Make) -> None:
        failures = [ValueError("out of order")]

        async def ask(state: Trip) -> dict[str, Any]:
            answers = [interrupt("one?")]
            if failures:
                raise failures.pop()
            return {"messages": [AIMessage(f"answered: {[*answers, interrupt('two?')]}")]}

        graph = StateGraph(Trip)
        graph.add_node("ask", ask)
        graph.add_edge(START, "ask")
        agent = make_agent(graph)
        turn(agent, "Rome")
        with pytest.raises(AgentError):
            turn(agent, resume=1)
        assert text_of(turn(agent)) == "⏸ one?"
        assert text_of(turn(agent, resume=2)) == "⏸ two?"
        assert text_of(turn(agent, resume=3)) == "answered: [2, 3]"

    def test_a_second_answer_is_a_second_branch(self, make_agent: Make) -> None:
        agent = make_agent(asking("Book it?"))
        asked = turn(agent, "Rome")["custom_outputs"]
        yes = turn(agent, resume="yes")["custom_outputs"]
        no = turn(agent, resume="no", checkpoint_id=asked["checkpoint_id"])
        assert text_of(no) == "answered: ['no']"
        for outputs, said in ((yes, "yes"), (no["custom_outputs"], "no")):
            state = agent.get_checkpoint_state("t", outputs["checkpoint_id"])
            assert state["messages"][-1]["content"][0]["text"] == f"answered: ['{said}']"
            assert state["values"]["ran"] == ["look", "ask"]


def parallel(*cities: str) -> StateGraph[Any, Any, Any, Any]:
    """A graph that asks about each city at once, and beside them does something that asks nothing."""

    async def ask(city: Any) -> dict[str, Any]:
        answer = interrupt(f"{city}?")
        return {"ran": [f"{city}: {answer}"]}

    async def free(state: Trip) -> dict[str, Any]:
        runs.append("free")
        return {"ran": ["free"]}

    async def answer(state: Trip) -> dict[str, Any]:
        return {"messages": [AIMessage(", ".join(sorted(state["ran"])))]}

    graph = StateGraph(Trip)
    graph.add_node("ask", cast(Any, ask))
    graph.add_node("free", free)
    graph.add_node("answer", answer, defer=True)
    graph.add_conditional_edges(START, lambda state: [*(Send("ask", city) for city in cities), "free"], ["ask", "free"])
    graph.add_edge("ask", "answer")
    graph.add_edge("free", "answer")
    return graph


def test_a_message_goes_on_without_an_answer(make_agent: Make) -> None:
    agent = make_agent(asking("Book it?"))
    asked = text_of(turn(agent, "Rome"))
    assert text_of(answer(agent, user("Rome"), assistant(asked), user("Oslo"))) == asked
    assert texts(agent) == ["Rome", "Oslo"]


class TestAtOnce:
    @pytest.fixture
    def asked(self, make_agent: Make) -> tuple[Any, dict[str, Any], dict[str, str]]:
        """The agent, where it waits, and the interrupts' ids by what they ask."""
        runs.clear()
        agent = make_agent(parallel("Rome", "Oslo"))
        outputs = turn(agent, "go")["custom_outputs"]
        return agent, outputs, {one["value"]: one["id"] for one in outputs["interrupts"]}

    def test_all_are_told_and_each_is_answered_by_its_id(self, asked: Any) -> None:
        agent, _, ids = asked
        assert ids.keys() == {"Rome?", "Oslo?"}
        assert text_of(turn(agent, resume={ids["Rome?"]: 1, ids["Oslo?"]: 2})) == "Oslo: 2, Rome: 1, free"
        assert runs == ["free"]

    def test_some_are_answered_and_others_not(self, asked: Any) -> None:
        agent, _, ids = asked
        rest = turn(agent, resume={ids["Rome?"]: 1})["custom_outputs"]["interrupts"]
        assert [one["value"] for one in rest] == ["Oslo?"]
        assert agent.get_checkpoint_state("t")["interrupts"] == rest
        assert text_of(turn(agent, resume=2)) == "Oslo: 2, Rome: 1, free"

    def test_answered_again_from_where_the_others_were_answered(self, asked: Any) -> None:
        agent, outputs, ids = asked
        partly = turn(agent, resume={ids["Rome?"]: 1})["custom_outputs"]
        turn(agent, resume={ids["Oslo?"]: 2})
        again = turn(agent, resume={ids["Oslo?"]: 3}, checkpoint_id=partly["checkpoint_id"])
        assert text_of(again) == "Oslo: 3, Rome: 1, free"
        assert agent.get_checkpoint_state("t", outputs["checkpoint_id"])["interrupts"] == outputs["interrupts"]
        assert runs == ["free"]

    def test_what_is_answered_already_does_not_wait(self, asked: Any) -> None:
        agent, _, ids = asked
        turn(agent, resume={ids["Rome?"]: 1})
        with pytest.raises(InvalidRequest, match="No interrupt"):
            turn(agent, resume={ids["Rome?"]: 2})

    def test_one_answer_for_two_is_refused(self, asked: Any) -> None:
        with pytest.raises(InvalidRequest, match="2 interrupts wait"):
            turn(asked[0], resume=1)


def nested(**options: Any) -> StateGraph[Any, Any, Any, Any]:
    """A graph whose subgraph looks and asks."""

    async def before(state: Trip) -> dict[str, Any]:
        runs.append("before")
        return {"ran": ["before"]}

    async def look(state: Trip) -> dict[str, Any]:
        runs.append("look")
        return {"ran": ["look"]}

    async def ask(state: Trip) -> dict[str, Any]:
        first = interrupt("one?")
        return {"messages": [AIMessage(f"{first} {interrupt('two?')}")]}

    inner = StateGraph(Trip)
    inner.add_node("look", look)
    inner.add_node("ask", ask)
    inner.add_edge(START, "look")
    inner.add_edge("look", "ask")
    outer = StateGraph(Trip)
    outer.add_node("before", before)
    outer.add_node("inner", inner.compile(**options))
    outer.add_edge(START, "before")
    outer.add_edge("before", "inner")
    return outer


class TestSubgraphs:
    @pytest.fixture
    def agent(self, make_agent: Make) -> Any:
        runs.clear()
        return make_agent(nested())

    def test_asks_twice(self, agent: Any) -> None:
        [waiting] = turn(agent, "go")["custom_outputs"]["interrupts"]
        assert (waiting["value"], waiting["node"]) == ("one?", "inner")
        assert text_of(turn(agent, resume=1)) == "⏸ two?"
        assert text_of(turn(agent, resume=2)) == "1 2"
        assert runs == ["before", "look"]

    def test_a_second_answer_is_a_second_branch(self, agent: Any) -> None:
        asked = turn(agent, "go")["custom_outputs"]["checkpoint_id"]
        turn(agent, resume=1)
        first = turn(agent, resume=2)["custom_outputs"]["checkpoint_id"]
        assert text_of(turn(agent, resume="a", checkpoint_id=asked)) == "⏸ two?"
        assert text_of(turn(agent, resume="b")) == "a b"
        assert runs == ["before", "look"]
        assert agent.get_checkpoint_state("t", first)["messages"][-1]["content"][0]["text"] == "1 2"

    def test_one_with_memory_of_its_own(self, make_agent: Make) -> None:
        agent = make_agent(nested(checkpointer=True))
        asked = turn(agent, "go")["custom_outputs"]["checkpoint_id"]
        assert text_of(turn(agent, resume=1)) == "⏸ two?"
        assert text_of(turn(agent, resume=2)) == "1 2"
        assert text_of(turn(agent, resume="a", checkpoint_id=asked)) == "⏸ two?"
        assert text_of(turn(agent, resume="b")) == "a b"

    def test_one_that_a_step_calls(self, make_agent: Make) -> None:
        async def ask(state: Trip) -> dict[str, Any]:
            return {"messages": [AIMessage(f"{interrupt('one?')} {interrupt('two?')}")]}

        inner = StateGraph(Trip)
        inner.add_node("ask", ask)
        inner.add_edge(START, "ask")
        called = inner.compile()

        async def call(state: Trip) -> dict[str, Any]:
            result = await called.ainvoke({"messages": state["messages"], "ran": []})
            return {"messages": result["messages"][-1:]}

        outer = StateGraph(Trip)
        outer.add_node("call", call)
        outer.add_edge(START, "call")
        agent = make_agent(outer)
        asked = turn(agent, "go")["custom_outputs"]["checkpoint_id"]
        assert text_of(turn(agent, resume=1)) == "⏸ two?"
        assert text_of(turn(agent, resume=2)) == "1 2"
        assert text_of(turn(agent, resume="a", checkpoint_id=asked)) == "⏸ two?"
        assert text_of(turn(agent, resume="b")) == "a b"

    def test_another_process_answers(self, agent: Any, make_agent: Make) -> None:
        turn(agent, "go")
        agent.close()
        assert text_of(turn(make_agent(nested()), resume=1)) == "⏸ two?"


class TestBreakpoints:
    def test_before_and_after(self, make_agent: Make) -> None:
        graphs = {
            "before": asking().compile(interrupt_before=["ask"]),
            "after": asking().compile(interrupt_after=["look"]),
        }
        for name, graph in graphs.items():
            agent = make_agent(graph)
            [waiting] = turn(agent, "go", thread_id=name)["custom_outputs"]["interrupts"]
            assert waiting == {"id": "ask", "value": None, "node": "ask"}
            assert agent.get_checkpoint_state(name)["interrupts"] == [waiting]
            assert agent.get_checkpoint_history(name)[0]["interrupts"] == [waiting]
            assert text_of(turn(agent, resume=True, thread_id=name)) == "answered: []"

    def test_a_replay_goes_on(self, make_agent: Make) -> None:
        agent = make_agent(asking().compile(interrupt_before=["ask"]))
        turn(agent, "go")
        assert text_of(turn(agent)) == "answered: []"


class TestEdits:
    """An edit of a checkpoint that waits goes on waiting, as long as what is asked about is the same."""

    @staticmethod
    def edit(agent: Any, old: str, new: str) -> None:
        """Put other words into the user's mouth at the head of the thread."""
        state = agent.get_checkpoint_state("t")
        [said] = [item for item in state["messages"] if item.get("content", [{}])[0].get("text") == old]
        agent.update_checkpoint_state("t", state["checkpoint_id"], [user(new) | {"id": said["id"]}])

    @pytest.mark.parametrize("graph", [batched, per_call])
    def test_of_what_was_said_before(self, make_agent: Make, graph: Any) -> None:
        runs.clear()
        agent = make_agent(graph())
        turn(agent, "Pay!")
        asked = agent.get_checkpoint_state("t")["interrupts"]
        self.edit(agent, "Pay!", "Pay, please!")
        [waiting] = agent.get_checkpoint_state("t")["interrupts"]
        assert waiting["value"] == asked[0]["value"]
        decision = {"type": "approve"}
        assert "paid 5" in text_of(turn(agent, resume={"decisions": [decision]} if graph is batched else decision))
        assert texts(agent)[0] == "Pay, please!"
        assert sorted(runs) == ["look up it", "pay 5"]

    def test_of_what_is_asked_about(self, make_agent: Make) -> None:
        agent = make_agent(asking("Book it?"))
        turn(agent, "Rome")
        self.edit(agent, "Rome", "Oslo")
        with pytest.raises(InvalidRequest, match="Nothing waits"):
            turn(agent, resume="yes")
        assert text_of(turn(agent)) == "⏸ Book it?"
        assert text_of(turn(agent, resume="yes")) == "answered: ['yes']"


class TestRefusals:
    @pytest.fixture
    def agent(self, make_agent: Make) -> Any:
        return make_agent(asking("Book it?"))

    @pytest.mark.parametrize(
        ("request_", "reason"),
        [
            ({"resume": "yes"}, "Nothing waits"),
            ({"resume": {"0" * 32: "yes"}}, "Nothing waits"),
        ],
    )
    def test_nothing_waits(self, agent: Any, request_: Any, reason: str) -> None:
        turn(agent, "Rome")
        turn(agent, resume="yes")
        before = read_all(agent)
        with pytest.raises(InvalidRequest, match=reason):
            turn(agent, **request_)
        assert read_all(agent) == before

    def test_an_unknown_id(self, agent: Any) -> None:
        turn(agent, "Rome")
        before = read_all(agent)
        with pytest.raises(InvalidRequest, match="No interrupt"):
            turn(agent, resume={"0" * 32: "yes"})
        assert read_all(agent) == before

    def test_an_answer_without_a_thread(self, agent: Any) -> None:
        with pytest.raises(InvalidRequest, match="needs the thread"):
            agent.predict({"input": [], "custom_inputs": {"resume": 1}})

    def test_an_answer_with_a_message(self, agent: Any) -> None:
        turn(agent, "Rome")
        with pytest.raises(InvalidRequest, match="without input"):
            turn(agent, "Oslo", resume=1)

    def test_a_thread_that_is_not_there(self, agent: Any) -> None:
        with pytest.raises(ThreadNotFound):
            turn(agent, resume=1)
