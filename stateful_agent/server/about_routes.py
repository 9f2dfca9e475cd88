"""Routes that tell what is served, whether it can be, and how it goes."""

import asyncio
import os
import time
from typing import Any

import mlflow
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from stateful_agent.agent import LangGraphResponsesAgent
from stateful_agent.errors import AgentError
from stateful_agent.responses.types import MODEL

READY_SECONDS = 3.0
"""For the database to answer."""


def about_routes(agent: LangGraphResponsesAgent) -> APIRouter:
    """Routes that tell what is served, and that it is."""
    router = APIRouter()
    created = int(time.time())

    @router.get("/health", summary="Whether the process is alive")
    @router.get("/ping", summary="Whether the process is alive")
    async def health() -> dict[str, str]:
        return {"status": "healthy"}

    @router.get("/ready", summary="Whether turns can be taken", responses={503: {}})
    async def ready() -> JSONResponse:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await agent.store.check()
        except TimeoutError:
            return JSONResponse({"status": "unavailable", "reason": "The database does not answer."}, 503)
        except AgentError as error:
            return JSONResponse({"status": "unavailable", "reason": error.message}, 503)
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", summary="Counts for Prometheus, of all processes of this server", response_class=Response)
    def metrics() -> Response:
        return Response(generate_latest(_registry()), media_type=CONTENT_TYPE_LATEST)

    @router.get("/v1/models")
    @router.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": created, "owned_by": MODEL}]}

    @router.get("/agent/info")
    async def agent_info() -> dict[str, Any]:
        name = os.environ.get("DATABRICKS_APP_NAME", MODEL)
        return {"name": name, "use_case": "agent", "agent_api": "responses", "mlflow_version": mlflow.__version__}

    return router


def _registry() -> CollectorRegistry:
    """What all processes have counted, if there are several."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry
