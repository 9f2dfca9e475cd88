"""What the agent remembers across threads, over HTTP, under `/memories`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from stateful_agent.agent import LangGraphResponsesAgent
from stateful_agent.server.json_body import JsonRoute
from stateful_agent.server.user import acting

Json = dict[str, Any]


def memory_routes(agent: LangGraphResponsesAgent) -> APIRouter:
    """Routes for the operations of `Memories`."""
    router = APIRouter(tags=["memories"], route_class=JsonRoute)

    Agent = Annotated[LangGraphResponsesAgent, Depends(acting(agent))]

    @router.get("/memories", summary="List what is remembered", description=agent.alist_memories.__doc__)
    async def list_memories(
        agent: Agent, limit: Annotated[int, Query(ge=1, le=1000)] = 10, offset: Annotated[int, Query(ge=0)] = 0
    ) -> list[Json]:
        return await agent.alist_memories(limit, offset)

    @router.delete("/memories", summary="Delete what is remembered", description=agent.adelete_memories.__doc__)
    async def delete_memories(
        agent: Agent,
        namespace: Annotated[str | None, Query(description="Its labels, with periods between them.")] = None,
        key: str | None = None,
    ) -> Json:
        return await agent.adelete_memories(None if namespace is None else namespace.split("."), key)

    @router.delete("/threads", summary="Delete a user's threads", description=agent.adelete_threads.__doc__)
    async def delete_threads(agent: Agent, memories: bool = False) -> Json:
        return await agent.adelete_threads(memories)

    return router
