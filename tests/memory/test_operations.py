"""What an agent can be asked about what it remembers: in Python, in a request, and over HTTP."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient
from walking import user

from stateful_agent.errors import InvalidRequest, ThreadNotFound, Unidentified
from stateful_agent.identity import ALL_USERS
from stateful_agent.server.app import create_app

Make = Callable[..., Any]


def remember(agent: Any, who: Any, *keys: str, namespace: tuple[str, ...] = ("n",)) -> None:
    async def run() -> None:
        for key in keys:
            await agent.memory_of(who).aput(namespace, key, {"is": key})

    agent.loop.run(run())


@pytest.fixture
def agent(make_agent: Make) -> Any:
    agent = make_agent(trusted_identity="context")
    remember(agent, "ann", "a", "b")
    remember(agent, "ann", "c", namespace=("n", "deep"))
    remember(agent, "ann2", "d")
    return agent


def keys(agent: Any, who: Any) -> list[str]:
    return sorted(memory["key"] for memory in agent.as_user(who).list_memories())


def test_a_list_is_a_users_own_newest_first(agent: Any) -> None:
    ann = agent.as_user("ann")
    assert [memory["key"] for memory in ann.list_memories()] == ["c", "b", "a"]
    assert [memory["key"] for memory in ann.list_memories(limit=1, offset=1)] == ["b"]
    memory = ann.list_memories(1)[0]
    assert (memory["namespace"], memory["value"]) == (["n", "deep"], {"is": "c"})
    assert memory["updated_at"] >= memory["created_at"]
    with pytest.raises(Unidentified):
        agent.list_memories()


@pytest.mark.parametrize(
    ("which", "count", "left"),
    [
        ({}, 3, []),
        ({"namespace": ["n"]}, 3, []),
        ({"namespace": ["n", "deep"]}, 1, ["a", "b"]),
        ({"namespace": ["n"], "key": "a"}, 1, ["b", "c"]),
        ({"namespace": ["n"], "key": "c"}, 0, ["a", "b", "c"]),
        ({"namespace": ["%"]}, 0, ["a", "b", "c"]),
        ({"namespace": ["n", "de"]}, 0, ["a", "b", "c"]),
    ],
    ids=str,
)
def test_what_is_deleted(agent: Any, which: Any, count: int, left: list[str]) -> None:
    assert agent.as_user("ann").delete_memories(**which) == {"memories": count}
    assert (keys(agent, "ann"), keys(agent, "ann2")) == (left, ["d"])


@pytest.mark.parametrize(
    "which",
    [
        {"namespace": "n"},
        {"namespace": [""]},
        {"namespace": ["a.b"]},
        {"namespace": ["\ud800"]},
        {"namespace": ["n"], "key": "\0"},
        {"key": "a"},
        {"key": 1},
    ],
    ids=str,
)
def test_what_is_refused(agent: Any, which: Any) -> None:
    with pytest.raises(InvalidRequest):
        agent.as_user("ann").delete_memories(**which)
    assert len(keys(agent, "ann")) == 3


@pytest.mark.parametrize(("memories", "left"), [(False, ["a", "b", "c"]), (True, [])])
def test_threads_are_deleted_with_or_without(agent: Any, memories: bool, left: list[str]) -> None:
    for who, thread_id in (("ann", "one"), ("ann", "two"), ("ann2", "three")):
        request = {"input": [user("hi")], "custom_inputs": {"thread_id": thread_id}, "context": {"user_id": who}}
        agent.predict(request)
    deleted = agent.as_user("ann").delete_threads(memories)
    assert deleted == {"threads": 2, "memories": 3 - len(left)}
    assert (agent.as_user("ann").list_threads(), keys(agent, "ann"), keys(agent, "ann2")) == ([], left, ["d"])
    assert len(agent.as_user("ann2").get_checkpoint_history("three")) == 3
    with pytest.raises(ThreadNotFound):
        agent.as_user(ALL_USERS).get_checkpoint_history("one")


def test_never_everybodys_threads(make_agent: Make) -> None:
    agent = make_agent()
    agent.predict({"input": [user("hi")], "custom_inputs": {"thread_id": "t"}})
    with pytest.raises(InvalidRequest, match="Whose"):
        agent.delete_threads()
    with pytest.raises(InvalidRequest):
        agent.as_user("ann").delete_threads(memories=1)
    assert len(agent.list_threads()) == 1


def test_in_a_request(agent: Any) -> None:
    request = {"input": [], "custom_inputs": {"operation": "list_memories"}, "context": {"user_id": "ann2"}}
    assert [memory["key"] for memory in agent.predict(request).custom_outputs["result"]] == ["d"]


def test_over_http(make_agent: Make) -> None:
    agent = make_agent(trusted_identity="X-Forwarded-User")
    remember(agent, "ann", "a", "b")
    remember(agent, "ann", "c", namespace=("n", "deep"))
    agent.close()  # the app brings an event loop of its own
    with TestClient(create_app(agent), headers={"X-Forwarded-User": "ann"}) as client:
        assert [memory["key"] for memory in client.get("/memories", params={"limit": 1}).json()] == ["c"]
        assert client.delete("/memories", params={"namespace": "n..deep"}).status_code == 400
        assert client.delete("/memories", params={"namespace": "n.deep"}).json() == {"memories": 1}
        assert client.delete("/memories", params={"namespace": "n", "key": "a"}).json() == {"memories": 1}
        assert client.delete("/memories", params={"key": "a"}).status_code == 400
        assert client.get("/memories", params={"limit": 0}).status_code == 400
        assert client.get("/memories", headers={"X-Forwarded-User": ""}).status_code == 401
        assert client.delete("/threads", params={"memories": "true"}).json() == {"threads": 0, "memories": 1}
