"""What a graph's steps and tools remember: LangGraph's store, on a real Postgres, for one user at a time."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from conftest import text_of
from databases import dump
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import InvalidNamespaceError
from langgraph.store.memory import InMemoryStore
from walking import user

from stateful_agent.errors import Misconfigured, StorageUnavailable, Unreadable
from stateful_agent.identity import ALL_USERS

Make = Callable[..., Any]
KEY = "0123456789abcdef"

USERS = [
    "ann",
    "ann2",
    "ann.b",
    "a%",
    "a_",
    "*",
    "everyone",
    "users",
    "anna@example.com",
    "名前",
    "a\\b",
    "👩‍🚀" * 85,
    ALL_USERS,
]
"""Names that could be taken for others', the way LangGraph writes and matches namespaces."""


def steps(step: Any) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("step", step)
    graph.add_edge(START, "step")
    graph.add_edge("step", END)
    return graph


async def notes(state: MessagesState, runtime: Runtime[Any]) -> dict[str, Any]:
    """Remembers what is said, and says what else was."""
    assert runtime.store
    found = await runtime.store.asearch(("notes",))
    text = str(state["messages"][-1].text)
    await runtime.store.aput(("notes",), text, {"text": text})
    return {"messages": [AIMessage(", ".join(sorted(item.value["text"] for item in found)) or "nothing")]}


def ask(agent: Any, who: str | None, text: str, **custom_inputs: Any) -> str:
    request = {"input": [user(text)], "custom_inputs": custom_inputs, "context": {"user_id": who} if who else {}}
    return text_of(agent.predict(request).model_dump(exclude_none=True))


