"""The same graph for other servers of LangGraph graphs, whose environment has nothing of this project."""

from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

ANSWER, TOKENS = "a" * 800, 20


class Instant(BaseChatModel):
    """A model that answers at once, in `TOKENS` chunks."""

    @property
    def _llm_type(self) -> str:
        return "instant"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(ANSWER))])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        size = len(ANSWER) // TOKENS
        for begin in range(0, len(ANSWER), size):
            yield ChatGenerationChunk(message=AIMessageChunk(content=ANSWER[begin : begin + size]))


async def call_model(state: MessagesState) -> dict[str, Any]:
    """Ask it."""
    answer = await MODEL.ainvoke(state["messages"])
    return {"messages": [answer]}


def run_tools(state: MessagesState) -> str:
    """Whether there are tools to run: there never are."""
    last = state["messages"][-1]
    return "tools" if isinstance(last, AIMessage) and last.tool_calls else END


MODEL = Instant()
builder = StateGraph(MessagesState)
builder.add_node("model", call_model)
builder.add_node("tools", ToolNode([]))
builder.add_edge(START, "model")
builder.add_conditional_edges("model", run_tools, ["tools", END])
builder.add_edge("tools", "model")
graph = builder.compile()
