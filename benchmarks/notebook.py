"""The design that this project started from: Databricks' page on stateful agents with time travel, step by step.

A pool's connection for the whole request, a saver and a compiled graph around it, the whole history read after each
turn to learn the new checkpoint's id. What the page leaves out is filled in as its notebook does it, with the pool's
defaults. The notebook's `mlflow.langchain.autolog()` is left out, in its favour.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Generator
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph.state import CompiledStateGraph
from mlflow.genai.agent_server import AgentServer, invoke, stream
from mlflow.pyfunc import ResponsesAgent
from mlflow.types.responses import (
    ResponsesAgentRequest,
    ResponsesAgentResponse,
    ResponsesAgentStreamEvent,
    output_to_responses_items_stream,
    to_chat_completions_input,
)
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from benchmarks.instant import plain_graph


class NotebookAgent(ResponsesAgent):
    """The page's `LangGraphResponsesAgent`."""

    def __init__(self, url: str) -> None:
        settings = {"autocommit": True, "row_factory": dict_row}
        self.pool: ConnectionPool[Any] = ConnectionPool(url, kwargs=settings, min_size=1, max_size=10, open=True)

    def predict(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        """Answer, then read the history for the id of the newest checkpoint."""
        custom = dict(request.custom_inputs or {})
        custom.setdefault("thread_id", str(uuid.uuid4()))
        request.custom_inputs = custom
        events = self.predict_stream(request)
        output = [event.item for event in events if event.type == "response.output_item.done"]
        outputs = {"thread_id": custom["thread_id"]}
        if history := self.get_checkpoint_history(custom["thread_id"], limit=1):
            outputs["checkpoint_id"] = history[0]["checkpoint_id"]
        return ResponsesAgentResponse(output=output, custom_outputs=outputs)

    def predict_stream(self, request: ResponsesAgentRequest) -> Generator[ResponsesAgentStreamEvent, None, None]:
        """Answer, chunk by chunk."""
        custom = request.custom_inputs or {}
        place = {"thread_id": custom.get("thread_id", str(uuid.uuid4()))}
        if "checkpoint_id" in custom:
            place["checkpoint_id"] = custom["checkpoint_id"]
        messages = to_chat_completions_input([item.model_dump() for item in request.input])
        with self.pool.connection() as connection:
            chunks: Any = self._graph(connection).stream(
                {"messages": messages}, {"configurable": place}, stream_mode=["updates", "messages"]
            )
            for mode, chunk in chunks:
                if mode == "updates":
                    for update in chunk.values():
                        yield from output_to_responses_items_stream(update["messages"])
                elif content := chunk[0].content:
                    yield ResponsesAgentStreamEvent(**self.create_text_delta(delta=content, item_id=chunk[0].id))

    def get_checkpoint_history(self, thread_id: str, limit: int = 10) -> list[dict[str, Any]]:
        """The newest checkpoints: all are read, and those beyond the limit are left."""
        with self.pool.connection() as connection:
            history: list[dict[str, Any]] = []
            for state in self._graph(connection).get_state_history({"configurable": {"thread_id": thread_id}}):
                if len(history) >= limit:
                    break
                messages = state.values.get("messages", [])
                history.append(
                    {
                        "checkpoint_id": state.config["configurable"]["checkpoint_id"],
                        "thread_id": thread_id,
                        "timestamp": state.created_at,
                        "next_nodes": state.next,
                        "message_count": len(messages),
                        "last_message": messages[-1].content[:100] if messages else None,
                    }
                )
            return history

    def _graph(self, connection: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        return plain_graph().compile(checkpointer=PostgresSaver(connection))


def serve(agent: NotebookAgent) -> AgentServer:
    """MLflow's server around the agent, on threads: called directly, each turn would hold up all others."""

    @invoke()
    async def answer(request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        return await asyncio.to_thread(agent.predict, request)

    @stream()
    async def answer_in_pieces(request: ResponsesAgentRequest) -> AsyncIterator[ResponsesAgentStreamEvent]:
        events = agent.predict_stream(request)
        while event := await asyncio.to_thread(next, events, None):
            yield event

    return AgentServer("ResponsesAgent")


def application() -> Any:
    """What each of uvicorn's workers runs, at $DATABASE_URL."""
    return serve(NotebookAgent(os.environ["DATABASE_URL"])).app
