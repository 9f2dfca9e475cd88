"""LangChain's classes of OpenAI's models, with what they leave out of a stream: refusals and citations.

As read in langchain-openai 1.7.4.
"""

from typing import Any

from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import AzureChatOpenAI, ChatOpenAI

LEFT_OUT = ("refusal", "annotations")


class _TellsAll:
    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], *args: Any, **kwargs: Any
    ) -> ChatGenerationChunk | None:
        generation = super()._convert_chunk_to_generation_chunk(chunk, *args, **kwargs)  # type: ignore[misc]
        for choice in chunk.get("choices", ()):
            delta = choice.get("delta") or {}
            if generation:
                generation.message.additional_kwargs |= {name: delta[name] for name in LEFT_OUT if delta.get(name)}
        return generation


class OpenAIModel(_TellsAll, ChatOpenAI):
    """A model of OpenAI's, or behind a server that is compatible with OpenAI's."""


class AzureModel(_TellsAll, AzureChatOpenAI):
    """A model of OpenAI's on Azure."""
