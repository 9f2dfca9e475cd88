"""All the way to an endpoint: what is registered is served in a process of its own, with the variables it was given."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, eventually, free_port, http, start_server
from serving_endpoints import ServingEndpoints
from workspace import Workspace

from stateful_agent.cli import main
from stateful_agent.deploy import Failure, check_served, progress

MODEL = "main.agents.trips"
DATABASE = ("--secret", "DATABASE_URL=agent/database")
SECRET = re.compile(r"\{\{secrets/(.+)\}\}")


def is_healthy(url: str) -> bool:
    try:
        return http.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def serving(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServingEndpoints]:
    """Endpoints that serve what is registered, in processes that know nothing but their variables."""
    processes = []

    def start(entity: dict[str, Any]) -> str:
        folder = tmp_path / entity["name"]
        place = f"/Models/{entity['entity_name'].replace('.', '/')}/{entity['entity_version']}/"
        for path, content in workspace.catalog.files.items():
            if path.startswith(place):
                (folder / path.removeprefix(place)).parent.mkdir(parents=True, exist_ok=True)
                (folder / path.removeprefix(place)).write_bytes(content)
        variables = {
            name: workspace.secrets[found[1]] if (found := SECRET.fullmatch(value)) else value
            for name, value in entity["environment_vars"].items()
        }
        port = free_port()
        processes.append(start_server(str(folder), folder, port, "--workers", "1", **variables))
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: is_healthy(url))
        return url

    workspace.serving = ServingEndpoints(start)
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.5)
    yield workspace.serving
    for process in processes:
        process.terminate()
        process.wait(30)


def test_all_the_way_and_on_with_another_version(
    serving: ServingEndpoints,
    workspace: Workspace,
    database: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workspace.secrets["agent/database"] = database
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    environment.pop("MLFLOW_EXPERIMENT_NAME")  # it is of the tests' own store
    command = [sys.executable, str(ROOT / "log_and_deploy.py"), "all", MODEL, *DATABASE, "--env", "MAX_STEPS=50"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    steps = ("Logged models:/", "in a fork", "scoring server", "AgentServer", "Letting it answer here", "forks from")
    assert [step for step in steps if step not in ended.stdout] == []

    def run(*arguments: str) -> str:
        main(list(arguments))
        return capsys.readouterr().out

    answered = run("call", MODEL, "I'm headed to SF!")
    thread, checkpoint = re.findall(r"--thread-id (\S+) --checkpoint-id (\S+)", answered)[0]
    workspace.catalog.add(MODEL, tmp_path / "main-agents-trips_1")
    run("deploy", MODEL, *DATABASE, "--no-check")
    assert "version 2: 100 %, ready" in run("status", MODEL)
    assert "SF" in run("call", MODEL, "Where am I going?", "--thread-id", thread, "--checkpoint-id", checkpoint)


def test_a_model_that_cannot_be_installed(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "requirements.txt").write_text("no-such-package-anywhere==1\n")
    with pytest.raises(Failure, match=r"requirements cannot be installed: .*no-such-package-anywhere"):
        check_served(str(tmp_path / "model"), print)
