import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from conftest import say, text_of
from databases import value
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from walking import Branches, at, execute, fork, read_all, replay, texts, user

from stateful_agent.checkpoints import message_log
from stateful_agent.checkpoints.cipher import Cipher
from stateful_agent.checkpoints.message_log import MessageCache, MessageLog
from stateful_agent.checkpoints.serializer import Serializer
from stateful_agent.errors import Unreadable
from stateful_agent.settings import Settings

Make = Callable[..., Any]

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "agent_messages")


def stored(database: str) -> int:
    """The bytes in all columns of a conversation's rows."""
    with psycopg.connect(database) as connection:
        return sum(value(connection, f"SELECT coalesce(sum(length(t::text)), 0) FROM {table} AS t") for table in TABLES)


def numbers(database: str) -> list[int]:
    with psycopg.connect(database) as connection:
        return list(value(connection, "SELECT coalesce(array_agg(number ORDER BY number), '{}') FROM agent_messages"))


class TestStoredOnce:
    def test_a_turn_takes_no_more_room_on_a_long_thread(self, agent: Any, database: str) -> None:
        sizes = []
        for _ in range(40):
            before = stored(database)
            say(agent, "hello", thread_id="t")
            sizes.append(stored(database) - before)
        assert numbers(database) == list(range(1, 81))
        assert sum(sizes[-5:]) < 1.05 * sum(sizes[5:10])

    def test_a_fork_shares_what_was_said_before_it(self, agent: Any, database: str) -> None:
        first = say(agent, "I'm headed to SF!", thread_id="t")["custom_outputs"]
        say(agent, "It's sunny.", thread_id="t")
        fork(agent, first, "I'm headed to Oslo!")
        assert numbers(database) == [1, 2, 3, 4, 5, 6]
        assert "SF" in text_of(fork(agent, first, "Where did I say I'm going?"))

    def test_an_edit_stores_what_it_changes(self, agent: Any, database: str) -> None:
        for text in ("one", "two", "three"):
            say(agent, text, thread_id="t")
        head = agent.get_checkpoint_state("t")
        changed = user("TWO", id=head["messages"][2]["id"])
        removed = [head["messages"][3]["id"]]
        agent.update_checkpoint_state("t", head["checkpoint_id"], [changed], remove_messages=removed)
        assert numbers(database) == [1, 2, 3, 4, 5, 6, 7]
        assert [text for n, text in enumerate(texts(agent)) if n in (0, 2, 3)] == ["one", "TWO", "three"]
        assert texts(agent, head["checkpoint_id"])[2] == "two"

    def test_what_pruning_leaves_unused_goes_and_its_number_is_not_given_again(
        self, agent: Any, make_agent: Make, database: str
    ) -> None:
        first = say(agent, "one", thread_id="t")["custom_outputs"]
        say(agent, "two", thread_id="t")
        fork(agent, first, "three")
        assert agent.prune(0)["messages"] == 2
        assert numbers(database) == [1, 2, 5, 6]
        newest = agent.get_checkpoint_history("t")[0]
        agent.update_checkpoint_state(
            "t",
            newest["checkpoint_id"],
            remove_messages=[item["id"] for item in agent.get_checkpoint_state("t")["messages"][2:]],
        )
        agent.prune(0)
        assert numbers(database) == [1, 2]
        say(agent, "four", thread_id="t")
        assert numbers(database) == [1, 2, 7, 8]
        assert texts(agent) == texts(make_agent())

    def test_a_thread_from_before_goes_on(self, agent: Any, make_agent: Make, database: str) -> None:
        """One whose lists of messages are stored whole, as LangGraph does."""
        say(agent, "I'm headed to SF!", thread_id="t")
        execute(
            database,
            "CREATE TEMP TABLE whole AS SELECT * FROM agent_blobs",
            "UPDATE checkpoint_blobs SET type = whole.type, blob = whole.blob FROM whole"
            " WHERE checkpoint_blobs.version = whole.version AND checkpoint_blobs.channel = whole.channel",
            "DELETE FROM agent_messages",
            "UPDATE agent_threads SET messages = 0",
        )
        agent = make_agent()
        branches = Branches(agent)
        assert "SF" in text_of(say(agent, "Where am I going?", thread_id="t"))
        assert numbers(database) == [1, 2, 3, 4]
        branches.check()


