"""However turns, answers, forks, replays and restarts follow each other at a graph that asks: all stays as it was."""

import itertools
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from walking import texts, user

from stateful_agent.errors import InvalidRequest


def asking() -> StateGraph[Any, Any, Any, Any]:
    """A graph with a subgraph that asks two questions about the last message, and answers with what it is told."""

    async def ask(state: MessagesState) -> dict[str, Any]:
        assert isinstance(state["messages"][-1], HumanMessage)
        text = state["messages"][-1].text
        return {"messages": [AIMessage(f"{text}: {interrupt(f'{text}, one?')} {interrupt(f'{text}, two?')}")]}

    inner = StateGraph(MessagesState)
    inner.add_node("ask", ask)
    inner.add_edge(START, "ask")
    outer = StateGraph(MessagesState)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "inner")
    return outer


@dataclass(frozen=True)
class Checkpoint:
    """What the plain model knows of a checkpoint that a turn has ended at."""

    texts: tuple[str, ...]
    question: str | None
    """What the graph waits for."""

    answers: tuple[str, ...] = ()
    """What it was answered to the questions about the last message."""

    def asked(self, text: str) -> "Checkpoint":
        return Checkpoint((*self.texts, text), f"{text}, one?")

    def answered(self, answer: str) -> "Checkpoint":
        text, answers = self.texts[-1], (*self.answers, answer)
        if len(answers) == 1:
            return Checkpoint(self.texts, f"{text}, two?", answers)
        return Checkpoint((*self.texts, f"{text}: {' '.join(answers)}"), None)


class Thread:
    """A thread as the plain model has it, and as the agent has it."""

    def __init__(self, agent: Any, thread_id: str) -> None:
        self.agent, self.thread_id = agent, thread_id
        self.known: dict[str, Checkpoint] = {}
        self.head = ""

    def take(self, base: str | None, expected: Checkpoint, *items: Any, **inputs: Any) -> None:
        """A turn from a checkpoint, or from the head; its outcome is what the model expects."""
        ref = {"thread_id": self.thread_id, **({"checkpoint_id": base} if base else {}), **inputs}
        response = self.agent.predict({"input": list(items), "custom_inputs": ref})
        outputs = response.custom_outputs
        waiting = [one["value"] for one in outputs.get("interrupts", ())]
        assert waiting == ([expected.question] if expected.question else [])
        self.head = outputs["checkpoint_id"]
        self.known[self.head] = expected
        self.check(self.head)

    def check(self, checkpoint_id: str) -> None:
        expected = self.known[checkpoint_id]
        state = self.agent.get_checkpoint_state(self.thread_id, checkpoint_id)
        assert tuple(texts(self.agent, checkpoint_id, self.thread_id)) == expected.texts
        assert [one["value"] for one in state["interrupts"]] == ([expected.question] if expected.question else [])


names = itertools.count()
operation = st.tuples(
    st.sampled_from(["turn", "fork", "answer", "answer", "answer", "answer again", "replay", "restart"]),
    st.integers(0, 99),
)


@given(st.lists(operation, min_size=4, max_size=12))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_answers(make_agent: Callable[..., Any], operations: list[tuple[str, int]]) -> None:
    with ExitStack() as agents:
        thread = Thread(agents.enter_context(closing(make_agent(asking()))), f"thread {next(names)}")
        thread.take(None, Checkpoint((), None).asked("hello"), user("hello"))
        for kind, n in operations:
            some = sorted(thread.known)[n % len(thread.known)]
            word = f"word{next(names)}"
            base = None if kind in ("turn", "answer") else some
            at = thread.known[base or thread.head]
            match kind:
                case "turn" | "fork":
                    thread.take(base, at.asked(word), user(word))
                case "answer" | "answer again" if at.question:
                    thread.take(base, at.answered(word), resume=word)
                case "answer" | "answer again":
                    with pytest.raises(InvalidRequest, match="Nothing waits"):
                        thread.take(base, at, resume=word)
                case "replay" if at.question:
                    thread.take(base, at)
                case "replay":
                    thread.take(base, at)
                case "restart":
                    thread.agent.close()
                    thread.agent = agents.enter_context(closing(make_agent(asking())))
        for checkpoint_id in thread.known:
            thread.check(checkpoint_id)
