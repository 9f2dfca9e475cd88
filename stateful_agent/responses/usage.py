"""The tokens that models have used, as the Responses API tells them. Pure.

https://platform.openai.com/docs/api-reference/responses/object.
"""

from collections.abc import Sequence

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata, add_usage

from stateful_agent.responses.types import Usage


def to_usage(usage: UsageMetadata) -> Usage:
    """LangChain's count of tokens as the Responses API has it."""
    cached = usage.get("input_token_details", {})
    return {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {
            "cached_tokens": cached.get("cache_read", 0),
            "cache_write_tokens": cached.get("cache_creation", 0),
        },
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": usage.get("output_token_details", {}).get("reasoning", 0)},
        "total_tokens": usage["total_tokens"],
    }


def usage_since_asked(messages: Sequence[AnyMessage]) -> Usage | None:
    """What the answers to a user's last message took, together; `None` where one of them does not tell, or none is."""
    total: UsageMetadata | None = None
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        if isinstance(message, AIMessage):
            if message.usage_metadata is None:
                return None
            total = add_usage(total, message.usage_metadata)
    return to_usage(total) if total else None
