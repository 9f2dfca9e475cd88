"""Whether a model's answer has come to its end. A stream may end without it: the provider, or a proxy, gave up."""

from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from stateful_agent.errors import ModelFailed

END_MARKS = dict.fromkeys(("openai", "azure", "databricks"), ("finish_reason", "status")) | {
    "anthropic": ("stop_reason",)
}
"""Where a whole answer says why it ends, by LangChain's names of providers. Amazon's class of models sees to it."""


class AnswerEnd(BaseCallbackHandler):
    """Lets a model's call fail, in whichever step of a graph, if its answer has no end. For the calls of one run."""

    raise_error = True
    run_inline = True

    def __init__(self) -> None:
        self._providers: dict[UUID, str] = {}

    def on_chat_model_start(self, *_: Any, run_id: UUID, metadata: dict[str, Any] | None = None, **__: Any) -> None:
        """Note whose model it is."""
        self._providers[run_id] = (metadata or {}).get("ls_provider", "")

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """See that the answer says why it ends.

        Raises:
            ModelFailed: it does not.
        """
        provider = self._providers.pop(run_id, "")
        for generation in response.generations[0]:
            if isinstance(generation, ChatGeneration) and not _has_end(generation, provider):
                raise ModelFailed("The model provider's answer has no end: its stream broke off. Ask again.")


def _has_end(generation: ChatGeneration, provider: str) -> bool:
    message = generation.message
    if provider not in END_MARKS or not isinstance(message, AIMessage):
        return True
    if provider == "databricks" and not isinstance(message.content, str):  # its Responses API, as LangChain reads it
        return True
    said = (generation.generation_info or {}) | message.response_metadata
    return any(said.get(mark) for mark in END_MARKS[provider])
