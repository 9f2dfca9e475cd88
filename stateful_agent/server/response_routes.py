"""Responses over HTTP after they were asked for: retrieve one, stream it again, cancel it.

The paths are OpenAI's (https://platform.openai.com/docs/api-reference/responses).
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import StrictStr

from stateful_agent.errors import InvalidRequest
from stateful_agent.responses.thread_ref import check_id
from stateful_agent.runs.runs import Runs
from stateful_agent.server.sse import event_stream
from stateful_agent.server.user import NamedUser

SequenceNumber = Annotated[int | None, Query(ge=0, le=999_999_999)]
Flag = Annotated[StrictStr, Query(pattern="^(true|false)$")]


def response_routes(runs: Runs) -> APIRouter:
    """Routes for the responses that are in the event log."""
    router = APIRouter(tags=["responses"])

    async def retrieve(
        response_id: str, user: NamedUser, stream: Flag = "false", starting_after: SequenceNumber = None
    ) -> Any:
        """A response as it is now; with `stream=true` its events, those after `starting_after`, to the last one."""
        check_id(response_id, "response_id")
        if stream == "true":
            after = -1 if starting_after is None else starting_after
            return event_stream([], await runs.follow(response_id, user, after))
        if starting_after is not None:
            raise InvalidRequest("starting_after needs stream=true.", param="starting_after")
        return await runs.retrieve(response_id, user)

    async def cancel(response_id: str, user: NamedUser) -> Any:
        """End a response. What it has stored stays in its thread. One that has ended stays as it is."""
        return await runs.cancel(check_id(response_id, "response_id"), user)

    for path in ("/responses/{response_id}", "/v1/responses/{response_id}"):
        router.add_api_route(path, retrieve, methods=["GET"], response_model=None, summary="A response")
        router.add_api_route(f"{path}/cancel", cancel, methods=["POST"], response_model=None, summary="Cancel")
    return router
