"""Time travel over HTTP: the agent's threads under `/threads`.

The paths are those of LangGraph's own server, so that `langgraph_sdk`'s client can manage threads here. Bodies and
answers hold our names, and beside them LangGraph's (https://docs.langchain.com/langsmith/server-api-ref).
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from langchain_core.messages import RemoveMessage, convert_to_messages
from pydantic import BaseModel, ConfigDict, Field, StrictInt, field_validator

from stateful_agent.agent import LangGraphResponsesAgent
from stateful_agent.errors import InvalidRequest, ThreadExists
from stateful_agent.responses.messages import to_items, to_messages
from stateful_agent.server.json_body import JsonRoute
from stateful_agent.server.trace_url import trace_url
from stateful_agent.server.user import acting

Json = dict[str, Any]

MOST_BY_OFFSET = 1000
"""How far LangGraph's `offset` reaches. Our own pages go on from where the last one ended, at any depth."""

Limit = Annotated[int, Query(ge=1, le=1000)]


class ThreadSearch(BaseModel):
    """Which page of the threads, as LangGraph's client asks for it."""

    limit: StrictInt = Field(default=10, ge=1, le=MOST_BY_OFFSET)
    offset: StrictInt = Field(default=0, ge=0, le=MOST_BY_OFFSET)
    metadata: Any = None
    values: Any = None
    ids: Any = None
    status: Any = None

    @field_validator("metadata", "values", "ids", "status")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        if value:
            raise ValueError("Threads cannot be searched by this.")
        return value


class NewThread(BaseModel):
    """A thread to begin; LangGraph's client may want the one that is there."""

    thread_id: str | None = None
    new_messages: list[Json] | None = None
    metadata: Json | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None


class Metadata(BaseModel):
    """What to note of a thread."""

    metadata: Json


class Checkpoint(BaseModel):
    """A checkpoint, as LangGraph writes it."""

    checkpoint_id: str


class Configurable(BaseModel):
    """A LangGraph config that names a checkpoint."""

    configurable: Checkpoint


class HistoryPage(BaseModel):
    """Which page of a history, as LangGraph's client asks for it."""

    limit: StrictInt = Field(default=10, ge=1, le=1000)
    before: Checkpoint | Configurable | str | None = None
    metadata: Any = None
    checkpoint: Any = None

    @field_validator("metadata", "checkpoint")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        if value:
            raise ValueError("A history cannot be searched by this.")
        return value

    @property
    def before_id(self) -> str | None:
        """The id of the checkpoint before which the page ends."""
        before = self.before.configurable if isinstance(self.before, Configurable) else self.before
        return before.checkpoint_id if isinstance(before, Checkpoint) else before


class AtCheckpoint(BaseModel):
    """The checkpoint whose state is asked for, in LangGraph's form."""

    checkpoint: Checkpoint
    subgraphs: bool = False


class Values(BaseModel):
    """Keys of a state: in LangGraph's form, `messages` among them."""

    model_config = ConfigDict(extra="allow")

    messages: list[Json] | Json | None = None


class Edit(BaseModel):
    """An edit: in our form, or in LangGraph's, which has `messages` in `values`."""

    model_config = ConfigDict(extra="forbid")

    checkpoint_id: str | None = None
    new_messages: list[Json] | None = None
    remove_messages: list[str] | None = None
    as_node: str | None = None
    checkpoint: Checkpoint | None = None
    values: Values | None = None
    thread_id: Any = Field(default=None, description="As in the states that this was made from: the path's counts.")

    @property
    def is_langgraphs(self) -> bool:
        """Whether it is in LangGraph's form."""
        return self.values is not None and self.new_messages is None and self.remove_messages is None

    @property
    def base_id(self) -> str | None:
        """The id of the checkpoint to edit."""
        return self.checkpoint.checkpoint_id if self.checkpoint else self.checkpoint_id


