from typing import Any

import pytest
from conftest import say, text_of
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, MessagesState, StateGraph

from agent import graph as default_graph
from stateful_agent.checkpoints.reader import config_at
from stateful_agent.graph.offline_model import OfflineModel
from stateful_agent.graph.tools import current_time, search_tool


class TestHistory:
    def test_an_entry(self, agent: Any) -> None:
        say(agent, "x" * 200, thread_id="t")
        newest, at_model, root = agent.get_checkpoint_history("t")
        assert [entry["next_nodes"] for entry in (newest, at_model, root)] == [[], ["model"], ["__start__"]]
        assert [entry["step"] for entry in (newest, at_model, root)] == [1, 0, -1]
        assert [entry["source"] for entry in (newest, at_model, root)] == ["loop", "loop", "input"]
        assert [entry["message_count"] for entry in (newest, at_model, root)] == [2, 1, 0]
        assert newest["parent_checkpoint_id"] == at_model["checkpoint_id"]
        assert root["parent_checkpoint_id"] is None
        assert at_model["last_message"] == "x" * 100
        assert root["last_message"] is None
        assert newest["timestamp"].endswith("+00:00")

    def test_last_message_of_any_form(self, agent: Any) -> None:
        parts = [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": "data:,"}]
        agent.predict({"input": [{"role": "user", "content": parts}], "custom_inputs": {"thread_id": "t"}})
        assert agent.get_checkpoint_history("t")[1]["last_message"] == "look"

    def test_pages(self, agent: Any) -> None:
        for _ in range(4):
            say(agent, "hello", thread_id="t")
        whole = agent.get_checkpoint_history("t", 100)
        assert len(whole) == 12
        paged: list[Any] = []
        while page := agent.get_checkpoint_history("t", 5, paged[-1]["checkpoint_id"] if paged else None):
            paged += page
        assert paged == whole


def parallel_graph() -> StateGraph[Any]:
    """Two steps at once, and one that waits for both."""
    graph = StateGraph(MessagesState)
    for name in ("left", "right", "both"):
        graph.add_node(name, lambda state, name=name: {"messages": [AIMessage(f"{name} heard it")]})
    graph.add_edge(START, "left")
    graph.add_edge(START, "right")
    graph.add_edge(["left", "right"], "both")
    graph.add_edge("both", END)
    return graph


class TestLabels:
    @pytest.mark.parametrize(
        "make_graph",
        [default_graph, lambda: create_agent(OfflineModel(), [current_time, search_tool(None)]), parallel_graph],
        ids=["ours", "create_agent", "parallel"],
    )
    def test_what_runs_next_is_what_langgraph_says(self, make_agent: Any, make_graph: Any) -> None:
        agent = make_agent(make_graph())
        for text in ("Weather in SF and LA?", "hello"):
            say(agent, text, thread_id="t")

        async def theirs(checkpoint_id: str) -> list[str]:
            graph, _ = await agent.store.graph_with_saver()
            return [task.name for task in (await graph.aget_state(config_at("t", checkpoint_id))).tasks]

        history = agent.get_checkpoint_history("t", 100)
        assert len(history) >= 6
        for entry in history:
            assert sorted(entry["next_nodes"]) == sorted(agent.loop.run(theirs(entry["checkpoint_id"])))

    def test_turns_and_steps(self, agent: Any) -> None:
        say(agent, "hello", thread_id="t")
        say(agent, "Weather in SF and LA?", thread_id="t")
        start = agent.get_checkpoint_history("t", 100)[4]
        agent.predict({"input": [], "custom_inputs": {k: start[k] for k in ("thread_id", "checkpoint_id")}})
        labels = [(e["turn"], e["source"], e["nodes"]) for e in reversed(agent.get_checkpoint_history("t", 100))]
        weather = [["__start__"], ["model"], ["tools", "tools"], ["model"]]
        assert labels == [
            (1, "input", []),
            (1, "loop", ["__start__"]),
            (1, "loop", ["model"]),
            (2, "input", []),
            *((2, "loop", nodes) for nodes in weather),
            (2, "fork", []),
            *((2, "loop", nodes) for nodes in weather),
        ]

    def test_a_question_that_is_asked_otherwise_is_the_same_turn(self, agent: Any) -> None:
        """It replaces the input that was pending: the conversation has no turn more."""
        for text in ("hello", "I'm headed to SF!"):
            say(agent, text, thread_id="t")
        pending = next(e for e in agent.get_checkpoint_history("t") if e["next_nodes"] == ["__start__"])
        say(agent, "I'm headed to Oslo!", thread_id="t", checkpoint_id=pending["checkpoint_id"])
        assert [branch["turn"] for branch in agent.list_branches("t")] == [2, 2]
        say(agent, "And now?", thread_id="t")
        assert agent.get_checkpoint_history("t")[0]["turn"] == 3

    def test_of_a_thread_that_another_program_wrote(self, agent: Any, database: str) -> None:
        async def write() -> None:
            async with AsyncPostgresSaver.from_conn_string(database) as saver:
                graph = agent.store.graph.copy({"checkpointer": saver})
                await graph.ainvoke({"messages": [("user", "I'm headed to SF!")]}, config_at("theirs"))

        agent.open()
        agent.loop.run(write())
        newest, *_, oldest = agent.get_checkpoint_history("theirs")
        assert (newest["message_count"], newest["next_nodes"], newest["turn"]) == (2, [], None)
        assert (oldest["message_count"], oldest["next_nodes"], oldest["turn"]) == (0, ["__start__"], None)
        state = agent.get_checkpoint_state("theirs")
        assert state["message_count"] == 2
        edit = {"id": state["messages"][0]["id"], "role": "user", "content": "I'm headed to SF, I think!"}
        assert agent.update_checkpoint_state("theirs", newest["checkpoint_id"], [edit])["next_nodes"] == []
        assert "SF" in text_of(say(agent, "Where am I going?", thread_id="theirs"))
        assert [thread["thread_id"] for thread in agent.list_threads()] == ["theirs"]


def test_a_state_holds_what_the_graph_has_beside_messages(make_agent: Any) -> None:
    class Planning(MessagesState):
        plan: list[str]

    graph = StateGraph(Planning)
    graph.add_node("think", lambda state: {"plan": ["go", "stay"], "messages": [AIMessage("done")]})
    graph.add_edge(START, "think")
    agent = make_agent(graph)
    say(agent, "plan", thread_id="t")
    assert agent.get_checkpoint_state("t")["values"] == {"plan": ["go", "stay"]}


class TestEdit:
    def test_leaves_the_past_as_it_was(self, agent: Any) -> None:
        say(agent, "I'm headed to SF!", thread_id="t")
        before = agent.get_checkpoint_history("t", 100)
        new = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        edited = agent.update_checkpoint_state("t", before[0]["checkpoint_id"], new)
        after = agent.get_checkpoint_history("t", 100)
        assert after[1:] == before
        assert after[0]["checkpoint_id"] == edited["checkpoint_id"]
        assert after[0]["message_count"] == 4
        assert edited["next_nodes"] == []

    def test_tool_results_go_on_to_the_model(self, agent: Any) -> None:
        calls = [item for item in say(agent, "Weather in SF and LA?", thread_id="t")["output"] if "name" in item]
        at_tools = next(e for e in agent.get_checkpoint_history("t", 20) if e["next_nodes"] == ["tools", "tools"])
        results = [
            {"type": "function_call_output", "call_id": call["call_id"], "output": f"Place {n}: 9{n}°F"}
            for n, call in enumerate(calls)
        ]
        edited = agent.update_checkpoint_state("t", at_tools["checkpoint_id"], results)
        assert edited["next_nodes"] == ["model"]
        assert [m["type"] for m in agent.get_checkpoint_state("t")["messages"]][3:] == ["function_call_output"] * 2
        agent.update_checkpoint_state("t", at_tools["checkpoint_id"], results[:1])  # the other keeps its own
        assert [m["type"] for m in agent.get_checkpoint_state("t")["messages"]][3:] == ["function_call_output"] * 2
