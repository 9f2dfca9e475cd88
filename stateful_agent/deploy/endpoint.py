"""Serving a registered model at an endpoint of Databricks, through `databricks.agents`, and serving it no more."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from stateful_agent.deploy.configuration import Configuration
from stateful_agent.deploy.endpoint_state import entities_of, state_of
from stateful_agent.deploy.failure import Failure
from stateful_agent.deploy.register import registry_of
from stateful_agent.deploy.workspace import refusals, workspace


@dataclass(frozen=True)
class Deployment:
    """A version of a registered model, as it is to be served."""

    model: str
    """Its name in Unity Catalog: `catalog.schema.model`."""

    version: str
    endpoint: str
    configuration: Configuration
    workload_size: str = "Small"
    scale_to_zero: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    budget_policy: str | None = None

    def arguments(self) -> dict[str, Any]:
        """What `databricks.agents.deploy` is called with."""
        return {
            "model_name": self.model,
            "model_version": self.version,
            "endpoint_name": self.endpoint,
            "environment_vars": self.configuration.environment_vars(),
            "workload_size": self.workload_size,
            "scale_to_zero": self.scale_to_zero,
            "tags": dict(self.tags) or None,
            "usage_policy_id": self.budget_policy,
        }


def create(deployment: Deployment) -> str:
    """Serve a version at its endpoint, unless it is served so already, or about to be. Returns what was done, in words.

    Raises:
        Failure: the workspace refuses it.
    """
    from databricks.sdk.errors import NotFound

    client = workspace()
    with refusals(f"looking at the endpoint {deployment.endpoint}"):
        try:
            endpoint = client.serving_endpoints.get(deployment.endpoint)
        except NotFound:
            endpoint = None
    doing = f"serving {deployment.model}, version {deployment.version}, at {deployment.endpoint}"
    with refusals(doing), registry_of(deployment.model):  # Databricks' own code sets its registry for good
        if endpoint is None:
            return _deploy(deployment)
        others = {entity.entity_name for entity in entities_of(endpoint)} - {deployment.model, None}
        if others:
            raise Failure(f"The endpoint {deployment.endpoint} serves {', '.join(sorted(others))}: name another one.")
        if _serves(endpoint, deployment):
            return _record(endpoint, deployment) + "It is served so already."
        if any(entity.entity_version == deployment.version for entity in entities_of(endpoint)):
            return _update(client, endpoint, deployment)
        return _deploy(deployment)


def undeploy(model: str, version: str | None, endpoint: str) -> str:
    """Serve a model no more, or one version of it. Conversations stay in the database. Returns what was done, in words.

    Raises:
        Failure: the workspace refuses it.
    """
    from databricks.sdk.errors import NotFound

    agents = _agents()
    what = model if version is None else f"{model}, version {version},"
    client = workspace()
    with refusals(f"serving {what} no more"), registry_of(model):
        if agents.get_deployments(model, version):
            agents.delete_deployment(model, version)
            return f"{what} is not served any more. Its conversations are still in the database."
        if version is None:  # one whose creation was cut off before it was noted as an agent's
            try:
                client.serving_endpoints.get(endpoint)
            except NotFound:
                return f"{what} is not served."
            client.serving_endpoints.delete(endpoint)
            return f"{what} is not served any more. Its conversations are still in the database."
        return f"{what} is not served."


def _agents() -> Any:
    try:
        import databricks.agents
    except ImportError as error:
        raise Failure("Deploying to an endpoint needs a package: pip install 'stateful-agent[deploy]'") from error
    return databricks.agents


def _deploy(deployment: Deployment) -> str:
    agents = _agents()
    with redirect_stdout(StringIO()), _no_other_experiment():
        made = agents.deploy(**deployment.arguments())
    return f"Deploying to {made.endpoint_url} (people review its answers at {made.review_app_url})."


@contextmanager
def _no_other_experiment() -> Iterator[None]:
    """`databricks.agents.deploy` lets the endpoint trace into the experiment that is set here: a workspace's only."""
    import mlflow

    names = (
        () if mlflow.get_tracking_uri().startswith("databricks") else ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID")
    )
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _record(endpoint: Any, deployment: Deployment) -> str:
    """Note a served version among the workspace's agents, which a deployment that was cut off has not done."""
    agents = _agents()
    if agents.get_deployments(deployment.model, deployment.version):
        return ""
    host = workspace().config.host
    served = next(one.name for one in entities_of(endpoint) if one.entity_version == deployment.version)
    agents.client.rest_client.deploy_chain(
        model_name=deployment.model,
        model_version=deployment.version,
        query_endpoint=f"{host}/serving-endpoints/{deployment.endpoint}/served-models/{served}/invocations",
        endpoint_name=deployment.endpoint,
        served_entity_name=served,
        workspace_url=host,
    )
    return "It was not noted among the workspace's agents, and is now. "


def _update(client: Any, endpoint: Any, deployment: Deployment) -> str:
    """Serve a version that is served already in another way. `databricks.agents.deploy` takes new versions only."""
    from databricks.sdk.service.serving import ServedEntityInput

    entities = []
    for entity in entities_of(endpoint):
        described = {key: value for key, value in entity.as_dict().items() if key in ServedEntityInput.__annotations__}
        if entity.entity_version == deployment.version:
            described |= {
                "environment_vars": deployment.configuration.environment_vars() | _set_by_agents(entity),
                "workload_size": deployment.workload_size,
                "scale_to_zero_enabled": deployment.scale_to_zero,
            }
        entities.append(ServedEntityInput.from_dict(described))
    traffic = (endpoint.pending_config or endpoint.config).traffic_config
    client.serving_endpoints.update_config(deployment.endpoint, served_entities=entities, traffic_config=traffic)
    return _record(endpoint, deployment) + "Changing how it is served."


def _serves(endpoint: Any, deployment: Deployment) -> bool:
    """Whether an endpoint serves this version in this way, or is about to."""
    for entity in entities_of(endpoint):
        if entity.entity_version == deployment.version and not state_of(endpoint, deployment.version).has_failed:
            variables = entity.environment_vars or {}
            return (
                variables == deployment.configuration.environment_vars() | _set_by_agents(entity)
                and entity.workload_size == deployment.workload_size
                and bool(entity.scale_to_zero_enabled) == deployment.scale_to_zero
            )
    return False


def _set_by_agents(entity: Any) -> dict[str, str]:
    """The variables that `databricks.agents.deploy` has set by itself."""
    own = {
        "ENABLE_LANGCHAIN_STREAMING",
        "ENABLE_MLFLOW_TRACING",
        "RETURN_REQUEST_ID_IN_RESPONSE",
        "MLFLOW_EXPERIMENT_ID",
    }
    return {name: value for name, value in (entity.environment_vars or {}).items() if name in own}
