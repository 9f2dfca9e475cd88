"""The agent that is measured: this project's graph around a model that answers at once, or as slowly as it is told.

The designs that run in this process take the model from here. The server takes the whole file, as a logged model.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from mlflow.models import set_model

from stateful_agent import LangGraphResponsesAgent
from stateful_agent.graph.build import build_graph
from stateful_agent.graph.model_settings import ModelSettings

QUESTION, ANSWER = "q" * 200, "a" * 800
TOKENS = 20
TEXT_PER_TURN = len(QUESTION) + len(ANSWER)


class Instant(BaseChatModel):
    """A model that answers `ANSWER` in `TOKENS` chunks, evenly over so many seconds."""

    seconds: float = 0

    @property
    def _llm_type(self) -> str:
        return "instant"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(ANSWER))])

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for chunk in chunks():
            yield chunk
            if self.seconds:
                time.sleep(self.seconds / TOKENS)

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in chunks():
            yield chunk
            if self.seconds:
                await asyncio.sleep(self.seconds / TOKENS)


def chunks() -> Iterator[ChatGenerationChunk]:
    """The answer, chunk by chunk."""
    size = len(ANSWER) // TOKENS
    for begin in range(0, len(ANSWER), size):
        yield ChatGenerationChunk(message=AIMessageChunk(content=ANSWER[begin : begin + size]))


def graph() -> StateGraph[MessagesState, ModelSettings]:
    """The graph that is run asynchronously."""
    return build_graph(_model(), [])


def plain_graph() -> StateGraph[MessagesState]:
    """The same for the designs that are not asynchronous."""
    model = _model()

    def call_model(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    def run_tools(state: MessagesState) -> str:
        last = state["messages"][-1]
        return "tools" if isinstance(last, AIMessage) and last.tool_calls else END

    plain = StateGraph(MessagesState)
    plain.add_node("model", call_model)
    plain.add_node("tools", ToolNode([]))
    plain.add_edge(START, "model")
    plain.add_conditional_edges("model", run_tools, ["tools", END])
    plain.add_edge("tools", "model")
    return plain


def _model() -> Instant:
    return Instant(seconds=float(os.environ.get("ANSWER_SECONDS", "0")))


set_model(LangGraphResponsesAgent(graph))
