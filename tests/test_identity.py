"""A thread belongs to whoever began it. For anyone else it does not exist, whatever is asked."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import say, text_of
from starlette.testclient import TestClient
from walking import execute, texts, user

from stateful_agent.errors import CheckpointNotFound, ThreadNotFound, Unidentified
from stateful_agent.identity import ALL_USERS
from stateful_agent.server.app import create_app

Make = Callable[..., Any]


@pytest.fixture
def agent(make_agent: Make) -> Any:
    """One that the request itself tells whose it is."""
    return make_agent(trusted_identity="context")


def asking(agent: Any, who: str | None, text: str, **custom_inputs: Any) -> dict[str, Any]:
    """A turn, or an operation, of a user's whom the request itself names."""
    request = {
        "input": [user(text)] if text else [],
        "custom_inputs": custom_inputs,
        "context": {"user_id": who} if who else {},
    }
    return dict(agent.predict(request).model_dump(exclude_none=True))


class TestContext:
    def test_a_users_own_threads(self, agent: Any) -> None:
        asking(agent, "alice", "I'm headed to SF!", thread_id="t")
        assert "SF" in text_of(asking(agent, "alice", "Where am I going?", thread_id="t"))
        listed = asking(agent, "alice", "", operation="list_threads")["custom_outputs"]["result"]
        assert [thread["thread_id"] for thread in listed] == ["t"]
        copy = asking(agent, "alice", "", operation="copy_thread", thread_id="t")["custom_outputs"]["result"]
        assert "SF" in text_of(asking(agent, "alice", "Where am I going?", thread_id=copy["thread_id"]))

    def test_to_others_it_reads_as_if_it_did_not_exist(self, agent: Any) -> None:
        turn = asking(agent, "alice", "I'm headed to SF!", thread_id="t")
        head = turn["custom_outputs"]["checkpoint_id"]
        requests: list[dict[str, Any]] = [
            {"text": "Where am I going?", "checkpoint_id": head},
            {"text": ""},
            {"text": "", "checkpoint_id": head},
            {"text": "", "operation": "get_checkpoint_history"},
            {"text": "", "operation": "get_checkpoint_state"},
            {"text": "", "operation": "get_checkpoint_state", "checkpoint_id": head},
            {"text": "", "operation": "list_branches"},
            {"text": "", "operation": "copy_thread"},
            {"text": "", "operation": "delete_thread"},
            {"text": "", "operation": "update_checkpoint_state", "checkpoint_id": head, "new_messages": [user("hi")]},
        ]
        for request in requests:
            with pytest.raises((ThreadNotFound, CheckpointNotFound)) as theirs:
                asking(agent, "bob", thread_id="t", **request)
            with pytest.raises((ThreadNotFound, CheckpointNotFound)) as nobodys:
                asking(agent, "bob", thread_id="nowhere", **request)
            assert theirs.value.as_dict() == nobodys.value.as_dict()
        operator = agent.as_user(ALL_USERS)
        assert texts(operator, thread_id="alice/t")[0] == "I'm headed to SF!"
        assert len(operator.get_checkpoint_history("alice/t")) == 3

    def test_nor_reach_it_by_a_response(self, agent: Any) -> None:
        response = asking(agent, "alice", "I'm headed to SF!")
        with pytest.raises(CheckpointNotFound) as theirs:
            asking(agent, "bob", "Where am I going?", previous_response_id=response["id"])
        with pytest.raises(CheckpointNotFound) as nobodys:
            asking(agent, "bob", "Where am I going?", previous_response_id="resp_unknown")
        unknown = {
            key: str(value).replace("resp_unknown", response["id"]) for key, value in nobodys.value.as_dict().items()
        }
        assert {key: str(value) for key, value in theirs.value.as_dict().items()} == unknown

    def test_lists_and_prunes_leave_others_alone(self, agent: Any) -> None:
        for _ in range(2):
            asking(agent, "alice", "I'm headed to SF!", thread_id="t")
        asking(agent, "bob", "hello", thread_id="u")
        listed = asking(agent, "bob", "", operation="list_threads")["custom_outputs"]["result"]
        assert [thread["thread_id"] for thread in listed] == ["u"]
        asking(agent, "bob", "", operation="prune", older_than_days=0)
        assert len(agent.as_user("alice").get_checkpoint_history("t")) == 6

    def test_a_thread_of_nobodys_belongs_to_none_of_them(self, make_agent: Make, agent: Any) -> None:
        say(make_agent(), "I'm headed to SF!", thread_id="t")
        with pytest.raises(ThreadNotFound):
            agent.as_user("bob").get_thread("t")
        assert "SF" not in text_of(asking(agent, "bob", "Where am I going?", thread_id="t"))
        assert len(texts(make_agent())) == 2

    def test_who_does_not_say_is_refused(self, agent: Any, rows: Callable[[], int]) -> None:
        for custom_inputs in ({}, {"operation": "list_threads"}):
            with pytest.raises(Unidentified):
                asking(agent, None, "" if custom_inputs else "hello", **custom_inputs)
        assert rows() == 0

    def test_reading_everybodys_threads_is_asked_for_by_name(self, agent: Any) -> None:
        asking(agent, "alice", "hello", thread_id="t")
        assert len(agent.as_user(ALL_USERS).list_threads()) == 1
        assert len(agent.as_user("alice").list_threads()) == 1
        assert agent.as_user("bob").list_threads() == []
        with pytest.raises(Unidentified):
            agent.list_threads()


