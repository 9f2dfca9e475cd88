"""The app around an agent: the routes of the OpenAI Responses API, of MLflow and of Databricks, and ours.

MLflow's own `AgentServer` has some of them but answers every error with 500, so this is built on FastAPI.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from starlette.middleware.cors import CORSMiddleware

from stateful_agent.agent import LangGraphResponsesAgent
from stateful_agent.heavy_work import compute
from stateful_agent.responses.request import read_request
from stateful_agent.responses.types import MODEL
from stateful_agent.runs.event_log import EventLog
from stateful_agent.runs.idempotency import attempt_of
from stateful_agent.runs.runs import Runs
from stateful_agent.server.about_routes import about_routes
from stateful_agent.server.callers import KnownCallers, names_of
from stateful_agent.server.conversation_routes import conversation_routes
from stateful_agent.server.errors import answer_errors
from stateful_agent.server.json_body import JsonRoute, json_response
from stateful_agent.server.memory_routes import memory_routes
from stateful_agent.server.openapi import ERRORS, TURN, TURN_ANSWERS, description
from stateful_agent.server.page_routes import add_pages
from stateful_agent.server.paths import EncodedSlashes
from stateful_agent.server.response_routes import response_routes
from stateful_agent.server.sse import event_stream
from stateful_agent.server.thread_routes import thread_routes
from stateful_agent.server.user import NamedUser

TURN_PATHS = ("/responses", "/v1/responses", "/invocations", "/serving-endpoints/responses")
"""Where turns are taken: as OpenAI's clients, MLflow's and Databricks' ask for them."""


def create_app(
    agent: LangGraphResponsesAgent,
    serving: Callable[[], AbstractContextManager[None]] = nullcontext,
    host: str = "0.0.0.0",
    seconds_left: Callable[[], float] = lambda: 0,
) -> FastAPI:
    """An app that serves an agent on the server's own event loop, which listens at `host`.

    What `serving` returns is entered when requests can come, and left when the last turn has ended. `seconds_left` is
    asked for when no requests come any more: in which the turns that still run may end.
    """
    settings = agent.settings
    origins = [origin.strip() for origin in (settings.allowed_origins or "").split(",") if origin.strip()]
    log = EventLog(agent.database, agent.store, agent.loop, settings.event_log_seconds)
    runs = Runs(agent, log)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        agent.loop.adopt()
        await agent.aopen()
        with serving():
            yield
            await agent.loop.finish_work(seconds_left())
            await log.close()
        await agent.aclose()

    app = FastAPI(title=MODEL, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.openapi = partial(description, app)  # type: ignore[method-assign]
    app.state.max_input_bytes = settings.max_input_bytes
    trusted = settings.trusted_identity
    app.state.user_header = None if trusted == "context" else trusted
    answer_errors(app)
    app.add_middleware(EncodedSlashes)
    app.add_middleware(KnownCallers, origins=origins, hosts=names_of(host, settings.allowed_hosts))
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "x-should-retry"],
        )
    of_operations = (conversation_routes(agent), thread_routes(agent), memory_routes(agent))
    for router in (
        turn_routes(runs, lambda data: agent.store.cipher.digest(data)),
        response_routes(agent, runs),
        *of_operations,
    ):
        app.include_router(router, responses=ERRORS)
    app.include_router(about_routes(agent))
    add_pages(app)
    return app


def turn_routes(runs: Runs, digest: Callable[[bytes], bytes]) -> APIRouter:
    """Routes that take a turn."""
    router = APIRouter(route_class=JsonRoute)

    async def respond(request: Request, body: dict[str, Any], user: NamedUser) -> Response:
        asked, attempt = await compute(
            lambda: (read_request(body), attempt_of(request.headers, body, user, digest)), body
        )
        if asked.background:
            runs.check_background(asked)
        if not asked.stream:
            answer = runs.start_in_background if asked.background else runs.respond
            return await json_response(await answer(asked, attempt, user, request.is_disconnected))
        batches = runs.stream(asked, attempt, user, request.is_disconnected)
        first = await anext(batches)  # whatever fails before it has a status of its own
        return event_stream(first, batches, data_only=request.url.path.endswith("/invocations"))

    for path in (*TURN_PATHS, "/serving-endpoints/{name}/invocations"):
        router.add_api_route(
            path,
            respond,
            methods=["POST"],
            response_model=None,
            responses=TURN_ANSWERS,
            openapi_extra=TURN,
            summary="Take a turn",
        )
    return router
