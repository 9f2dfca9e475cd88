"""What a provider's model is sent of a conversation: files in its provider's way, and no other's thoughts."""

import re
from base64 import b64decode
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage

from stateful_agent.errors import ModelRefused
from stateful_agent.responses.files import filename_of

THOUGHTS = {"reasoning", "reasoning_content", "redacted_thinking", "thinking"}
"""The types of content that a model thinks in. It is signed by its provider, and refused by others."""

PROVIDER_BY_CLASS = {
    "AzureChatOpenAI": "openai",
    "ChatAnthropic": "anthropic",
    "ChatBedrockConverse": "bedrock_converse",
    "ChatGoogleGenerativeAI": "google_genai",
    "ChatOllama": "ollama",
    "ChatOpenAI": "openai",
}
"""What LangChain's classes of models note as `model_provider` of their answers."""

BEDROCK_FILES = {
    "application/msword",
    "application/pdf",
    "application/vnd.ms-excel",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/xml",
}
"""The types of files that Bedrock takes, beside all that are text."""

NO_FILE_URLS = "This agent's model takes files as data only: send file_data."


def provider_of(model: BaseChatModel) -> str | None:
    """What the model's class notes as `model_provider` of its answers, where it is known."""
    names = (kind.__name__ for kind in type(model).__mro__)
    return next((PROVIDER_BY_CLASS[name] for name in names if name in PROVIDER_BY_CLASS), None)


def caching(model: BaseChatModel) -> dict[str, Any]:
    """The arguments of a call by which the provider keeps what the prompt begins with; the others do by themselves."""
    marks = provider_of(model) in ("anthropic", "bedrock_converse")
    return {"cache_control": {"type": "ephemeral"}} if marks else {}


def prepared(messages: Sequence[AnyMessage], model: BaseChatModel) -> list[AnyMessage]:
    """The messages as the model's class can be given them. Those that are stored stay as they are.

    Raises:
        ModelRefused: the model does not take an image or a file of this kind.
    """
    provider = provider_of(model)
    takes_urls = bool(getattr(model, "use_responses_api", False))
    return [_prepared(message, provider, takes_urls) for message in messages]


def _prepared(message: AnyMessage, provider: str | None, takes_urls: bool) -> AnyMessage:
    if not isinstance(message.content, list):
        return message
    if isinstance(message, AIMessage):
        return _without_thoughts(message) if _is_others(message, provider) else message
    if not isinstance(message, HumanMessage):
        return message
    parts = [_part(part, provider, takes_urls) if isinstance(part, dict) else part for part in message.content]
    return message if parts == message.content else message.model_copy(update={"content": parts})


def _part(part: dict[str, Any], provider: str | None, takes_urls: bool) -> dict[str, Any]:
    match part, provider:
        case {"type": "image_url", "image_url": {"url": str(url)}}, "bedrock_converse" if not url.startswith("data:"):
            raise ModelRefused("This agent's model takes images and files as data only: send a data URL.")
        case {"type": "file", "url": str()}, "bedrock_converse" | "openai" if not takes_urls:
            raise ModelRefused(NO_FILE_URLS)
        case {"type": "file", "base64": str(), "mime_type": str(kind)}, "bedrock_converse":
            if not kind.startswith("text/") and kind not in BEDROCK_FILES:
                raise ModelRefused(f"This agent's model takes no files of type {kind}.")
            # A name with a period is refused.
            return part | {"name": re.sub(r"[^\w\s()\[\]-]|_", "-", filename_of(part))[:200]}
        case {"type": "file", "base64": str(data), "mime_type": str(kind)}, "anthropic":
            named = {"extras": {"title": filename_of(part)}}
            if kind.startswith("text/"):
                text = b64decode(data).decode(errors="replace")
                return {"type": "text-plain", "text": text, "mime_type": "text/plain", **named}
            return part | named
    return part


def _is_others(message: AIMessage, own: str | None) -> bool:
    """Whether a message is another provider's, as far as that is known."""
    provider = message.response_metadata.get("model_provider")
    return provider != own if own else provider in PROVIDER_BY_CLASS.values()


def _without_thoughts(message: AIMessage) -> AIMessage:
    kept = [part for part in message.content if isinstance(part, str) or part.get("type") not in THOUGHTS]
    return message.model_copy(update={"content": kept or ""})
