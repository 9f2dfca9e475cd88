"""All the way to an app: what was uploaded runs in an environment of its own, with a role of its own in Lakebase."""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from conftest import ROOT, answers, eventually, free_port
from databricks_apps import APP_USER, DatabricksApps, Files
from tls_postgres import behind_tls
from workspace import USER, Workspace

from stateful_agent.cli import main
from stateful_agent.deploy import progress

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Lakebase is at port 5432 of a loopback address")


@pytest.fixture
def lakebase(workspace: Workspace, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The workspace's Lakebase at the port where Databricks' code looks for it, also in other processes."""
    workspace.postgres_host = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}.1"
    monkeypatch.setattr("databricks_ai_bridge.lakebase.DEFAULT_PORT", 5432)
    with psycopg.connect(postgres) as connection:
        folder = connection.info.host
    with behind_tls(f"{folder}/.s.PGSQL.5432", tmp_path, workspace.postgres_host, 5432):
        yield


@pytest.fixture
def apps(workspace: Workspace, lakebase: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Apps that run what was uploaded, in processes that know nothing but what Databricks tells them."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(files: Files, command: list[str], variables: dict[str, str]) -> str:
        folder = tmp_path / f"app-{len(processes)}"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        uv, python = str(ROOT / ".venv" / "bin" / "uv"), str(tmp_path / "venv" / "bin" / "python")
        subprocess.run(
            [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, tmp_path / "venv"], check=True
        )
        install = [uv, "pip", "install", "--quiet", "--python", python, "-r", str(folder / "requirements.txt")]
        subprocess.run(install, check=True)
        port = free_port()
        known = {
            "PATH": os.environ["PATH"],
            "DATABRICKS_APP_NAME": "trips",
            "DATABRICKS_HOST": workspace.url,
            "DATABRICKS_CLIENT_ID": APP_USER,
            "DATABRICKS_CLIENT_SECRET": workspace.app_key,
        }
        arguments = [str(port) if one == "$DATABRICKS_APP_PORT" else one for one in command[1:]]
        with (folder / "app.log").open("wb") as log:
            run = [python, *arguments]
            processes.append(subprocess.Popen(run, cwd=folder, env=known | variables, stdout=log, stderr=log))
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url) as client:
            eventually(lambda: answers(processes[-1], client))
        return url

    workspace.apps = DatabricksApps(start, workspace.secrets)
    workspace.apps.base = workspace.url
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", USER)
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", workspace.key)
    monkeypatch.setenv("LAKEBASE_INSTANCE_NAME", "memory")
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.5)
    yield workspace.apps
    for process in processes:
        process.terminate()
        process.wait(30)


def test_all_the_way_and_on_after_another_deployment(apps: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> str:
        main(list(arguments))
        return capsys.readouterr().out

    app = ("deploy", "--app", "trips", "--agent", str(ROOT / "agent.py"))
    shown = run(*app)
    for step in ("Installing", "Letting it answer here as app.yaml says", f'TO "{APP_USER}"', "forks from"):
        assert step in shown

    answered = run("call", "apps/trips", "I'm headed to SF!")
    thread, checkpoint = re.findall(r"--thread-id (\S+) --checkpoint-id (\S+)", answered)[0]
    run(*app, "--no-check", "--env", "MAX_STEPS=50")
    assert "SF" in run("call", "apps/trips", "Where am I going?", "--thread-id", thread, "--checkpoint-id", checkpoint)
