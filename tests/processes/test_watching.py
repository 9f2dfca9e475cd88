"""What whoever operates a server sees of it: whether it is ready, how it goes, and what it logs."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, eventually, free_port, serving
from debian import installed
from prometheus_client.parser import text_string_to_metric_families

AGENT = """
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from mlflow.models import set_model
from stateful_agent import LangGraphResponsesAgent

def answer(state):
    if state["messages"][-1].text == "fail":
        raise RuntimeError("The secret is 4711.")
    usage = {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}
    return {"messages": [AIMessage("hello", usage_metadata=usage)]}

builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")
AGENT = LangGraphResponsesAgent(builder)
set_model(AGENT)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "agent.py").write_text(AGENT)
    return folder


@pytest.fixture(scope="module")
def watched(folder: Path) -> Iterator[str]:
    """A server that has answered six turns, each on a connection of its own, and failed at one."""
    port = free_port()
    environment = {
        "AGENT_DATA_DIR": str(folder),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "info",
        "TRUSTED_IDENTITY": "X-User",
        "MLFLOW_TRACE_SAMPLING_RATIO": "0",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/traces.db",
    }
    with serving(str(folder / "agent.py"), folder, port, "--workers", "2", **environment):
        url = f"http://127.0.0.1:{port}"
        with ThreadPoolExecutor(6) as clients:
            list(clients.map(lambda n: ask(url, f"t{n}", "hi there"), range(6)))
        ask(url, "t6", "fail")
        yield url


def ask(url: str, thread_id: str, text: str) -> httpx.Response:
    body = {"input": text, "custom_inputs": {"thread_id": thread_id}}
    return httpx.post(f"{url}/responses", json=body, headers={"X-User": "ann"}, timeout=30)


def counted(url: str) -> dict[tuple[str, ...], float]:
    """What is counted, by its name and the values of its labels, in the order of their names."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    return {
        (each.name, *(value for _, value in sorted(each.labels.items()))): each.value
        for family in families
        for each in family.samples
    }


def test_it_is_ready(watched: str) -> None:
    assert httpx.get(f"{watched}/ready").json() == {"status": "ready"}


def test_all_processes_count_together(watched: str) -> None:
    found = counted(watched)
    assert found["agent_turns_total", "", "completed"] == 6
    assert found["agent_turns_total", "internal_error", "failed"] == 1
    assert found["agent_http_errors_total", "internal_error"] == 1
    assert (found["agent_tokens_total", "input"], found["agent_tokens_total", "output"]) == (60, 18)
    assert found["agent_turn_seconds_count",] == found["agent_lease_wait_seconds_count",] == 7
    assert found["agent_first_token_seconds_count",] == 6
    assert found["agent_turns_running",] == 0


@pytest.mark.usefixtures("watched")
def test_where_no_turn_is_traced_no_store_is_made(folder: Path) -> None:
    assert not (folder / "traces.db").exists()


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "server.log").read_text().splitlines() if line.startswith("{")]


def test_each_turn_is_a_line_of_json_with_its_ids_and_without_its_text(watched: str, folder: Path) -> None:
    turns = {line["thread_id"]: line for line in logged(folder) if line["logger"] == "stateful_agent.turns"}
    assert set(turns) == {f"t{n}" for n in range(7)}
    assert (
        turns["t0"].items()
        >= {
            "level": "INFO",
            "message": "turn completed",
            "user_id": "ann",
            "status": "completed",
            "input_tokens": 10,
            "output_tokens": 3,
        }.items()
    )
    assert turns["t0"]["response_id"].startswith("resp_")
    assert 0 < turns["t0"]["first_token_seconds"] <= turns["t0"]["seconds"]
    assert turns["t6"].items() >= {"status": "failed", "code": "internal_error"}.items()
    assert "hi there" not in (folder / "server.log").read_text()


def test_an_exception_is_logged_with_its_place_and_without_its_words(watched: str, folder: Path) -> None:
    [error] = [line for line in logged(folder) if line["level"] == "ERROR"]
    assert error["exception"] == "RuntimeError"
    assert error["thread_id"] == "t6"
    assert f"{folder}/agent.py:9" in error["at"]
    assert "4711" not in (folder / "server.log").read_text()


@contextmanager
def prometheus(target: str) -> Iterator[str]:
    """The URL of a Prometheus that reads the metrics of a server."""
    program = str(installed("prometheus", "bin/prometheus"))
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        scraped = [{"job_name": "agent", "static_configs": [{"targets": [target.removeprefix("http://")]}]}]
        Path(folder, "prometheus.yml").write_text(
            json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": scraped})
        )
        command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"])
        try:
            eventually(partial(is_up, f"http://127.0.0.1:{port}/-/ready"))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def is_up(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_every_query_of_the_dashboard_finds_something(watched: str) -> None:
    panels = json.loads((ROOT / "docs" / "grafana.json").read_text())["panels"]
    queries = [target["expr"].replace("$__rate_interval", "10s") for panel in panels for target in panel["targets"]]
    with prometheus(watched) as url:

        def has_result(query: str) -> bool:
            ask(watched, "more", "hi")
            found = httpx.get(f"{url}/api/v1/query", params={"query": query}).json()
            assert found["status"] == "success", (query, found)
            return bool(found["data"]["result"])

        assert len(queries) >= len(panels) == 10
        for query in queries:
            eventually(partial(has_result, query))
