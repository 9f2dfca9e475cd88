"""What of a conversation is given to which model."""

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from scripted import Scripted
from walking import user

from stateful_agent.graph.answers import without_others_thoughts
from stateful_agent.graph.build import build_graph
from stateful_agent.graph.offline_model import OfflineModel


class ChatOpenAI(Scripted):
    """By its name, OpenAI's."""


THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
SAID = {"type": "text", "text": "Yes."}


def test_one_that_falls_silent_has_failed_whatever_its_client_waits_for(make_agent: Callable[..., Any]) -> None:
    agent = make_agent(build_graph(Scripted("half", lambda: False), [], model_timeout=0.5))
    *_, last = (event.model_dump() for event in agent.predict_stream({"input": [user("go")]}))
    assert (last["type"], last["code"]) == ("error", "model_timed_out")
    assert "silent for 0.5 seconds" in last["message"]


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
    given = without_others_thoughts([question, message], model)
    assert given == [question, message if kept else AIMessage([SAID], response_metadata=message.response_metadata)]
    assert message.content == [THOUGHT, SAID]
