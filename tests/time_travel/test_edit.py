from collections.abc import Callable
from typing import Any

import pytest
from conftest import say, text_of
from walking import Branches, assistant, at, calls, replay, say_nothing, texts, user, weather

from stateful_agent.errors import InvalidRequest
from stateful_agent.graph.build import build_graph
from stateful_agent.graph.offline_model import OfflineModel

Make = Callable[..., Any]


class TestEdits:
    @pytest.fixture
    def head(self, agent: Any) -> str:
        say(agent, "I'm headed to SF!", thread_id="t")
        return str(say(agent, "Where am I going?", thread_id="t")["custom_outputs"]["checkpoint_id"])

    def test_replace_by_id_and_the_rest_stays(self, agent: Any, head: str) -> None:
        branches, state = Branches(agent), agent.get_checkpoint_state("t", head)
        edited = agent.update_checkpoint_state("t", head, [user("I'm headed to Oslo!", id=state["messages"][0]["id"])])
        assert edited["parent_checkpoint_id"] == head
        assert edited["next_nodes"] == []
        assert texts(agent) == ["I'm headed to Oslo!", *texts(agent, head)[1:]]
        branches.check()
        assert "Oslo" in text_of(say(agent, "Where am I going?", thread_id="t"))

    def test_remove_and_append_in_one_call(self, agent: Any, head: str) -> None:
        ids = [item["id"] for item in agent.get_checkpoint_state("t", head)["messages"]]
        edited = agent.update_checkpoint_state("t", head, [user("Where am I headed?")], ids[2:])
        assert edited["next_nodes"] == ["model"]
        assert texts(agent) == [*texts(agent, head)[:2], "Where am I headed?"]
        assert "SF" in text_of(say_nothing(agent))

    def test_everything_removed(self, agent: Any, head: str) -> None:
        ids = [item["id"] for item in agent.get_checkpoint_state("t", head)["messages"]]
        agent.update_checkpoint_state("t", head, remove_messages=ids)
        assert texts(agent) == []

    @pytest.mark.parametrize(
        ("last", "pending"),
        [(user("and?"), ["model"]), (assistant("You are going to SF."), [])],
        ids=["user", "assistant"],
    )
    @pytest.mark.parametrize("next_nodes", [["__start__"], ["model"], []], ids=["start", "model", "end"])
    def test_the_last_message_says_what_runs_next(
        self, agent: Any, head: str, next_nodes: list[str], last: dict[str, Any], pending: list[str]
    ) -> None:
        before = len(texts(agent, head))
        for entry in [e for e in agent.get_checkpoint_history("t", 100) if e["next_nodes"] == next_nodes]:
            edited = agent.update_checkpoint_state("t", entry["checkpoint_id"], [last])
            assert edited["next_nodes"] == pending
            assert agent.get_checkpoint_state("t")["pending_messages"] == []
            assert texts(agent)[-1] == "and?" if pending else "You are going to SF."
            first = agent.get_checkpoint_state("t")["messages"][0]["id"]
            again = agent.update_checkpoint_state("t", edited["checkpoint_id"], [user("Hello!", id=first)])
            assert again["next_nodes"] == pending
        assert len(texts(agent, head)) == before

    def test_the_input_that_waits_at_the_start_is_part_of_it(self, agent: Any, head: str) -> None:
        start = at(agent, ["__start__"])["checkpoint_id"]
        waiting = agent.get_checkpoint_state("t", start)["pending_messages"][0]
        agent.update_checkpoint_state("t", start, [user("Where to?", id=waiting["id"])])
        assert texts(agent)[-1] == "Where to?"
        assert len(texts(agent)) == 3
        agent.update_checkpoint_state("t", start, remove_messages=[waiting["id"]], new_messages=[user("Hm?")])
        assert texts(agent)[2:] == ["Hm?"]

    def test_changing_what_a_tool_is_asked(self, make_agent: Make) -> None:
        agent = make_agent(build_graph(OfflineModel(), [weather]))
        say(agent, "Weather in SF?", thread_id="t")
        asked = at(agent, ["tools"])["checkpoint_id"]
        call = agent.get_checkpoint_state("t", asked)["messages"][1]
        other = call | {"arguments": '{"query": "weather in Oslo"}'}
        edited = agent.update_checkpoint_state("t", asked, [other])
        assert edited["next_nodes"] == ["tools"]
        calls.clear()
        assert "Oslo" in text_of(say_nothing(agent))
        assert calls == ["Oslo"]

    def test_a_tools_result_goes_on_to_the_model(self, make_agent: Make) -> None:
        agent = make_agent(build_graph(OfflineModel(), [weather]))
        done = say(agent, "Weather in SF?", thread_id="t")["custom_outputs"]["checkpoint_id"]
        _, call, result, answer = agent.get_checkpoint_state("t")["messages"]
        for next_nodes, new, removed in (
            (at(agent, ["tools"])["checkpoint_id"], {"type": "function_call_output", "call_id": call["call_id"]}, []),
            (done, result, [answer["id"]]),
        ):
            edited = agent.update_checkpoint_state("t", next_nodes, [new | {"output": "SF: 99°F"}], removed)
            assert edited["next_nodes"] == ["model"]
            calls.clear()
            assert "99" in text_of(say_nothing(agent))
            assert calls == []

    def test_leaves_nothing_beside_the_checkpoint_it_edits(self, make_agent: Make) -> None:
        agent = make_agent(build_graph(OfflineModel(), [weather]))
        done = say(agent, "Weather in SF?", thread_id="t")["custom_outputs"]
        result = agent.get_checkpoint_state("t")["messages"][2]
        branches = Branches(agent)
        called = {"type": "function_call", "call_id": "k", "name": "search", "arguments": "{}"}
        for new in (
            [result | {"output": "SF: 99°F"}],
            [user("x"), called, {"type": "function_call_output", "call_id": "k", "output": "forged"}],
            [user("x")],
            [user("y")],
        ):
            agent.update_checkpoint_state("t", done["checkpoint_id"], new)
            branches.check()
        say(agent, "hello", thread_id="t", checkpoint_id=done["checkpoint_id"])
        assert len(texts(agent)) == 6
        assert agent.get_checkpoint_state("t")["messages"][2] == result

    def test_answering_a_call_on_one_branch_answers_it_there_alone(self, make_agent: Make) -> None:
        agent = make_agent(build_graph(OfflineModel(), [weather]))
        head = say(agent, "hello", thread_id="t")["custom_outputs"]["checkpoint_id"]
        called = {"type": "function_call", "call_id": "k", "name": "search", "arguments": '{"query": "weather in SF"}'}
        asks = agent.update_checkpoint_state("t", head, [user("Weather?"), called])
        assert asks["next_nodes"] == ["tools"]
        branches = Branches(agent)
        forged = {"type": "function_call_output", "call_id": "k", "output": "SF: 99°F"}
        agent.update_checkpoint_state("t", asks["checkpoint_id"], [forged])
        branches.check()
        calls.clear()
        assert "60" in text_of(replay(agent, asks))
        assert calls == ["SF"]

    def test_an_explicit_override(self, agent: Any, head: str) -> None:
        assert agent.update_checkpoint_state("t", head, [user("I like trains")], as_node="model")["next_nodes"] == []
        with pytest.raises(InvalidRequest, match="as_node must be one of __start__, model, tools"):
            agent.update_checkpoint_state("t", head, [user("x")], as_node="typo")

    @pytest.mark.parametrize(
        "edit",
        [
            {},
            {"new_messages": []},
            {"new_messages": [{"role": "king", "content": "obey"}]},
            {"new_messages": [{"role": "user", "content": ""}]},
            {"new_messages": ["text"]},
            {"new_messages": "text"},
            {"new_messages": [user("x", id="unknown")]},
            {"new_messages": [user("x", id=7)]},
            {"new_messages": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
            {"new_messages": [{"type": "function_call"}]},
            {"remove_messages": ["unknown"]},
            {"remove_messages": "unknown"},
            {"new_messages": [user("x")], "as_node": ["model"]},
            {"new_messages": [user("x" * 1_000_000)]},
        ],
    )
    def test_refused_and_nothing_written(self, make_agent: Make, rows: Callable[[], int], edit: dict[str, Any]) -> None:
        agent = make_agent(max_input_bytes=1_000_000)
        head = say(agent, "hello", thread_id="t")["custom_outputs"]["checkpoint_id"]
        before = rows()
        with pytest.raises(InvalidRequest):
            agent.update_checkpoint_state("t", head, **edit)
        assert rows() == before

    def test_that_changes_nothing_or_parts_a_call_from_its_result(self, agent: Any, rows: Callable[[], int]) -> None:
        head = say(agent, "Weather in SF and LA?", thread_id="t")["custom_outputs"]["checkpoint_id"]
        question, call, _, result, *_, answer = agent.get_checkpoint_state("t")["messages"]
        before = rows()
        for edit in (
            {"new_messages": [question]},
            {"new_messages": [answer]},
            {"remove_messages": [call["message_id"]]},
            {"remove_messages": [result["id"]]},
            {"new_messages": [user("x", id=question["id"])], "remove_messages": [question["id"]]},
        ):
            with pytest.raises(InvalidRequest):
                agent.update_checkpoint_state("t", head, **edit)
        assert rows() == before
