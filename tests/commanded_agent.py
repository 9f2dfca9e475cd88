"""An agent whose model does what the message commands: `think`, `fail` after a word, or else count for 3 seconds.

`count on` takes 15: longer than whatever is done meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from mlflow.models import set_model

from stateful_agent import LangGraphResponsesAgent
from stateful_agent.graph.build import build_graph


class CommandedModel(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "commanded"

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("The engine is asynchronous")

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        match messages[-1].text:
            case "think":
                yield chunk([{"type": "reasoning", "reasoning": "Hm."}])
                yield chunk([{"type": "text", "text": "So."}])
            case "fail":
                yield chunk("one")
                raise RuntimeError("5ecret")
            case command:
                for n in range(50 if command == "count on" else 10):
                    yield chunk(f"{n} ")
                    await asyncio.sleep(0.3)


def chunk(content: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=content))


set_model(LangGraphResponsesAgent(lambda: build_graph(CommandedModel(), [])))
