"""What one can do with a conversation beside going on with it. Real Postgres, the built-in offline model."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import say, text_of
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from scripted import Scripted

from stateful_agent.errors import CheckpointNotFound, InvalidRequest, ShuttingDown, ThreadDeleted, ThreadNotFound
from stateful_agent.graph import build_graph
from stateful_agent.models import OfflineModel

Make = Callable[..., Any]


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "output_text", "text": text}], **more}


def replay(agent: Any, entry: dict[str, Any], stream: bool = False) -> dict[str, Any]:
    """A turn without input. Returns the response as JSON."""
    request = {"input": [], "custom_inputs": {"thread_id": entry["thread_id"], "checkpoint_id": entry["checkpoint_id"]}}
    if stream:
        return dict([event.model_dump(exclude_none=True) for event in agent.predict_stream(request)][-1]["response"])
    return dict(agent.predict(request).model_dump(exclude_none=True))


def fork(agent: Any, entry: dict[str, Any], text: str, stream: bool = False) -> dict[str, Any]:
    """A turn from an entry of the history."""
    place = {"thread_id": entry["thread_id"], "checkpoint_id": entry["checkpoint_id"]}
    if not stream:
        return say(agent, text, **place)
    events = list(agent.predict_stream({"input": [user(text)], "custom_inputs": place}))
    return dict(events[-1].model_dump(exclude_none=True)["response"])


def said(agent: Any, checkpoint_id: str | None = None, thread_id: str = "t") -> list[str]:
    """All that was said up to a checkpoint."""
    items = agent.get_checkpoint_state(thread_id, checkpoint_id)["messages"]
    return [item["content"][0]["text"] if item["type"] == "message" else item["type"] for item in items]


def at(agent: Any, next_nodes: list[str], thread_id: str = "t") -> dict[str, Any]:
    """The newest checkpoint where that is next."""
    return next(e for e in agent.get_checkpoint_history(thread_id, 100) if e["next_nodes"] == next_nodes)


class Branches:
    """Notes how every checkpoint reads, to tell later that none of them has changed."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self.before = self.read()

    def read(self) -> dict[str, Any]:
        ids = [entry["checkpoint_id"] for entry in self.agent.get_checkpoint_history("t", 100)]
        return {checkpoint_id: self.agent.get_checkpoint_state("t", checkpoint_id) for checkpoint_id in ids}

    def check(self) -> None:
        now = self.read()
        assert {checkpoint_id: now[checkpoint_id] for checkpoint_id in self.before} == self.before


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
        assert said(talk)[2:] == ["What is 2 + 2?", text_of(answer)]
        branches.check()

    def test_start_without_input_asks_the_same_again(self, talk: Any, stream: bool) -> None:
        branches, before = Branches(talk), said(talk)
        answer = replay(talk, at(talk, ["__start__"]), stream)
        assert said(talk) == before
        assert answer["custom_outputs"]["checkpoint_id"] not in branches.before
        branches.check()

    def test_model_with_input_adds_to_what_is_pending(self, talk: Any, stream: bool) -> None:
        branches = Branches(talk)
        fork(talk, at(talk, ["model"]), "And what is 2 + 2?", stream)
        assert said(talk)[2:4] == ["Where am I going?", "And what is 2 + 2?"]
        branches.check()

    def test_model_without_input_answers_again(self, talk: Any, stream: bool) -> None:
        branches, before = Branches(talk), said(talk)
        answer = replay(talk, at(talk, ["model"]), stream)
        assert "SF" in text_of(answer)
        assert said(talk) == before
        branches.check()

    def test_tools_with_input_closes_what_is_open(self, make_agent: Make, stream: bool) -> None:
        agent = make_agent(build_graph(OfflineModel(), [weather]))
        say(agent, "Weather in SF and LA?", thread_id="t")
        branches = Branches(agent)
        fork(agent, at(agent, ["tools", "tools"]), "never mind", stream)
        assert said(agent)[:6] == [
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
        threading.Timer(1, agent.close).start()
        with pytest.raises(ShuttingDown):
            say(agent, "Weather in SF and LA?", thread_id="t")
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
        assert said(talk)[2] == "What is 2 + 2?"
        assert len(said(talk)) == 4
        branches.check()

    def test_nothing_without_input_is_a_checkout(self, make_agent: Make, stream: bool) -> None:
        heard: list[Any] = []
        agent = make_agent(build_graph(Scripted("yes", heard=heard), []))
        for text in ("one", "two"):
            say(agent, text, thread_id="t")
        branches = Branches(agent)
        first_turn = next(e for e in agent.get_checkpoint_history("t", 100) if e["turn"] == 1 and not e["next_nodes"])
        heard.clear()
        checked_out = replay(agent, first_turn, stream)
        assert checked_out["output"] == []
        assert heard == []
        assert said(agent) == ["one", "yes "]
        say(agent, "three", thread_id="t")
        assert said(agent) == ["one", "yes ", "three", "yes "]
        branches.check()


calls: list[str] = []
stuck: set[str] = set()


@tool("search")
async def weather(query: str) -> str:
    """Search for the weather."""
    place = query.split()[-1]
    calls.append(place)
    if place in stuck:
        await asyncio.sleep(60)
    return f"{place}: 60°F"


class TestForks:
    def test_going_on_with_a_tip_other_than_the_newest(self, agent: Any) -> None:
        first = say(agent, "I'm headed to SF!", thread_id="t")["custom_outputs"]
        say(agent, "I'm headed to New York!", thread_id="t")
        other = fork(agent, first, "I'm headed to Oslo!")["custom_outputs"]
        say(agent, "Where am I going?", thread_id="t")
        assert "Oslo" in said(agent)[-1]
        say(agent, "Where am I going?", thread_id="t", checkpoint_id=other["checkpoint_id"])
        assert said(agent) == [*said(agent, other["checkpoint_id"]), *said(agent)[-2:]]

    def test_forks_of_forks(self, agent: Any) -> None:
        place = say(agent, "I'm headed to SF!", thread_id="t")["custom_outputs"]
        branches = []
        for depth in range(4):
            branches.append(Branches(agent))
            tips = [fork(agent, place, f"I'm headed to Place{depth}{side}!")["custom_outputs"] for side in "ab"]
            assert {tip["parent_checkpoint_id"] for tip in tips} == {place["checkpoint_id"]}
            place = tips[0]
        for before in branches:
            before.check()
        assert said(agent, place["checkpoint_id"])[::2] == ["I'm headed to SF!"] + [
            f"I'm headed to Place{depth}a!" for depth in range(4)
        ]


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

    def test_of_nothing(self, agent: Any) -> None:
        with pytest.raises(ThreadNotFound):
            agent.get_checkpoint_state("nowhere")
        say(agent, "hello", thread_id="t")
        with pytest.raises(CheckpointNotFound):
            agent.get_checkpoint_state("t", "nothing")


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
        assert said(agent) == ["I'm headed to Oslo!", *said(agent, head)[1:]]
        branches.check()
        assert "Oslo" in text_of(say(agent, "Where am I going?", thread_id="t"))

    def test_remove_and_append_in_one_call(self, agent: Any, head: str) -> None:
        ids = [item["id"] for item in agent.get_checkpoint_state("t", head)["messages"]]
        edited = agent.update_checkpoint_state("t", head, [user("Where am I headed?")], ids[2:])
        assert edited["next_nodes"] == ["model"]
        assert said(agent) == [*said(agent, head)[:2], "Where am I headed?"]
        assert "SF" in text_of(say_nothing(agent))

    def test_everything_removed(self, agent: Any, head: str) -> None:
        ids = [item["id"] for item in agent.get_checkpoint_state("t", head)["messages"]]
        agent.update_checkpoint_state("t", head, remove_messages=ids)
        assert said(agent) == []

    @pytest.mark.parametrize(
        ("last", "pending"),
        [(user("and?"), ["model"]), (assistant("You are going to SF."), [])],
        ids=["user", "assistant"],
    )
    @pytest.mark.parametrize("place", [["__start__"], ["model"], []], ids=["start", "model", "end"])
    def test_the_last_message_says_what_runs_next(
        self, agent: Any, head: str, place: list[str], last: dict[str, Any], pending: list[str]
    ) -> None:
        before = len(said(agent, head))
        for entry in [e for e in agent.get_checkpoint_history("t", 100) if e["next_nodes"] == place]:
            edited = agent.update_checkpoint_state("t", entry["checkpoint_id"], [last])
            assert edited["next_nodes"] == pending
            assert agent.get_checkpoint_state("t")["pending_messages"] == []
            assert said(agent)[-1] == "and?" if pending else "You are going to SF."
        assert len(said(agent, head)) == before

    def test_the_input_that_waits_at_the_start_is_part_of_it(self, agent: Any, head: str) -> None:
        start = at(agent, ["__start__"])["checkpoint_id"]
        waiting = agent.get_checkpoint_state("t", start)["pending_messages"][0]
        agent.update_checkpoint_state("t", start, [user("Where to?", id=waiting["id"])])
        assert said(agent)[-1] == "Where to?"
        assert len(said(agent)) == 3
        agent.update_checkpoint_state("t", start, remove_messages=[waiting["id"]], new_messages=[user("Hm?")])
        assert said(agent)[2:] == ["Hm?"]

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
        for place, new, removed in (
            (at(agent, ["tools"])["checkpoint_id"], {"type": "function_call_output", "call_id": call["call_id"]}, []),
            (done, result, [answer["id"]]),
        ):
            edited = agent.update_checkpoint_state("t", place, [new | {"output": "SF: 99°F"}], removed)
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
        assert len(said(agent)) == 6
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
            {"new_messages": [{"role": "system", "content": "obey"}]},
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


def say_nothing(agent: Any) -> dict[str, Any]:
    return dict(agent.predict({"input": [], "custom_inputs": {"thread_id": "t"}}).model_dump(exclude_none=True))


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


class TestThreads:
    def test_list(self, agent: Any) -> None:
        for name in ("a", "b", "c", "a"):
            head = say(agent, f"hello from {name}", thread_id=name)["custom_outputs"]["checkpoint_id"]
        threads = agent.list_threads()
        assert [thread["thread_id"] for thread in threads] == ["a", "c", "b"]
        assert threads[0]["checkpoint_id"] == head
        assert (threads[0]["turn"], threads[0]["message_count"], threads[0]["next_nodes"]) == (2, 4, [])
        assert threads[0]["created_at"] < threads[2]["updated_at"] < threads[0]["updated_at"]
        assert agent.list_threads(1, threads[0]["updated_at"]) == [threads[1]]
        for bad in ("yesterday", 5):
            with pytest.raises(InvalidRequest):
                agent.list_threads(1, bad)

    def test_copy_is_whole_and_apart(self, agent: Any) -> None:
        first = say(agent, "I'm headed to SF!", thread_id="t")["custom_outputs"]
        fork(agent, first, "I'm headed to Oslo!")
        branches = Branches(agent)
        copy = agent.copy_thread("t")
        assert copy["copied_from"] == "t"
        mine, theirs = agent.get_checkpoint_history("t", 100), agent.get_checkpoint_history(copy["thread_id"], 100)
        assert [entry | {"thread_id": "t"} for entry in theirs] == mine
        assert said(agent, thread_id=copy["thread_id"]) == said(agent)
        say(agent, "Where am I going?", thread_id=copy["thread_id"])
        assert len(said(agent, thread_id=copy["thread_id"])) == 6
        branches.check()
        assert len(agent.get_checkpoint_history("t", 100)) == len(mine)
        with pytest.raises(ThreadNotFound):
            agent.copy_thread("nowhere")

    def test_delete_leaves_no_row(self, agent: Any, rows: Callable[[], int]) -> None:
        say(agent, "Weather in SF and LA?", thread_id="t")
        say(agent, "hello", thread_id="other")
        total = rows()
        deleted = agent.delete_thread("t")
        assert sum(deleted[table] for table in ("checkpoints", "blobs", "writes")) == total - rows()
        assert [thread["thread_id"] for thread in agent.list_threads()] == ["other"]
        with pytest.raises(ThreadNotFound):
            agent.delete_thread("t")
        agent.delete_thread("other")
        assert rows() == 0

    def test_delete_while_a_turn_runs(self, make_agent: Make, rows: Callable[[], int]) -> None:
        agent = make_agent(build_graph(Scripted(*"abcdefgh", pause=0.1), []))
        say(agent, "hello", thread_id="t")
        stream = agent.predict_stream({"input": [user("go")], "custom_inputs": {"thread_id": "t"}})
        next(stream)
        agent.delete_thread("t")
        assert rows() == 0
        assert list(stream)[-1].code == ThreadDeleted.code
        assert rows() == 0
        assert text_of(say(agent, "hello again", thread_id="t"))
        assert len(said(agent)) == 2

    def test_begun_again_while_an_old_turn_runs(self, make_agent: Make) -> None:
        slow, quick = make_agent(build_graph(Scripted(*"abcdefgh", pause=0.1), [])), make_agent()
        say(quick, "hello", thread_id="t")
        stream = slow.predict_stream({"input": [user("go")], "custom_inputs": {"thread_id": "t"}})
        next(stream)
        quick.delete_thread("t")
        say(quick, "hello again", thread_id="t")
        assert list(stream)[-1].code == ThreadDeleted.code
        assert said(quick)[0] == "hello again"
        assert len(quick.get_checkpoint_history("t")) == 3

    def test_prune_keeps_heads(self, agent: Any, rows: Callable[[], int]) -> None:
        for thread_id in ("t", "u"):
            first = say(agent, "Weather in SF and LA?", thread_id=thread_id)["custom_outputs"]
            fork(agent, first, "I'm headed to Oslo!")
            say(agent, "hello", thread_id=thread_id)
        states = [agent.get_checkpoint_state(thread_id) for thread_id in ("t", "u")]
        total = rows()
        assert set(agent.prune(1).values()) == {0}
        assert rows() == total
        pruned = agent.prune(0)
        assert pruned["threads"] == 2
        assert sum(pruned[table] for table in ("checkpoints", "blobs", "writes")) == total - rows()
        for thread_id, state in zip(("t", "u"), states, strict=True):
            assert agent.get_checkpoint_state(thread_id) == state | {"parent_checkpoint_id": None}
            assert len(agent.get_checkpoint_history(thread_id)) == 1
        assert "Oslo" in text_of(say(agent, "Where am I going?", thread_id="t"))
        assert set(agent.prune(0).values()) != {0}
        for bad in (-1, "1", True, float("nan"), 1e99):
            with pytest.raises(InvalidRequest):
                agent.prune(bad)

    def test_prune_while_many_turns_run(self, make_agent: Make) -> None:
        agent = make_agent(build_graph(Scripted("yes"), []))
        done = threading.Event()

        def prune() -> None:
            while not done.is_set():
                agent.prune(0)

        pruning = threading.Thread(target=prune)
        pruning.start()
        try:
            with ThreadPoolExecutor(4) as callers:
                list(callers.map(lambda n: say(agent, "hello", thread_id=f"{n % 4}"), range(120)))
        finally:
            done.set()
            pruning.join()

    def test_prune_while_a_turn_runs(self, make_agent: Make) -> None:
        agent = make_agent(build_graph(Scripted(*"abcdefgh", pause=0.1), []))
        for _ in range(3):
            say(agent, "hello", thread_id="t")
        stream = agent.predict_stream({"input": [user("go")], "custom_inputs": {"thread_id": "t"}})
        next(stream)
        pruning = threading.Timer(0.3, agent.prune, [0])
        pruning.start()
        assert list(stream)[-1].type == "response.completed"
        pruning.join()
        assert len(said(agent)) == 8


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
        assert said(agent, thread_id=copy["thread_id"]) == said(agent)
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


class TestPreviousResponse:
    def test_leads_back_to_its_thread_and_checkpoint(self, agent: Any) -> None:
        first = say(agent, "I'm headed to SF!", thread_id="t")
        say(agent, "I'm headed to Oslo!", thread_id="t")
        agent.copy_thread("t")
        answer = say(agent, "Where am I going?", previous_response_id=first["id"])
        assert answer["custom_outputs"]["thread_id"] == "t"
        assert answer["custom_outputs"]["parent_checkpoint_id"] == first["custom_outputs"]["checkpoint_id"]
        assert "SF" in text_of(answer)
        assert "Oslo" not in text_of(answer)

    def test_unknown_or_ambiguous(self, agent: Any) -> None:
        first = say(agent, "hello", thread_id="t")
        with pytest.raises(CheckpointNotFound):
            say(agent, "hello", previous_response_id="resp_unknown")
        with pytest.raises(InvalidRequest):
            say(agent, "hello", previous_response_id=first["id"], thread_id="t")
        with pytest.raises(InvalidRequest):
            say(agent, "hello", previous_response_id=7)


class TestResentConversation:
    def resend(self, agent: Any, *items: dict[str, Any], **custom_inputs: Any) -> dict[str, Any]:
        request = {"input": list(items), "custom_inputs": {"thread_id": "t", **custom_inputs}}
        return dict(agent.predict(request).model_dump(exclude_none=True))

    def test_only_what_is_new_is_added(self, agent: Any) -> None:
        conversation: list[dict[str, Any]] = []
        for text in ("I'm headed to SF!", "Weather in SF and LA?", "Where am I going?"):
            conversation.append(user(text))
            answer = self.resend(agent, *conversation)
            conversation.append(assistant(text_of(answer)))
            spoken = [text for text in said(agent) if not text.startswith("function_call")]
            assert spoken == [m["content"] if m["role"] == "user" else m["content"][0]["text"] for m in conversation]

    def test_with_the_items_of_the_responses(self, agent: Any) -> None:
        conversation: list[dict[str, Any]] = []
        for text in ("Weather in SF and LA?", "Which one is warmer?"):
            conversation.append(user(text))
            conversation += self.resend(agent, *conversation)["output"]
        assert said(agent).count("function_call") == 2

    def test_an_edited_message_forks_where_it_departs(self, agent: Any) -> None:
        first = say(agent, "hello", thread_id="t")
        say(agent, "I'm headed to SF!", thread_id="t")
        say(agent, "Where am I going?", thread_id="t")
        branches = Branches(agent)
        answer = self.resend(agent, user("hello"), assistant(text_of(first)), user("I'm headed to Oslo!"))
        assert said(agent)[:3] == ["hello", text_of(first), "I'm headed to Oslo!"]
        assert len(said(agent)) == 4
        parent = agent.get_checkpoint_state("t", answer["custom_outputs"]["parent_checkpoint_id"])
        assert parent["message_count"] == 2
        branches.check()

    def test_an_edited_first_message_forks_at_the_root(self, agent: Any) -> None:
        first, second = (say(agent, text, thread_id="t") for text in ("I'm headed to SF!", "Where am I going?"))
        branches = Branches(agent)
        again = [assistant(text_of(first)), user("Where am I going?"), assistant(text_of(second)), user("hello")]
        self.resend(agent, user("I'm headed to Oslo!"), *again)
        assert said(agent)[0] == "I'm headed to Oslo!"
        assert len(said(agent)) == 6
        branches.check()

    def test_it_may_depart_within_a_turn(self, agent: Any) -> None:
        begun = [user("a1"), assistant("b1"), user("a2"), assistant("b2"), user("a3")]
        self.resend(agent, *begun)
        branches = Branches(agent)
        self.resend(agent, *begun[:2], user("other"))
        assert said(agent)[:3] == ["a1", "b1", "other"]
        assert len(said(agent)) == 4
        branches.check()

    def test_what_a_client_says_of_tools_is_kept(self, agent: Any) -> None:
        first = say(agent, "hello", thread_id="t")
        called = {"type": "function_call", "call_id": "z", "name": "lookup", "arguments": "{}"}
        result = {"type": "function_call_output", "call_id": "z", "output": "from the client"}
        self.resend(agent, user("hello"), assistant(text_of(first)), called, result, user("hello again"))
        assert [item["type"] for item in agent.get_checkpoint_state("t")["messages"]] == [
            "message",
            "message",
            "function_call",
            "function_call_output",
            "message",
            "message",
        ]

    def test_who_says_the_same_twice_is_heard_twice(self, agent: Any) -> None:
        first = say(agent, "hello", thread_id="t")
        say(agent, "hello", thread_id="t")
        assert said(agent).count("hello") == 2
        self.resend(
            agent, user("hello"), assistant(text_of(first)), user("hello"), assistant(text_of(first)), user("hello")
        )
        assert said(agent).count("hello") == 3

    def test_nothing_new(self, agent: Any, rows: Callable[[], int]) -> None:
        first = say(agent, "hello", thread_id="t")
        before = rows()
        with pytest.raises(InvalidRequest, match="add a message"):
            self.resend(agent, user("hello"), assistant(text_of(first)))
        assert rows() == before


def test_the_state_gives_back_the_messages() -> None:
    from stateful_agent.messages import to_items, to_messages

    messages = [
        HumanMessage("look", id="1"),
        HumanMessage([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}], id="2"),
        AIMessage("well", id="3", tool_calls=[{"name": "f", "args": {"x": 1}, "id": "c", "type": "tool_call"}]),
        ToolMessage("done", id="4", tool_call_id="c", status="error"),
        AIMessage("", id="5", tool_calls=[{"name": "f", "args": {}, "id": "d", "type": "tool_call"}]),
        ToolMessage("done", id="6", tool_call_id="d"),
        AIMessage("so", id="7"),
    ]
    assert to_messages(to_items(messages)) == messages
