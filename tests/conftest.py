import gc
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from databases import make_postgres, new_database, value
from databricks_apps import APP_USER
from fasteners import InterProcessLock
from psycopg import sql
from tls_postgres import behind_tls
from workspace import DATABASE, USER, Workspace, serving_api

gc.disable()  # while all the tests and what they stand on are imported, none of which is garbage


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(50_000, 2, 100)  # as the server does
    gc.enable()


ROOT = Path(__file__).parent.parent

http = httpx.Client()
"""For requests of any kind. One of its own for each would read all certificates each time."""

# Before anything of ours is imported: tests neither read the developer's settings nor write to their stores.
for variable in list(os.environ):
    ours = (
        "AGENT_MODEL",
        "DATABASE_URL",
        "DATABASE_SCHEMA",
        "TAVILY_API_KEY",
        "AGENT_DATA_DIR",
        "LAKEBASE_",
        "DATABRICKS_",
    )
    if variable.startswith(ours):
        del os.environ[variable]


def once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Any]) -> Path:
    """A folder that whichever worker comes first makes for all."""
    run = tmp_path_factory.getbasetemp()
    shared = run.parent if "PYTEST_XDIST_WORKER" in os.environ else run
    with InterProcessLock(shared / f"{name}.lock"):
        if not (shared / name).exists():
            (shared / name).mkdir()
            make(shared / name)
    return shared / name


@pytest.fixture(scope="session", autouse=True)
def tracking(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow store of the session's own."""
    import mlflow

    def make(folder: Path) -> None:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.create_experiment("tests", artifact_location=str(folder / "artifacts"))

    store = tmp_path_factory.mktemp("mlflow")
    shutil.copytree(once(tmp_path_factory, "mlflow", make), store, dirs_exist_ok=True)
    uri = f"sqlite:///{store}/mlflow.db"
    os.environ |= {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "tests"}
    mlflow.set_tracking_uri(uri)
    mlflow.tracing.disable()  # to store it takes SQLite longer than the turn; for `traced`, and in servers
    return uri


@pytest.fixture
def traced(tracking: str) -> Iterator[None]:
    """Turns are traced, as they are wherever MLflow knows where to."""
    import mlflow

    mlflow.tracing.enable()
    yield
    mlflow.tracing.disable()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real server, with the tables set up in its database `template`."""
    from stateful_agent.database.embedded import EmbeddedPostgres

    data = tmp_path_factory.mktemp("postgres") / "data"
    made = once(tmp_path_factory, "postgres", make_postgres) / "data"
    subprocess.run(["cp", "-a", made, data], check=True)  # with its owner: root cannot run a server
    server = EmbeddedPostgres(data)
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def shared_database(postgres: str) -> Iterator[str]:
    with new_database(postgres) as url:
        yield url


@pytest.fixture
def database(shared_database: str) -> Iterator[str]:
    """The URL of a database with nothing in its tables."""
    from stateful_agent.checkpoints.tables import TABLES

    yield shared_database
    with psycopg.connect(shared_database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.execute("; ".join(f"DELETE FROM {table}" for table in TABLES).encode())


@pytest.fixture
def own_database(postgres: str) -> Iterator[str]:
    """The same, for tests that change more than rows: a new one takes a quarter of a second."""
    with new_database(postgres) as url:
        yield url


@pytest.fixture
def make_agent(database: str) -> Iterator[Callable[..., Any]]:
    """Makes agents on the test's database: the built-in one, or one of another graph."""
    from agent import graph
    from stateful_agent import LangGraphResponsesAgent
    from stateful_agent.settings import Settings

    agents = []

    def make(graph: Any = graph, **settings: Any) -> LangGraphResponsesAgent:
        agent = LangGraphResponsesAgent(graph, Settings(**{"database_url": database} | settings))
        agents.append(agent)
        return agent

    yield make
    for agent in agents:
        agent.close()


@pytest.fixture
def agent(make_agent: Callable[..., Any]) -> Any:
    return make_agent()


@pytest.fixture
def rows(database: str) -> Callable[[], int]:
    """Counts what is stored."""

    def count() -> int:
        with psycopg.connect(database) as connection:
            tables = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
            return sum(value(connection, f"SELECT count(*) FROM {table}") for table in tables)

    return count


@pytest.fixture(scope="session")
def tls_port(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where Postgres listens with TLS, and takes the workspace's users by password only."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        rules = Path(value(connection, "SHOW hba_file"))
        for user in (USER, APP_USER):
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(user)))
            rules.write_text(f'local all "{user}" scram-sha-256\n' + rules.read_text())
        connection.execute("SELECT pg_reload_conf()")
        folder = connection.info.host
    with behind_tls(f"{folder}/.s.PGSQL.5432", tmp_path_factory.mktemp("tls")) as port:
        yield port


