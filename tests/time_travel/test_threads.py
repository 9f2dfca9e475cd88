import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import psycopg
import pytest
from conftest import say, text_of
from databases import dump
from pydantic import SecretStr
from scripted import Scripted
from walking import Branches, assistant, fork, texts, user

from stateful_agent.errors import InvalidRequest, ThreadDeleted, ThreadExists, ThreadNotFound
from stateful_agent.graph.build import build_graph

Make = Callable[..., Any]


@pytest.fixture
def go_on() -> Event:
    return Event()


def begin(agent: Any, ref: dict[str, Any]) -> Any:
    """A stream that has emitted its first word."""
    stream = agent.predict_stream({"input": [user("go")], "custom_inputs": ref})
    while next(stream).type != "response.output_text.delta":
        pass
    return stream


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

    def test_counts_its_branches(self, agent: Any) -> None:
        def counts() -> tuple[int, int]:
            return agent.get_thread("t")["branch_count"], len(agent.list_branches("t"))

        first = say(agent, "Weather in SF?", thread_id="t")["custom_outputs"]
        assert counts() == (1, 1)
        second = say(agent, "hello", thread_id="t")["custom_outputs"]
        fork(agent, first, "I'm headed to Oslo!")
        assert counts() == (2, 2)
        fork(agent, second, "the old branch goes on")
        assert counts() == (2, 2)
        agent.update_checkpoint_state("t", None, [user("one more")])
        assert counts() == (2, 2)
        agent.update_checkpoint_state("t", first["checkpoint_id"], [user("one more")])
        assert counts() == (3, 3)
        assert agent.get_thread(agent.copy_thread("t")["thread_id"])["branch_count"] == 3
        agent.prune(0)
        assert counts() == (1, 1)

    def test_branches_that_an_earlier_version_has_made_are_counted_with_the_next_turn(
        self, agent: Any, database: str
    ) -> None:
        first = say(agent, "hello", thread_id="t")["custom_outputs"]
        for text in ("one", "two"):
            fork(agent, first, text)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("UPDATE agent_threads SET branch_count = NULL")
        assert agent.list_threads()[0]["branch_count"] is None
        fork(agent, first, "three")
        assert agent.list_threads()[0]["branch_count"] == 3

    def test_begin_one_without_a_turn(self, agent: Any) -> None:
        made = agent.create_thread("t", [user("I'm headed to SF!"), assistant("Have fun.")], {"title": "Trip"})
        assert agent.get_thread("t") == made == agent.list_threads()[0]
        assert (made["metadata"], made["message_count"], made["next_nodes"]) == ({"title": "Trip"}, 2, [])
        answer = say(agent, "Where am I going?", thread_id="t")
        assert "SF" in text_of(answer)
        assert answer["custom_outputs"]["parent_checkpoint_id"] == made["checkpoint_id"]

    def test_an_empty_one(self, agent: Any) -> None:
        made = agent.create_thread()
        assert (made["metadata"], made["turn"], made["next_nodes"], made["message_count"]) == ({}, 0, [], 0)
        edit = agent.update_checkpoint_state(made["thread_id"], None, [user("hi"), assistant("ho")])
        assert (edit["parent_checkpoint_id"], edit["next_nodes"]) == (made["checkpoint_id"], [])
        say(agent, "hello", thread_id=made["thread_id"])
        assert agent.get_thread(made["thread_id"])["turn"] == 1

    def test_that_ends_in_a_question_waits_for_its_answer(self, agent: Any) -> None:
        assert agent.create_thread("t", [user("hello")])["next_nodes"] == ["model"]
        agent.predict({"input": [], "custom_inputs": {"thread_id": "t"}})
        assert len(texts(agent)) == 2

    def test_one_that_is_there_is_not_begun_again(self, agent: Any) -> None:
        say(agent, "hello", thread_id="t")
        with pytest.raises(ThreadExists):
            agent.create_thread("t", metadata={"title": "another"})
        assert (agent.get_thread("t")["metadata"], len(texts(agent))) == ({}, 2)

    def test_note_something_of_one(self, agent: Any) -> None:
        say(agent, "hello", thread_id="t")
        agent.update_thread("t", {"title": "Trip", "tags": ["a"]})
        before = agent.get_thread("t")
        noted = {"metadata": {"title": "Journey"}, "title": "Journey"}
        assert agent.update_thread("t", {"title": "Journey"}) == before | noted
        with pytest.raises(ThreadNotFound):
            agent.update_thread("nowhere", {})
        wrong: list[Any] = [None, [], "title", {"x": "y" * 20_000}, {"x": float("nan")}, {"x": "\ud800"}]
        for bad in wrong:
            with pytest.raises(InvalidRequest):
                agent.update_thread("t", bad)

    @pytest.mark.parametrize("key", [None, SecretStr("k" * 32)], ids=["plain", "encrypted"])
    def test_has_the_title_that_it_was_given_or_else_its_first_message(self, make_agent: Make, key: Any) -> None:
        agent = make_agent(langgraph_aes_key=key)
        say(agent, "hello", thread_id="t")
        say(agent, "again", thread_id="t")
        assert agent.get_thread("t")["title"] == "hello"
        agent.update_thread("t", {"title": "Trip"})
        assert [thread["title"] for thread in agent.list_threads()] == ["Trip"]
        agent.create_thread("empty")
        assert agent.get_thread("empty")["title"] is None
        agent.update_thread("empty", {"title": 7})
        assert agent.get_thread("empty")["title"] is None

    @pytest.mark.parametrize("key", [None, SecretStr("k" * 32)], ids=["plain", "encrypted"])
    def test_what_is_noted_is_copied_and_kept_secret(self, make_agent: Make, database: str, key: Any) -> None:
        agent = make_agent(langgraph_aes_key=key)
        agent.create_thread("t", metadata={"title": "heliotrope"})
        copy = agent.copy_thread("t")["thread_id"]
        assert agent.get_thread(copy)["metadata"] == {"title": "heliotrope"}
        agent.update_thread("t", {"title": "another"})
        assert agent.get_thread(copy)["metadata"] == {"title": "heliotrope"}
        assert (b"heliotrope" in dump(database)) == (key is None)

    def test_copy_is_whole_and_apart(self, agent: Any) -> None:
        first = say(agent, "I'm headed to SF!", thread_id="t")["custom_outputs"]
        fork(agent, first, "I'm headed to Oslo!")
        branches = Branches(agent)
        copy = agent.copy_thread("t")
        assert copy["copied_from"] == "t"
        mine, theirs = agent.get_checkpoint_history("t", 100), agent.get_checkpoint_history(copy["thread_id"], 100)
        assert [entry | {"thread_id": "t"} for entry in theirs] == mine
        assert texts(agent, thread_id=copy["thread_id"]) == texts(agent)
        say(agent, "Where am I going?", thread_id=copy["thread_id"])
        assert len(texts(agent, thread_id=copy["thread_id"])) == 6
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

    def test_delete_while_a_turn_runs(self, make_agent: Make, go_on: Event, rows: Callable[[], int]) -> None:
        agent = make_agent(build_graph(Scripted("one", go_on.is_set, "two"), []))
        say(make_agent(), "hello", thread_id="t")
        stream = begin(agent, {"thread_id": "t"})
        agent.delete_thread("t")
        assert rows() == 0
        go_on.set()
        assert list(stream)[-1].code == ThreadDeleted.code
        assert rows() == 0
        assert text_of(say(agent, "hello again", thread_id="t"))
        assert len(texts(agent)) == 2

    def test_begun_again_while_an_old_turn_runs(self, make_agent: Make, go_on: Event) -> None:
        slow, quick = make_agent(build_graph(Scripted("one", go_on.is_set, "two"), [])), make_agent()
        say(quick, "hello", thread_id="t")
        stream = begin(slow, {"thread_id": "t"})
        quick.delete_thread("t")
        say(quick, "hello again", thread_id="t")
        go_on.set()
        assert list(stream)[-1].code == ThreadDeleted.code
        assert texts(quick)[0] == "hello again"
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
        done = Event()

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

    def test_prune_under_a_turn_from_an_old_checkpoint(self, make_agent: Make, go_on: Event) -> None:
        agent, quick = make_agent(build_graph(Scripted("one", go_on.is_set, "two"), [])), make_agent()
        first, *_ = [say(quick, f"question {n}", thread_id="t")["custom_outputs"] for n in range(3)]
        stream = begin(agent, {name: first[name] for name in ("thread_id", "checkpoint_id")})
        assert agent.prune(0)["threads"] == 0
        go_on.set()
        list(stream)
        assert texts(agent)[::2] == ["question 0", "go"]
        assert agent.prune(0)["threads"] == 1
        assert texts(agent)[::2] == ["question 0", "go"]

    def test_prune_while_a_turn_runs(self, make_agent: Make, go_on: Event) -> None:
        agent, quick = make_agent(build_graph(Scripted("one", go_on.is_set, "two"), [])), make_agent()
        for _ in range(3):
            say(quick, "hello", thread_id="t")
        stream = begin(agent, {"thread_id": "t"})
        agent.prune(0)
        go_on.set()
        assert list(stream)[-1].type == "response.completed"
        assert len(texts(agent)) == 8
