"""What of a conversation is given to which model."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from scripted import Scripted

from stateful_agent.graph.offline_model import OfflineModel
from stateful_agent.graph.prompt import prepared


class ChatOpenAI(Scripted):
    """By its name, OpenAI's."""


THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
SAID = {"type": "text", "text": "Yes."}


@pytest.mark.parametrize(
    ("model", "provider", "kept"),
    [
        (ChatOpenAI(), "openai", True),
        (ChatOpenAI(), "anthropic", False),
        (ChatOpenAI(), None, False),
        (OfflineModel(), "anthropic", False),
        (OfflineModel(), "one that nobody knows", True),
        (OfflineModel(), None, True),
    ],
)
def test_thoughts_go_to_the_model_that_had_them(model: Any, provider: str | None, kept: bool) -> None:
    message = AIMessage([THOUGHT, SAID], response_metadata={"model_provider": provider} if provider else {})
    question = HumanMessage([SAID])
    given = prepared([question, message], model)
    assert given == [question, message if kept else AIMessage([SAID], response_metadata=message.response_metadata)]
    assert message.content == [THOUGHT, SAID]


class ChatAnthropic(Scripted):
    """By its name, Anthropic's."""


class ChatBedrockConverse(Scripted):
    """By its name, Bedrock's."""


@pytest.mark.parametrize(
    ("model", "named"),
    [(ChatAnthropic(), {"extras": {"title": "file"}}), (ChatBedrockConverse(), {"name": "file"}), (ChatOpenAI(), {})],
)
def test_a_file_without_a_name(model: Any, named: Any) -> None:
    """As a graph, or an edit, may put it into the messages."""
    block = {"type": "file", "base64": "YQ==", "mime_type": "application/pdf"}
    assert prepared([HumanMessage([block])], model) == [HumanMessage([block | named])]
