"""What a client gets over HTTP when something goes wrong, and whether to try again."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import openai
import pytest
from scripted import Scripted
from starlette.testclient import TestClient

from stateful_agent.failures import typed
from stateful_agent.graph.build import build_graph
from stateful_agent.server.app import create_app

Serve = Callable[..., TestClient]
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
TURN = {"input": "hello", "custom_inputs": {"thread_id": "t"}}


@pytest.fixture
def serve(make_agent: Callable[..., Any]) -> Iterator[Serve]:
    """Serves an agent whose model fails."""
    with ExitStack() as stack:

        def serve(failure: Any = None, words: tuple[str, ...] = (), **settings: Any) -> TestClient:
            agent = make_agent(build_graph(Scripted(*words, failure=failure), []), **settings)
            return stack.enter_context(TestClient(create_app(agent)))

        yield serve


def provider_error(kind: Any, status: int, message: str, **headers: str) -> Exception:
    """What openai's client raises when its server answers like this."""
    response = httpx.Response(status, headers=headers, request=httpx.Request("POST", "https://provider.test/v1"))
    error: Exception = kind(message, response=response, body={"message": message})
    return error


LIMITED = provider_error(openai.RateLimitError, 429, "Slow down.", **{"retry-after": "7"})


class TestRetries:
    @pytest.mark.parametrize("body", [TURN, TURN | {"stream": True}], ids=["json", "stream"])
    def test_not_after_something_was_stored(self, serve: Serve, body: Any) -> None:
        answer = serve(LIMITED).post("/responses", json=body)
        assert answer.status_code == 429
        assert answer.headers["x-should-retry"] == "false"
        assert answer.headers["retry-after"] == "7"
        assert answer.json()["error"] == {
            "message": "The model provider answered: Slow down.",
            "type": "rate_limit_error",
            "code": "model_rate_limited",
            "param": None,
        }

    def test_a_client_takes_one_turn_of_it(self, serve: Serve) -> None:
        http: Any = serve(LIMITED)
        client = openai.OpenAI(base_url="http://testserver", api_key="none", http_client=http)
        with pytest.raises(openai.RateLimitError, match="Slow down"):
            client.responses.create(model="m", input="hello", metadata={"thread_id": "t"})
        assert len(http.get("/threads/t/history").json()) == 2

    def test_of_what_is_not_stored_at_all(self, serve: Serve) -> None:
        answer = serve(LIMITED).post("/responses", json={"input": "hello", "store": False})
        assert answer.status_code == 429
        assert "x-should-retry" not in answer.headers


class TestUnexpected:
    @pytest.mark.parametrize("body", [TURN, TURN | {"stream": True}], ids=["json", "stream"])
    def test_the_log_has_the_cause_under_the_id_that_the_body_names(
        self, serve: Serve, caplog: pytest.LogCaptureFixture, body: Any
    ) -> None:
        answer = serve(RuntimeError("the inner text")).post("/responses", json=body)
        assert answer.status_code == 500
        assert "the inner text" not in answer.text
        error_id = answer.json()["error"]["message"].split()[-1].rstrip(".")
        (record,) = (record for record in caplog.records if error_id in record.getMessage())
        assert record.exc_info
        assert "the inner text" in str(record.exc_info[1])

    def test_a_provider_out_of_reach_is_one(self, serve: Serve) -> None:
        answer = serve(ConnectionError("postgresql://me:pa55word@host")).post("/responses", json=TURN)
        assert answer.json()["error"]["code"] == "model_failed"
        assert "pa55word" not in answer.text

    def test_in_a_route(self, serve: Serve) -> None:
        async def broken() -> float:
            return 1 / 0

        http: Any = serve(words=("ok",), allowed_origins="https://app.test")
        http.app.add_api_route("/broken", broken)
        answer = http.get("/broken", headers={"origin": "https://app.test"})
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal_error"
        assert "division" not in answer.text
        assert answer.headers["access-control-allow-origin"] == "https://app.test"


