"""What is compared: this project, the design that it started from, and LangGraph itself with two of its savers.

All run a graph of the same shape on the same model. A turn says `QUESTION` on a thread, and listens to the answer to
its end.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any, Protocol

from langchain_core.messages import AnyMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph.state import CompiledStateGraph
from mlflow.types.responses import ResponsesAgentRequest
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool
from pydantic import SecretStr

from benchmarks.instant import QUESTION, graph, plain_graph
from benchmarks.notebook import NotebookAgent
from stateful_agent import LangGraphResponsesAgent
from stateful_agent.settings import Settings

MODES: list[Any] = ["messages", "updates"]


class Design(Protocol):
    """One of the designs."""

    def tokens(self, thread_id: str) -> AsyncGenerator[str, None]:
        """A turn, token by token."""

    async def turn(self, thread_id: str) -> None:
        """A turn, up to where its caller has all that it needs to go on or to fork."""


class InMemory:
    """LangGraph with its state in memory, asynchronous like this project."""

    def __init__(self) -> None:
        self.graph: CompiledStateGraph[Any, Any, Any, Any] = graph().compile(checkpointer=InMemorySaver())

    async def begin(self, thread_id: str, messages: list[AnyMessage]) -> None:
        """Begin a thread with these messages."""
        await self.graph.aupdate_state({"configurable": {"thread_id": thread_id}}, {"messages": messages}, "model")

    async def tokens(self, thread_id: str) -> AsyncGenerator[str, None]:
        """A turn, token by token."""
        chunks: AsyncIterator[Any] = self.graph.astream(*turn_on(thread_id), stream_mode=MODES)
        async for mode, chunk in chunks:
            if mode == "messages":
                yield chunk[0].content

    async def turn(self, thread_id: str) -> None:
        """A turn, to its end."""
        async for _ in self.tokens(thread_id):
            pass


class Here:
    """This project. Where a running loop adopts it, it runs on that one, as on the server's."""

    def __init__(self, url: str) -> None:
        self.agent = LangGraphResponsesAgent(graph, Settings(database_url=SecretStr(url)))

    async def adopted(self) -> "Here":
        """Run on the current loop; connected."""
        self.agent.loop.adopt()
        await self.agent.aopen()
        return self

    async def tokens(self, thread_id: str) -> AsyncGenerator[str, None]:
        """A turn, token by token."""
        async for event in self.agent.apredict_stream(request(thread_id)):
            if event.type == "response.output_text.delta":
                yield event.delta

    async def turn(self, thread_id: str) -> None:
        """A turn, to its end."""
        async for _ in self.tokens(thread_id):
            pass

    def predict(self, thread_id: str) -> None:
        """A turn, from any of the process's threads."""
        self.agent.predict(request(thread_id))


class Notebook:
    """The design that this project started from."""

    def __init__(self, url: str) -> None:
        with PostgresSaver.from_conn_string(url) as saver:
            saver.setup()
        self.agent = NotebookAgent(url)

    async def tokens(self, thread_id: str) -> AsyncGenerator[str, None]:
        """A turn, token by token. Its caller does not learn the checkpoint's id."""
        for event in self.agent.predict_stream(request(thread_id)):
            if event.type == "response.output_text.delta":
                yield event.delta

    async def turn(self, thread_id: str) -> None:
        """A turn, with the reading of history that tells the checkpoint's id."""
        self.agent.predict(request(thread_id))

    def close(self) -> None:
        """Close the database."""
        self.agent.pool.close()


class SharedSaver:
    """LangGraph with one saver around a pool: what most people write."""

    def __init__(self, url: str) -> None:
        settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        self.pool: ConnectionPool[Any] = ConnectionPool(url, kwargs=settings, min_size=1, max_size=10, open=True)
        saver = PostgresSaver(self.pool)
        saver.setup()
        self.graph: CompiledStateGraph[Any, Any, Any, Any] = plain_graph().compile(checkpointer=saver)

    async def tokens(self, thread_id: str) -> AsyncGenerator[str, None]:
        """A turn, token by token."""
        chunks: Iterator[Any] = self.graph.stream(*turn_on(thread_id), stream_mode=MODES)
        for mode, chunk in chunks:
            if mode == "messages":
                yield chunk[0].content

    async def turn(self, thread_id: str) -> None:
        """A turn, to its end."""
        self.predict(thread_id)

    def predict(self, thread_id: str) -> None:
        """A turn, from any of the process's threads."""
        for _ in self.graph.stream(*turn_on(thread_id), stream_mode=MODES):
            pass

    def close(self) -> None:
        """Close the database."""
        self.pool.close()


def turn_on(thread_id: str) -> tuple[Any, Any]:
    """A turn on a thread, as LangGraph has it."""
    return {"messages": [("user", QUESTION)]}, {"configurable": {"thread_id": thread_id}}


def request(thread_id: str) -> ResponsesAgentRequest:
    """A turn on a thread, as MLflow has it."""
    message = {"role": "user", "content": QUESTION}
    return ResponsesAgentRequest(input=[message], custom_inputs={"thread_id": thread_id})
