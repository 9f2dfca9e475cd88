import asyncio
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult


class Scripted(BaseChatModel):
    """A model that says its words, notes what it hears, and may fail after that."""

    words: tuple[str, ...] = ()
    pause: float = 0
    silence: float = 0
    failure: Any = None
    heard: Any = None
    finished: bool = False

    def __init__(self, *words: str, **fields: Any) -> None:
        super().__init__(**{"words": words, **fields})

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("The engine is asynchronous")

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        if self.heard is not None:
            self.heard.append(messages)
        await asyncio.sleep(self.silence)
        for word in self.words:
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{word} "))
            await asyncio.sleep(self.pause)
        if self.failure:
            raise self.failure
        self.finished = True
