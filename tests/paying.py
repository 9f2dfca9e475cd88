"""An agent that wants to pay, which a person has to approve."""

import json
from collections.abc import AsyncIterator
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tools import tool
from scripted import Scripted

from stateful_agent.graph import build_graph

runs: list[str] = []
"""What the tools have done."""


@tool
async def pay(amount: int) -> str:
    """Pay."""
    runs.append(f"pay {amount}")
    return f"paid {amount}"


@tool
async def look_up(what: str) -> str:
    """Look something up."""
    runs.append(f"look up {what}")
    return f"found {what}"


class Paying(Scripted):
    """A model that wants to pay and look something up, and then says what came of it."""

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        message = self.answer(messages)
        chunks = [
            tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=n)
            for n, call in enumerate(message.tool_calls)
        ]
        yield ChatGenerationChunk(message=AIMessageChunk(content=message.text, tool_call_chunks=chunks))

    def answer(self, messages: list[BaseMessage]) -> AIMessage:
        if isinstance(messages[-1], HumanMessage):
            calls = [("pay", {"amount": 5}), ("look_up", {"what": "it"})]
            return AIMessage("", tool_calls=[{"name": n, "args": a, "id": f"call-{n}"} for n, a in calls])
        results = [str(message.content) for message in messages if isinstance(message, ToolMessage)]
        return AIMessage(" | ".join(sorted(results)))


def batched() -> Any:
    return create_agent(Paying(), [pay, look_up], middleware=[HumanInTheLoopMiddleware({"pay": True})])


def per_call() -> Any:
    return build_graph(Paying(), [pay, look_up], approve=["pay"])


def approval(request_id: str, approve: bool, **more: Any) -> dict[str, Any]:
    return {
        "type": "mcp_approval_response",
        "approval_request_id": request_id,
        "approve": approve,
        **more,
    }