def in_store(agent: Any, who: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    """What a method of a user's store returns."""

    async def run() -> Any:
        return await getattr(agent.memory_of(who), method)(*args, **kwargs)

    return agent.loop.run(run())


class TestAGraph:
    def test_remembers_across_threads(self, make_agent: Make) -> None:
        agent = make_agent(steps(notes))
        assert ask(agent, None, "tea", thread_id="one") == "nothing"
        assert ask(agent, None, "cake", thread_id="two") == "tea"
        assert ask(agent, None, "milk") == "cake, tea"

    def test_for_each_user_apart(self, make_agent: Make) -> None:
        agent = make_agent(steps(notes), trusted_identity="context")
        assert ask(agent, "ann", "tea") == "nothing"
        assert ask(agent, "bob", "cake") == "nothing"
        assert ask(agent, "ann", "milk") == "tea"

    def test_whose_steps_are_plain_functions(self, make_agent: Make) -> None:
        def plain(state: MessagesState, runtime: Runtime[Any]) -> dict[str, Any]:
            assert runtime.store
            item = runtime.store.get(("n",), "k")
            runtime.store.put(("n",), "k", {"n": (item.value["n"] if item else 0) + 1})
            return {"messages": [AIMessage(str(item and item.value["n"]))]}

        agent = make_agent(steps(plain))
        assert [ask(agent, None, "go") for _ in range(3)] == ["None", "1", "2"]

    def test_a_coroutine_that_would_block_the_loop_is_told_so(self, make_agent: Make) -> None:
        async def blocking(state: MessagesState, runtime: Runtime[Any]) -> dict[str, Any]:
            assert runtime.store
            try:
                runtime.store.get(("n",), "k")
            except RuntimeError as error:
                return {"messages": [AIMessage(str(error))]}
            return {}

        assert "begin with `a`" in ask(make_agent(steps(blocking)), None, "go")

    def test_that_has_a_store_keeps_it(self, make_agent: Make) -> None:
        own = InMemoryStore()
        agent = make_agent(steps(notes).compile(store=own))
        ask(agent, None, "tea")
        assert [item.key for item in own.search(("notes",))] == ["tea"]
        assert agent.list_memories() == []

    def test_has_none_where_nothing_is_stored(self, make_agent: Make) -> None:
        async def look(state: MessagesState, runtime: Runtime[Any]) -> dict[str, Any]:
            return {"messages": [AIMessage(str(runtime.store))]}

        response = make_agent(steps(look)).predict({"input": [user("go")], "store": False})
        assert text_of(response.model_dump(exclude_none=True)) == "None"


class TestNamespaces:
    def test_of_users_never_meet(self, make_agent: Make) -> None:
        agent = make_agent()
        for who in USERS:
            in_store(agent, who, "aput", ("notes",), "k", {"of": str(who)})
        for who in USERS:
            assert [item.value for item in in_store(agent, who, "asearch", ())] == [{"of": str(who)}]
            assert in_store(agent, who, "aget", ("notes",), "k").value == {"of": str(who)}
            assert in_store(agent, who, "alist_namespaces") == [("notes",)]
            for pattern in (("*",), ("*", "notes"), ("*", "*", "*")):
                found = in_store(agent, who, "alist_namespaces", prefix=pattern)
                assert found in ([], [("notes",)])
            assert len(in_store(agent, who, "alist_namespaces", suffix=("notes",))) == 1

    def test_are_as_langgraph_has_them(self, make_agent: Make) -> None:
        agent, memory = make_agent(), InMemoryStore()

        async def use(store: Any) -> list[Any]:
            for n, namespace in enumerate([("a",), ("a", "b"), ("a", "b", "c"), ("ab",), ("d", "b")]):
                await store.aput(namespace, str(n), {"n": n, "even": n % 2 == 0})
            await store.adelete(("d", "b"), "4")
            await store.aput(("d", "b"), "5", {"n": 5})
            return [
                sorted(item.key for item in await store.asearch(("a",))),
                sorted(item.namespace for item in await store.asearch(("a",), filter={"even": True})),
                len(await store.asearch((), limit=2, offset=1)),
                await store.aget(("a",), "nothing"),
                sorted(await store.alist_namespaces()),
                sorted(await store.alist_namespaces(prefix=("a",), max_depth=2)),
                sorted(await store.alist_namespaces(suffix=("b",))),
                sorted(await store.alist_namespaces(prefix=("a", "*"))),
            ]

        async def ours() -> list[Any]:
            return await use(agent.memory_of("ann"))

        assert agent.loop.run(ours()) == asyncio.run(use(memory))

    @pytest.mark.parametrize("namespace", [(), ("",), ("a.b",), ("langgraph",)])
    def test_that_langgraph_refuses(self, make_agent: Make, namespace: Any) -> None:
        with pytest.raises(InvalidNamespaceError):
            in_store(make_agent(), "ann", "aput", namespace, "k", {})


VALUE = {"text": "a 5ecret", "deep": [{"n": 1.5, "none": None, "yes": True}], "名": "前"}


class TestValues:
    def test_come_back_as_they_were(self, make_agent: Make) -> None:
        for key in (None, KEY):
            agent = make_agent(langgraph_aes_key=key)
            in_store(agent, "ann", "aput", ("n",), "k", VALUE)
            assert in_store(agent, "ann", "aget", ("n",), "k").value == VALUE

    def test_that_storage_cannot_hold(self, make_agent: Make) -> None:
        agent = make_agent()
        for text in ("a\0b", "\ud800"):
            with pytest.raises(ValueError, match=r"cannot hold|surrogate|UTF-8"):
                in_store(agent, "ann", "aput", ("n",), "k", {"text": text})
        in_store(agent, "ann", "aput", ("n",), "k", {"text": "fine"})

    @pytest.mark.parametrize(("namespace", "key"), [(("n",), "k" * 3000), (("n" * 3000,), "k"), (("é" * 1300,), "k")])
    def test_of_which_the_place_is_too_long(self, make_agent: Make, namespace: Any, key: str) -> None:
        with pytest.raises(ValueError, match="2500 bytes"):
            in_store(make_agent(), "ann", "aput", namespace, key, {})

    def test_are_encrypted_with_a_key(self, make_agent: Make, database: str) -> None:
        agent = make_agent(langgraph_aes_key=KEY)
        in_store(agent, "ann", "aput", ("n",), "k", VALUE)
        assert b"5ecret" not in dump(database)
        with pytest.raises(ValueError, match="encrypted"):
            in_store(agent, "ann", "asearch", ("n",), filter={"text": "a 5ecret"})
        for other, error in ((None, Misconfigured), ("f" * 16, Unreadable)):
            with pytest.raises(error, match="'k'"):
                in_store(make_agent(langgraph_aes_key=other), "ann", "aget", ("n",), "k")

    def test_are_bound_to_their_place(self, make_agent: Make, database: str) -> None:
        agent = make_agent(langgraph_aes_key=KEY)
        in_store(agent, "ann", "aput", ("n",), "k", VALUE)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("INSERT INTO store (prefix, key, value) SELECT 'users.bob.n', key, value FROM store")
        with pytest.raises(Unreadable):
            in_store(agent, "bob", "asearch", ())

    def test_from_before_the_key_are_read_unless_it_is_required(self, make_agent: Make) -> None:
        in_store(make_agent(), "ann", "aput", ("n",), "k", VALUE)
        agent = make_agent(langgraph_aes_key=KEY)
        assert in_store(agent, "ann", "aget", ("n",), "k").value == VALUE
        agent = make_agent(langgraph_aes_key=KEY, encryption_required=True)
        with pytest.raises(Unreadable):
            in_store(agent, "ann", "aget", ("n",), "k")


def test_a_database_that_is_gone(make_agent: Make, database: str) -> None:
    agent = make_agent(database_url=database + " port=1", database_timeout=0.3)
    with pytest.raises(StorageUnavailable):
        in_store(agent, "ann", "aget", ("n",), "k")
