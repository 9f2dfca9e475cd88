"""Whether an answer reached its caller decides what a retry is: the same call, or a new one with the same text."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from conftest import eventually, http
from databases import value
from listening_servers import answers_are_delivered, event_log_is_complete, served
from scripted import Scripted

from stateful_agent.graph.build import build_graph

RETRY = {"x-stainless-retry-count": "1"}
KINDS: list[dict[str, Any]] = [{}, {"stream": True}, {"background": True}]


@pytest.fixture
def go_on() -> Event:
    """The model gives no answer until this is set."""
    return Event()


@pytest.fixture
def url(make_agent: Callable[..., Any], go_on: Event) -> Iterator[str]:
    with served(make_agent(build_graph(Scripted(go_on.is_set, "done"), []))) as url:
        yield url


def body(**more: Any) -> dict[str, Any]:
    return {"input": "hi", "custom_inputs": {"thread_id": "t"}} | more


def send_and_hang_up(url: str, database: str, **more: Any) -> None:
    """Send a request, wait until its turn has begun, and leave without reading anything."""
    address, content = urlsplit(url), json.dumps(body(**more))
    head = f"POST /responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    with closing(socket.create_connection((address.hostname, address.port))) as connection:
        connection.sendall(f"{head}\r\n\r\n{content}".encode())
        if not more.get("background"):  # which is answered as soon as it has begun
            turns_are(1, database)
    turns_are(1, database)


def turns_are(number: int, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        eventually(lambda: value(connection, "SELECT count(*) FROM agent_turns") == number)


def questions(url: str) -> list[str]:
    messages = http.get(f"{url}/threads/t/state").json()["messages"]
    return [message["content"][0]["text"] for message in messages if message["role"] == "user"]


def response_id_in(answer: httpx.Response) -> str:
    """The id of the response that was the answer."""
    if "event-stream" in answer.headers["content-type"]:
        first = next(line for line in answer.text.splitlines() if line.startswith("data: {"))
        return str(json.loads(first.removeprefix("data: "))["response"]["id"])
    return str(answer.json()["id"])


@pytest.mark.parametrize("more", KINDS, ids=["json", "stream", "background"])
def test_a_caller_that_hung_up_gets_the_first_turns_answer(
    url: str, database: str, go_on: Event, more: dict[str, Any]
) -> None:
    send_and_hang_up(url, database, **more)
    go_on.set()
    event_log_is_complete(database)
    time.sleep(1)  # whether the answer was delivered is stored within a heartbeat after that
    with psycopg.connect(database) as connection:
        first = value(connection, "SELECT response_id FROM agent_turns")
    assert response_id_in(http.post(f"{url}/responses", json=body(**more), headers=RETRY)) == first
    assert questions(url) == ["hi"]


@pytest.mark.parametrize("headers", [{}, RETRY], ids=["again", "retry"])
@pytest.mark.parametrize("more", KINDS, ids=["json", "stream", "background"])
def test_a_caller_that_got_its_answer_is_answered_anew(
    url: str, database: str, go_on: Event, more: dict[str, Any], headers: dict[str, str]
) -> None:
    go_on.set()
    first = response_id_in(http.post(f"{url}/responses", json=body(**more)))
    event_log_is_complete(database)
    answers_are_delivered(database)
    assert response_id_in(http.post(f"{url}/responses", json=body(**more), headers=headers)) != first
    event_log_is_complete(database)
    assert questions(url) == ["hi", "hi"]
