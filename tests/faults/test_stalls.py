"""One request never holds the event loop for long, so that it delays nobody else's."""

import asyncio
import json
import operator
import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypedDict

import pytest
from conftest import http
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, StateGraph, add_messages
from listening_servers import served

MEGABYTE = 1024 * 1024
MOST_SECONDS = 0.1
TWEET = "a" * 1000


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    notes: Annotated[list[Any], operator.add]


async def answer(state: State) -> Any:
    return {"messages": [AIMessage("done")]}


GRAPH = StateGraph(State).add_node(answer).add_edge(START, "answer")


class Holds:
    """For how long each callback of the loop kept it busy. Only its own thread's time counts, whatever else runs."""

    def __init__(self) -> None:
        self.longest = 0.0

    def are_short(self, act: Callable[[str], Any]) -> None:
        """Do something on a thread. Were the loop held up, it is done on another once more: the machine may be slow."""
        for thread_id in ("one", "two"):
            self.longest = 0.0
            act(thread_id)
            if self.longest < MOST_SECONDS:
                return
        assert self.longest < MOST_SECONDS

    def measured(self, run: Callable[[Any], None]) -> Callable[[Any], None]:
        def measure(handle: Any) -> None:
            began = time.thread_time()
            run(handle)
            if threading.current_thread().name != "agent-aside":
                self.longest = max(self.longest, time.thread_time() - began)

        return measure


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> Holds:
    holds = Holds()
    monkeypatch.setattr(asyncio.Handle, "_run", holds.measured(asyncio.Handle._run))
    return holds


@pytest.fixture
def ask(make_agent: Callable[..., Any], holds: Holds) -> Iterator[Callable[..., Any]]:
    with served(make_agent(GRAPH), loop="asyncio") as url:

        def ask(thread_id: str, given: Any, status: int = 200, **custom_inputs: Any) -> Any:
            body = {"input": given, "custom_inputs": {"thread_id": thread_id, **custom_inputs}}
            content = json.dumps(body, ensure_ascii=False).encode()
            headers = {"content-type": "application/json"}
            response = http.post(f"{url}/responses", content=content, headers=headers, timeout=60)
            assert response.status_code == status, response.text
            return response.json()

        ask("another", "warm up")
        yield ask


def items(count: int) -> list[Any]:
    return [{"role": "user", "content": TWEET} for _ in range(count)]


@pytest.mark.parametrize("text", ["a" * (16 * MEGABYTE - 1000), "😀" * (4 * MEGABYTE - 1000)], ids=["ascii", "emoji"])
def test_the_longest_text(ask: Callable[..., Any], holds: Holds, text: str) -> None:
    def talk(thread_id: str) -> None:
        ask(thread_id, text)
        ask(thread_id, "and now?")

    holds.are_short(talk)


def test_the_most_items_and_the_longest_conversation(ask: Callable[..., Any], holds: Holds) -> None:
    def talk(thread_id: str) -> None:
        ask(thread_id, items(5000))
        ask(thread_id, items(4990))
        ask(thread_id, "and now?")
        ask(thread_id, [], operation="get_checkpoint_state")
        assert ask(thread_id, items(10), 400)["error"]["code"] == "thread_too_long"

    holds.are_short(talk)


def test_a_state_of_ten_megabytes(ask: Callable[..., Any], holds: Holds) -> None:
    rows = [{"name": f"row {n}", "numbers": [1, 2.5, 3], "text": TWEET[:250]} for n in range(30_000)]

    def talk(thread_id: str) -> None:
        ask(thread_id, "hi", state={"notes": rows})
        ask(thread_id, "and now?")
        ask(thread_id, [], operation="get_checkpoint_state")

    holds.are_short(talk)


def test_a_body_of_too_many_values_is_refused_unread(ask: Callable[..., Any], holds: Holds) -> None:
    def send(thread_id: str) -> None:
        for given in ([{"role": "user", "content": "a"}] * 480_000, [[1] * 5_000_000]):
            assert ask(thread_id, given, 413)["error"]["code"] == "input_too_large"

    holds.are_short(send)
