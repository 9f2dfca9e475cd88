from collections.abc import Callable
from typing import Any

import pytest
from conftest import say
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langgraph.graph import START, MessagesState, StateGraph
from walking import texts, user

from stateful_agent.errors import CheckpointNotFound, InvalidRequest, ThreadNotFound

Make = Callable[..., Any]


class TestState:
    def test_of_the_head(self, agent: Any) -> None:
        turn = say(agent, "I'm headed to SF!", thread_id="t")
        state = agent.get_checkpoint_state("t")
        assert state["checkpoint_id"] == turn["custom_outputs"]["checkpoint_id"]
        assert state["next_nodes"] == state["pending_tool_calls"] == state["pending_messages"] == []
        question, answer = state["messages"]
        assert question["content"] == [{"type": "input_text", "text": "I'm headed to SF!"}]
        assert answer["id"] == answer["message_id"] == turn["output"][0]["id"]
        assert (state["turn"], state["nodes"], state["source"], state["step"]) == (1, ["model"], "loop", 1)

    def test_ids_are_stable_and_unique(self, agent: Any) -> None:
        say(agent, "Weather in SF and LA?", thread_id="t")
        say(agent, "Weather in SF and LA?", thread_id="t")
        root, first, *later, head = reversed(agent.get_checkpoint_history("t", 100))
        states = [agent.get_checkpoint_state("t", e["checkpoint_id"])["messages"] for e in (first, *later, head)]
        for state in states:
            assert state == states[-1][: len(state)]
        ids = [item["id"] for item in states[-1]]
        assert None not in ids
        assert len(set(ids)) == len(ids)
        pending = agent.get_checkpoint_state("t", root["checkpoint_id"])["pending_messages"]
        assert pending[0]["id"] == ids[0]

    def test_tells_the_tokens_of_its_turn_so_far_and_whose_it_is(self, make_agent: Make) -> None:
        def answer(state: MessagesState) -> dict[str, Any]:
            usage: UsageMetadata = {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}
            return {"messages": [AIMessage("yes", usage_metadata=usage)]}

        graph = StateGraph(MessagesState).add_sequence([("one", answer), ("two", answer)]).add_edge(START, "one")
        agent = make_agent(graph)
        say(agent, "first", thread_id="t")
        turn = say(agent, "second", thread_id="t")
        states = [agent.get_checkpoint_state("t", e["checkpoint_id"]) for e in agent.get_checkpoint_history("t")]
        two, one, asked, begun = states[:4]
        assert [at["usage"]["total_tokens"] for at in (one, two)] == [13, turn["usage"]["total_tokens"]] == [13, 26]
        assert (begun["usage"], asked["usage"]) == (None, None)
        assert states[4]["usage"]["total_tokens"] == 26
        assert {state["response_id"] for state in states[:4]} == {turn["id"]} != {states[4]["response_id"]}

    def test_of_nothing(self, agent: Any) -> None:
        with pytest.raises(ThreadNotFound):
            agent.get_checkpoint_state("nowhere")
        say(agent, "hello", thread_id="t")
        with pytest.raises(CheckpointNotFound):
            agent.get_checkpoint_state("t", "nothing")


class TestBranches:
    def test_where_each_left_the_others(self, agent: Any) -> None:
        first = say(agent, "one", thread_id="t")["custom_outputs"]["checkpoint_id"]
        assert [(b["left_others_at"], b["is_head"]) for b in agent.list_branches("t")] == [(None, True)]
        second = say(agent, "two", thread_id="t")["custom_outputs"]["checkpoint_id"]
        third = say(agent, "three", thread_id="t", checkpoint_id=first)["custom_outputs"]["checkpoint_id"]
        fourth = say(agent, "four", thread_id="t", checkpoint_id=second)["custom_outputs"]["checkpoint_id"]
        assert [(b["checkpoint_id"], b["left_others_at"], b["is_head"]) for b in agent.list_branches("t")] == [
            (fourth, first, True),
            (third, first, False),
        ]
        assert agent.list_branches("t")[0]["turn"] == 3
        with pytest.raises(ThreadNotFound):
            agent.list_branches("nowhere")


class TestInARequest:
    """`custom_inputs.operation`: every method, through `predict`, as JSON."""

    def ask(self, agent: Any, operation: Any, stream: bool = False, **arguments: Any) -> Any:
        request = {"input": [], "custom_inputs": {"operation": operation, **arguments}}
        if stream:
            return list(agent.predict_stream(request))[-1].custom_outputs["result"]
        return agent.predict(request).custom_outputs["result"]

    @pytest.mark.parametrize("stream", [False, True])
    def test_each(self, agent: Any, stream: bool) -> None:
        head = say(agent, "I'm headed to SF!", thread_id="t")["custom_outputs"]["checkpoint_id"]

        def ask(operation: str, **arguments: Any) -> Any:
            return self.ask(agent, operation, stream, **arguments)

        assert ask("get_checkpoint_history", thread_id="t", limit=20) == agent.get_checkpoint_history("t", 20)
        assert ask("get_checkpoint_state", thread_id="t") == agent.get_checkpoint_state("t")
        assert ask("list_branches", thread_id="t") == agent.list_branches("t")
        assert ask("list_threads") == agent.list_threads()
        edit = ask(
            "update_checkpoint_state", thread_id="t", checkpoint_id=head, new_messages=[user("Where am I going?")]
        )
        assert edit["next_nodes"] == ["model"]
        copy = ask("copy_thread", thread_id="t")
        assert texts(agent, thread_id=copy["thread_id"]) == texts(agent)
        assert ask("prune", older_than_days=0)["threads"] == 2
        assert ask("delete_thread", thread_id="t")["checkpoints"] == 1

    @pytest.mark.parametrize(
        "asked",
        [
            {"operation": "drop_tables"},
            {"operation": None},
            {"operation": ["prune"]},
            {"operation": "aoperate"},
            {"operation": "get_checkpoint_history"},
            {"operation": "get_checkpoint_history", "thread_id": "t", "colour": "red"},
            {"operation": "get_checkpoint_history", "thread_id": 7},
            *({"operation": "get_checkpoint_history", "thread_id": "t", "limit": n} for n in (0, -1, 10**9, "x", 1.5)),
            {"operation": "get_checkpoint_history", "thread_id": "t", "before": ["x"]},
        ],
        ids=str,
    )
    def test_bad_ones(self, agent: Any, rows: Callable[[], int], asked: dict[str, Any]) -> None:
        say(agent, "hello", thread_id="t")
        before = rows()
        with pytest.raises(InvalidRequest):
            self.ask(agent, **asked)
        with pytest.raises(InvalidRequest, match="takes no input"):
            agent.predict({"input": [user("x")], "custom_inputs": asked})
        assert rows() == before

    def test_before_from_another_thread(self, agent: Any) -> None:
        say(agent, "hello", thread_id="t")
        other = say(agent, "hello", thread_id="u")["custom_outputs"]["checkpoint_id"]
        with pytest.raises(CheckpointNotFound):
            agent.get_checkpoint_history("t", 10, other)
