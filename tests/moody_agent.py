"""An agent whose model does what it is told: `think`, `fail` after a word, or else count for 3 seconds."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from mlflow.models import set_model

from stateful_agent import LangGraphResponsesAgent
from stateful_agent.graph.build import build_graph


class MoodyModel(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "moody"

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("The engine is asynchronous")

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        match messages[-1].text:
            case "think":
                yield said([{"type": "reasoning", "reasoning": "Hm."}])
                yield said([{"type": "text", "text": "So."}])
            case "fail":
                yield said("one")
                raise RuntimeError("5ecret")
            case _:
                for n in range(10):
                    yield said(f"{n} ")
                    await asyncio.sleep(0.3)


def said(content: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=content))


set_model(LangGraphResponsesAgent(lambda: build_graph(MoodyModel(), [])))
