"""An agent for the page: it counts slowly, says what it is told to, thinks, fails, and asks before it calls tools.

Its graph keeps a key of its own beside the messages: what it has noted.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from mlflow.models import set_model

from stateful_agent import LangGraphResponsesAgent

USAGE: UsageMetadata = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}


class State(MessagesState):
    notes: list[str]


class Commanded(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "commanded"

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("The engine is asynchronous")

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        said = [message.text for message in messages if message.type == "human"]
        command, _, rest = said[-1].partition(" ")
        if isinstance(messages[-1], ToolMessage):
            yield chunk(f"The result is: {messages[-1].text}")
        elif command in ("search", "ask"):
            arguments = json.dumps({"about": rest})
            call = tool_call_chunk(name=command, args=arguments, id=f"call_{len(messages)}", index=0)
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[call]))
        elif command == "count":
            for n in range(12):
                yield chunk(f"{n} ")
                await asyncio.sleep(0.25)
        elif command == "say":
            yield chunk(rest)
        elif command == "think":
            yield chunk([{"type": "reasoning", "reasoning": "Let me see."}])
            yield chunk([{"type": "text", "text": "Done thinking."}])
        elif command == "fail":
            yield chunk("one")
            raise RuntimeError("broken")
        else:
            yield chunk(f"I heard {len(said)}: {' | '.join(said[-5:])}")
            yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=USAGE))


def chunk(content: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=content))


async def model(state: State) -> dict[str, Any]:
    answer = await Commanded().ainvoke(state["messages"])
    return {"messages": [answer], "notes": [f"{len(state['messages'])} messages"]}


def tools(state: State) -> dict[str, Any]:
    [call] = state["messages"][-1].tool_calls  # type: ignore[union-attr]
    if call["name"] == "ask":
        found = interrupt({"question": f"Which {call['args']['about']}?"})
    else:
        request = {"name": "search", "args": call["args"]}
        [decision] = interrupt({"action_requests": [request]})["decisions"]
        args = decision.get("edited_action", request)["args"]
        found = f"refused, {decision.get('message')}" if decision["type"] == "reject" else f"found {args['about']}"
    return {"messages": [ToolMessage(found, tool_call_id=call["id"])]}


def asking(state: State) -> dict[str, Any]:
    """A step of a subgraph."""
    return {"messages": [ToolMessage(interrupt({"question": "Shall I?"}), tool_call_id="none")], "notes": []}


def first_step(state: State) -> str:
    return "helper" if state["messages"][-1].text.startswith("delegate") else "model"


def has_calls(state: State) -> str:
    last = state["messages"][-1]
    return "tools" if isinstance(last, AIMessage) and last.tool_calls else "__end__"


builder = StateGraph(State)
builder.add_node("model", model)
builder.add_node("tools", tools)
helper = StateGraph(State).add_node("prepare", lambda state: {"notes": ["prepared"]}).add_node("asking", asking)
builder.add_node("helper", helper.add_edge(START, "prepare").add_edge("prepare", "asking").compile())
builder.add_edge("helper", "__end__")
builder.add_conditional_edges(START, first_step, ["helper", "model"])
builder.add_conditional_edges("model", has_calls, ["tools", "__end__"])
builder.add_edge("tools", "model")
set_model(LangGraphResponsesAgent(builder))