@pytest.mark.parametrize(
    "message",
    [
        "Incorrect API key provided: sk-proj-5ecret-5ecret.",
        "Bad token dapi5ecret5ecret5ecret5ecret",
        "Refused: Authorization: Bearer 5ecret",
        "No route to https://me:5ecret@provider.test/v1?api_key=5ecret&x=1",
    ],
)
def test_what_a_provider_quotes_of_our_credentials_is_left_out(message: str) -> None:
    error = typed(provider_error(openai.AuthenticationError, 401, message))
    assert error.status == 502
    assert "5ecret" not in error.message
    assert "***" in error.message


def test_what_a_provider_writes_of_other_things_is_not() -> None:
    message = "At most 8192 tokens; ask-me-anything about skateboarding, sk-learn and https://provider.test/v1 at me@x."
    assert message in typed(provider_error(openai.BadRequestError, 400, message)).message


@pytest.mark.parametrize(
    ("kind", "status", "message", "code"),
    [
        (openai.BadRequestError, 400, "The input token count (20) exceeds the maximum.", "context_length_exceeded"),
        (openai.BadRequestError, 400, "This model's maximum context length is exceeded.", "context_length_exceeded"),
        (openai.BadRequestError, 400, "Prompt is longer than the model's context length.", "context_length_exceeded"),
        (openai.BadRequestError, 400, "At most 5 images.", "model_refused"),
        (openai.RateLimitError, 429, "It would exceed your limit of 40,000 input tokens.", "model_rate_limited"),
        (openai.InternalServerError, 503, "Too many tokens are waiting.", "model_failed"),
    ],
)
def test_only_what_is_refused_can_be_too_long(kind: Any, status: int, message: str, code: str) -> None:
    assert typed(provider_error(kind, status, message)).code == code


class TestOrigins:
    def test_none_but_the_servers_own_by_default(self, serve: Serve) -> None:
        http, headers = serve(words=("ok",)), {"origin": "https://app.test"}
        assert "access-control-allow-origin" not in http.post("/responses", json=TURN, headers=headers).headers
        assert http.options("/responses", headers=headers | PREFLIGHT).status_code == 405

    @pytest.mark.parametrize("form", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
    def test_a_page_cannot_send_what_needs_no_leave(self, serve: Serve, form: str) -> None:
        http = serve(words=("ok",))
        for path in ("/responses", "/threads/search", "/threads/prune", "/threads/t/state"):
            answer = http.post(path, content='{"input": "hello"}', headers={"content-type": form})
            assert answer.status_code == 400
            assert "application/json" in answer.json()["error"]["message"]

    def test_those_allowed(self, serve: Serve) -> None:
        http = serve(words=("ok",), allowed_origins="https://app.test, https://b.test", trusted_identity="X-User")
        for origin, allowed in (("https://app.test", True), ("https://b.test", True), ("https://c.test", False)):
            headers = {"origin": origin}
            assert (http.options("/responses", headers=headers | PREFLIGHT).status_code == 200) == allowed
            for status, more, body in (
                (200, {"X-User": "a"}, {"input": "hello"}),
                (401, {}, {"input": "hello"}),
                (400, {"X-User": "a"}, {"input": 7}),
                (404, {"X-User": "a"}, {"input": "hello", "conversation": "nowhere"}),
            ):
                answer = http.post("/responses", json=body, headers=headers | more)
                assert answer.status_code == status
                assert ("access-control-allow-origin" in answer.headers) == allowed
                assert answer.headers["access-control-expose-headers"] == "Retry-After, x-should-retry"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/responses", 405)])
def test_no_such_route(serve: Serve, method: str, path: str, status: int) -> None:
    answer = serve().request(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "code", "param"}
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(("trusted", "status"), [("X-User", 200), ("context", 401)])
def test_a_user_is_named_by_the_trusted_header_alone(serve: Serve, trusted: str, status: int) -> None:
    """`context` trusts a part of the body, not a header of that name."""
    http = serve(words=("ok",), trusted_identity=trusted)
    assert http.get("/threads", headers={trusted: "alice"}).status_code == status
    assert http.get("/threads", headers={trusted: ""}).status_code == 401
    assert http.post("/responses", json=TURN, headers={trusted: "alice"}).status_code == status
    assert http.post("/responses", json=TURN, headers={"X-Other": "alice"}).status_code == 401
