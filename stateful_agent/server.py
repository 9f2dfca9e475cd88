"""The web server around the logged model: the routes of the OpenAI Responses API and of MLflow.

    python -m stateful_agent.server MODEL_URI [--host HOST] [--port PORT] [--workers N]

MLflow's own `AgentServer` has the same routes but answers every error with 500, so this is built on FastAPI.
"""

import argparse
import asyncio
import gc
import json
import logging
import multiprocessing
import os
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any

import mlflow
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.supervisors import Multiprocess

from stateful_agent.answers import Answers
from stateful_agent.caller import acting_as, caller
from stateful_agent.errors import InputTooLarge, InvalidRequest, ShuttingDown, typed
from stateful_agent.http_errors import answer_errors
from stateful_agent.journal import Journal
from stateful_agent.messages import read_json
from stateful_agent.openapi import ANSWER, ERRORS, TURN, description
from stateful_agent.request import read_request
from stateful_agent.responses import error_event
from stateful_agent.rest import thread_routes
from stateful_agent.resume import response_routes
from stateful_agent.retries import attempt_of

logger = logging.getLogger(__name__)

NAME = "stateful-agent"
RESPONSES = ("/responses", "/v1/responses", "/invocations", "/serving-endpoints/responses")
"""Where turns are taken: as OpenAI's clients, MLflow's and Databricks' ask for them."""


def create_app(agent: Any, ready: Callable[[], None] = lambda: None) -> FastAPI:
    """An app that serves `agent`, a `LangGraphResponsesAgent`, on the server's own event loop.

    `ready` is called when requests can come.
    """

    journal = Journal(agent)
    answers = Answers(agent, journal)

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


WELCOME = """
  model     {model}
            answers come from {answers}
  database  {database}
  address   {address}     (Ctrl-C stops the server and its database)

Try it from this folder, in another terminal:

curl -s {address}/responses -H 'content-type: application/json' \\
  -d '{{"input": "I am headed to SF!", "custom_inputs": {{"thread_id": "my-trip"}}}}'

{python} - <<'EOF'
from openai import OpenAI
client = OpenAI(base_url="{address}", api_key="none needed")
for text in ["I'm headed to SF!", "Where did I say I'm going?"]:
    answer = client.responses.create(
        model="stateful-agent", input=text, extra_body={{"custom_inputs": {{"thread_id": "my-trip"}}}}
    )
    print(answer.output_text, answer.custom_outputs)
EOF
"""


def served(model: str, address: str, announced: Any) -> FastAPI:
    """The app that serves a logged model. The first process to be ready says so: the one that can have `announced`."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s  %(name)s: %(message)s")
    # MLflow's ten threads that store traces would get ten times as much of the interpreter as the event loop.
    os.environ.setdefault("MLFLOW_ASYNC_TRACE_LOGGING_MAX_WORKERS", "1")
    mlflow.tracing.disable()  # until it is ready
    agent: Any = mlflow.pyfunc.load_model(model, suppress_warnings=True).get_raw_model()
    # What was imported stays for ever. Looking through it for garbage would hold up every stream, again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)

    def ready() -> None:
        threading.Thread(target=start_tracing, daemon=True).start()
        if announced.acquire(block=False):
            welcome = WELCOME.format(
                model=os.path.relpath(model) if os.path.isdir(model) else model,
                answers=agent.settings.agent_model
                or "the built-in offline model: a few fixed rules (set AGENT_MODEL for a real one)",
                database=agent.storage.description,
                address=address,
                python=os.path.relpath(sys.executable),
            )
            print(welcome, flush=True)

    return create_app(agent, ready)


def start_tracing() -> None:
    """Let MLflow trace turns from here on.

    What it imports for that takes as long as half of the start, and its store of traces may be away: nobody waits for
    it, and the turns of the first two seconds are not traced. Where traces go is looked up once: MLflow would ask its
    store again for each turn, and hold up all the others.
    """
    name, experiment_id = os.environ.get("MLFLOW_EXPERIMENT_NAME"), os.environ.get("MLFLOW_EXPERIMENT_ID")
    try:
        if name or experiment_id:
            mlflow.set_experiment(name, experiment_id=None if name else experiment_id)
        elif not mlflow.get_tracking_uri().startswith("databricks"):  # which has no default one
            mlflow.set_experiment("Default")
    except Exception as error:
        logger.warning("The experiment for traces cannot be looked up: %s", error)
    mlflow.tracing.enable()


def main() -> None:
    """Load a logged model and serve it."""
    parser = argparse.ArgumentParser(prog="python -m stateful_agent.server", description=main.__doc__)
    parser.add_argument("model", help="the logged model: models:/..., runs:/... or a folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that serve (default: %(default)s)")
    args = parser.parse_args()
    if args.workers < 1:
        parser.error("--workers must be at least 1")

    print(f"Loading {args.model} ...", flush=True)
    announced = multiprocessing.get_context("spawn").Semaphore(1)
    config = uvicorn.Config(
        partial(served, args.model, f"http://{args.host}:{args.port}", announced),
        factory=True,
        host=args.host,
        port=args.port,
        workers=args.workers,
        log_level="warning",
        timeout_graceful_shutdown=2,  # seconds; a turn cut short here is mended when its thread goes on
        timeout_worker_healthcheck=30,
    )
    sockets = [config.bind_socket()]
    server = uvicorn.Server(config)
    try:
        if args.workers > 1:
            Multiprocess(config, sockets).run()
        else:
            server.run(sockets)
    except KeyboardInterrupt:
        pass
    if not server.started and args.workers == 1:
        sys.exit(1)
    print("Stopped.")


if __name__ == "__main__":
    main()
