"""An agent whose model answers as strictly as hosted providers do, and whose words show what it was given.

What the user says tells it what to do: `call fast slow broken` calls these tools at once, `think` makes it wait 2 s
before its first word, `slowly` makes its answer take 2 s, and `break off` fails half way. Each run of a tool is a
line in the file that TOOL_RUNS names: its thread and the tool.
"""

import asyncio
import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from mlflow.models import set_model

from stateful_agent import LangGraphResponsesAgent
from stateful_agent.graph.build import build_graph


class Refused(Exception):
    """The provider answers 400."""

    status_code = 400


class BrokenOff(Exception):
    """The provider fails amid its answer."""

    status_code = 500


def check(messages: Sequence[BaseMessage]) -> None:
    """Refuse two answers in a row, a call without its result, and a result without its call."""
    waiting: list[str] = []
    for before, message in zip([None, *messages], messages, strict=False):
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in waiting:
                raise Refused("a result without its call")
            waiting.remove(message.tool_call_id)
        elif waiting:
            raise Refused("a call without its result")
        elif isinstance(message, AIMessage) and isinstance(before, AIMessage):
            raise Refused("two answers in a row")
        if isinstance(message, AIMessage):
            waiting = [str(call["id"]) for call in message.tool_calls]
    if waiting:
        raise Refused("a call without its result")


def gist(message: BaseMessage) -> str:
    """A line for each message. An answer repeats those before it, so its first line has to do."""
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return f"{message.type}: {' '.join(['calls', *(call['name'] for call in calls)]) if calls else first_line(message)}"


def first_line(message: BaseMessage) -> str:
    return str(message.text).partition("\n")[0]


class StrictModel(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "strict"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("The engine is asynchronous")

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        check(messages)
        asked = next(str(message.text) for message in reversed(messages) if isinstance(message, HumanMessage))
        called = re.search(r"call ((?:fast|slow|broken|careful|blocking| )+)", asked)
        if called and isinstance(messages[-1], HumanMessage):
            chunks: Any = [
                {"name": name, "args": "{}", "id": uuid.uuid4().hex, "index": n, "type": "tool_call_chunk"}
                for n, name in enumerate(called[1].split())
            ]
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=chunks))
            return
        if "think" in asked:
            await asyncio.sleep(2)
        answer = "\n".join([f"Answer to {asked}", *(gist(message) for message in messages[-20:])])
        words = re.findall(r"\S+\s*", answer)
        for n, word in enumerate(words):
            if "break off" in asked and n == 2:
                raise BrokenOff("broken off")
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
            if "slowly" in asked:
                await asyncio.sleep(2 / len(words))


def note(name: str, config: RunnableConfig) -> None:
    with Path(os.environ["TOOL_RUNS"]).open("a") as runs:
        runs.write(f"{config['configurable']['thread_id']} {name}\n")


@tool
async def fast(config: RunnableConfig) -> str:
    """A tool that answers at once."""
    note("fast", config)
    return "fast is done"


@tool
async def slow(config: RunnableConfig) -> str:
    """A tool that takes two seconds."""
    note("slow", config)
    await asyncio.sleep(2)
    return "slow is done"


@tool
async def broken(config: RunnableConfig) -> str:
    """A tool that fails."""
    note("broken", config)
    raise ValueError("broken is broken")


@tool
async def blocking() -> str:
    """A tool that holds the event loop for eight seconds, as a coroutine should not."""
    time.sleep(8)  # noqa: ASYNC251
    return "blocking is done"


@tool
async def careful() -> str:
    """A tool that a person has to approve."""
    return "careful is done"


set_model(
    LangGraphResponsesAgent(build_graph(StrictModel(), [fast, slow, broken, blocking, careful], approve=["careful"]))
)
