"""What keeps a deployment from working, as far as it can be known before anything is created."""

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stateful_agent.deploy.app import existing_app
from stateful_agent.deploy.app_source import DatabricksApp
from stateful_agent.deploy.check import check, check_source
from stateful_agent.deploy.configuration import settings_of
from stateful_agent.deploy.endpoint import Deployment
from stateful_agent.deploy.failure import Failure
from stateful_agent.deploy.register import registry_of
from stateful_agent.deploy.resources import endpoints_of, resources
from stateful_agent.deploy.workspace import refusals, values_of, workspace
from stateful_agent.settings import Settings

APP_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,28}[a-z0-9]")


def refuse(deployment: Deployment) -> None:
    """Refuse what could not work where it is deployed, by what the workspace knows. Changes nothing.

    Raises:
        Failure: what is missing, or not as it must be.
    """
    import mlflow

    settings = deployment.configuration.settings()
    if settings.trusted_identity not in (None, "context"):
        raise Failure(
            "A serving endpoint passes no headers on, so TRUSTED_IDENTITY names nobody there: set it to context, where "
            "only trusted programs can call, or deploy an app (--app)."
        )
    _refuse_missing(settings)
    with registry_of(deployment.model):
        model = mlflow.models.Model.load(f"models:/{deployment.model}/{deployment.version}")
    if model.model_id:  # which Databricks' own code looks up, where MLflow's tracking is
        try:
            mlflow.get_logged_model(model.model_id)
        except mlflow.MlflowException as error:
            raise Failure(
                f"{deployment.model}, version {deployment.version}, was not logged at {mlflow.get_tracking_uri()}: set "
                "MLFLOW_TRACKING_URI to where it was."
            ) from error
    granted = _named(model.resources or {})
    for kind, name in sorted(_named(_merged(resources(settings)))):
        if (kind, name) not in granted:
            raise Failure(
                f"{deployment.model}, version {deployment.version}, was logged without access to {name} ({kind}): log "
                "and register it again with the same settings."
            )


def refuse_app(app: DatabricksApp) -> None:
    """Refuse an app that could not work, by what the workspace knows. Changes nothing.

    Raises:
        Failure: what is missing, or not as it must be.
    """
    if not APP_NAME.fullmatch(app.name):
        raise Failure(f"{app.name} is no name for an app: 2 to 30 small letters, digits and hyphens within.")
    if not app.agent_file.is_file():
        raise Failure(f"There is no {app.agent_file}: name the agent's file with --agent.")
    client = workspace()
    try:
        client.config.oauth_token()
    except ValueError as error:
        raise Failure(
            "An app is asked with OAuth, which a personal token is not: databricks auth login, or set "
            "DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET."
        ) from error
    _refuse_missing(app.configuration.settings())
    with refusals(f"looking at the app {app.name}"):
        existing_app(client, app.name)


def _refuse_missing(settings: Settings) -> None:
    """Refuse what of the settings the workspace does not have, or not ready."""
    client = workspace()
    for name in endpoints_of(settings):
        with refusals(f"asking the model's endpoint {name}"):
            state = client.serving_endpoints.get(name).state
        if state and state.ready and state.ready.value != "READY":
            raise Failure(f"The model's endpoint {name} is not ready.")
    if settings.lakebase_instance_name:
        with refusals(f"using the Lakebase {settings.lakebase_instance_name}"):
            instance = client.database.get_database_instance(settings.lakebase_instance_name)
        if instance.state and instance.state.value not in ("AVAILABLE", "UPDATING", "FAILING_OVER"):
            raise Failure(f"The Lakebase {settings.lakebase_instance_name} is {instance.state.value.lower()}.")


def check_configured(deployment: Deployment) -> None:
    """Let a version answer here with the variables that it will have, and see that its Lakebase lets us in.

    Raises:
        Failure: why it does not answer, or a secret that cannot be read.
    """
    found = deployment.configuration
    values = found.variables | values_of(found.secrets)
    with registry_of(deployment.model):
        check(f"models:/{deployment.model}/{deployment.version}", values)
    _check_lakebase(settings_of(values))


def check_app(app: DatabricksApp, folder: Path, tell: Callable[[str], None]) -> None:
    """Let an app that is written to a folder answer here as it will there, but for its database, and see that its
    Lakebase lets us in.

    Raises:
        Failure: what cannot be installed, why it does not answer, or a secret that cannot be read.
    """
    found = app.configuration
    values = found.variables | values_of(found.secrets)
    check_source(folder, values, tell)
    _check_lakebase(settings_of(values))


def _check_lakebase(settings: Settings) -> None:
    import psycopg  # with the rest a second, which `--help` should not take

    from stateful_agent.database import lakebase
    from stateful_agent.errors import AgentError

    if location := lakebase.location_of(settings):
        try:
            asyncio.run(lakebase.check_entry(location, settings.database_timeout))
        except (AgentError, psycopg.Error) as error:
            raise Failure(f"{lakebase.in_words(location)}: {error}") from error


def _named(described: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The kinds and names of resources, in the form of an MLmodel file."""
    found = described.get("databricks", described)
    return {(kind, one["name"]) for kind, ones in found.items() if isinstance(ones, list) for one in ones}


def _merged(found: list[Any]) -> dict[str, list[Any]]:
    merged: dict[str, list[Any]] = {}
    for resource in found:
        for kind, ones in resource.to_dict().items():
            merged.setdefault(kind, []).extend(ones)
    return merged
