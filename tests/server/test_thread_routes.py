"""Threads over HTTP: as our own routes, and for LangGraph's client."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import ConflictError, NotFoundError


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def thread(http: httpx.Client) -> str:
    """A thread of two turns, with an id that a path must quote."""
    turn = http.post("/responses", json={"input": "I'm headed to SF!", "custom_inputs": {"thread_id": "a/b ü"}})
    http.post("/responses", json={"input": "Where am I going?", "previous_response_id": turn.json()["id"]})
    return "a/b ü"


@pytest.fixture(autouse=True)
def clean(http: httpx.Client) -> None:
    """Tests of other files use the same server."""
    for each in http.get("/threads", params={"limit": "1000"}).json():
        http.delete(f"/threads/{quoted(each['thread_id'])}")


def quoted(thread_id: str) -> str:
    return httpx.URL("http://x", params={"t": thread_id}).query.decode().removeprefix("t=").replace("+", "%20")


class TestOurs:
    def test_the_methods(self, http: httpx.Client, thread: str) -> None:
        path = f"/threads/{quoted(thread)}"
        history = http.get(f"{path}/history", params={"limit": "4"}).json()
        assert [entry["turn"] for entry in history] == [2, 2, 2, 1]
        rest = http.get(f"{path}/history", params={"limit": "4", "before": history[-1]["checkpoint_id"]}).json()
        assert len(rest) == 2
        state = http.get(f"{path}/state/{history[-1]['checkpoint_id']}").json()
        assert [item["role"] for item in state["messages"]] == ["user", "assistant"]
        assert http.get(f"{path}/state").json()["message_count"] == 4
        edit = {"checkpoint_id": history[-1]["checkpoint_id"], "new_messages": [{"role": "user", "content": "And?"}]}
        edited = http.post(f"{path}/state", json=edit).json()
        assert edited["next_nodes"] == ["model"]
        assert [branch["is_head"] for branch in http.get(f"{path}/branches").json()] == [True, False]
        copy = http.post(f"{path}/copy").json()
        assert {each["thread_id"] for each in http.get("/threads").json()} == {thread, copy["thread_id"]}
        assert http.post("/threads/prune", json={"older_than_days": 0}).json()["threads"] == 2
        assert http.delete(path).json()["checkpoints"] == 1
        assert http.get(f"{path}/state").status_code == 404

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("GET", "/threads?limit=0", None, 400),
            ("GET", "/threads?limit=ten", None, 400),
            ("GET", "/threads?before=yesterday", None, 400),
            ("GET", "/threads/nowhere/history", None, 404),
            ("GET", "/threads/nowhere/state", None, 404),
            ("GET", "/threads/nowhere/branches", None, 404),
            ("GET", "/threads/%00/state", None, 400),
            ("DELETE", "/threads/nowhere", None, 404),
            ("POST", "/threads/nowhere/copy", None, 404),
            ("POST", "/threads/nowhere/state", {"checkpoint_id": "x", "new_messages": []}, 400),
            ("POST", "/threads/nowhere/state", {"values": "x", "checkpoint_id": "x"}, 400),
            ("POST", "/threads/nowhere/state", {"values": {"messages": [{"no": "role"}]}, "checkpoint_id": "x"}, 400),
            ("POST", "/threads/nowhere/state", [1], 400),
            ("POST", "/threads/prune", {"older_than_days": "old"}, 400),
            ("POST", "/threads/prune", {"age": 1}, 400),
            ("POST", "/threads/prune", {"operation": "prune", "method": "x", "self": 1}, 400),
            ("GET", "/threads?limit=" + "9" * 5000, None, 400),
            ("POST", "/threads/t/state", {"thread_id": "other", "checkpoint_id": ["x"]}, 400),
            (
                "POST",
                "/threads/t/state",
                {"checkpoint_id": "x", "new_messages": [{"role": "user", "content": [{}]}]},
                400,
            ),
            ("POST", "/threads/t/history", {"before": {"configurable": 5}}, 400),
            ("POST", "/threads/t/state/checkpoint", {"checkpoint": {"checkpoint_id": 5}}, 400),
            ("POST", "/threads/search", {"metadata": {"user": "me"}}, 400),
            ("POST", "/threads/search", {"offset": -1}, 400),
            ("POST", "/threads/search", {"limit": True, "offset": 1}, 400),
            ("POST", "/threads/search", {"limit": 10, "offset": 995}, 400),
            ("POST", "/threads/t/history", {"before": {}}, 400),
            ("POST", "/threads/t/history", {"metadata": {"user": "me"}}, 400),
            ("POST", "/threads/t/state/checkpoint", {"checkpoint": "x"}, 400),
            ("POST", "/threads/t/state", {"checkpoint": 5, "values": {"messages": []}}, 400),
            *(
                ("POST", "/threads/t/state", {"checkpoint_id": "x", "values": {"messages": [message]}}, 400)
                for message in (
                    {"role": "assistant", "tool_calls": ["x"]},
                    {"role": "assistant", "tool_calls": [{"function": {}}]},
                    {"role": "tool", "content": "x"},
                )
            ),
            ("PUT", "/threads", {}, 405),
            ("GET", "/nowhere", None, 404),
        ],
    )
    def test_bad_requests(self, http: httpx.Client, method: str, path: str, body: Any, status: int) -> None:
        refused = http.request(method, path, json=body)
        assert refused.status_code == status, refused.text
        assert refused.json()["error"]["message"]

    @pytest.mark.parametrize(
        ("method", "path", "body", "param"),
        [
            ("GET", "/threads?limit=1001", None, "limit"),
            ("GET", "/threads?before=yesterday", None, "before"),
            ("GET", "/threads/t/history?limit=0", None, "limit"),
            ("POST", "/threads/search", {"status": "idle"}, "status"),
            ("POST", "/threads/t/history", {"before": {"checkpoint_id": 5}}, "before"),
            ("POST", "/threads/t/state/checkpoint", {}, "checkpoint"),
            ("POST", "/threads/t/state", {"new_messages": []}, "checkpoint_id"),
            ("POST", "/threads/t/state", {"checkpoint_id": "x", "nonsense": 1}, "nonsense"),
            ("POST", "/threads/prune", {"older_than_days": True}, "older_than_days"),
            ("GET", "/responses/%00", None, "response_id"),
            ("GET", "/responses/x?stream=true&starting_after=one", None, "starting_after"),
        ],
    )
    def test_what_is_wrong_is_named(self, http: httpx.Client, method: str, path: str, body: Any, param: str) -> None:
        refused = http.request(method, path, json=body)
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["param"] == param
        assert param in refused.json()["error"]["message"]

    def test_the_time_of_a_page_may_have_a_bare_plus(self, http: httpx.Client, thread: str) -> None:
        updated_at = http.get("/threads").json()[0]["updated_at"]
        assert "+" in updated_at
        assert http.get(f"/threads?before={updated_at}").json() == []

    def test_an_edit_may_name_the_thread_of_the_state_that_it_was_made_from(
        self, http: httpx.Client, thread: str
    ) -> None:
        state = http.get(f"/threads/{quoted(thread)}/state").json()
        edit = {name: state[name] for name in ("thread_id", "checkpoint_id")}
        edit["new_messages"] = [{"role": "user", "content": "And?"}]
        assert http.post(f"/threads/{quoted(thread)}/state", json=edit).json()["thread_id"] == thread

    def test_they_are_described(self, http: httpx.Client) -> None:
        described = http.get("/openapi.json").json()["paths"]
        assert "newest first" in described["/threads/{thread_id}/history"]["get"]["description"]
        assert {path for path in described if path.startswith("/threads")} == {
            "/threads",
            "/threads/search",
            "/threads/prune",
            *(f"/threads/{{thread_id}}{rest}" for rest in ("", "/copy", "/history", "/branches")),
            *(f"/threads/{{thread_id}}/state{rest}" for rest in ("", "/checkpoint", "/{checkpoint_id}")),
        }


@pytest.mark.parametrize("thread_id", ["x/history", "a/b/state/c", "copy", "x%2Fy", "x/", "ü/?#"])
def test_every_id_that_can_be_made_can_be_read(http: httpx.Client, thread_id: str) -> None:
    http.post("/responses", json={"input": "hello", "custom_inputs": {"thread_id": thread_id}})
    http.post("/responses", json={"input": "hello", "custom_inputs": {"thread_id": "x"}})
    path = f"/threads/{quoted(thread_id)}"
    assert http.get(path).json()["thread_id"] == thread_id
    assert {entry["thread_id"] for entry in http.get(f"{path}/history").json()} == {thread_id}
    assert http.get(f"/v1/conversations/{quoted(thread_id)}").json()["id"] == thread_id
    assert http.delete(path).json()["thread_id"] == thread_id
    assert http.get("/threads/x").status_code == 200


def test_langgraphs_client_begins_threads_and_notes_something_of_them(url: str) -> None:
    async def use() -> None:
        threads = get_client(url=url).threads
        made = await threads.create(thread_id="t", metadata={"title": "Trip", "stars": 5})
        assert (made["thread_id"], made["metadata"]) == ("t", {"title": "Trip", "stars": 5})
        with pytest.raises(ConflictError):
            await threads.create(thread_id="t")
        assert (await threads.create(thread_id="t", if_exists="do_nothing"))["metadata"] == made["metadata"]
        updated = await threads.update("t", metadata={"stars": 4})
        assert updated["metadata"] == {"title": "Trip", "stars": 4}
        assert updated["created_at"] == made["created_at"]
        assert [each["metadata"] for each in await threads.search()] == [updated["metadata"]]
        assert (await threads.create())["thread_id"] != "t"

    asyncio.run(use())


def test_langgraphs_client(url: str, thread: str) -> None:
    async def use() -> None:
        threads = get_client(url=url).threads
        found = await threads.search(limit=5)
        assert [each["thread_id"] for each in found] == [thread]
        assert (await threads.get(thread))["status"] == "idle"

        history: list[Any] = await threads.get_history(thread, limit=10)
        assert len(history) == 6
        assert history[0]["parent_checkpoint"] == history[1]["checkpoint"]
        assert history[2]["next"] == ["__start__"]
        older = await threads.get_history(thread, before=history[3]["checkpoint"])
        assert older == history[4:]

        state: Any = await threads.get_state(thread)
        assert [message["type"] for message in state["values"]["messages"]] == ["human", "ai"] * 2
        then: Any = await threads.get_state(thread, checkpoint=history[3]["checkpoint"])
        assert then == await threads.get_state(thread, checkpoint_id=history[3]["checkpoint_id"])
        assert then["values"]["messages"] == state["values"]["messages"][:2]

        question = state["values"]["messages"][0] | {"content": "I'm headed to Oslo!"}
        last = {"type": "remove", "id": state["values"]["messages"][3]["id"]}
        edited: Any = await threads.update_state(thread, {"messages": [question, last]})
        assert edited["checkpoint"]["checkpoint_id"] == (await threads.get_state(thread))["checkpoint"]["checkpoint_id"]
        now: Any = await threads.get_state(thread)
        assert now["values"]["messages"][0]["content"] == "I'm headed to Oslo!"
        assert now["next"] == ["model"]
        await threads.update_state(thread, {"messages": {"role": "user", "content": "x"}}, as_node="model")
        assert (await threads.get_state(thread))["next"] == []

        assert (await threads.get(thread))["status"] == "idle"
        at: Any = {"configurable": {"checkpoint_id": history[3]["checkpoint_id"]}}
        assert await threads.get_history(thread, before=at) == history[4:]
        earlier: Any = await threads.update_state(
            thread, {"messages": {"role": "user", "content": "x"}}, checkpoint=history[3]["checkpoint"]
        )
        edited = await threads.get_state(thread, checkpoint=earlier["checkpoint"])
        assert edited["parent_checkpoint"] == history[3]["checkpoint"]
        assert (await threads.get(thread))["status"] == "interrupted"  # the question waits for its answer

        copy: Any = await threads.copy(thread)  # type: ignore[func-returns-value]
        assert len(await threads.get_history(copy["thread_id"], limit=100)) == 9
        pages = [await threads.search(limit=1, offset=offset) for offset in range(3)]
        assert [each["thread_id"] for page in pages for each in page] == [copy["thread_id"], thread]
        await threads.delete(thread)
        with pytest.raises(NotFoundError):
            await threads.get_state(thread)

    asyncio.run(use())