class Prune(BaseModel):
    """Which checkpoints to delete."""

    model_config = ConfigDict(extra="forbid")

    older_than_days: float = Field(ge=0, le=100_000, strict=True)


def thread_routes(agent: LangGraphResponsesAgent) -> APIRouter:
    """Routes for the operations of `TimeTravel`, which check their arguments for all callers alike."""
    router = APIRouter(tags=["threads"], route_class=JsonRoute)

    Agent = Annotated[LangGraphResponsesAgent, Depends(acting(agent))]

    @router.get("/threads", summary="List threads", description=agent.alist_threads.__doc__)
    async def list_threads(agent: Agent, limit: Limit = 10, before: str | None = None) -> list[Json]:
        # The + of a time zone arrives as a space unless it is quoted.
        return await agent.alist_threads(limit, before and before.replace(" ", "+"))

    @router.post("/threads", summary="Begin a thread", description=agent.acreate_thread.__doc__)
    async def create(agent: Agent, new: NewThread) -> Json:
        try:
            thread = await agent.acreate_thread(new.thread_id, new.new_messages, new.metadata)
        except ThreadExists:
            if new.if_exists != "do_nothing" or new.thread_id is None:
                raise
            thread = await agent.aget_thread(new.thread_id)
        return _as_thread(thread)

    @router.post("/threads/search", summary="List threads, with limit and offset as LangGraph has them")
    async def search(agent: Agent, search: ThreadSearch) -> list[Json]:
        if search.limit + search.offset > MOST_BY_OFFSET:
            raise InvalidRequest(
                f"Only the first {MOST_BY_OFFSET} threads can be reached by offset: use GET /threads.", param="offset"
            )
        page = await agent.alist_threads(search.limit + search.offset)
        return [_as_thread(thread) for thread in page[search.offset :]]

    @router.post("/threads/prune", summary="Delete old checkpoints", description=agent.aprune.__doc__)
    async def prune(agent: Agent, which: Prune) -> Json:
        return await agent.aprune(which.older_than_days)

    @router.post("/threads/{thread_id:id}/copy", summary="Copy a thread", description=agent.acopy_thread.__doc__)
    async def copy(agent: Agent, thread_id: str) -> Json:
        return await agent.acopy_thread(thread_id)

    @router.get(
        "/threads/{thread_id:id}/history",
        summary="List checkpoints",
        description=agent.aget_checkpoint_history.__doc__,
    )
    async def history(agent: Agent, thread_id: str, limit: Limit = 10, before: str | None = None) -> list[Json]:
        return [_as_state(entry) for entry in await agent.aget_checkpoint_history(thread_id, limit, before)]

    @router.post("/threads/{thread_id:id}/history", summary="List checkpoints, asked in LangGraph's form")
    async def history_by_post(agent: Agent, thread_id: str, page: HistoryPage) -> list[Json]:
        entries = await agent.aget_checkpoint_history(thread_id, page.limit, page.before_id)
        return [_as_state(entry) for entry in entries]

    @router.get("/threads/{thread_id:id}/branches", summary="List tips", description=agent.alist_branches.__doc__)
    async def branches(agent: Agent, thread_id: str) -> list[Json]:
        return await agent.alist_branches(thread_id)

    @router.get(
        "/threads/{thread_id:id}/state/{checkpoint_id:id}",
        summary="Everything the agent knew at a checkpoint",
        description=agent.aget_checkpoint_state.__doc__,
    )
    async def state_at(agent: Agent, thread_id: str, checkpoint_id: str, subgraphs: bool = False) -> Json:
        return _as_state(await agent.aget_checkpoint_state(thread_id, checkpoint_id, subgraphs))

    @router.get("/threads/{thread_id:id}/state", summary="Everything the agent knows at the head")
    async def state(agent: Agent, thread_id: str, subgraphs: bool = False) -> Json:
        return _as_state(await agent.aget_checkpoint_state(thread_id, subgraphs=subgraphs))

    @router.post("/threads/{thread_id:id}/state/checkpoint", summary="The same, asked in LangGraph's form")
    async def state_by_post(agent: Agent, thread_id: str, at: AtCheckpoint) -> Json:
        return _as_state(await agent.aget_checkpoint_state(thread_id, at.checkpoint.checkpoint_id, at.subgraphs))

    @router.post("/threads/{thread_id:id}/state", summary="Edit", description=agent.aupdate_checkpoint_state.__doc__)
    async def update_state(agent: Agent, thread_id: str, edit: Edit) -> Json:
        new, removed, checkpoint_id = edit.new_messages, edit.remove_messages, edit.base_id
        values = edit.values.model_extra if edit.values else None
        if edit.values and edit.values.messages is not None:
            new, removed = _messages_in(edit.values.messages)
        if checkpoint_id is None and not edit.is_langgraphs:  # LangGraph's client edits the head
            raise InvalidRequest("An edit needs the checkpoint_id that it starts from.", param="checkpoint_id")
        edited = await agent.aupdate_checkpoint_state(thread_id, checkpoint_id, new, removed, values, edit.as_node)
        return edited | {"checkpoint": _checkpoint(thread_id, edited["checkpoint_id"])}

    @router.get("/threads/{thread_id:id}", summary="A thread", description=agent.aget_thread.__doc__)
    async def get(agent: Agent, thread_id: str) -> Json:
        return _as_thread(await agent.aget_thread(thread_id))

    @router.patch("/threads/{thread_id:id}", summary="Add to a thread's metadata, as LangGraph's client does")
    async def update(agent: Agent, thread_id: str, new: Metadata) -> Json:
        noted = (await agent.aget_thread(thread_id))["metadata"]
        return _as_thread(await agent.aupdate_thread(thread_id, noted | new.metadata))

    @router.delete("/threads/{thread_id:id}", summary="Delete a thread", description=agent.adelete_thread.__doc__)
    async def delete(agent: Agent, thread_id: str) -> Json:
        return await agent.adelete_thread(thread_id)

    return router


