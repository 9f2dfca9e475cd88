"""The way to a Databricks App, against a stand-in for the workspace, through Databricks' own client."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from conftest import ROOT
from databricks.bundles.apps import App
from databricks_apps import APP_USER, DatabricksApps
from workspace import DATABASE, USER, Workspace

from stateful_agent.deploy import progress
from stateful_agent.deploy.check_servers import last_line

AGENT = ("--agent", str(ROOT / "agent.py"))
DATABASE_SECRET = ("--secret", "DATABASE_URL=agent/database")
SOURCE = f"/Workspace/Users/{USER}/stateful-agent/trips"

Started = list[tuple[dict[str, bytes], list[str], dict[str, str]]]


@pytest.fixture
def started() -> Started:
    """The files, the command and the variables of each app that was started."""
    return []


@pytest.fixture
def apps(workspace: Workspace, url: str, started: Started, monkeypatch: pytest.MonkeyPatch) -> DatabricksApps:
    """Apps of a workspace that one logs in to with OAuth. Whatever they run, the logged agent answers."""

    def start(*app: Any) -> str:
        started.append(app)
        return url

    workspace.secrets["agent/database"] = "postgresql://me:pa55word@127.0.0.1/none"
    workspace.apps = DatabricksApps(start, workspace.secrets)
    workspace.apps.base = os.environ["DATABRICKS_HOST"]
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", USER)
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", workspace.key)
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.01)
    return workspace.apps


@pytest.fixture
def deploy(apps: DatabricksApps, run: Callable[..., str]) -> Callable[..., str]:
    return lambda *options: run("deploy", "--app", "trips", *AGENT, "--no-check", *options)


def test_to_an_app_and_back(apps: DatabricksApps, started: Started, deploy: Any, run: Any) -> None:
    shown = deploy(*DATABASE_SECRET, "--env", "MAX_STEPS=50")
    ((files, command, variables),) = started
    assert {"agent.py", "stateful_agent/agent.py", "requirements.txt", "databricks.yml"} <= files.keys()
    serve = ["python", "-m", "stateful_agent", "serve", "agent.py"]
    assert command == [*serve, "--host", "0.0.0.0", "--port", "$DATABRICKS_APP_PORT"]
    assert variables == {
        "DATABASE_URL": "postgresql://me:pa55word@127.0.0.1/none",
        "MAX_STEPS": "50",
        "TRUSTED_IDENTITY": "X-Forwarded-User",
        "MLFLOW_TRACE_SAMPLING_RATIO": "0",
    }
    assert not any(b"pa55word" in content for content in apps.files.values())
    for step in ("0:00 compute starting\n", "0:00 app running\n", 'create(model="apps/trips"', "and forks from it."):
        assert step in shown

    assert f"apps/trips: app running, {apps.base}/apps-proxy/trips\n" in run("status", "apps/trips")
    assert "deployment succeeded: App started successfully" in run("logs", "apps/trips")
    answered = run("call", "apps/trips", "I'm headed to SF!")
    thread, checkpoint = re.findall(r"--thread-id (\S+) --checkpoint-id (\S+)", answered)[0]
    assert "SF" in run("call", "apps/trips", "Where am I going?", "--thread-id", thread, "--checkpoint-id", checkpoint)

    assert run("undeploy", "apps/trips").endswith("Its conversations are still in the database.\n")
    assert (apps.apps, apps.files) == ({}, {})
    assert run("undeploy", "apps/trips") == "apps/trips is not served.\n"


def test_what_it_may_use(apps: DatabricksApps, deploy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "AGENT_MODEL": "databricks:e",
        "LAKEBASE_AUTOSCALING_PROJECT": "trips",
        "LAKEBASE_AUTOSCALING_BRANCH": "production",
        "UC_FUNCTIONS": "main.f.x,main.g.*",
        "VECTOR_SEARCH_INDEXES": "main.docs.trips",
        "GENIE_SPACES": "0a1b",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    deploy("--secret", "LANGGRAPH_AES_KEY=agent/key", "--env", "MLFLOW_EXPERIMENT_ID=7", "--dry-run")
    workspace_secret = {"scope": "agent", "key": "key", "permission": "READ"}
    apps.secrets["agent/key"] = "0123456789abcdef"
    deploy("--secret", "LANGGRAPH_AES_KEY=agent/key", "--env", "MLFLOW_EXPERIMENT_ID=7")
    resources = {one.pop("name"): one for one in apps.apps["trips"]["resources"]}
    branch = "projects/trips/branches/production"
    assert resources == {
        "langgraph-aes-key": {"secret": workspace_secret},
        "database": {
            "postgres": {
                "branch": branch,
                "database": f"{branch}/databases/databricks-postgres",
                "permission": "CAN_CONNECT_AND_CREATE",
            }
        },
        "endpoint-1": {"serving_endpoint": {"name": "e", "permission": "CAN_QUERY"}},
        "function-1": {
            "uc_securable": {
                "securable_full_name": "main.f.x",
                "securable_type": "FUNCTION",
                "permission": "EXECUTE",
            }
        },
        "index-1": {
            "uc_securable": {
                "securable_full_name": "main.docs.trips",
                "securable_type": "TABLE",
                "permission": "SELECT",
            }
        },
        "genie-1": {"genie_space": {"name": "0a1b", "space_id": "0a1b", "permission": "CAN_RUN"}},
        "experiment": {"experiment": {"experiment_id": "7", "permission": "CAN_EDIT"}},
    }


def test_its_own_identity_is_let_into_the_lakebase(
    workspace: Workspace, deploy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEBASE_INSTANCE_NAME", "memory")
    shown = deploy()
    assert f'GRANT USAGE ON SCHEMA "public" TO "{APP_USER}"' in shown
    token = workspace.mint(APP_USER)
    with psycopg.connect(
        host="127.0.0.1", port=workspace.tls_port, user=APP_USER, dbname=DATABASE, password=token
    ) as connection:
        connection.execute("SELECT thread_id FROM agent_threads")


def test_the_same_again_replaces_what_it_runs(apps: DatabricksApps, started: Started, deploy: Any) -> None:
    deploy(*DATABASE_SECRET)
    apps.files[f"{SOURCE}/old.py"] = b""
    apps.apps["trips"]["compute_status"] = {"state": "STOPPED"}
    assert "Changing the app trips ..." in deploy(*DATABASE_SECRET, "--env", "MAX_STEPS=7")
    files, _, variables = started[-1]
    assert variables["MAX_STEPS"] == "7"
    assert "old.py" not in files


def test_a_dry_run_shows_all_and_changes_nothing(apps: DatabricksApps, deploy: Any, run: Any) -> None:
    shown = deploy(*DATABASE_SECRET, "--dry-run")
    assert "- name: DATABASE_URL\n  valueFrom: database-url\n" in shown
    assert "WorkspaceClient.apps.create(\n    name='trips',\n    resources=[{'name': 'database-url'" in shown
    assert f"source_code_path='{SOURCE}'" in shown
    assert "apps.delete(\n    name='trips',\n)" in run("undeploy", "apps/trips", "--dry-run")
    assert (apps.apps, apps.files) == ({}, {})


def test_written_to_a_folder_it_is_a_bundle(apps: DatabricksApps, deploy: Any, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    assert f"cd {folder} && databricks bundle deploy" in deploy(*DATABASE_SECRET, "--write", str(folder))
    (folder / "stateful_agent" / "old.py").touch()
    deploy(*DATABASE_SECRET, "--write", str(folder))
    assert not (folder / "stateful_agent" / "old.py").exists()
    described = yaml.safe_load((folder / "databricks.yml").read_text())["resources"]["apps"]["trips"]
    app = App.from_dict(described)  # Databricks' own reading of a bundle, which takes nothing that it does not know
    assert (app.name, app.source_code_path) == ("trips", ".")
    assert app.as_dict() == described
    assert apps.apps == {}


@pytest.mark.parametrize(
    ("folder", "reason"), [(str(ROOT), "is the agent's own folder"), (str(ROOT / "docs"), "holds something else")]
)
def test_it_is_written_over_nothing_else(deploy: Any, folder: str, reason: str) -> None:
    with pytest.raises(SystemExit, match=reason):
        deploy(*DATABASE_SECRET, "--write", folder)
    assert (ROOT / "stateful_agent" / "agent.py").is_file()


def test_a_file_that_is_too_large(deploy: Any, tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text("import package\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "data.bin").write_bytes(bytes(10 * 1024 * 1024 + 1))
    with pytest.raises(SystemExit, match=r"package/data.bin has more than 10 MiB"):
        deploy(*DATABASE_SECRET, "--agent", str(tmp_path / "agent.py"))


def test_a_second_run_goes_on_where_the_connection_was_lost(
    workspace: Workspace, apps: DatabricksApps, deploy: Any
) -> None:
    workspace.cut_off = "POST apps"
    with pytest.raises(SystemExit, match="already exists"):  # the SDK has asked again by itself
        deploy(*DATABASE_SECRET)
    assert "trips" in apps.apps
    workspace.cut_off = "POST apps/trips/deployments"
    with pytest.raises(SystemExit, match="There is an active deployment in progress"):
        deploy(*DATABASE_SECRET)
    with pytest.raises(SystemExit, match="is not ready after 0 minutes"):
        deploy(*DATABASE_SECRET, "--minutes", "0")
    apps.answer("GET", "apps/trips/deployments/d0", {})
    assert "and forks from it." in deploy(*DATABASE_SECRET)


def test_one_whose_packages_cannot_be_installed(apps: DatabricksApps, deploy: Any, run: Any) -> None:
    apps.build_fails = True
    failed = r"apps/trips is not served: deployment failed: Error installing packages. See: logs apps/trips"
    with pytest.raises(SystemExit, match=failed):
        deploy(*DATABASE_SECRET)
    assert f"deployment failed: Error installing packages\nIts own log, for a browser: {apps.base}" in run(
        "logs", "apps/trips"
    )
    apps.build_fails = False
    assert "It goes on" in deploy(*DATABASE_SECRET)


def test_one_that_crashes(apps: DatabricksApps, deploy: Any) -> None:
    apps.crashes = True
    with pytest.raises(SystemExit, match="apps/trips is not served: app crashed: exit code 1"):
        deploy(*DATABASE_SECRET)


def test_the_reason_is_what_the_app_said_and_not_that_it_ended(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("Loading ...\nNo module named x.\nERROR: Child process [7] failed to start.\n\n")
    assert last_line(tmp_path / "log") == "No module named x."


def test_an_app_that_runs_something_else(apps: DatabricksApps, deploy: Any, run: Any) -> None:
    deploy(*DATABASE_SECRET)
    apps.apps["trips"]["active_deployment"] = {"source_code_path": "/Workspace/Users/her/game"}
    with pytest.raises(SystemExit, match=r"The app trips runs /Workspace/Users/her/game: name another one\."):
        deploy(*DATABASE_SECRET)
    with pytest.raises(SystemExit, match=r"The app trips runs /Workspace/Users/her/game"):
        run("undeploy", "apps/trips")
    apps.apps["trips"] |= {"active_deployment": None, "description": "A game"}
    with pytest.raises(SystemExit, match=r"The app trips was not made by deploy --app"):
        run("undeploy", "apps/trips")
    assert "trips" in apps.apps


@pytest.mark.parametrize(("status", "reason"), [(403, "You may not do this here: creating"), (400, "No quota.")])
def test_what_the_workspace_refuses(
    workspace: Workspace, apps: DatabricksApps, deploy: Any, status: int, reason: str
) -> None:
    workspace.refused["POST apps"] = (status, "No quota.")
    with pytest.raises(SystemExit, match=reason):
        deploy(*DATABASE_SECRET)
    assert apps.files == {}


@pytest.mark.parametrize(
    ("settings", "options", "reason"),
    [
        ({}, [], "The conversations would be lost"),
        ({"LAKEBASE_INSTANCE_NAME": "gone"}, [], "using the Lakebase gone: "),
        (
            {"LAKEBASE_AUTOSCALING_PROJECT": "gone", "LAKEBASE_AUTOSCALING_BRANCH": "b"},
            [],
            "using the Lakebase projects/gone/branches/b: ",
        ),
        ({"AGENT_MODEL": "databricks:gone"}, DATABASE_SECRET, "asking the model's endpoint gone: "),
        ({}, [*DATABASE_SECRET, "--env", "MY_TOKEN=t"], "MY_TOKEN is secret"),
        ({}, [*DATABASE_SECRET, "--app", "Trips!"], "Trips! is no name for an app"),
        ({}, [*DATABASE_SECRET, "--agent", "none.py"], "There is no none.py"),
        (
            {"DATABRICKS_CLIENT_ID": "", "DATABRICKS_CLIENT_SECRET": "", "DATABRICKS_TOKEN": "t"},
            DATABASE_SECRET,
            "OAuth",
        ),
    ],
)
def test_what_is_refused_before_anything_is_created(
    apps: DatabricksApps, deploy: Any, monkeypatch: pytest.MonkeyPatch, settings: Any, options: Any, reason: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=reason) as refused:
        deploy(*options)
    assert "\n" not in str(refused.value)
    assert (apps.apps, apps.files) == ({}, {})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "name a registered model, or an app with --app"),
        (["main.agents.trips", "--app", "trips"], "name a registered model, or an app with --app"),
        (["--app", "trips", "--scale-to-zero"], "are of an endpoint, not of an app"),
        (["main.agents.trips", "--write", "app"], "--write is for an app"),
    ],
)
def test_options_that_do_not_go_together(
    run: Any, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    with pytest.raises(SystemExit):
        run("deploy", *options)
    assert reason in capsys.readouterr().err
