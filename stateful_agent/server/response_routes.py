"""Responses over HTTP after they were asked for: retrieve one, stream it again, cancel it, delete it, see its input.

The paths are OpenAI's (https://platform.openai.com/docs/api-reference/responses).
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import StrictStr

from stateful_agent.agent import LangGraphResponsesAgent
from stateful_agent.errors import InvalidRequest
from stateful_agent.responses.item_list import Order, page_of
from stateful_agent.responses.thread_ref import check_id
from stateful_agent.runs.runs import Runs
from stateful_agent.server.json_body import JsonRoute
from stateful_agent.server.sse import event_stream
from stateful_agent.server.user import NamedUser, acting

SequenceNumber = Annotated[int | None, Query(ge=0, le=999_999_999)]
Limit = Annotated[int, Query(ge=1, le=100)]
Flag = Annotated[StrictStr, Query(pattern="^(true|false)$")]


def response_routes(agent: LangGraphResponsesAgent, runs: Runs) -> APIRouter:
    """Routes for responses that are in the event log, or in a thread."""
    router = APIRouter(tags=["responses"], route_class=JsonRoute)
    Agent = Annotated[LangGraphResponsesAgent, Depends(acting(agent))]

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

    async def delete(response_id: str, user: NamedUser) -> Any:
        """Delete a response; if it has not ended, it ends. The checkpoints of its turn stay in its thread."""
        await runs.delete(check_id(response_id, "response_id"), user)
        return {"id": response_id, "object": "response", "deleted": True}

    async def input_items(
        agent: Agent, response_id: str, after: str | None = None, limit: Limit = 20, order: Order = "desc"
    ) -> Any:
        """The items that a response answers, the newest first unless asked otherwise, as long as its thread is kept."""
        return page_of(await agent.alist_input_items(response_id), after, limit, order)

    async def compact(agent: Agent, body: dict[str, Any]) -> Any:
        """Make a conversation shorter: a thread that is named, or the one that `input` holds."""
        return await agent.acompact(body)

    for path in ("/responses/compact", "/v1/responses/compact"):
        router.add_api_route(
            path, compact, methods=["POST"], response_model=None, summary="Make a conversation shorter"
        )
    for path in ("/responses/{response_id}", "/v1/responses/{response_id}"):
        router.add_api_route(path, delete, methods=["DELETE"], response_model=None, summary="Delete a response")
        router.add_api_route(
            f"{path}/input_items", input_items, methods=["GET"], response_model=None, summary="Its input"
        )
        router.add_api_route(path, retrieve, methods=["GET"], response_model=None, summary="A response")
        router.add_api_route(f"{path}/cancel", cancel, methods=["POST"], response_model=None, summary="Cancel")
    return router
