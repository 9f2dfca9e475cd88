"""Time travel over HTTP: the agent's threads under `/threads`.

The paths are those of LangGraph's own server, so that `langgraph_sdk`'s client can manage threads here. Bodies and
answers hold our names, and beside them LangGraph's (https://docs.langchain.com/langsmith/server-api-ref).
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from langchain_core.messages import RemoveMessage, convert_to_messages

from stateful_agent.errors import InvalidRequest, typed
from stateful_agent.responses.messages import to_items, to_messages
from stateful_agent.responses.thread_ref import check_id
from stateful_agent.turn import check_limit

Json = dict[str, Any]

OBJECT = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}


def thread_routes(agent: Any, read: Callable[[Request], Awaitable[Json]]) -> APIRouter:
    """Routes for the methods of `TimeTravel`, whose arguments these methods check, for all callers alike.

    `read` is how the server reads a JSON object from a request.
    """
    router = APIRouter(tags=["threads"])
    JsonBody = Annotated[Json, Depends(read)]

    async def call(operation: str, /, **arguments: Any) -> Any:
        try:
            return await agent.aoperate(operation, arguments)
        except Exception as error:
            raise typed(error) from error

    @router.get("/threads", summary="List threads", description=agent.alist_threads.__doc__)
    async def list_threads(limit: str = "10", before: str | None = None) -> list[Json]:
        # The + of a time zone arrives as a space unless it is quoted.
        return await call("list_threads", limit=_number(limit), before=before and before.replace(" ", "+"))

    @router.post(
        "/threads/search", openapi_extra=OBJECT, summary="List threads, with limit and offset as LangGraph has them"
    )
    async def search(body: JsonBody) -> list[Json]:
        limit, offset = check_limit(body.get("limit", 10)), body.get("offset", 0)
        if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
            raise InvalidRequest("offset must be a whole number from 0.", param="offset")
        for unknown in ("metadata", "values", "ids", "status"):
            if body.get(unknown):
                raise InvalidRequest(f"Threads cannot be searched by {unknown}.", param=unknown)
        if limit + offset > 1000:
            raise InvalidRequest(
                "Only the first 1000 threads can be reached by offset: use GET /threads.", param="offset"
            )
        page = await call("list_threads", limit=limit + offset)
        return [_as_thread(thread) for thread in page[offset:]]

    @router.post(
        "/threads/prune", openapi_extra=OBJECT, summary="Delete old checkpoints", description=agent.aprune.__doc__
    )
    async def prune(body: JsonBody) -> Json:
        return await call("prune", **body)

    @router.post("/threads/{thread_id:path}/copy", summary="Copy a thread", description=agent.acopy_thread.__doc__)
    async def copy(thread_id: str) -> Json:
        return await call("copy_thread", thread_id=thread_id)

    @router.get(
        "/threads/{thread_id:path}/history",
        summary="List checkpoints",
        description=agent.aget_checkpoint_history.__doc__,
    )
    async def history(thread_id: str, limit: str = "10", before: str | None = None) -> list[Json]:
        page = await call("get_checkpoint_history", thread_id=thread_id, limit=_number(limit), before=before)
        return [_as_state(entry) for entry in page]

    @router.post(
        "/threads/{thread_id:path}/history", openapi_extra=OBJECT, summary="List checkpoints, asked in LangGraph's form"
    )
    async def history_by_post(thread_id: str, body: JsonBody) -> list[Json]:
        before = body.get("before")
        if isinstance(before, dict):
            before = _id_in(before.get("configurable", before), "before")
        for unknown in ("metadata", "checkpoint"):
            if body.get(unknown):
                raise InvalidRequest(f"A history cannot be searched by {unknown}.", param=unknown)
        page = await call("get_checkpoint_history", thread_id=thread_id, limit=body.get("limit", 10), before=before)
        return [_as_state(entry) for entry in page]

    @router.get("/threads/{thread_id:path}/branches", summary="List tips", description=agent.alist_branches.__doc__)
    async def branches(thread_id: str) -> list[Json]:
        return list(await call("list_branches", thread_id=thread_id))

    @router.get(
        "/threads/{thread_id:path}/state/{checkpoint_id}",
        summary="Everything the agent knew at a checkpoint",
        description=agent.aget_checkpoint_state.__doc__,
    )
    async def state_at(thread_id: str, checkpoint_id: str) -> Json:
        return _as_state(await call("get_checkpoint_state", thread_id=thread_id, checkpoint_id=checkpoint_id))

    @router.get("/threads/{thread_id:path}/state", summary="Everything the agent knows at the head")
    async def state(thread_id: str) -> Json:
        return _as_state(await call("get_checkpoint_state", thread_id=thread_id))

    @router.post(
        "/threads/{thread_id:path}/state/checkpoint",
        openapi_extra=OBJECT,
        summary="The same, asked in LangGraph's form",
    )
    async def state_by_post(thread_id: str, body: JsonBody) -> Json:
        checkpoint_id = _id_in(body.get("checkpoint"), "checkpoint")
        return _as_state(await call("get_checkpoint_state", thread_id=thread_id, checkpoint_id=checkpoint_id))

    @router.post(
        "/threads/{thread_id:path}/state",
        openapi_extra=OBJECT,
        summary="Edit",
        description=agent.aupdate_checkpoint_state.__doc__,
    )
    async def update_state(thread_id: str, body: JsonBody) -> Json:
        if "values" not in body:
            edit = body
        else:
            checkpoint_id = body.get("checkpoint_id")
            if body.get("checkpoint") is not None:
                checkpoint_id = _id_in(body["checkpoint"], "checkpoint")
            if checkpoint_id is None:
                checkpoint_id = (await call("get_checkpoint_state", thread_id=thread_id))["checkpoint_id"]
            edit = {"checkpoint_id": checkpoint_id, "as_node": body.get("as_node"), **_as_edit(body["values"])}
        edited = await call("update_checkpoint_state", **(edit | {"thread_id": thread_id}))
        return edited | {"checkpoint": _checkpoint(thread_id, edited["checkpoint_id"])}

    @router.get("/threads/{thread_id:path}", summary="A thread, as LangGraph has it")
    async def get(thread_id: str) -> Json:
        state = await call("get_checkpoint_state", thread_id=thread_id)
        return _as_thread(state | {"created_at": None, "updated_at": state["timestamp"]})

    @router.delete("/threads/{thread_id:path}", summary="Delete a thread", description=agent.adelete_thread.__doc__)
    async def delete(thread_id: str) -> Json:
        return await call("delete_thread", thread_id=thread_id)

    return router


def _number(text: str) -> Any:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _checkpoint(thread_id: str, checkpoint_id: str | None) -> Json | None:
    if checkpoint_id is None:
        return None
    return {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}


def _id_in(checkpoint: Any, param: str) -> str:
    """The id in a checkpoint as LangGraph writes it."""
    if not isinstance(checkpoint, dict):
        raise InvalidRequest(f"{param} must be a checkpoint, with its checkpoint_id.", param=param)
    return check_id(checkpoint.get("checkpoint_id"), "checkpoint_id")


def _as_state(entry: Json) -> Json:
    """An entry of the history, or a state, with LangGraph's names beside ours. A history has no values."""
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
        "interrupts": [],
    }


def _as_thread(thread: Json) -> Json:
    status = "interrupted" if thread["next_nodes"] else "idle"
    return {**thread, "metadata": {}, "status": status, "values": None, "interrupts": {}}


def _as_edit(values: Any) -> Json:
    """LangGraph's update of `messages` as an edit."""
    if not isinstance(values, dict) or set(values) != {"messages"}:
        raise InvalidRequest("values must be an object with messages, and nothing else.", param="values")
    given = values["messages"] if isinstance(values["messages"], list) else [values["messages"]]
    try:
        messages = convert_to_messages([{"content": ""} | message for message in given])
    except Exception as error:  # whatever LangChain trips over
        raise InvalidRequest("values.messages must be messages as LangChain has them.", param="values") from error
    removed = [str(message.id) for message in messages if isinstance(message, RemoveMessage)]
    new = to_items([message for message in messages if not isinstance(message, RemoveMessage)])
    return {"new_messages": new, "remove_messages": removed}
