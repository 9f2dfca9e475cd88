import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import langchain_tavily._utilities
import pytest
from langchain_core.tools import ToolException
from pydantic import SecretStr

from stateful_agent.graph.tools import SAMPLE_NOTICE, current_time, search, search_tool


def test_current_time() -> None:
    assert current_time.invoke({"time_zone": "Asia/Tokyo"}).endswith("in Asia/Tokyo")


@pytest.mark.parametrize("zone", ["Atlantis", "", "../etc", "a\0"])
def test_a_time_zone_that_does_not_exist(zone: str) -> None:
    with pytest.raises(ToolException, match="not an IANA time zone"):
        current_time.invoke({"time_zone": zone})


def test_the_sample_says_that_it_is_one() -> None:
    assert search.invoke({"query": "weather in San Francisco"}).startswith(SAMPLE_NOTICE)
    assert "61°F" in search.invoke({"query": "weather in San Francisco"})
    assert "Nothing in it" in search.invoke({"query": "weather in Atlantis"})


class Tavily(http.server.BaseHTTPRequestHandler):
    """Speaks Tavily's wire protocol."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["content-length"])))["query"]
        known = self.headers["authorization"] == "Bearer tvly-key"
        page = {"title": "A page", "url": "https://example.com", "content": f"all about {query}", "score": 1}
        body = {"query": query, "results": [page]} if known else {"detail": {"error": "Unauthorized"}}
        self.send_response(200 if known else 401)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def _tavily(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tavily)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(langchain_tavily._utilities, "TAVILY_API_URL", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("_tavily")
def test_with_a_key_it_searches_the_web() -> None:
    web = search_tool(SecretStr("tvly-key"))
    assert web.name == search.name
    assert web.invoke({"query": "cats"}) == "A page (https://example.com)\nall about cats"


@pytest.mark.usefixtures("_tavily")
def test_a_failing_search_raises() -> None:
    with pytest.raises(ToolException, match="The search failed"):
        search_tool(SecretStr("wrong")).invoke({"query": "cats"})
