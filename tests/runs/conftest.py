"""Servers on one database."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Event
from typing import Any

import pytest
from asking import WORDS
from listening_servers import served
from scripted import Scripted

from stateful_agent.graph.build import build_graph

Make = Callable[..., Any]


@pytest.fixture
def start(make_agent: Make) -> Iterator[Callable[..., str]]:
    """Starts servers on the test's database: of a model that says eight words, or of another."""
    with ExitStack() as running:

        def start(model: Scripted | None = None, **settings: Any) -> str:
            graph = build_graph(model or Scripted(*WORDS), [])
            return running.enter_context(served(make_agent(graph, **settings)))

        yield start


@pytest.fixture
def here(start: Callable[..., str]) -> str:
    return start()


@pytest.fixture
def there(start: Callable[..., str]) -> str:
    return start()


@pytest.fixture
def go_on() -> Event:
    return Event()


@pytest.fixture
def talking(start: Callable[..., str], go_on: Event) -> str:
    """A server whose model says its words, but has not finished until `go_on` is set."""
    return start(Scripted(*WORDS, go_on.is_set))
