"""The turns of every serving process are traced, from the first one on."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import mlflow
import psutil
import pytest
from conftest import eventually, free_port, serving

from stateful_agent.server import trace_writer
from stateful_agent.server.trace_writer import Backlog

TRACING_AGENT = """
import mlflow
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from stateful_agent import LangGraphResponsesAgent

@mlflow.trace(name="lookup", span_type="TOOL")
def lookup(place):
    return f"sunny in {place}"

def answer(state):
    mlflow.update_current_trace(tags={"team": "blue"}, metadata={"release": "7"})
    usage = {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}
    return {"messages": [AIMessage(lookup("SF"), usage_metadata=usage)]}

builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")
AGENT = LangGraphResponsesAgent(builder)
mlflow.models.set_model(AGENT)
"""


@pytest.fixture
def agent_file(tmp_path: Path) -> str:
    file = tmp_path / "agent.py"
    file.write_text(TRACING_AGENT)
    return str(file)


@contextmanager
def server(target: str, folder: Path, *options: str, **environment: str) -> Iterator[Any]:
    port = free_port()
    settings = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/traces.db", "AGENT_DATA_DIR": str(folder)} | environment
    with serving(target, folder, port, *options, **settings) as process:
        yield httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30), psutil.Process(process.pid)


def stored(folder: Path) -> list[Any]:
    store = mlflow.MlflowClient(f"sqlite:///{folder}/traces.db")
    return list(store.search_traces(locations=[found.experiment_id for found in store.search_experiments()]))


def count(folder: Path) -> int:
    try:
        with sqlite3.connect(f"file:{folder}/traces.db?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM trace_info").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def writer_of(server: psutil.Process) -> psutil.Process:
    """Of its processes, the one that gets what the others leave of the processor."""
    return next(child for child in server.children() if child.nice() == 19)


def turn(client: httpx.Client, thread_id: str = "t", **headers: str) -> Any:
    body = {"input": "hi", "custom_inputs": {"thread_id": thread_id}}
    return client.post("/responses", json=body, headers=headers).raise_for_status().json()


def test_a_trace_has_ids_tokens_and_what_the_graph_adds(agent_file: str, tmp_path: Path) -> None:
    with server(agent_file, tmp_path, TRUSTED_IDENTITY="X-User") as (client, _):
        answer = turn(client, **{"X-User": "ann"})
    [trace] = stored(tmp_path)
    assert trace.info.trace_metadata["mlflow.trace.session"] == "t"
    assert trace.info.trace_metadata["mlflow.trace.user"] == "ann"
    assert trace.info.trace_metadata["release"] == "7"
    assert (
        trace.info.tags.items()
        >= {
            "thread_id": "t",
            "checkpoint_id": answer["custom_outputs"]["checkpoint_id"],
            "response_id": answer["id"],
            "team": "blue",
        }.items()
    )
    assert trace.info.token_usage == {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}
    assert trace.info.state == "OK"
    assert [span.name for span in trace.data.spans] == ["turn", "lookup"]
    assert trace.data.spans[0].inputs["input"] == [{"role": "user", "content": "hi"}]
    assert trace.data.spans[0].outputs["id"] == answer["id"]


def test_a_thread_whose_id_is_longer_than_a_session_can_be_is_traced(agent_file: str, tmp_path: Path) -> None:
    with server(agent_file, tmp_path) as (client, _):
        turn(client, "t" * 255)
    [trace] = stored(tmp_path)
    assert trace.info.tags["thread_id"] == "t" * 255


def test_the_first_turns_of_all_workers_on_a_new_store_are_traced(agent_file: str, tmp_path: Path) -> None:
    with server(agent_file, tmp_path, "--workers", "3") as (client, _):
        for n in range(12):
            turn(client, f"t{n}")
    assert count(tmp_path) == 12


def test_where_no_turn_is_traced_no_store_is_made(agent_file: str, tmp_path: Path) -> None:
    with server(agent_file, tmp_path, MLFLOW_TRACE_SAMPLING_RATIO="0") as (client, _):
        turn(client)
    assert not (tmp_path / "traces.db").exists()


def test_a_writer_that_was_killed_is_replaced(agent_file: str, tmp_path: Path) -> None:
    with server(agent_file, tmp_path, "--workers", "1") as (client, process):
        turn(client)
        eventually(lambda: count(tmp_path) == 1)
        os.kill(writer_of(process).pid, signal.SIGKILL)
        turn(client, "second")
        eventually(lambda: count(tmp_path) == 2)


def test_a_store_that_is_away_holds_up_no_turn(agent_file: str, tmp_path: Path) -> None:
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    with server(agent_file, tmp_path, **away) as (client, _):
        turn(client)
        dropped = 'agent_traces_dropped_total{where="writer"} 1.0'
        eventually(lambda: dropped in client.get("/metrics").text)
        turn(client)


def test_what_does_not_fit_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_writer, "MOST_BYTES", 250)
    backlog = Backlog()
    backlog.put("uri", [b"a" * 100, b"b" * 100, b"c" * 100])
    assert backlog.take() == ("uri", [b"a" * 100, b"b" * 100])
    backlog.put("uri", [b"d" * 100])
    backlog.close()
    assert backlog.take() == ("uri", [b"d" * 100])
    assert backlog.take() is None
