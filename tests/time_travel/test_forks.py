from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import eventually, say, text_of
from scripted import Scripted
from walking import Branches, at, calls, fork, replay, stuck, texts, user, weather

from stateful_agent.errors import InvalidRequest, ShuttingDown
from stateful_agent.graph.build import build_graph
from stateful_agent.graph.offline_model import OfflineModel

Make = Callable[..., Any]


@pytest.mark.parametrize("stream", [False, True], ids=["predict", "predict_stream"])
class TestContinuingFrom:
    """The README's table: what continuing from a checkpoint means follows from its `next_nodes`."""

    @pytest.fixture
    def talk(self, agent: Any) -> Any:
        say(agent, "I'm headed to SF!", thread_id="t")
        say(agent, "Where am I going?", thread_id="t")
        return agent

    def test_start_with_input_asks_something_else(self, talk: Any, stream: bool) -> None:
        branches = Branches(talk)
        answer = fork(talk, at(talk, ["__start__"]), "What is 2 + 2?", stream)
        assert texts(talk)[2:] == ["What is 2 + 2?", text_of(answer)]
        branches.check()

    def test_start_without_input_asks_the_same_again(self, talk: Any, stream: bool) -> None:
        branches, before = Branches(talk), texts(talk)
        answer = replay(talk, at(talk, ["__start__"]), stream)
        assert texts(talk) == before
        assert answer["custom_outputs"]["checkpoint_id"] not in branches.before
        branches.check()

    def test_model_with_input_adds_to_what_is_pending(self, talk: Any, stream: bool) -> None:
        branches = Branches(talk)
        fork(talk, at(talk, ["model"]), "And what is 2 + 2?", stream)
        assert texts(talk)[2:4] == ["Where am I going?", "And what is 2 + 2?"]
        branches.check()

    def test_model_without_input_answers_again(self, talk: Any, stream: bool) -> None:
        branches, before = Branches(talk), texts(talk)
        answer = replay(talk, at(talk, ["model"]), stream)
        assert "SF" in text_of(answer)
        assert texts(talk) == before
        branches.check()

    def test_tools_with_input_closes_what_is_open(self, make_agent: Make, stream: bool) -> None:
        agent = make_agent(build_graph(OfflineModel(), [weather]))
        say(agent, "Weather in SF and LA?", thread_id="t")
        branches = Branches(agent)
        fork(agent, at(agent, ["tools", "tools"]), "never mind", stream)
        assert texts(agent)[:6] == [
            "Weather in SF and LA?",
            *["function_call"] * 2,
            *["function_call_output"] * 2,
            "never mind",
        ]
        branches.check()

    def test_tools_without_input_runs_only_what_has_no_result(self, make_agent: Make, stream: bool) -> None:
        agent = make_agent(build_graph(OfflineModel(), [weather]))
        calls.clear()
        stuck.add("LA")
        with ThreadPoolExecutor(1) as callers:
            turn = callers.submit(say, agent, "Weather in SF and LA?", thread_id="t")
            eventually(lambda: len(calls) == 2)
            eventually(lambda: "function_call_output" in str(agent.get_checkpoint_state("t")["pending_messages"]))
            agent.close()
            with pytest.raises(ShuttingDown):
                turn.result()
        assert sorted(calls) == ["LA", "SF"]
        entry = at(agent, ["tools", "tools"])
        state = agent.get_checkpoint_state("t", entry["checkpoint_id"])
        assert [call["arguments"]["query"] for call in state["pending_tool_calls"]] == ["weather in LA"]
        assert [item["type"] for item in state["pending_messages"]] == ["function_call_output"]
        question = state["messages"][0]["id"]
        with pytest.raises(InvalidRequest, match="no output"):
            agent.update_checkpoint_state("t", entry["checkpoint_id"], [user("Well?", id=question)])
        branches = Branches(agent)
        stuck.clear()
        for _ in range(2):
            calls.clear()
            answer = replay(agent, entry, stream)
            assert calls == ["LA"]
            assert "SF" in text_of(answer)
            assert "LA" in text_of(answer)
            branches.check()

    def test_nothing_with_input_goes_on(self, talk: Any, stream: bool) -> None:
        branches = Branches(talk)
        first_turn = next(e for e in talk.get_checkpoint_history("t", 100) if e["turn"] == 1 and not e["next_nodes"])
        fork(talk, first_turn, "What is 2 + 2?", stream)
        assert texts(talk)[2] == "What is 2 + 2?"
        assert len(texts(talk)) == 4
        branches.check()

    def test_nothing_without_input_is_a_checkout(self, make_agent: Make, stream: bool) -> None:
        received: list[Any] = []
        agent = make_agent(build_graph(Scripted("yes", received=received), []))
        for text in ("one", "two"):
            say(agent, text, thread_id="t")
        branches = Branches(agent)
        first_turn = next(e for e in agent.get_checkpoint_history("t", 100) if e["turn"] == 1 and not e["next_nodes"])
        received.clear()
        checked_out = replay(agent, first_turn, stream)
        assert checked_out["output"] == []
        assert received == []
        assert texts(agent) == ["one", "yes "]
        say(agent, "three", **checked_out["custom_outputs"])  # they can be sent back as they are
        assert texts(agent) == ["one", "yes ", "three", "yes "]
        branches.check()


class TestForks:
    def test_going_on_with_a_tip_other_than_the_newest(self, agent: Any) -> None:
        first = say(agent, "I'm headed to SF!", thread_id="t")["custom_outputs"]
        say(agent, "I'm headed to New York!", thread_id="t")
        other = fork(agent, first, "I'm headed to Oslo!")["custom_outputs"]
        say(agent, "Where am I going?", thread_id="t")
        assert "Oslo" in texts(agent)[-1]
        say(agent, "Where am I going?", thread_id="t", checkpoint_id=other["checkpoint_id"])
        assert texts(agent) == [*texts(agent, other["checkpoint_id"]), *texts(agent)[-2:]]

    def test_forks_of_forks(self, agent: Any) -> None:
        ref = say(agent, "I'm headed to SF!", thread_id="t")["custom_outputs"]
        branches = []
        for depth in range(4):
            branches.append(Branches(agent))
            tips = [fork(agent, ref, f"I'm headed to Place{depth}{side}!")["custom_outputs"] for side in "ab"]
            assert {tip["parent_checkpoint_id"] for tip in tips} == {ref["checkpoint_id"]}
            ref = tips[0]
        for before in branches:
            before.check()
        assert texts(agent, ref["checkpoint_id"])[::2] == ["I'm headed to SF!"] + [
            f"I'm headed to Place{depth}a!" for depth in range(4)
        ]
