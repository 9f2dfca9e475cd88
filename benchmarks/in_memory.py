"""LangGraph with its state in memory, behind Starlette: no database, no traces, nothing that outlives the process.

Whoever serves a LangGraph graph pays no less than this.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import mlflow
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from benchmarks.designs import InMemory
from stateful_agent.server.garbage import collect_rarely


def application() -> Starlette:
    """What each of uvicorn's workers runs."""
    mlflow.tracing.disable()
    in_memory = InMemory()

    async def respond(request: Request) -> Response:
        asked = await request.json()
        tokens = in_memory.tokens(asked.get("custom_inputs", {}).get("thread_id", "hello"))
        if asked.get("stream"):
            return StreamingResponse(server_sent(tokens), media_type="text/event-stream")
        return JSONResponse({"output_text": "".join([token async for token in tokens])})

    collect_rarely()
    return Starlette(routes=[Route("/responses", respond, methods=["POST"])])


async def server_sent(tokens: AsyncIterator[str]) -> AsyncIterator[str]:
    """The fewest events that a client can do with."""
    async for token in tokens:
        yield event("response.output_text.delta", delta=token)
    yield event("response.completed")
    yield "data: [DONE]\n\n"


def event(kind: str, **fields: Any) -> str:
    """One server-sent event."""
    return f"data: {json.dumps({'type': kind, **fields})}\n\n"
