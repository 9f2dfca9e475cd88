from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import say
from fastapi.testclient import TestClient

from stateful_agent.server.app import create_app
from stateful_agent.server.callers import names_of

SERVER = "http://127.0.0.1:8000"
ELSEWHERE = {"origin": "http://evil.example"}


@pytest.fixture
def start(make_agent: Callable[..., Any]) -> Iterator[Callable[..., TestClient]]:
    clients = []

    def start(host: str = "127.0.0.1", base_url: str = SERVER, **settings: Any) -> TestClient:
        agent = make_agent(**settings)
        client = TestClient(create_app(agent, host=host), base_url=base_url)
        clients.append(client.__enter__())
        client.post("/responses", json={"input": "hi", "custom_inputs": {"thread_id": "t"}})
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


class TestOrigins:
    @pytest.mark.parametrize(
        "headers", [ELSEWHERE, {"origin": "null"}, ELSEWHERE | {"sec-fetch-site": "cross-site", "host": "evil.example"}]
    )
    @pytest.mark.parametrize("call", [("POST", "/threads/t/copy"), ("DELETE", "/threads/t")])
    def test_another_sites_page_changes_nothing(
        self, start: Callable[..., TestClient], call: tuple[str, str], headers: dict[str, str]
    ) -> None:
        client = start("0.0.0.0")
        refused = client.request(*call, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "foreign_origin")
        assert [thread["thread_id"] for thread in client.get("/threads").json()] == ["t"]

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"origin": SERVER},
            {"origin": "https://agents.example", "sec-fetch-site": "same-origin"},
            {"origin": "https://app.example"},
        ],
    )
    def test_programs_and_pages_of_its_own_and_those_that_are_named_may(
        self, start: Callable[..., TestClient], headers: dict[str, str]
    ) -> None:
        client = start(allowed_origins="https://app.example, https://other.example")
        assert client.post("/threads/t/copy", headers=headers).status_code == 200

    def test_all_may_if_that_is_said(self, start: Callable[..., TestClient]) -> None:
        assert start(allowed_origins="*").post("/threads/t/copy", headers=ELSEWHERE).status_code == 200


class TestHosts:
    @pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
    @pytest.mark.parametrize("path", ["/threads", "/threads/t/state", "/docs"])
    def test_a_name_that_was_made_to_point_here_is_refused(
        self, start: Callable[..., TestClient], path: str, host: str
    ) -> None:
        refused = start().get(path, headers={"host": host})
        assert (refused.status_code, refused.json()["error"]["code"]) == (421, "unknown_host")

    @pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "agents.example"])
    def test_its_own_names(self, start: Callable[..., TestClient], host: str) -> None:
        client = start(allowed_hosts="agents.example")
        assert client.get("/threads", headers={"host": host}).status_code == 200

    @pytest.mark.parametrize(
        ("host", "allowed", "names"),
        [
            ("0.0.0.0", None, None),
            ("0.0.0.0", "a.example,b.example", ["a.example", "b.example"]),
            ("::", None, None),
            ("::1", None, ["localhost", "127.0.0.1", "[::1]", "::1"]),
            ("127.0.0.2", "a.example", ["localhost", "127.0.0.1", "[::1]", "127.0.0.2", "a.example"]),
        ],
    )
    def test_which_these_are(self, host: str, allowed: str | None, names: list[str] | None) -> None:
        assert names_of(host, allowed) == names


def test_what_is_asked_in_python_has_no_origin(agent: Any) -> None:
    assert say(agent, "hi", thread_id="t")
