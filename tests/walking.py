"""Ways of walking a conversation's tree, for tests."""

import asyncio
from typing import Any

import psycopg
import pytest
from conftest import say, text_of
from langchain_core.tools import tool

from stateful_agent.errors import ThreadNotFound


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "output_text", "text": text}], **more}


def turn(agent: Any, text: str | None = None, **custom_inputs: Any) -> dict[str, Any]:
    """One turn, with a message or without."""
    request = {"input": [user(text)] if text else [], "custom_inputs": {"thread_id": "t", **custom_inputs}}
    return dict(agent.predict(request).model_dump(exclude_none=True))


def answer(agent: Any, *items: dict[str, Any], **custom_inputs: Any) -> dict[str, Any]:
    """One turn, in the form of the wire: MLflow's `predict` checks items itself."""
    request = {"input": list(items), "custom_inputs": {"thread_id": "t", **custom_inputs}}
    return dict(asyncio.run(agent.apredict(request)).model_dump(exclude_none=True))


def replay(agent: Any, entry: dict[str, Any], stream: bool = False) -> dict[str, Any]:
    """A turn without input. Returns the response as JSON."""
    request = {"input": [], "custom_inputs": {"thread_id": entry["thread_id"], "checkpoint_id": entry["checkpoint_id"]}}
    if stream:
        return dict([event.model_dump(exclude_none=True) for event in agent.predict_stream(request)][-1]["response"])
    return dict(agent.predict(request).model_dump(exclude_none=True))


def fork(agent: Any, entry: dict[str, Any], text: str, stream: bool = False) -> dict[str, Any]:
    """A turn from an entry of the history."""
    ref = {"thread_id": entry["thread_id"], "checkpoint_id": entry["checkpoint_id"]}
    if not stream:
        return say(agent, text, **ref)
    events = list(agent.predict_stream({"input": [user(text)], "custom_inputs": ref}))
    return dict(events[-1].model_dump(exclude_none=True)["response"])


def texts(agent: Any, checkpoint_id: str | None = None, thread_id: str = "t") -> list[str]:
    """The texts of a thread up to a checkpoint."""
    items = agent.get_checkpoint_state(thread_id, checkpoint_id)["messages"]
    return [item["content"][0]["text"] if item["type"] == "message" else item["type"] for item in items]


def at(agent: Any, next_nodes: list[str], thread_id: str = "t") -> dict[str, Any]:
    """The newest checkpoint where that is next."""
    return next(e for e in agent.get_checkpoint_history(thread_id, 100) if e["next_nodes"] == next_nodes)


def travel(agent: Any) -> None:
    """All that can be done with a conversation, on an empty database."""
    first = say(agent, "I'm headed to SF!", thread_id="t")["custom_outputs"]
    say(agent, "Weather in SF and LA?", thread_id="t")
    fork(agent, first, "I'm headed to New York!")
    assert "New York" in text_of(say(agent, "Where am I going?", thread_id="t"))
    message = agent.get_checkpoint_state("t", first["checkpoint_id"])["messages"][0]
    agent.update_checkpoint_state("t", first["checkpoint_id"], [user("I'm headed to Oslo!", id=message["id"])])
    assert "Oslo" in text_of(say(agent, "Where am I going?", thread_id="t"))
    assert len(agent.list_branches("t")) == 3
    history = agent.get_checkpoint_history("t", 100)
    assert agent.get_checkpoint_history("t", 5, before=history[4]["checkpoint_id"]) == history[5:10]

    copy = agent.copy_thread("t")["thread_id"]
    assert texts(agent, thread_id=copy) == texts(agent)
    assert [thread["thread_id"] for thread in agent.list_threads()] == [copy, "t"]
    assert agent.prune(0)["threads"] == 2
    assert len(agent.get_checkpoint_history("t")) == 1
    assert "Oslo" in texts(agent, thread_id=copy)[-1]
    assert at(agent, [])["message_count"] == 4
    agent.delete_thread("t")
    with pytest.raises(ThreadNotFound):
        agent.get_checkpoint_history("t")


def read_all(agent: Any, thread_id: str = "t") -> list[Any]:
    """Everything that can be read of a thread, save what is its own in a copy."""
    history = agent.get_checkpoint_history(thread_id, 100)
    states = [agent.get_checkpoint_state(thread_id, entry["checkpoint_id"]) for entry in history]
    listed = [thread["last_message"] for thread in agent.list_threads(100) if thread["thread_id"] == thread_id]
    own = {"thread_id": None, "response_id": None}
    return [[entry | own for entry in part] for part in (history, states, agent.list_branches(thread_id))] + [listed]


def execute(database: str, *statements: str, **values: Any) -> None:
    with psycopg.connect(database) as connection:
        for statement in statements:
            connection.execute(statement.encode(), values)


class Branches:
    """Notes how every checkpoint reads, to tell later that none of them has changed."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self.before = self.read()

    def read(self) -> dict[str, Any]:
        ids = [entry["checkpoint_id"] for entry in self.agent.get_checkpoint_history("t", 100)]
        return {checkpoint_id: self.agent.get_checkpoint_state("t", checkpoint_id) for checkpoint_id in ids}

    def check(self) -> None:
        now = self.read()
        assert {checkpoint_id: now[checkpoint_id] for checkpoint_id in self.before} == self.before


def say_nothing(agent: Any) -> dict[str, Any]:
    return dict(agent.predict({"input": [], "custom_inputs": {"thread_id": "t"}}).model_dump(exclude_none=True))


calls: list[str] = []


stuck: set[str] = set()


@tool("search")
async def weather(query: str) -> str:
    """Search for the weather."""
    city = query.split()[-1]
    calls.append(city)
    if city in stuck:
        await asyncio.sleep(60)
    return f"{city}: 60°F"
