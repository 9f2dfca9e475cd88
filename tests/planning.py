"""A graph whose state holds more than messages, of many types."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

NUMBER = 4711_4711


class Mood(Enum):
    GOOD = "good"


@dataclass
class Plan:
    steps: list[str]


class Trip(BaseModel):
    plan: Plan
    mood: Mood


class Undeclared(BaseModel):
    x: int


class Planning(MessagesState):
    trip: Trip
    mood: Mood | None
    anything: Any
    note: str
    count: int


def planner(seen: list[Any] | None = None) -> StateGraph[Any]:
    """A graph with state of many types. It answers with what it received, and notes what it sees."""

    def think(state: Any) -> dict[str, Any]:
        received = state["messages"][-1].content
        if seen is not None:
            seen.append({name: value for name, value in state.items() if name != "messages"})
        state = {"trip": Trip(plan=Plan([received]), mood=Mood.GOOD), "mood": Mood.GOOD, "anything": Undeclared(x=1)}
        return {**state, "messages": [AIMessage(f"you said {received}")]}

    def count(state: Any) -> dict[str, Any]:
        return {} if "note" in state else {"note": state["messages"][0].content, "count": NUMBER}

    graph = StateGraph(Planning)
    graph.add_node("think", think)
    graph.add_node("count", count)
    graph.add_edge(START, "think")
    graph.add_edge("think", "count")
    return graph
