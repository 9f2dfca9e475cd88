"""LangChain's classes of OpenAI's models, with what they leave out of a stream: that the model refuses.

As read in langchain-openai 1.7.4.
"""

from typing import Any

from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import AzureChatOpenAI, ChatOpenAI


class _TellsRefusals:
    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], *args: Any, **kwargs: Any
    ) -> ChatGenerationChunk | None:
        generation = super()._convert_chunk_to_generation_chunk(chunk, *args, **kwargs)  # type: ignore[misc]
        for choice in chunk.get("choices", ()):
            if generation and (refusal := (choice.get("delta") or {}).get("refusal")):
                generation.message.additional_kwargs["refusal"] = refusal
        return generation


class OpenAIModel(_TellsRefusals, ChatOpenAI):
    """A model of OpenAI's, or behind a server that is compatible with OpenAI's."""


class AzureModel(_TellsRefusals, AzureChatOpenAI):
    """A model of OpenAI's on Azure."""