def _checkpoint(thread_id: str, checkpoint_id: str | None) -> Json | None:
    if checkpoint_id is None:
        return None
    return {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}


def _as_state(entry: Json) -> Json:
    """An entry of the history, or a state, with LangGraph's names beside ours, and where MLflow shows its trace.

    A history has neither values nor traces.
    """
    values = entry.get("values", {})
    if "messages" in entry:
        values = values | {"messages": [message.model_dump(mode="json") for message in to_messages(entry["messages"])]}
    return {
        **entry,
        "values": values,
        "next": entry["next_nodes"],
        "checkpoint": _checkpoint(entry["thread_id"], entry["checkpoint_id"]),
        "parent_checkpoint": _checkpoint(entry["thread_id"], entry["parent_checkpoint_id"]),
        "created_at": entry["timestamp"],
        "metadata": {"source": entry["source"], "step": entry["step"]},
        "tasks": [{"name": name} for name in entry["next_nodes"] or ()],
        "interrupts": entry.get("interrupts", []),
        "trace_url": trace_url(entry["trace_id"]) if entry.get("trace_id") else None,
    }


def _as_thread(thread: Json) -> Json:
    status = "interrupted" if thread["next_nodes"] else "idle"
    return {**thread, "status": status, "values": None, "interrupts": {}}


def _messages_in(messages: list[Json] | Json) -> tuple[list[Json], list[str]]:
    """The messages that LangGraph's update adds or replaces, as Responses items, and the ids of those it removes."""
    given = messages if isinstance(messages, list) else [messages]
    try:
        converted = convert_to_messages([{"content": ""} | message for message in given])
    except Exception as error:  # whatever LangChain trips over
        raise InvalidRequest("values.messages must be messages as LangChain has them.", param="values") from error
    removed = [str(message.id) for message in converted if isinstance(message, RemoveMessage)]
    return to_items([message for message in converted if not isinstance(message, RemoveMessage)]), removed
