"""What models answer."""

import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from scripted import Scripted
from walking import user

from stateful_agent.graph.build import build_graph


def test_one_that_falls_silent_has_failed_whatever_its_client_waits_for(make_agent: Callable[..., Any]) -> None:
    agent = make_agent(build_graph(Scripted("half", lambda: False), [], model_timeout=0.5))
    *_, last = (event.model_dump() for event in agent.predict_stream({"input": [user("go")]}))
    assert (last["type"], last["code"]) == ("error", "model_timed_out")
    assert "silent for 0.5 seconds" in last["message"]


class AtHand(Scripted):
    """A model that has all its words at hand, as when one packet brings them: between them nothing else runs."""

    is_read: Any
    read_meanwhile: bool = False

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for word in self.words:
            yield ChatGenerationChunk(message=AIMessageChunk(content=str(word)))
        self.read_meanwhile = self.is_read.wait(5)
        yield ChatGenerationChunk(message=AIMessageChunk(content="the end"))


def test_the_first_word_is_read_before_the_model_has_given_all_that_it_has_at_hand(
    make_agent: Callable[..., Any],
) -> None:
    model = AtHand(*["word"] * 10, is_read=threading.Event())
    for event in make_agent(build_graph(model, [])).predict_stream({"input": [user("go")]}):
        if event.type == "response.output_text.delta":
            model.is_read.set()
    assert model.read_meanwhile
