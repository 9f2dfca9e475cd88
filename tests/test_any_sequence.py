"""Any sequence of operations leaves a tree that reads as a plain model of the same operations says."""

import itertools
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from conftest import say
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from stateful_agent.errors import InvalidRequest
from stateful_agent.graph.build import build_graph
from stateful_agent.responses.items import visible_text

Texts = tuple[str, ...]


class Echo(BaseChatModel):
    """Answers with the length of the conversation and its last message, so that each answer shows what it was given.

    It reasons before it answers, which is emitted and shown, and is no message.
    """

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        texts = tuple(visible_text(message) for message in messages)
        content: list[str | dict[str, Any]] = [
            {"type": "thinking", "thinking": "Let me count."},
            {"type": "text", "text": echo(texts)},
        ]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content))])


def echo(texts: Texts) -> str:
    return f"{len(texts)}. {texts[-1].split()[-1] if texts else 'nothing'}"


def message_items(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages among the items, each of which is preceded by the reasoning behind it."""
    assert all(after["id"] == thought["message_id"] for thought, after in pairwise(items) if is_thought(thought))
    return [item for item in items if not is_thought(item)]


def is_thought(item: dict[str, Any]) -> bool:
    return item["type"] == "reasoning"


@dataclass(frozen=True)
class Checkpoint:
    """What the plain model knows of a checkpoint."""

    texts: Texts
    next: str
    pending: str = ""


class Tree:
    """A thread as the plain model has it, and as the agent has it."""

    def __init__(self, agent: Any, thread_id: str) -> None:
        self.agent, self.thread_id = agent, thread_id
        self.checkpoints: dict[str, Checkpoint] = {}

    def checkpoint_at(self, n: int) -> tuple[str, Checkpoint]:
        ids = sorted(self.checkpoints)
        return ids[n % len(ids)], self.checkpoints[ids[n % len(ids)]]

    def turn(self, text: str, n: int | None) -> None:
        named = {} if n is None or not self.checkpoints else {"checkpoint_id": self.checkpoint_at(n)[0]}
        base = self.checkpoints[named.get("checkpoint_id") or max(self.checkpoints)] if self.checkpoints else None
        output = say(self.agent, text, thread_id=self.thread_id, **named)["output"]
        texts = base.texts if base else ()
        asked = (*texts, text)
        self.grown(
            Checkpoint(texts, "__start__", text), Checkpoint(asked, "model"), Checkpoint((*asked, echo(asked)), "")
        )
        shown = self.agent.get_checkpoint_state(self.thread_id)["messages"][-2:]
        assert output == [{key: item[key] for key in item if key != "message_id"} for item in shown]

    def replay(self, n: int) -> None:
        checkpoint_id, base = self.checkpoint_at(n)
        request = {"input": [], "custom_inputs": {"thread_id": self.thread_id, "checkpoint_id": checkpoint_id}}
        self.agent.predict(request)
        asked = (*base.texts, base.pending) if base.pending else base.texts
        then = [] if base.next == "" else [Checkpoint((*asked, echo(asked)), "")]
        then = [Checkpoint(asked, "model"), *then] if base.next == "__start__" else then
        self.grown(base, *then, may_lack_first=True)

    def edit(self, n: int, kind: str, which: int, text: str) -> None:
        checkpoint_id, base = self.checkpoint_at(n)
        texts = [*base.texts, base.pending] if base.pending else list(base.texts)
        state = self.agent.get_checkpoint_state(self.thread_id, checkpoint_id)
        items = message_items([*state["messages"], *state["pending_messages"]])
        assert len(items) == len(texts)
        edit: dict[str, Any]
        if kind == "append" or not items:
            edit = {"new_messages": [{"role": "user", "content": text}]}
            texts.append(text)
        else:
            which %= len(items)
            item = items[which]
            if kind == "replace":
                edit = {"new_messages": [item | {"content": [{"type": "input_text", "text": text}]}]}
                texts[which] = text
            else:
                edit = {"remove_messages": [item["id"]]}
                del texts[which]
                items.pop(which)
        if tuple(texts) == base.texts:  # the input that waited at the start is taken back
            with pytest.raises(InvalidRequest, match="changes nothing"):
                self.agent.update_checkpoint_state(self.thread_id, checkpoint_id, **edit)
            return
        edited = self.agent.update_checkpoint_state(self.thread_id, checkpoint_id, **edit)
        self.grown(Checkpoint(tuple(texts), "".join(edited["next_nodes"])))
        last_is_users = kind == "append" or not items or items[-1]["role"] == "user"
        assert edited["next_nodes"] == (["model"] if last_is_users else [])

    def copy(self, n: int) -> "Tree":
        copied = Tree(self.agent, self.agent.copy_thread(self.thread_id)["thread_id"])
        copied.checkpoints = dict(self.checkpoints)
        return copied

    def pruned(self) -> None:
        head = max(self.checkpoints)
        self.checkpoints = {head: self.checkpoints[head]}

    def grown(self, *expected: Checkpoint, may_lack_first: bool = False) -> None:
        """What is new in the thread is what the model expects, oldest first."""
        history = self.agent.get_checkpoint_history(self.thread_id, 1000)
        new = [entry["checkpoint_id"] for entry in reversed(history) if entry["checkpoint_id"] not in self.checkpoints]
        if may_lack_first and len(new) < len(expected):
            expected = expected[1:]
        for checkpoint_id, checkpoint in zip(new, expected, strict=True):
            assert self.read(checkpoint_id) == checkpoint
            self.checkpoints[checkpoint_id] = checkpoint

    def read(self, checkpoint_id: str) -> Checkpoint:
        state = self.agent.get_checkpoint_state(self.thread_id, checkpoint_id)
        texts, pending = (
            tuple(item["content"][0]["text"] for item in message_items(state[name]))
            for name in ("messages", "pending_messages")
        )
        assert state["message_count"] == len(texts)
        return Checkpoint(texts, "".join(state["next_nodes"]), "".join(pending))

    def check(self) -> None:
        history = self.agent.get_checkpoint_history(self.thread_id, 1000)
        assert {entry["checkpoint_id"] for entry in history} == set(self.checkpoints)
        parents = {entry["parent_checkpoint_id"] for entry in history}
        assert self.agent.get_thread(self.thread_id)["branch_count"] == len(set(self.checkpoints) - parents)
        for checkpoint_id, checkpoint in self.checkpoints.items():
            assert self.read(checkpoint_id) == checkpoint


names = itertools.count()
operation = st.tuples(
    st.sampled_from(["turn", "turn", "fork", "replay", "append", "replace", "remove", "copy", "prune"]),
    st.integers(0, 99),
    st.integers(0, 9),
)


@given(st.lists(operation, min_size=3, max_size=14))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence(make_agent: Callable[..., Any], operations: list[tuple[str, int, int]]) -> None:
    with closing(make_agent(build_graph(Echo(), []))) as agent:  # there may be hundreds
        trees = [Tree(agent, f"thread {next(names)}")]
        trees[0].turn("hello", None)
        for kind, n, which in operations:
            tree = trees[which % len(trees)]
            text = f"words {next(names)}"
            match kind:
                case "turn":
                    tree.turn(text, None)
                case "fork":
                    tree.turn(text, n)
                case "replay":
                    tree.replay(n)
                case "copy":
                    trees.append(tree.copy(n))
                case "prune":
                    agent.prune(0)
                    for each in trees:
                        each.pruned()
                case _:
                    tree.edit(n, kind, which, text)
        for tree in trees:
            tree.check()
