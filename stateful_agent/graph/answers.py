"""What models answer, whichever provider's they are: in time, and as another provider's model can be given it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage

from stateful_agent.errors import ModelRefused
from stateful_agent.responses.types import CustomOutputs

T = TypeVar("T")

THOUGHTS = {"reasoning", "reasoning_content", "redacted_thinking", "thinking"}
"""The types of content that a model thinks in. It is signed by its provider, and refused by others."""

ANSWERED_BY = "answered_by"
"""Where the name of a model is noted that answered in the place of another."""

MESSAGES_LEFT_OUT = "messages_left_out"
"""Where it is noted how many of the oldest messages were not sent to the model."""

PROVIDER_BY_CLASS = {
    "AzureChatOpenAI": "openai",
    "ChatAnthropic": "anthropic",
    "ChatBedrockConverse": "bedrock_converse",
    "ChatGoogleGenerativeAI": "google_genai",
    "ChatOllama": "ollama",
    "ChatOpenAI": "openai",
}
"""What LangChain's classes of models note as `model_provider` of their answers."""


def name_of(model: BaseChatModel) -> str:
    """A model in words: its class, and what its provider calls it."""
    names = (getattr(model, name, None) for name in ("model_name", "model_id", "model"))
    return " ".join([type(model).__name__, *(str(name) for name in names if name)][:2])


def noted_of(messages: Any) -> CustomOutputs:
    """What the model step has noted of an answer that a caller is to know: `ANSWERED_BY`, `MESSAGES_LEFT_OUT`."""
    first = messages[0] if isinstance(messages, list) and messages else None
    metadata = first.response_metadata if isinstance(first, AIMessage) else {}
    noted = {name: metadata[name] for name in (ANSWERED_BY, MESSAGES_LEFT_OUT) if name in metadata}
    return cast(CustomOutputs, noted)


def provider_of(model: BaseChatModel) -> str | None:
    """What the model's class notes as `model_provider` of its answers, where it is known."""
    names = (kind.__name__ for kind in type(model).__mro__)
    return next((PROVIDER_BY_CLASS[name] for name in names if name in PROVIDER_BY_CLASS), None)


def caching(model: BaseChatModel) -> dict[str, Any]:
    """The arguments of a call by which the provider keeps what the prompt begins with; the others do by themselves."""
    marks = provider_of(model) in ("anthropic", "bedrock_converse")
    return {"cache_control": {"type": "ephemeral"}} if marks else {}


def check_parts(messages: Sequence[AnyMessage], model: BaseChatModel) -> None:
    """See that a model can be given what is in the messages, before its class trips over it.

    Raises:
        ModelRefused: Bedrock's takes images and files as data only.
    """
    if provider_of(model) != "bedrock_converse":
        return
    for message in messages:
        for part in message.content if isinstance(message.content, list) else ():
            if isinstance(part, dict) and (url := _url_in(part)) and not url.startswith("data:"):
                raise ModelRefused("This agent's model takes images and files as data only: send a data URL.")


def _url_in(part: dict[str, Any]) -> str | None:
    match part:
        case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "file", "url": str(url)}:
            return url
    return None


def without_others_thoughts(messages: Sequence[AnyMessage], model: BaseChatModel) -> list[AnyMessage]:
    """The messages without what models of another provider have thought."""
    own = provider_of(model)
    return [_without_thoughts(one) if isinstance(one, AIMessage) and _is_others(one, own) else one for one in messages]


def _is_others(message: AIMessage, own: str | None) -> bool:
    """Whether a message is another provider's, as far as that is known."""
    provider = message.response_metadata.get("model_provider")
    differs = provider != own if own else provider in PROVIDER_BY_CLASS.values()
    return differs and isinstance(message.content, list)


def _without_thoughts(message: AIMessage) -> AIMessage:
    kept = [part for part in message.content if isinstance(part, str) or part.get("type") not in THOUGHTS]
    return message.model_copy(update={"content": kept or ""})


async def collect(answer: AsyncIterator[T], chunks: list[T], silence: float | None) -> None:
    """Add the chunks of an answer to a list as they come. For the first, the model's client has a limit of its own.

    Raises:
        TimeoutError: once the answer had begun, there was none for `silence` seconds.
    """
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(None) as limit:
            async for chunk in answer:
                chunks.append(chunk)
                if silence and (len(chunks) == 1 or clock() > (limit.when() or 0) - silence + 1):
                    limit.reschedule(clock() + silence + 1)  # not for each chunk: a second more does not matter
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TimeoutError(f"it was silent for {silence:g} seconds amid its answer.") from error
