"""What a Databricks App is made of: the project's code, this library, their requirements, `app.yaml`, and a bundle."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from stateful_agent.deploy.configuration import Configuration, configuration
from stateful_agent.deploy.failure import Failure
from stateful_agent.deploy.project import copy_code
from stateful_agent.deploy.requirements import constraints_of, requirements_of
from stateful_agent.deploy.resources import endpoints_of
from stateful_agent.settings import Settings

if TYPE_CHECKING:
    from databricks.sdk.service.apps import AppResource

DATABASE = "databricks_postgres"
"""The database of a Lakebase that the agent keeps its state in."""

DESCRIPTION = "A LangGraph agent with time travel."
FORWARDED_USER = "X-Forwarded-User"
"""The header in which the proxy of Databricks Apps names who calls. It overwrites what the caller sends."""

MAX_FILE_BYTES = 10 * 1024 * 1024
"""What Databricks takes of a file of an app."""


@dataclass(frozen=True)
class DatabricksApp:
    """An agent, as it is to be served as an app."""

    name: str
    agent_file: Path
    configuration: Configuration
    requirements: Path | None = None
    """The project's requirements file. `None`: the `requirements.txt` beside the agent, if there is one."""

    budget_policy: str | None = None


def app_configuration(
    environment: Mapping[str, str], given: Mapping[str, str] | None = None, secrets: Mapping[str, str] | None = None
) -> Configuration:
    """The variables of an app, as `configuration` finds them, whose users are told apart unless the settings say how.

    Traces go to the experiment of the workspace that `MLFLOW_EXPERIMENT_ID` names; without one there are none.

    Raises: the same as `configuration`.
    """
    set_here = {name: value for name, value in environment.items() if value}
    found = configuration({"TRUSTED_IDENTITY": FORWARDED_USER} | set_here, given, secrets)
    traced = "MLFLOW_EXPERIMENT_ID" in found.variables
    tracing = {"MLFLOW_TRACKING_URI": "databricks"} if traced else {"MLFLOW_TRACE_SAMPLING_RATIO": "0"}
    return replace(found, variables=tracing | found.variables)


def branch_of(settings: Settings) -> str | None:
    """The branch of an autoscaling Lakebase that the settings name, as `projects/<project>/branches/<branch>`."""
    if settings.lakebase_autoscaling_endpoint:
        return settings.lakebase_autoscaling_endpoint.partition("/endpoints/")[0]
    if settings.lakebase_autoscaling_project:
        return f"projects/{settings.lakebase_autoscaling_project}/branches/{settings.lakebase_autoscaling_branch}"
    return None


def app_resources(found: Configuration, database: str | None) -> "list[AppResource]":
    """What an app needs access to in its workspace: the secrets, and what its settings name.

    `database` is the database in the branch of an autoscaling Lakebase, as `<branch>/databases/<id>`. Access to
    functions given as `catalog.schema.*` is granted in Unity Catalog.
    """
    from databricks.sdk.service.apps import AppResource  # seconds, which `--help` should not take

    settings = found.settings()
    described: dict[str, dict[str, Any]] = {}
    for name, place in found.secrets.items():
        scope, _, key = place.partition("/")
        described[_key(name)] = {"secret": {"scope": scope, "key": key, "permission": "READ"}}
    access = {"permission": "CAN_CONNECT_AND_CREATE"}
    if settings.lakebase_instance_name:
        instance = {"instance_name": settings.lakebase_instance_name, "database_name": DATABASE}
        described["database"] = {"database": instance | access}
    elif branch := branch_of(settings):
        described["database"] = {"postgres": {"branch": branch, "database": database} | access}
    for number, name in enumerate(endpoints_of(settings), 1):
        described[f"endpoint-{number}"] = {"serving_endpoint": {"name": name, "permission": "CAN_QUERY"}}
    functions = [name for name in settings.uc_functions if not name.endswith("*")]
    for number, name in enumerate(functions, 1):
        described[f"function-{number}"] = _securable(name, "FUNCTION", "EXECUTE")
    for number, name in enumerate(settings.vector_search_indexes, 1):
        described[f"index-{number}"] = _securable(name, "TABLE", "SELECT")
    for number, space in enumerate(settings.genie_spaces, 1):
        described[f"genie-{number}"] = {"genie_space": {"name": space, "space_id": space, "permission": "CAN_RUN"}}
    if experiment := found.variables.get("MLFLOW_EXPERIMENT_ID"):
        described["experiment"] = {"experiment": {"experiment_id": experiment, "permission": "CAN_EDIT"}}
    return [AppResource.from_dict({"name": name} | resource) for name, resource in described.items()]


def app_yaml(app: DatabricksApp) -> str:
    """How the app is run, as Databricks reads it. It puts the port in the place of its name."""
    serve = ["python", "-m", "stateful_agent", "serve", app.agent_file.name]
    env = [{"name": name, "value": value} for name, value in app.configuration.variables.items()]
    env += [{"name": name, "valueFrom": _key(name)} for name in app.configuration.secrets]
    return _yaml({"command": [*serve, "--host", "0.0.0.0", "--port", "$DATABRICKS_APP_PORT"], "env": env})


def bundle(app: DatabricksApp, resources: "list[AppResource]") -> str:
    """The app as a bundle, for `databricks bundle deploy` in the folder that it is written to."""
    described = {
        "name": app.name,
        "description": DESCRIPTION,
        "source_code_path": ".",
        "resources": [resource.as_dict() for resource in resources],
    }
    if app.budget_policy:
        described["usage_policy_id"] = app.budget_policy
    key = app.name.replace("-", "_")
    targets = {"default": {"default": True}}
    return _yaml({"bundle": {"name": key}, "resources": {"apps": {key: described}}, "targets": targets})


def write_app(app: DatabricksApp, resources: "list[AppResource]", folder: Path) -> list[Path]:
    """Write all that an app is made of into a folder. Returns its files, relative to it.

    What was written there before is replaced. Notes on what was left out of the requirements are printed.

    Raises:
        Failure: the folder holds something else, a file cannot be read, or Databricks would not take it.
    """
    if folder.resolve() == app.agent_file.resolve().parent:
        raise Failure(f"{folder} is the agent's own folder: name another one.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "app.yaml").is_file():
        raise Failure(f"{folder} holds something else: name an empty folder, or a new one.")
    shutil.rmtree(folder / "stateful_agent", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    lines, notes = requirements_of(app.agent_file, app.requirements, app.configuration.settings())
    for note in notes:
        print(note, flush=True)
    copy_code(app.agent_file.resolve(), folder)
    if constrained := constraints_of(lines):
        (folder / "constraints.txt").write_text("\n".join(constrained) + "\n")
        lines.append("-c constraints.txt")
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n")
    (folder / "app.yaml").write_text(app_yaml(app))
    (folder / "databricks.yml").write_text(bundle(app, resources))
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    for path in files:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Failure(f"{path.relative_to(folder)} has more than 10 MiB, which Databricks takes of no app's file.")
    return [path.relative_to(folder) for path in files]


def _key(variable: str) -> str:
    """The name of the resource that has a secret variable's value."""
    return variable.lower().replace("_", "-")


def _securable(name: str, kind: str, permission: str) -> dict[str, Any]:
    named = {"securable_full_name": name, "securable_type": kind, "permission": permission}
    return {"uc_securable": named}


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, width=120)
    return text
