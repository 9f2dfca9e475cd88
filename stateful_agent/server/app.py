"""The app around an agent: the routes of the OpenAI Responses API, of MLflow and of Databricks, and ours.

MLflow's own `AgentServer` has some of them but answers every error with 500, so this is built on FastAPI.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any

import mlflow
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from stateful_agent.errors import InputTooLarge, InvalidRequest, ShuttingDown, typed
from stateful_agent.identity import acting_as, caller
from stateful_agent.responses.events import error_event
from stateful_agent.responses.messages import read_json
from stateful_agent.responses.request import read_request
from stateful_agent.runs.attempt import attempt_of
from stateful_agent.runs.event_log import EventLog
from stateful_agent.runs.runs import Runs
from stateful_agent.server.errors import answer_errors
from stateful_agent.server.openapi import ANSWER, ERRORS, TURN, description
from stateful_agent.server.response_routes import response_routes
from stateful_agent.server.thread_routes import thread_routes

NAME = "stateful-agent"
RESPONSES = ("/responses", "/v1/responses", "/invocations", "/serving-endpoints/responses")
"""Where turns are taken: as OpenAI's clients, MLflow's and Databricks' ask for them."""


def create_app(agent: Any, ready: Callable[[], None] = lambda: None) -> FastAPI:
    """An app that serves `agent`, a `LangGraphResponsesAgent`, on the server's own event loop.

    `ready` is called when requests can come.
    """

    journal = EventLog(agent)
    answers = Runs(agent, journal)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        agent.loop.adopt()
        await agent.aopen()
        ready()
        yield
        await agent.loop.cancel_work()
        await journal.close()
        await agent.aclose()

    began = int(time.time())
    app = FastAPI(title=NAME, lifespan=lifespan)
    app.openapi = partial(description, app)  # type: ignore[method-assign]
    answer_errors(app)
    trusted = agent.settings.trusted_identity
    if trusted and trusted != "context":
        app.add_middleware(Identify, header=trusted)
    if origins := agent.settings.allowed_origins:
        allowed = [origin.strip() for origin in origins.split(",")]
        methods, told = ["GET", "POST", "DELETE"], ["Retry-After", "x-should-retry"]
        app.add_middleware(
            CORSMiddleware, allow_origins=allowed, allow_methods=methods, allow_headers=["*"], expose_headers=told
        )

    async def respond(request: Request) -> Response:
        body = await read_body(request, agent.settings.max_input_bytes)
        asked, attempt = read_request(body), attempt_of(request.headers, body, caller())
        if asked.background:
            answers.check_kept(asked)
        if not asked.stream:
            answer = answers.answer_later if asked.background else answers.answer
            return JSONResponse(await answer(asked, attempt, request.is_disconnected))
        batches = answers.answer_stream(asked, attempt, request.is_disconnected)
        first = await anext(batches)  # whatever fails before it has a status of its own
        return sse(first, batches)

    def sse(first: list[Any], rest: AsyncIterator[list[Any]]) -> Response:
        return StreamingResponse(server_sent(first, rest), media_type="text/event-stream")

    described: dict[str, Any] = {"responses": ERRORS | ANSWER, "openapi_extra": TURN, "summary": "Take a turn"}
    for path in RESPONSES:
        app.add_api_route(path, respond, methods=["POST"], response_model=None, **described)

    @app.post("/serving-endpoints/{name}/invocations", response_model=None, **described)
    async def respond_as(name: str, request: Request) -> Response:
        return await respond(request)

    async def read(request: Request) -> dict[str, Any]:
        return await read_body(request, agent.settings.max_input_bytes)

    app.include_router(thread_routes(agent, read), responses=ERRORS)
    app.include_router(response_routes(answers, sse), responses=ERRORS)

    @app.get("/health")
    @app.get("/ping")
    async def health() -> dict[str, str]:
        return {"status": "healthy"}

    @app.get("/v1/models")
    @app.get("/models")
    async def models() -> dict[str, Any]:
        model = {"id": NAME, "object": "model", "created": began, "owned_by": NAME}
        return {"object": "list", "data": [model]}

    @app.get("/agent/info")
    async def agent_info() -> dict[str, Any]:
        name = os.environ.get("DATABRICKS_APP_NAME", NAME)
        return {"name": name, "use_case": "agent", "agent_api": "responses", "mlflow_version": mlflow.__version__}

    return app


class Identify:
    """Lets each request be that of the user whom a header names."""

    def __init__(self, app: ASGIApp, header: str) -> None:
        self.app, self.header = app, header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = Headers(scope=scope).get(self.header) if scope["type"] == "http" else None
        with acting_as(user) if user else nullcontext():
            await self.app(scope, receive, send)


async def read_body(request: Request, max_bytes: int) -> dict[str, Any]:
    """The request's body, read no further than `max_bytes`.

    Raises:
        InputTooLarge: there is more.
        InvalidRequest: it is not a JSON object, or does not say that it is JSON.
    """
    # A web page may send any other form to any address without asking the browser first.
    if not re.fullmatch(
        r"application/(.*\+)?json", request.headers.get("content-type", "").split(";")[0].strip(), re.I
    ):
        raise InvalidRequest("Send JSON, and say so: content-type: application/json.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise InputTooLarge(f"The request has more than the {max_bytes} bytes that are allowed.")
    try:
        parsed = read_json(body)
    except ValueError as error:
        raise InvalidRequest(f"The request's body is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise InvalidRequest("The request's body must be a JSON object with `input`.")
    return parsed


async def server_sent(first: list[Any], rest: AsyncIterator[list[Any]]) -> AsyncIterator[str]:
    """Batches of response events as server-sent events. Whatever ends them early is said."""
    told = first[-1]["sequence_number"] if first else -1
    try:
        yield as_lines(first)
        async for batch in rest:
            yield as_lines(batch)
            told = batch[-1]["sequence_number"] if batch else told
    except (Exception, asyncio.CancelledError) as error:  # cancelled: the server stops, and has waited long enough
        why = typed(error) if isinstance(error, Exception) else ShuttingDown()
        yield as_lines([error_event(why, sequence_number=told + 1)])
    yield "data: [DONE]\n\n"


def as_lines(events: list[Any]) -> str:
    """Server-sent events, or if there is none, a comment that keeps the connection alive."""
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) or ": keep-alive\n\n"
