"""An agent of one's own, as a user would bring it: its model takes 3 seconds to say 30 words."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from mlflow.models import set_model

from stateful_agent import LangGraphResponsesAgent


class SlowModel(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "slow"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("The engine is asynchronous")

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for n in range(30):
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{n} "))
            await asyncio.sleep(0.1)


set_model(LangGraphResponsesAgent(create_agent(SlowModel(), [])))
