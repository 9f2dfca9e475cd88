"""Conversations over HTTP, as OpenAI has them: a conversation is a thread, and its items are those at the head.

The paths are OpenAI's (https://platform.openai.com/docs/api-reference/conversations).
"""

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from stateful_agent.agent import LangGraphResponsesAgent
from stateful_agent.errors import ItemNotFound
from stateful_agent.responses.item_list import Order, item_list, page_of
from stateful_agent.responses.messages import LEFT_OUT, to_messages
from stateful_agent.server.json_body import JsonRoute
from stateful_agent.server.user import acting

Json = dict[str, Any]

MOST_ITEMS = 20
"""Items of one request, in OpenAI's API."""

OpenAIMetadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
Limit = Annotated[int, Query(ge=1, le=100)]


class NewConversation(BaseModel):
    """A conversation to begin."""

    items: Annotated[list[Json], Field(max_length=MOST_ITEMS)] | None = None
    metadata: OpenAIMetadata | None = None


class NewMetadata(BaseModel):
    """What to note of a conversation, in the place of what was noted."""

    metadata: OpenAIMetadata


class NewItems(BaseModel):
    """Items to add to a conversation."""

    items: Annotated[list[Json], Field(max_length=MOST_ITEMS)]


def conversation_routes(agent: LangGraphResponsesAgent) -> APIRouter:
    """Routes for conversations and their items."""
    router = APIRouter(tags=["conversations"], route_class=JsonRoute)
    Agent = Annotated[LangGraphResponsesAgent, Depends(acting(agent))]

    async def create(agent: Agent, new: NewConversation) -> Json:
        """Begin a conversation."""
        thread_id = f"conv_{uuid.uuid4().hex}"
        return _as_conversation(await agent.acreate_thread(thread_id, _new(new.items or []), new.metadata or {}))

    async def retrieve(agent: Agent, conversation_id: str) -> Json:
        """A conversation."""
        return _as_conversation(await agent.aget_thread(conversation_id))

    async def update(agent: Agent, conversation_id: str, new: NewMetadata) -> Json:
        """Note something of a conversation, in the place of what was noted before."""
        return _as_conversation(await agent.aupdate_thread(conversation_id, new.metadata))

    async def delete(agent: Agent, conversation_id: str) -> Json:
        """Delete a conversation, for good: the thread with all its branches."""
        await agent.adelete_thread(conversation_id)
        return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}

    async def create_items(agent: Agent, conversation_id: str, new: NewItems) -> Json:
        """Add items at the head: an edit. What a thread does not keep, such as reasoning, is left out."""
        added = _new(new.items)
        count = len(to_messages(added, "items"))
        if not count:
            return item_list(await _items(agent, conversation_id, None, 0))
        edited = await agent.aupdate_checkpoint_state(conversation_id, None, added)
        return item_list(await _items(agent, conversation_id, edited["checkpoint_id"], count))

    async def list_items(
        agent: Agent, conversation_id: str, after: str | None = None, limit: Limit = 20, order: Order = "desc"
    ) -> Json:
        """The items at the head, the newest first unless asked otherwise."""
        return page_of(await _items(agent, conversation_id), after, limit, order)

    async def retrieve_item(agent: Agent, conversation_id: str, item_id: str) -> Json:
        """An item at the head."""
        for item in await _items(agent, conversation_id):
            if item["id"] == item_id:
                return item
        raise ItemNotFound(param="item_id")

    async def delete_item(agent: Agent, conversation_id: str, item_id: str) -> Json:
        """Take an item out at the head: an edit, so the past stays in the tree. A call and its output go together."""
        await agent.adelete_item(conversation_id, item_id)
        return _as_conversation(await agent.aget_thread(conversation_id))

    for root in ("/conversations", "/v1/conversations"):
        one = f"{root}/{{conversation_id:id}}"
        for path, method, endpoint, summary in (
            (root, "POST", create, "Begin a conversation"),
            (one, "GET", retrieve, "A conversation"),
            (one, "POST", update, "Update a conversation's metadata"),
            (one, "DELETE", delete, "Delete a conversation"),
            (f"{one}/items", "POST", create_items, "Add items"),
            (f"{one}/items", "GET", list_items, "List items"),
            (f"{one}/items/{{item_id:id}}", "GET", retrieve_item, "An item"),
            (f"{one}/items/{{item_id:id}}", "DELETE", delete_item, "Delete an item"),
        ):
            router.add_api_route(path, endpoint, methods=[method], response_model=None, summary=summary)
    return router


def _new(items: list[Json]) -> list[Json]:
    """Items as new ones: what they are called elsewhere names nothing here."""
    names = ("id", "message_id")
    kept = [item for item in items if item.get("type") not in LEFT_OUT]
    return [{name: value for name, value in item.items() if name not in names} for item in kept]


async def _items(
    agent: LangGraphResponsesAgent, thread_id: str, checkpoint_id: str | None = None, count: int | None = None
) -> list[Any]:
    """The items at a checkpoint, or at the head; those of the last `count` messages."""
    state = await agent.aget_checkpoint_state(thread_id, checkpoint_id)
    items = state["messages"] + state["pending_messages"]
    messages = list(dict.fromkeys(item["message_id"] for item in items))
    kept = messages if count is None else messages[len(messages) - count :]
    return [item for item in items if item["message_id"] in kept]


def _as_conversation(thread: Json) -> Json:
    created_at = int(datetime.fromisoformat(thread["created_at"]).timestamp())
    named = {"id": thread["thread_id"], "object": "conversation", "created_at": created_at}
    return named | {"metadata": thread["metadata"]}