class TestOwnNames:
    """What a user calls a thread is theirs: others may call theirs the same."""

    def test_two_users_call_theirs_the_same(self, agent: Any) -> None:
        asking(agent, "alice", "I'm headed to SF!", thread_id="t")
        asking(agent, "bob", "I'm headed to Oslo!", thread_id="t")
        for who, place in (("alice", "SF"), ("bob", "Oslo")):
            assert place in text_of(asking(agent, who, "Where am I going?", thread_id="t"))
            assert [thread["thread_id"] for thread in agent.as_user(who).list_threads()] == ["t"]
        operator = agent.as_user(ALL_USERS)
        assert [thread["thread_id"] for thread in operator.list_threads()] == ["bob/t", "alice/t"]
        assert operator.get_thread("alice/t")["message_count"] == 4
        agent.as_user("bob").delete_thread("t")
        assert len(texts(agent.as_user("alice"))) == 4

    @pytest.mark.parametrize(
        ("one", "other"), [(("a", "b/t"), ("a/b", "t")), (("a", "t"), ("b", "a/t")), (("a%2Fb", "t"), ("a/b", "t"))]
    )
    def test_no_name_reaches_another_space(self, agent: Any, one: tuple[str, str], other: tuple[str, str]) -> None:
        asking(agent, one[0], "I'm headed to SF!", thread_id=one[1])
        with pytest.raises(ThreadNotFound):
            agent.as_user(other[0]).get_thread(other[1])
        asking(agent, other[0], "hello", thread_id=other[1])
        assert len(texts(agent.as_user(one[0]), thread_id=one[1])) == 2

    def test_everything_tells_the_users_name_of_it(self, agent: Any) -> None:
        turn = asking(agent, "alice", "I'm headed to SF!", thread_id="t")
        head = turn["custom_outputs"]["checkpoint_id"]
        alice = agent.as_user("alice")
        copy = alice.copy_thread("t")
        told = [
            turn["custom_outputs"],
            asking(agent, "alice", "hello", previous_response_id=turn["id"])["custom_outputs"],
            *alice.get_checkpoint_history("t"),
            *alice.list_branches("t"),
            alice.get_checkpoint_state("t"),
            alice.update_checkpoint_state("t", head, [user("one more")]),
            alice.delete_item("t", alice.get_checkpoint_state("t")["messages"][0]["id"]),
            alice.update_thread("t", {"title": "trip"}),
            alice.get_thread("t"),
            alice.compact_thread("t", head),
            alice.delete_thread("t"),
        ]
        assert {each["thread_id"] for each in told} == {"t"}
        assert copy["copied_from"] == "t"
        assert [thread["thread_id"] for thread in alice.list_threads()] == [copy["thread_id"]]
        assert alice.create_thread("new")["thread_id"] == "new"

    def test_a_response_in_the_background_too(self, make_agent: Make) -> None:
        with TestClient(create_app(make_agent(trusted_identity="X-User")), headers={"X-User": "alice"}) as http:
            body = {"input": "hello", "background": True, "custom_inputs": {"thread_id": "t"}}
            begun = http.post("/responses", json=body).json()
            assert begun["custom_outputs"]["thread_id"] == "t"
            assert http.get(f"/responses/{begun['id']}").json()["custom_outputs"]["thread_id"] == "t"

    def test_what_was_stored_before_there_were_such_spaces_goes_on(
        self, make_agent: Make, agent: Any, database: str
    ) -> None:
        say(make_agent(), "I'm headed to SF!", thread_id="t")
        execute(database, "UPDATE agent_threads SET owner = 'alice'")
        asking(agent, "bob", "hello", thread_id="t")
        assert "SF" in text_of(asking(agent, "alice", "Where am I going?", thread_id="t"))
        alice = agent.as_user("alice")
        head = alice.get_thread("t")["checkpoint_id"]
        assert "SF" in text_of(asking(agent, "alice", "Where am I going?", thread_id="t", checkpoint_id=head))
        assert [thread["thread_id"] for thread in alice.list_threads()] == ["t"]
        alice.update_checkpoint_state("t", None, [user("one more")])
        assert len(texts(alice)) == 7
        alice.delete_thread("t")
        assert "SF" not in text_of(asking(agent, "alice", "Where am I going?", thread_id="t"))
        assert [thread["thread_id"] for thread in agent.as_user(ALL_USERS).list_threads()] == ["alice/t", "bob/t"]