@pytest.fixture
def workspace(postgres: str, tls_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A Databricks workspace whose Lakebase is empty, named by the environment."""
    workspace = Workspace(postgres, tls_port)
    monkeypatch.setattr("databricks_ai_bridge.lakebase.DEFAULT_PORT", tls_port)  # the API tells a host and no port
    with psycopg.connect(postgres, autocommit=True) as connection, serving_api(workspace) as url:
        monkeypatch.setenv("DATABRICKS_HOST", url)
        monkeypatch.setenv("DATABRICKS_TOKEN", workspace.key)
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*map(sql.Identifier, (DATABASE, USER))))
        yield workspace
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(DATABASE)))


@pytest.fixture(scope="session", autouse=True)
def logging_the_model(
    request: pytest.FixtureRequest, tracking: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Future[Path]]:
    """Logs the agent, if a test will need that. It takes long: it begins with the session, beside the first tests."""
    with ThreadPoolExecutor(1) as beside:
        tests = [item for item in request.session.items if isinstance(item, pytest.Function)]
        if any("logged_model" in test.fixturenames for test in tests):
            yield beside.submit(once, tmp_path_factory, "model", log_the_model)
        else:
            yield Future()


def log_the_model(folder: Path) -> None:
    """Log the agent while no database can be reached, with secrets in the environment."""
    secrets = {
        "DATABASE_URL": "postgresql://me:pa55word@127.0.0.1:9/none",
        "TAVILY_API_KEY": "tvly-5ecret",
        "LANGGRAPH_AES_KEY": "aes-5ecret-of-24-bytes-x",
        "DATABRICKS_TOKEN": "dapi-5ecret",
    }
    command = [sys.executable, "log_and_deploy.py", "log", "--path-file", str(folder / "path")]
    subprocess.run(command, cwd=ROOT, env=os.environ | secrets, check=True)


@pytest.fixture(scope="session")
def logged_model(logging_the_model: Future[Path]) -> str:
    """The folder of the logged agent."""
    return (logging_the_model.result() / "path").read_text()


@pytest.fixture(scope="session")
def url(logged_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The logged agent, served from another folder with nothing configured."""
    port = free_port()
    with serving(logged_model, tmp_path_factory.mktemp("served"), port):
        yield f"http://127.0.0.1:{port}"


def with_agent(logged_model: str, agent_file: Path, folder: Path) -> str:
    """A copy of the logged model around another agent."""
    model = shutil.copytree(logged_model, folder / "model")
    shutil.copy(agent_file, model / agent_file.name)
    (model / "MLmodel").write_text((model / "MLmodel").read_text().replace("agent.py", agent_file.name))
    return str(model)


def start_server(model: str, cwd: Path, port: int, *options: str, **environment: str) -> subprocess.Popen[bytes]:
    """A server's process as `make serve` starts it; what it says goes to `server.log`."""
    command = [sys.executable, "-P", "-m", "stateful_agent.server.processes", model, "--port", str(port), *options]
    env = os.environ | {"PYTHONPATH": f"{model}/code"} | environment
    with (cwd / "server.log").open("wb") as output:
        return subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=output)


@contextmanager
def serving(model: str, cwd: Path, port: int, *options: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers."""
    process = start_server(model, cwd, port, *options, **environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            eventually(lambda: answers(process, client))
        yield process
    finally:
        process.terminate()
        process.wait(60)


def answers(process: subprocess.Popen[bytes], client: httpx.Client) -> bool:
    assert process.poll() is None, "The server has ended."
    try:
        client.get("/health")
    except httpx.TransportError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def eventually(is_so: Callable[[], Any], seconds: float = 60) -> None:
    """Waits until that is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"It did not come about in {seconds} seconds."
        time.sleep(0.05)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command `stateful-agent`, and returns what it has shown."""
    from stateful_agent.cli import main

    def run(*arguments: str) -> str:
        main(list(arguments))
        return capsys.readouterr().out

    return run


def say(agent: Any, text: str, **custom_inputs: Any) -> dict[str, Any]:
    """One turn. Returns the response as JSON."""
    request = {"input": [{"role": "user", "content": text}], "custom_inputs": custom_inputs}
    return dict(agent.predict(request).model_dump(exclude_none=True))


def text_of(response: dict[str, Any]) -> str:
    """What the response says."""
    return " ".join(item["content"][0]["text"] for item in response["output"] if item["type"] == "message")
