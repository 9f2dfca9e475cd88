import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from conftest import ROOT, free_port
from packaging.requirements import Requirement

from log_and_deploy import main
from stateful_agent.deploy.resources import resources
from stateful_agent.settings import Settings


def test_the_logged_model_holds_no_secret_and_no_local_path(logged_model: str) -> None:
    for file in Path(logged_model).rglob("*"):
        if file.is_file() and file.suffix != ".pyc":
            content = file.read_bytes()
            assert b"pa55word" not in content, file
            assert b"5ecret" not in content, file
            for folder in (ROOT, Path(logged_model)):
                assert not re.search(rb"(?<!\w)" + re.escape(str(folder).encode()) + rb"\b", content), file


def test_requirements_match_what_was_tested(logged_model: str) -> None:
    def packages(file: Path) -> set[str]:
        lines = (line.strip() for line in file.read_text().splitlines())
        return {str(Requirement(line)) for line in lines if line and not line.startswith("#")}

    assert packages(Path(logged_model) / "requirements.txt") == packages(ROOT / "requirements.txt")


def test_the_code_of_the_logged_model_is_the_agent_and_the_library(logged_model: str) -> None:
    code = Path(logged_model) / "code"
    assert {file.name for file in code.iterdir()} - {"__pycache__"} == {"agent.py", "stateful_agent"}
    assert (code / "stateful_agent" / "py.typed").is_file()


def test_the_logged_model_is_a_model_anywhere(logged_model: str, tmp_path: Path) -> None:
    """Another process, another folder, its own embedded database; plain and streaming."""
    code = """
import sys, mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
turn = lambda text: {"input": [{"role": "user", "content": text}], "custom_inputs": {"thread_id": "t"}}
model.predict(turn("I'm headed to SF!"))
events = list(model.predict_stream(turn("Where am I going?")))
assert "SF" in events[-1]["response"]["output"][0]["content"][0]["text"]
asked = {"operation": "get_checkpoint_history", "thread_id": "t", "limit": 20}
history = model.predict({"input": [], "custom_inputs": asked})["custom_outputs"]["result"]
assert len(history) == 6, history
assert history == model.get_raw_model().get_checkpoint_history("t", 20)
"""
    subprocess.run([sys.executable, "-P", "-c", code, logged_model], cwd=tmp_path, check=True)


def test_mlflow_models_serve(logged_model: str, database: str, tmp_path: Path) -> None:
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", logged_model, "-p", str(port), "--env-manager", "local"]
    command[0] = str(Path(sys.executable).parent / "mlflow")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"DATABASE_URL": database, "PATH": path}
    server = subprocess.Popen(command, cwd=tmp_path, env=env, start_new_session=True)
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=60, transport=httpx.HTTPTransport(retries=0)
        ) as client:
            wait_for(client)
            body: dict[str, Any] = {
                "input": [{"role": "user", "content": "hello"}],
                "custom_inputs": {"thread_id": "t"},
            }
            answer = client.post("/invocations", json=body)
            assert answer.status_code == 200
            assert answer.json()["custom_outputs"]["thread_id"] == "t"
            asked = {"operation": "get_checkpoint_history", "thread_id": "t", "limit": 20}
            history = client.post("/invocations", json={"input": [], "custom_inputs": asked})
            assert len(history.json()["custom_outputs"]["result"]) == 3
            body["custom_inputs"]["checkpoint_id"] = "x"
            refused = client.post("/invocations", json=body)
            assert refused.status_code == 404
            assert "no such checkpoint" in refused.json()["message"]
            assert "Traceback" not in refused.text
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


def wait_for(client: httpx.Client) -> None:
    import time

    for _ in range(600):
        try:
            client.get("/ping")
            return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail("mlflow models serve did not come up")


def test_resources() -> None:
    found = resources(Settings(agent_model="databricks:some-endpoint", lakebase_instance_name="some-lakebase"))
    assert [resource.name for resource in found] == ["some-endpoint", "some-lakebase"]
    found = resources(
        Settings(
            agent_model="databricks:one",
            agent_fallback_models=("openai:two", "databricks:three", "databricks:one"),
            embedding_model="databricks:four",
            embedding_dimensions=8,
            uc_functions=("main.f.x", "main.g.*"),
            genie_spaces=("0a1b",),
            vector_search_indexes=("main.docs.trips",),
        )
    )
    assert [resource.name for resource in found] == ["one", "three", "four", "main.f.x", "0a1b", "main.docs.trips"]
    assert resources(Settings(agent_model="openai:gpt-5")) == []


def test_set_up_database(
    own_database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(own_database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS runs_it")
        connection.execute("CREATE ROLE runs_it")

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["log_and_deploy.py", "set-up-database", *arguments])
        main()
        return capsys.readouterr().out

    with pytest.raises(SystemExit, match="Set DATABASE_URL"):
        run()
    monkeypatch.setenv("DATABASE_URL", own_database)
    monkeypatch.setenv("DATABASE_SCHEMA", "agents")
    assert "Created the schema agents.\nThe tables in schema agents were created." in run()
    shown = run("--grant", "runs_it")
    assert "The tables in schema agents were current." in shown
    assert 'GRANT SELECT, INSERT, UPDATE, DELETE ON "agents"."checkpoints"' in shown
    with pytest.raises(SystemExit, match="name the role"):
        run("--sql")
    printed = run("--grant", "nobody", "--sql")
    assert printed.splitlines()[0] == 'GRANT USAGE ON SCHEMA "agents" TO "nobody";'
    assert shown.replace('"runs_it"', '"nobody";').splitlines()[-4:] == printed.splitlines()
    with pytest.raises(SystemExit, match='Nothing was set up: role "nobody" does not exist'):
        run("--grant", "nobody")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:pa55word@127.0.0.1:9/none")
    with pytest.raises(SystemExit, match="Nothing was set up: connection failed") as refused:
        run()
    assert "pa55word" not in str(refused.value)
