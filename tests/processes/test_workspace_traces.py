"""Traces that go to a Databricks workspace: all of them arrive, and no turn waits for the workspace."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import eventually, free_port, serving
from http_api import HttpApi, send_json
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

AGENT = """
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from stateful_agent import LangGraphResponsesAgent


def answer(state):
    usage = {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}
    return {"messages": [AIMessage("Hello!", usage_metadata=usage)]}


AGENT = LangGraphResponsesAgent(StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer"))
"""

EXPERIMENT = "7"

LINKED = {
    "mlflow.experiment.databricksTraceDestinationPath": "main.agents.mine",
    "mlflow.experiment.databricksTraceSpanStorageTable": "main.agents.mine_otel_spans",
}
"""The tags of an experiment whose traces are kept in Unity Catalog."""


class Workspace(HttpApi):
    """What MLflow calls to store traces in a workspace, with an experiment that has these tags."""

    def __init__(self, tags: dict[str, str]) -> None:
        super().__init__("GET", "PUT")
        self._tags = tags
        self.asked = 0
        """How often somebody has asked for the experiment."""

        self.refuses = False
        self.told: list[dict[str, Any]] = []
        self.files: list[dict[str, Any]] = []
        self.in_tables: list[str] = []
        """The names of spans that were sent for a table, which is told with them."""

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        path = handler.path.partition("?")[0]
        if self.refuses:
            send_json(handler, 403, {"error_code": "PERMISSION_DENIED", "message": "No."})
        elif path == "/api/2.0/mlflow/experiments/get":
            self.asked += 1
            tags = [{"key": key, "value": value} for key, value in self._tags.items()]
            experiment = {"experiment_id": EXPERIMENT, "name": "/agents", "artifact_location": "dbfs:/7"}
            send_json(handler, 200, {"experiment": experiment | {"lifecycle_stage": "active", "tags": tags}})
        elif path == "/api/3.0/mlflow/traces":
            asked = json.loads(body)
            asked["trace"]["trace_info"]["tags"]["mlflow.artifactLocation"] = "dbfs:/databricks/mlflow-tracking/7/t"
            self.told.append(asked["trace"]["trace_info"])
            send_json(handler, 200, asked)
        elif handler.command == "PUT":
            self.files.append(json.loads(body))
            send_json(handler, 200, {})
        elif path == "/api/2.0/otel/v1/traces":
            table = handler.headers["X-Databricks-UC-Table-Name"]
            sent = ExportTraceServiceRequest.FromString(body).resource_spans
            self.in_tables += [
                f"{table} {span.name}" for each in sent for scope in each.scope_spans for span in scope.spans
            ]
            send_json(handler, 200, {})
        elif path.startswith("/api/4.0/mlflow/traces/"):
            self.told.append(json.loads(body))
            send_json(handler, 200, json.loads(body))
        else:
            send_json(handler, 200, {})


@pytest.fixture
def workspace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    with Workspace(getattr(request, "param", {})) as workspace:
        yield workspace


@contextmanager
def server(workspace: Workspace, folder: Path, workers: int = 2) -> Iterator[httpx.Client]:
    """A server whose traces go to the workspace, as an app's do."""
    (folder / "my_agent.py").write_text(AGENT)
    port = free_port()
    environment = {
        "MLFLOW_TRACKING_URI": "databricks",
        "MLFLOW_EXPERIMENT_ID": EXPERIMENT,
        "DATABRICKS_HOST": workspace.url,
        "DATABRICKS_TOKEN": "token",
    }
    with serving("my_agent.py", folder, port, "--workers", str(workers), **environment):
        yield httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)


def turn(client: httpx.Client) -> Any:
    return client.post("/responses", json={"input": "hi"}).raise_for_status().json()


def test_a_server_that_stops_has_stored_them(workspace: Workspace, tmp_path: Path) -> None:
    with server(workspace, tmp_path) as client:
        answers = [turn(client)]
        eventually(lambda: workspace.files)
        answers += [turn(client) for _ in range(3)]
    assert {told["tags"]["response_id"] for told in workspace.told} == {answer["id"] for answer in answers}
    assert [file["spans"][0]["name"] for file in workspace.files] == ["turn"] * 4
    (told, *_) = workspace.told
    assert told["trace_location"]["mlflow_experiment"]["experiment_id"] == EXPERIMENT
    assert json.loads(told["trace_metadata"]["mlflow.trace.tokenUsage"])["total_tokens"] == 13
    assert (told["request_preview"], told["response_preview"]) == ("hi", "Hello!")


@pytest.mark.parametrize("workspace", [LINKED], indirect=True)
def test_those_that_go_into_tables(workspace: Workspace, tmp_path: Path) -> None:
    with server(workspace, tmp_path) as client:
        turn(client)
        eventually(lambda: workspace.in_tables)
        for _ in range(3):
            turn(client)
    assert workspace.in_tables == ["main.agents.mine_otel_spans turn"] * 4
    assert len(workspace.told) == 4


@pytest.mark.parametrize("workspace", [{}, LINKED], indirect=True)
def test_no_turn_asks_for_their_experiment(workspace: Workspace, tmp_path: Path) -> None:
    with server(workspace, tmp_path, workers=1) as client:
        asked = workspace.asked
        for _ in range(4):
            turn(client)
        assert workspace.asked == asked > 0


def test_those_that_are_refused_are_counted(workspace: Workspace, tmp_path: Path) -> None:
    workspace.refuses = True
    with server(workspace, tmp_path) as client:
        turn(client)
        dropped = 'agent_traces_dropped_total{where="writer"} 1.0'
        eventually(lambda: dropped in client.get("/metrics").text)
    assert "traces cannot be stored" in (tmp_path / "server.log").read_text()
