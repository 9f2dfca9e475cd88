"""A served agent, and a real browser that looks at its page: Debian's Chromium."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from browsing import Person
from conftest import free_port, serving
from debian import installed
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server with the agent of `page_agent.py`."""
    folder = tmp_path_factory.mktemp("page")
    port = free_port()
    environment = {
        "AGENT_DATA_DIR": str(folder),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/traces.db",
        "MAX_INPUT_BYTES": "100000",
    }
    with serving(str(Path(__file__).parent / "page_agent.py"), folder, port, "--workers", "2", **environment):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = installed("chromium", "bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def come(browser: Browser, address: str) -> Iterator[Callable[..., Person]]:
    """Lets somebody come to the page, in a browser of the given options."""
    people: list[Person] = []
    with ExitStack() as stack:

        def come(query: str = "", at: str = address, **options: Any) -> Person:
            context = browser.new_context(**({"viewport": {"width": 1400, "height": 850}} | options))
            stack.callback(context.close)
            people.append(Person(context.new_page(), at))
            return people[-1].open(query)

        yield come
    assert [person.complaints for person in people if person.complaints] == []


@pytest.fixture
def person(come: Callable[..., Person]) -> Person:
    return come()
