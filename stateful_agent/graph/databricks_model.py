"""Databricks' class of its models, with what a model thinks and refuses kept apart from what it says, and files.

As read in databricks-langchain 0.22: there, content that is no text becomes its JSON, as text.
"""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import databricks_langchain
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import BaseMessage, convert_to_openai_data_block
from langchain_core.outputs import ChatGenerationChunk

from stateful_agent.errors import ModelRefused
from stateful_agent.graph.prompt import NO_FILE_URLS


class ChatDatabricks(databricks_langchain.ChatDatabricks):
    """A model behind an endpoint of Databricks' Model Serving."""

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in super()._stream(messages, stop, None, **kwargs):
            chunk = _in_blocks(chunk)
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in super()._astream(messages, stop, None, **kwargs):
            chunk = _in_blocks(chunk)
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _prepare_inputs(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> dict[str, Any]:
        data: dict[str, Any] = super()._prepare_inputs(messages, *args, **kwargs)
        for message in data.get("messages", ()):
            if isinstance(message.get("content"), list):
                message["content"] = [_as_openai_takes_it(_without_index(part)) for part in message["content"]]
        return data


def _in_blocks(chunk: ChatGenerationChunk) -> ChatGenerationChunk:
    """A chunk whose content is blocks again, if it was. Blocks with one index are put together."""
    content = chunk.message.content
    if not (isinstance(content, str) and content.startswith('[{"type": ')):
        return chunk
    try:
        parts = json.loads(content)
    except ValueError:  # words of the model's that look alike
        return chunk
    for part in parts:
        if part["type"] == "reasoning":
            part["index"] = 0
            part["summary"] = [{"index": n} | each for n, each in enumerate(part.get("summary", ()))]
    message = chunk.message.model_copy(update={"content": parts})
    return ChatGenerationChunk(message=message, generation_info=chunk.generation_info)


def _as_openai_takes_it(part: Any) -> Any:
    if not (isinstance(part, dict) and part.get("type") == "file"):
        return part
    if "base64" not in part:
        raise ModelRefused(NO_FILE_URLS)
    return convert_to_openai_data_block(part)


def _without_index(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _without_index(value) for name, value in part.items() if name != "index"}
    return [_without_index(each) for each in part] if isinstance(part, list) else part
