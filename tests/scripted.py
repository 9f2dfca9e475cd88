import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult


class Scripted(BaseChatModel):
    """A model that answers with its words, notes what it receives, and may fail after that.

    Where a condition stands among the words, it says no more until that is so.
    """

    words: tuple[str | Callable[[], bool], ...] = ()
    pause: float = 0
    failure: Any = None
    received: Any = None
    finished: bool = False

    def __init__(self, *words: str | Callable[[], bool], **fields: Any) -> None:
        super().__init__(**{"words": words, **fields})

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("The engine is asynchronous")

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        if self.received is not None:
            self.received.append(messages)
        for word in self.words:
            if callable(word):
                await until(word)
            else:
                yield ChatGenerationChunk(message=AIMessageChunk(content=f"{word} "))
                await asyncio.sleep(self.pause)
        if self.failure:
            raise self.failure
        self.finished = True


class Calling(Scripted):
    """A model that makes calls, and says `done` when it has the results."""

    tool: str
    arguments: tuple[str, ...]

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        calls = [
            tool_call_chunk(name=self.tool, args=arguments, id=f"call {n}", index=n)
            for n, arguments in enumerate(self.arguments)
        ]
        done = isinstance(messages[-1], ToolMessage)
        chunk = AIMessageChunk(content="done") if done else AIMessageChunk(content="", tool_call_chunks=calls)
        yield ChatGenerationChunk(message=chunk)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.01)
