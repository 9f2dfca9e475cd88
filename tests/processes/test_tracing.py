"""The turns of every serving process are traced, from the first one on."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import mlflow
import psutil
import pytest
from conftest import eventually, free_port, serving
from http_api import HttpApi, send_json
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stateful_agent.server.trace_writer import NICENESS
from stateful_agent.server.tracing import BATCH_SECONDS

WRITER_SECONDS = 150
"""The writer of traces gets what others leave of the processor, which here is little."""

TRACING_AGENT = """
import asyncio

import mlflow
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from stateful_agent import LangGraphResponsesAgent

@mlflow.trace(name="lookup", span_type="TOOL")
def lookup(place):
    return f"sunny in {place}"

class Team:
    def __str__(self):
        return "blue"

async def answer(state):
    if state["messages"][-1].content == "wait":
        await asyncio.sleep(60)
    mlflow.update_current_trace(tags={"team": Team()}, metadata={"release": 7})
    usage = {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}
    return {"messages": [AIMessage(lookup("SF"), usage_metadata=usage)]}

builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")
AGENT = LangGraphResponsesAgent(builder)
mlflow.models.set_model(AGENT)
"""


@pytest.fixture(scope="module")
def agent_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("agent") / "agent.py"
    file.write_text(TRACING_AGENT)
    return str(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traced")


class Collector(HttpApi):
    """A collector of OpenTelemetry's, which keeps the spans that it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[tuple[str, str]] = []
        """The service and the name of each."""

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {each.key: each.value.string_value for each in sent.resource.attributes}
            for scope in sent.scope_spans:
                self.spans += [(attributes["service.name"], span.name) for span in scope.spans]
        send_json(handler, 200, {})


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced_server(agent_file: str, folder: Path, collector: Collector) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    """A server of one process, in that folder."""
    environment = {"TRUSTED_IDENTITY": "X-User", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    with server(agent_file, folder, "--workers", "1", **environment) as found:
        yield found


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
    return next(child for child in server.children(recursive=True) if child.nice() == NICENESS)


def turn(client: httpx.Client, thread_id: str) -> Any:
    body = {"input": "hi", "custom_inputs": {"thread_id": thread_id}}
    return client.post("/responses", json=body, headers={"X-User": "ann"}).raise_for_status().json()


def trace_of(folder: Path, thread_id: str) -> Any:
    """The trace of a turn on that thread, when it is stored."""
    found: list[Any] = []

    def is_stored() -> bool:
        found[:] = [trace for trace in stored(folder) if trace.info.tags.get("thread_id") == thread_id]
        return bool(found)

    eventually(lambda: count(folder) and is_stored(), WRITER_SECONDS)
    return found[0]


INTERRUPTED = """
import multiprocessing, os, signal, sys
from multiprocessing.context import SpawnProcess
from stateful_agent.server.trace_writer import TraceWriter, WriterAddress

start = SpawnProcess.start

def start_and_be_interrupted(process):
    start(process)
    os.kill(os.getpid(), signal.SIGINT)

SpawnProcess.start = start_and_be_interrupted
writer = TraceWriter(WriterAddress(sys.argv[1], b"key"), multiprocessing.get_context("spawn"))
try:
    writer.start()
except KeyboardInterrupt:
    writer.close()
print(multiprocessing.active_children())
"""


def test_a_writer_whose_start_is_interrupted_can_be_closed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "traces")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_trace_has_ids_tokens_and_what_the_graph_adds(traced_server: Any, folder: Path) -> None:
    answer = turn(traced_server[0], "ids")
    stored_last = "release"  # after the spans
    eventually(lambda: stored_last in trace_of(folder, "ids").info.trace_metadata, WRITER_SECONDS)
    trace = trace_of(folder, "ids")
    state = traced_server[0].get("/threads/ids/state", headers={"X-User": "ann"}).json()
    assert (state["trace_id"], state["trace_url"]) == (trace.info.trace_id, None)
    assert trace.info.trace_metadata["mlflow.trace.session"] == "ann/ids"
    assert trace.info.trace_metadata["mlflow.trace.user"] == "ann"
    assert trace.info.trace_metadata["release"] == "7"
    assert (
        trace.info.tags.items()
        >= {
            "checkpoint_id": answer["custom_outputs"]["checkpoint_id"],
            "response_id": answer["id"],
            "team": "blue",
        }.items()
    )
    assert trace.info.token_usage == {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}
    assert (trace.info.request_preview, trace.info.response_preview) == ("hi", "sunny in SF")
    assert trace.info.state == "OK"
    assert [span.name for span in trace.data.spans] == ["turn", "lookup"]
    assert trace.data.spans[0].inputs["input"] == [{"role": "user", "content": "hi"}]
    assert trace.data.spans[0].outputs["id"] == answer["id"]


def test_the_trace_of_a_turn_that_was_cancelled_has_its_ids_too(traced_server: Any, folder: Path) -> None:
    body = {"input": "wait", "background": True, "custom_inputs": {"thread_id": "cancelled"}}
    headers = {"X-User": "ann"}
    response_id = traced_server[0].post("/responses", json=body, headers=headers).raise_for_status().json()["id"]
    traced_server[0].post(f"/responses/{response_id}/cancel", headers=headers).raise_for_status()
    assert trace_of(folder, "cancelled").info.tags["response_id"] == response_id


def test_a_collector_of_opentelemetry_gets_the_spans_too(
    traced_server: Any, folder: Path, collector: Collector
) -> None:
    turn(traced_server[0], "collected")
    assert trace_of(folder, "collected")
    assert set(collector.spans) == {("stateful-agent", "turn"), ("stateful-agent", "lookup")}


def test_a_thread_whose_id_is_longer_than_a_session_can_be_is_traced(traced_server: Any, folder: Path) -> None:
    turn(traced_server[0], "t" * 255)
    assert trace_of(folder, "t" * 255)


def test_what_a_writer_that_was_killed_had_not_stored_is_stored_by_the_next(traced_server: Any, folder: Path) -> None:
    client, process = traced_server
    for time_of in ("first", "second"):
        turn(client, f"before the {time_of}")
        assert trace_of(folder, f"before the {time_of}")
        time.sleep(5 * BATCH_SECONDS)  # it is confirmed
        writer = writer_of(process)
        writer.suspend()
        turn(client, f"amid the {time_of}")
        time.sleep(5 * BATCH_SECONDS)  # it is handed over
        writer.kill()
        writer.wait(60)
        assert trace_of(folder, f"amid the {time_of}")
    assert 'agent_traces_dropped_total{where="worker"} 0.0' in client.get("/metrics").text


def test_all_turns_of_all_workers_are_traced_from_the_first_to_the_last(agent_file: str, tmp_path: Path) -> None:
    with server(agent_file, tmp_path, "--workers", "3") as (client, _):
        for n in range(6):
            turn(client, f"first {n}")
        eventually(lambda: count(tmp_path) == 6, WRITER_SECONDS)
        for n in range(6):
            turn(client, f"last {n}")
    assert count(tmp_path) == 12


def test_a_store_that_is_away_holds_up_no_turn(agent_file: str, tmp_path: Path) -> None:
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    with server(agent_file, tmp_path, **away) as (client, _):
        turn(client, "first")
        dropped = 'agent_traces_dropped_total{where="writer"} 1.0'
        eventually(lambda: dropped in client.get("/metrics").text, WRITER_SECONDS)
        turn(client, "second")
