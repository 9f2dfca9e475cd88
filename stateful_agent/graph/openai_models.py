"""LangChain's classes of OpenAI's models, with what they leave out of a stream: refusals, citations, why it failed.

As read in langchain-openai 1.7.4.
"""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import AzureChatOpenAI, ChatOpenAI

LEFT_OUT = ("refusal", "annotations")
"""Of a chat completion."""

FAILURE = re.compile(r"code='(?P<code>\w+)' message=(?P<quote>['\"])(?P<message>.*)(?P=quote)", re.DOTALL)
EVENT = re.compile(r"(?:(?P<code>\w+): )?(?P<message>.*)", re.DOTALL)
"""How LangChain writes a response that failed, and an event that is an error, in a plain `ValueError`."""


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

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        try:
            async for chunk in super()._astream(*args, **kwargs):  # type: ignore[misc]
                yield chunk
        except ValueError as error:
            if type(error) is not ValueError or not getattr(self, "use_responses_api", False):
                raise
            found = FAILURE.fullmatch(str(error)) or EVENT.fullmatch(str(error))
            assert found
            body = {"code": found["code"], "message": found["message"]}
            raise openai.APIError(found["message"], httpx.Request("POST", "responses"), body=body) from error


class OpenAIModel(_TellsAll, ChatOpenAI):
    """A model of OpenAI's, or behind a server that is compatible with OpenAI's."""


class AzureModel(_TellsAll, AzureChatOpenAI):
    """A model of OpenAI's on Azure."""


def databricks_responses_model(endpoint: str, **options: Any) -> ChatOpenAI:
    """A model behind an endpoint of Databricks' Model Serving that speaks OpenAI's Responses API.

    Databricks' own class of models loses the errors and the reasoning of these streams (databricks-langchain 0.22).
    """
    from databricks.sdk import WorkspaceClient

    config = WorkspaceClient().config

    def token() -> str:
        """Of those that are minted for a while, one that is good."""
        return config.authenticate()["Authorization"].removeprefix("Bearer ")

    return OpenAIModel(model=endpoint, base_url=f"{config.host}/serving-endpoints", api_key=token, **options)
