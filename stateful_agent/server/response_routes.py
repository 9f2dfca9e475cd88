"""Responses over HTTP after they were asked for: look at one, listen to it again, cancel it.

The paths are OpenAI's (https://platform.openai.com/docs/api-reference/responses).
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from stateful_agent.errors import InvalidRequest
from stateful_agent.responses.output import Event
from stateful_agent.responses.thread_ref import check_id
from stateful_agent.runs.runs import Runs

Sse = Callable[[list[Event], AsyncIterator[list[Event]]], Response]

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "Malformed; `error.message` says how."},
    404: {"description": "There is no such response, or it is kept no more."},
    503: {"description": "The database cannot be reached."},
}


def response_routes(answers: Runs, sse: Sse) -> APIRouter:
    """Routes for the responses that are in the journal. `sse` is how the server sends events."""
    router = APIRouter(tags=["responses"], responses=ERRORS)

    async def retrieve(response_id: str, stream: str = "false", starting_after: str | None = None) -> Any:
        """A response as it is now; with `stream=true` its events, those after `starting_after`, to the last one."""
        check_id(response_id, "response_id")
        if stream not in ("true", "false"):
            raise InvalidRequest("stream must be true or false.", param="stream")
        if stream == "false":
            if starting_after is not None:
                raise InvalidRequest("starting_after needs stream=true.", param="starting_after")
            return await answers.response(response_id)
        after = -1 if starting_after is None else _sequence_number(starting_after)
        return sse([], await answers.follow(response_id, after))

    async def cancel(response_id: str) -> Any:
        """End a response. What it has stored stays in its thread. One that has ended stays as it is."""
        return await answers.cancel(check_id(response_id, "response_id"))

    for path in ("/responses/{response_id}", "/v1/responses/{response_id}"):
        router.add_api_route(path, retrieve, methods=["GET"], response_model=None, summary="A response")
        router.add_api_route(f"{path}/cancel", cancel, methods=["POST"], response_model=None, summary="Cancel")
    return router


def _sequence_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest("starting_after must be the sequence_number of an event.", param="starting_after")
    return int(text)