class TestHeader:
    @pytest.fixture
    def http(self, make_agent: Make) -> Iterator[TestClient]:
        with TestClient(create_app(make_agent(trusted_identity="X-Forwarded-User"))) as client:
            yield client

    def test_it_alone_counts(self, http: TestClient) -> None:
        alice, bob = {"X-Forwarded-User": "alice"}, {"X-Forwarded-User": "bob"}
        forged = {"context": {"user_id": "alice"}, "custom_inputs": {"thread_id": "t"}}
        body = {"input": "I'm headed to SF!", "custom_inputs": {"thread_id": "t"}}
        assert http.post("/responses", json=body, headers=alice).status_code == 200
        for refused in (
            http.get("/threads/t/history", headers=bob),
            http.get("/threads/t/state", headers=bob),
            http.delete("/threads/t", headers=bob),
        ):
            assert refused.status_code == 404
        assert http.get("/threads", headers=bob).json() == []
        answer = http.post("/responses", json={"input": "Where am I going?", **forged}, headers=bob)
        assert "SF" not in answer.text
        assert http.get("/threads/t/state", headers=alice).status_code == 200

    def test_blanks_around_a_name_are_no_part_of_it(self, http: TestClient) -> None:
        body = {"input": "I'm headed to SF!", "custom_inputs": {"thread_id": "t"}}
        assert http.post("/responses", json=body, headers={"X-Forwarded-User": "alice"}).status_code == 200
        assert http.get("/threads/t", headers={"X-Forwarded-User": " alice "}).status_code == 200

    @pytest.mark.parametrize(
        ("lines", "status"), [(["alice", "bob"], 401), (["bob", "bob"], 401), (["  "], 401), (["a" * 256], 400)]
    )
    def test_what_names_nobody_is_refused(self, http: TestClient, lines: list[str], status: int) -> None:
        headers = [("X-Forwarded-User", line) for line in lines]
        assert http.get("/threads", headers=headers).status_code == status

    def test_without_it_everything_is_closed(self, http: TestClient) -> None:
        forged = {"input": "hello", "context": {"user_id": "alice"}}
        for refused in (
            http.post("/responses", json=forged),
            http.post("/responses", json=forged | {"stream": True}),
            http.get("/threads"),
            http.post("/threads/search", json={}),
            http.get("/threads/t/state"),
        ):
            assert refused.status_code == 401
            assert refused.json()["error"]["code"] == "unidentified"


def test_by_default_nobody_is_told_apart(make_agent: Make) -> None:
    agent = make_agent()
    asking(agent, "alice", "I'm headed to SF!", thread_id="t")
    assert "SF" in text_of(asking(agent, "bob", "Where am I going?", thread_id="t"))
