"""The way to an endpoint of Databricks, against a stand-in for the workspace, through Databricks' own clients."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
from serving_endpoints import ServingEndpoints
from workspace import Workspace

from stateful_agent.deploy import progress

MODEL = "main.agents.trips"
ENDPOINT = "agents_main-agents-trips"
DATABASE = ("--secret", "DATABASE_URL=agent/database")


@pytest.fixture
def serving(workspace: Workspace, url: str, logged_model: str, monkeypatch: pytest.MonkeyPatch) -> ServingEndpoints:
    """Endpoints of a workspace that has a version of the agent. What they serve is the logged agent."""
    workspace.catalog.add(MODEL, Path(logged_model))
    workspace.secrets["agent/database"] = "postgresql://me:pa55word@127.0.0.1/none"
    workspace.serving = ServingEndpoints(lambda entity: url)
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.01)
    return workspace.serving


def deploy(run: Any, *options: str) -> str:
    shown: str = run("deploy", MODEL, *DATABASE, "--no-check", *options)
    return shown


def test_to_an_endpoint_and_back(workspace: Workspace, serving: ServingEndpoints, url: str, run: Any) -> None:
    shown = deploy(run, "--env", "REGION=eu", "--tag", "team=trips", "--budget-policy", "p1", "--scale-to-zero")
    endpoint = serving.endpoints[ENDPOINT]
    (served,) = endpoint["config"]["served_entities"]
    variables = {name: value for name, value in served["environment_vars"].items() if "MLFLOW" not in name}
    assert variables == {
        "DATABASE_URL": "{{secrets/agent/database}}",
        "REGION": "eu",
        "ENABLE_LANGCHAIN_STREAMING": "true",
        "RETURN_REQUEST_ID_IN_RESPONSE": "true",
    }
    assert served["scale_to_zero_enabled"]
    assert (endpoint["tags"], endpoint["budget_policy_id"]) == ([{"key": "team", "value": "trips"}], "p1")
    assert "0:00 creating: The container image is being built.\n0:00 ready\n" in shown
    assert "It goes on from its answer, and forks from it." in shown
    assert f'client.responses.create(model="{ENDPOINT}"' in shown
    threads = httpx.get(f"{url}/threads", params={"limit": 100}).json()
    assert not [thread for thread in threads if "What can you do?" in json.dumps(thread)]

    served = f"{ENDPOINT}: ready\n  {MODEL}, version 1: 100 %, ready\n    DATABASE_URL={{{{secrets/agent/database}}}}\n"
    assert run("status", MODEL).startswith(served)
    assert "Installed." in run("logs", ENDPOINT)

    answered = run("call", MODEL, "I'm headed to SF!")
    thread, checkpoint = re.findall(r"--thread-id (\S+) --checkpoint-id (\S+)", answered)[0]
    assert "SF" in run("call", ENDPOINT, "Where am I going?", "--thread-id", thread, "--checkpoint-id", checkpoint)

    assert run("undeploy", MODEL).endswith("Its conversations are still in the database.\n")
    assert serving.endpoints == {}
    assert run("undeploy", MODEL) == f"{MODEL} is not served.\n"
    assert mlflow.get_registry_uri() != "databricks-uc"


def test_a_new_version_goes_to_the_same_endpoint(
    workspace: Workspace, serving: ServingEndpoints, logged_model: str, run: Any
) -> None:
    deploy(run)
    workspace.catalog.add(MODEL, Path(logged_model))
    deploy(run, "--tag", "team=trips")
    endpoint = serving.endpoints[ENDPOINT]
    routes = endpoint["config"]["traffic_config"]["routes"]
    assert {route["served_model_name"][-2:]: route["traffic_percentage"] for route in routes} == {"_2": 100, "_1": 0}
    assert "version 2: 100 %, ready" in run("status", MODEL)
    assert run("undeploy", MODEL, "1").startswith(f"{MODEL}, version 1, is not served any more.")
    assert [one["entity_version"] for one in serving.endpoints[ENDPOINT]["pending_config"]["served_entities"]] == ["2"]


def test_the_same_again_changes_nothing(serving: ServingEndpoints, run: Any) -> None:
    deploy(run)
    before = json.dumps(serving.endpoints)
    assert "It is served so already." in deploy(run)
    assert json.dumps(serving.endpoints) == before
    assert len(serving.deployments) == 1


def test_the_same_version_with_other_settings(serving: ServingEndpoints, run: Any) -> None:
    deploy(run)
    assert "Changing how it is served." in deploy(run, "--env", "REGION=eu")
    (served,) = serving.endpoints[ENDPOINT]["config"]["served_entities"]
    assert served["environment_vars"]["REGION"] == "eu"


def test_a_dry_run_shows_the_call_and_makes_none(workspace: Workspace, serving: ServingEndpoints, run: Any) -> None:
    shown = deploy(run, "--dry-run", "--workload-size", "Medium")
    assert "databricks.agents.deploy(\n    model_name='main.agents.trips',\n    model_version='1',\n" in shown
    assert "environment_vars={'DATABASE_URL': '{{secrets/agent/database}}'}" in shown
    assert "workload_size='Medium'" in shown
    assert "delete_deployment(" in run("undeploy", MODEL, "--dry-run")
    assert "code_paths=['agent.py', 'stateful_agent']" in run("log", "agent.py", "--dry-run")
    assert "check_served(" in run("check", "models:/m", "--dry-run")
    assert "set_registered_model_alias(" in run("register", "models:/m", MODEL, "--alias", "champion", "--dry-run")
    assert serving.endpoints == {}
    assert workspace.catalog.aliases == {}


def test_a_second_run_goes_on_where_the_connection_was_lost(
    workspace: Workspace, serving: ServingEndpoints, run: Any
) -> None:
    workspace.cut_off = "POST serving-endpoints"
    with pytest.raises(SystemExit, match="already exists"):  # the SDK has asked again by itself
        deploy(run)
    assert ENDPOINT in serving.endpoints
    assert serving.deployments == []
    assert "It was not noted among the workspace's agents, and is now." in deploy(run)
    assert [one["endpoint_name"] for one in serving.deployments] == [ENDPOINT]


def test_a_build_that_fails(serving: ServingEndpoints, run: Any) -> None:
    serving.build_fails = True
    with pytest.raises(SystemExit, match=r"is not served: failed: Container image creation failed.*See: logs"):
        deploy(run)
    assert "No matching distribution found for nothing==1" in run("logs", MODEL)
    serving.build_fails = False
    assert "It goes on" in deploy(run)


def test_one_that_does_not_come_up_in_time(serving: ServingEndpoints, run: Any) -> None:
    with pytest.raises(SystemExit, match=r"is not ready after 0 minutes. The same command goes on waiting."):
        deploy(run, "--minutes", "0")
    assert "It goes on" in deploy(run)


def test_an_endpoint_of_another_model(
    serving: ServingEndpoints, workspace: Workspace, logged_model: str, run: Any
) -> None:
    deploy(run)
    workspace.catalog.add("main.agents.other", Path(logged_model))
    with pytest.raises(SystemExit, match=f"The endpoint {ENDPOINT} serves {MODEL}: name another one."):
        run("deploy", "main.agents.other", *DATABASE, "--no-check", "--endpoint", ENDPOINT)


def test_an_endpoint_that_is_missing_among_the_agents(serving: ServingEndpoints, run: Any) -> None:
    """Its deployment ended before that."""
    deploy(run)
    serving.deployments.clear()
    assert run("undeploy", MODEL).startswith(f"{MODEL} is not served any more.")
    assert serving.endpoints == {}


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "You may not do this here: serving"), (400, "The workspace does not do this: serving")]
)
def test_what_the_workspace_refuses(
    serving: ServingEndpoints, workspace: Workspace, run: Any, status: int, reason: str
) -> None:
    """No permission, and no quota left."""
    workspace.refused["POST serving-endpoints"] = (status, "No quota.")
    with pytest.raises(SystemExit, match=reason):
        deploy(run)
    assert serving.endpoints == {}


@pytest.mark.parametrize(
    ("settings", "options", "reason"),
    [
        ({}, [], "The conversations would be lost"),
        ({"LAKEBASE_INSTANCE_NAME": "gone"}, [], "using the Lakebase gone: "),
        ({"LAKEBASE_INSTANCE_NAME": "memory"}, [], r"was logged without access to memory \(lakebase\)"),
        ({"AGENT_MODEL": "databricks:gone"}, DATABASE, "asking the model's endpoint gone: "),
        ({"AGENT_MODEL": "databricks:e"}, DATABASE, r"was logged without access to e \(serving_endpoint\)"),
        ({"UC_FUNCTIONS": "main.f.x,main.g.*"}, DATABASE, r"without access to main.f.x \(function\)"),
        ({"TRUSTED_IDENTITY": "X-Forwarded-User"}, DATABASE, "passes no headers on"),
        ({}, ["--secret", "DATABASE_URL=agent/gone"], "reading the secret agent/gone for DATABASE_URL: "),
        ({}, [*DATABASE, "--env", "MY_TOKEN=t"], "MY_TOKEN is secret"),
    ],
)
def test_what_is_refused_before_anything_is_created(
    serving: ServingEndpoints, run: Any, monkeypatch: pytest.MonkeyPatch, settings: Any, options: Any, reason: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=reason) as refused:
        run("deploy", MODEL, *options)
    assert "\n" not in str(refused.value)
    assert serving.endpoints == {}


@pytest.mark.parametrize(
    ("name", "version", "reason"),
    [
        ("main.agents.none", [], "main.agents.none is not registered"),
        (MODEL, ["7"], "main.agents.trips has no version 7: "),
        (MODEL, ["champion"], "main.agents.trips has no version champion: "),
        ("main.agents", [], "main.agents is no name for a model"),
    ],
)
def test_a_version_that_is_not_there(
    serving: ServingEndpoints, run: Any, name: str, version: list[str], reason: str
) -> None:
    with pytest.raises(SystemExit, match=reason):
        run("deploy", name, *version, *DATABASE)


@pytest.mark.parametrize("command", [["status", "x"], ["logs", "x"], ["call", "x", "Hello"]])
def test_an_endpoint_that_is_not_there(serving: ServingEndpoints, run: Any, command: list[str]) -> None:
    with pytest.raises(SystemExit, match="The endpoint with name 'x' does not exist"):
        run(*command)


def test_without_a_workspace(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(SystemExit, match="No workspace is named: set DATABRICKS_HOST"):
        run("status", MODEL)