class TestRemembered:
    def test_a_turn_does_not_read_what_its_process_knows(self, agent: Any, make_agent: Make, database: str) -> None:
        say(agent, "I'm headed to SF!", thread_id="t")
        execute(database, "UPDATE agent_messages SET type = 'json', blob = 'no message'")
        assert "SF" in text_of(say(agent, "Where am I going?", thread_id="t"))
        with pytest.raises(Unreadable):
            say(make_agent(), "Where am I going?", thread_id="t")

    def test_what_others_said_is_read(self, agent: Any, make_agent: Make) -> None:
        other = make_agent()
        say(agent, "I'm headed to SF!", thread_id="t")
        say(other, "I'm headed to Oslo!", thread_id="t")
        assert "Oslo" in text_of(say(agent, "Where am I going?", thread_id="t"))

    def test_a_thread_that_began_again_is_another(self, agent: Any, make_agent: Make) -> None:
        other = make_agent()
        say(agent, "I'm headed to SF!", thread_id="t")
        other.delete_thread("t")
        say(other, "I'm headed to Oslo!", thread_id="t")
        assert texts(agent)[0] == "I'm headed to Oslo!"
        assert "Oslo" in text_of(say(agent, "Where am I going?", thread_id="t"))

    def test_what_a_step_changes_in_place_is_not_in_other_turns(self, make_agent: Make) -> None:
        received = []

        def spoil(state: MessagesState) -> Any:
            received.append([message.content for message in state["messages"]])
            for message in state["messages"]:
                message.content = "spoilt"
                message.additional_kwargs["spoilt"] = True
            return {"messages": [AIMessage("ok", additional_kwargs={"parts": [{"spoilt": False}]})]}

        graph = StateGraph(MessagesState)
        graph.add_node("spoil", spoil)
        graph.add_edge(START, "spoil")
        agent = make_agent(graph)
        for text in ("one", "two", "three"):
            say(agent, text, thread_id="t")
        assert received[-1] == ["one", "ok", "two", "ok", "three"]
        assert texts(make_agent(graph)) == ["one", "ok", "two", "ok", "three", "ok"]

    def test_nothing_in_a_message_is_shared_between_two_turns(self, make_agent: Make) -> None:
        seen = []

        def spoil(state: MessagesState) -> Any:
            for message in state["messages"]:
                if "parts" in message.additional_kwargs:
                    seen.append(message.additional_kwargs["parts"][0]["spoilt"])
                    message.additional_kwargs["parts"][0]["spoilt"] = True
            return {"messages": [AIMessage("ok", additional_kwargs={"parts": [{"spoilt": False}]})]}

        graph = StateGraph(MessagesState)
        graph.add_node("spoil", spoil)
        graph.add_edge(START, "spoil")
        agent = make_agent(graph)
        for text in ("one", "two", "three"):
            say(agent, text, thread_id="t")
        assert seen == [False] * 3

    def test_what_a_step_changes_in_place_and_says_is_stored(self, make_agent: Make, database: str) -> None:
        def revise(state: MessagesState) -> Any:
            question = state["messages"][0]
            question.content = f"{question.content}!"
            return {"messages": [question, AIMessage("ok")]}

        graph = StateGraph(MessagesState)
        graph.add_node("revise", revise)
        graph.add_edge(START, "revise")
        say(make_agent(graph), "one", thread_id="t")
        say(make_agent(graph), "two", thread_id="t")
        assert texts(make_agent(graph)) == ["one!!", "ok", "two", "ok"]

    def test_the_threads_used_longest_ago_are_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(message_log, "CACHED_BYTES", 100)
        cache, created_at = MessageCache(), datetime.now(UTC)
        for name in ("a", "b", "a", "c"):
            cache.note(name, created_at, {1: HumanMessage(name)}, 30)
        assert [bool(cache.recall(name).messages) for name in "abc"] == [True, False, True]
        cache.note("a", datetime.now(UTC), {2: HumanMessage("again")}, 30)
        assert list(cache.recall("a").messages) == [2]
        cache.note("d", created_at, {1: HumanMessage("long")}, 1000)
        assert not any(cache.recall(name).messages for name in "abcd")


def test_a_random_walk_reads_the_same_everywhere(make_agent: Make) -> None:
    """From a process that knows the thread and from one that does not; and no message ever changes."""
    pick = random.Random(787432)
    agent = make_agent()
    say(agent, "Weather in SF and LA?", thread_id="t")
    for n in range(15):
        branches = Branches(agent)
        history = agent.get_checkpoint_history("t", 100)
        entry = pick.choice(history)
        messages = agent.get_checkpoint_state("t", entry["checkpoint_id"])["messages"]
        ids = [item["id"] for item in messages if item.get("role") == "user"]
        match pick.choice(["say", "fork", "replay", "edit", "elsewhere"]):
            case "say":
                say(agent, f"I'm headed to city {n}", thread_id="t")
            case "elsewhere":
                say(make_agent(), f"Weather in city {n}?", thread_id="t")
            case "fork":
                fork(agent, entry, f"Weather in city {n}?")
            case "replay":
                replay(agent, entry)
            case "edit" if ids:
                agent.update_checkpoint_state("t", entry["checkpoint_id"], [user(f"edited {n}", id=pick.choice(ids))])
        branches.check()
    assert read_all(agent) == read_all(make_agent())
    assert at(agent, [])


def test_a_list_that_shrinks_and_changes() -> None:
    asyncio.run(shrink_and_change())


async def shrink_and_change() -> None:
    serializer, cache, here = Serializer(Cipher(Settings())), MessageCache(), ("", "messages")
    one, two, three = (HumanMessage(text, id=text) for text in ("one", "two", "three"))
    thread = MessageLog(cache, serializer, "t")
    assert (await thread.dump(here, [one, two]))[0] == b"{[1,2]}"
    assert await thread.dump(here, [one, two, three]) == (b"{[1,3]}", {3: serializer.dumps_typed(three)})
    assert await thread.dump(here, [two, three]) == (b"{[2,3]}", {})
    assert await thread.dump(here, [three, two]) == (b"{[3,3],[2,2]}", {})
    assert (await thread.dump(here, [three, HumanMessage("TWO", id="two")]))[0] == b"{[3,4]}"
    assert [message.content for message in await thread.load(here, b"{[3,4],[1,1]}")] == ["three", "TWO", "one"]
    with pytest.raises(Unreadable):
        await thread.load(here, b"{[1,9]}")


def test_lists_side_by_side_share_their_messages() -> None:
    asyncio.run(dump_side_by_side())


async def dump_side_by_side() -> None:
    one, two, three = (HumanMessage(text, id=text) for text in ("one", "two", "three"))
    thread = MessageLog(MessageCache(), Serializer(Cipher(Settings())), "t")
    assert (await thread.dump(("", "messages"), [one, two]))[0] == b"{[1,2]}"
    assert (await thread.dump(("inner", "messages"), [two]))[0] == b"{[2,2]}"
    assert (await thread.dump(("inner", "messages"), [two, three]))[0] == b"{[2,3]}"
    assert (await thread.dump(("", "messages"), [one, two, three]))[0] == b"{[1,3]}"
