"""Agents served over HTTP by this process, each as a server of its own with an event loop of its own."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import uvicorn
from conftest import eventually, free_port
from databases import value

from stateful_agent.server.app import create_app


@contextmanager
def served(agent: Any, **options: Any) -> Iterator[str]:
    """The URL of a server around the agent; `options` are uvicorn's."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(create_app(agent), port=port, log_level="warning", timeout_graceful_shutdown=1, **options)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def event_log_is_complete(database: str) -> None:
    """Waits until the event log has the end of every turn that has begun."""
    with psycopg.connect(database, autocommit=True) as connection:
        eventually(lambda: value(connection, "SELECT bool_and(status IS NOT NULL) FROM agent_turns"))


def answers_are_delivered(database: str) -> None:
    """Waits until the event log has of every turn that its answer was delivered: the last that is stored of it."""
    with psycopg.connect(database, autocommit=True) as connection:
        eventually(lambda: value(connection, "SELECT bool_and(is_delivered) FROM agent_turns"))


class Alternating(httpx.BaseTransport):
    """Sends each request to the next of several servers, as a load balancer does."""

    def __init__(self, *urls: str) -> None:
        self.requests: list[httpx.Request] = []
        self._urls = [httpx.URL(url) for url in urls]
        self._transport = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(port=self._urls[len(self.requests) % len(self._urls)].port)
        self.requests.append(request)
        return self._transport.handle_request(request)
