"""What keeps a deployment from working, as far as it can be known before anything is created."""

import asyncio
from collections.abc import Mapping
from typing import Any

from stateful_agent.deploy.check import check
from stateful_agent.deploy.configuration import settings_of
from stateful_agent.deploy.endpoint import Deployment
from stateful_agent.deploy.failure import Failure
from stateful_agent.deploy.register import registry_of
from stateful_agent.deploy.resources import endpoints_of, resources
from stateful_agent.deploy.workspace import refusals, values_of, workspace


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
            "only trusted programs can call."
        )
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


def check_configured(deployment: Deployment) -> None:
    """Let a version answer here with the variables that it will have, and see that its Lakebase lets us in.

    Raises:
        Failure: why it does not answer, or a secret that cannot be read.
    """
    import psycopg  # with the rest a second, which `--help` should not take

    from stateful_agent.database import lakebase
    from stateful_agent.errors import AgentError

    found = deployment.configuration
    values = found.variables | values_of(found.secrets)
    with registry_of(deployment.model):
        check(f"models:/{deployment.model}/{deployment.version}", values)
    settings = settings_of(values)
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
