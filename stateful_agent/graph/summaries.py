"""A summary of what of a conversation is no longer sent to the model, kept in the state beside the messages.

Each checkpoint holds the summary of its own past, so that it forks with the tree.
"""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict, cast

from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.graph import MessagesState

from stateful_agent.failures import is_refusal, is_unreachable, typed
from stateful_agent.graph.context_window import oldest_turns

logger = logging.getLogger(__name__)

HEADING = "Here is a summary of the conversation to date:\n\n"


class Summary(TypedDict):
    """A summary of the first messages of a conversation."""

    text: str
    messages: int
    """How many they are."""

    digest: str
    """What they were: one that was edited since is not summarized."""


class SummarizedState(MessagesState):
    """The state of a graph that keeps summaries."""

    summary: NotRequired[Summary | None]


def message_of(summary: Summary) -> HumanMessage:
    """The summary as it stands before the messages that are sent."""
    return HumanMessage(HEADING + summary["text"])


async def summarized(
    model: BaseChatModel, before: Summary | None, messages: Sequence[AnyMessage], count: int, max_tokens: int
) -> Summary | None:
    """The summary of the first `count` messages, whole turns, going on from one of fewer, if there is one `before`.

    One of messages that were edited since is made anew. The model reads about `max_tokens` tokens at a time. Where it
    fails, the summary stays as far as it got.
    """
    holds = before is not None and before["digest"] == _digest(messages[: before["messages"]])
    summary = before if holds else None
    done = summary["messages"] if summary else 0
    while done < count:
        end = done + len(oldest_turns(messages[done:count], max_tokens))
        middleware: Any = SummarizationMiddleware(
            model,
            trigger=("messages", 1),
            keep=("messages", len(messages) - end),
            trim_tokens_to_summarize=2 * max_tokens,  # of a single turn that is longer, the end
        )
        known = [message_of(summary)] if summary else []
        try:
            update = await middleware.abefore_model({"messages": [*known, *messages[done:]]}, None)
        except Exception as error:  # each provider has errors of its own
            if not (is_refusal(error) or is_unreachable(error)):
                raise
            logger.warning("What is left out of a conversation cannot be summarized: %s", typed(error))
            return summary
        made = cast(HumanMessage, update["messages"][1])
        summary = Summary(text=made.text.removeprefix(HEADING), messages=end, digest=_digest(messages[:end]))
        done = end
    return summary


def _digest(messages: Sequence[AnyMessage]) -> str:
    digest = hashlib.sha256()
    for message in messages:
        digest.update(f"{message.id}\0{message.text}\0".encode(errors="replace"))
    return digest.hexdigest()
