"""Registering a logged model, in Unity Catalog or in MLflow's own registry."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stateful_agent.deploy.failure import Failure
from stateful_agent.deploy.workspace import workspace

UNITY_CATALOG = "databricks-uc"


def register(model_uri: str, name: str, alias: str | None = None) -> str:
    """Register a logged model. If it is the newest by that name already, that stays so.

    A `name` of three parts, `catalog.schema.model`, is Unity Catalog's; any other is of the registry that MLflow is
    configured with. With an `alias`, that names this version from then on. Returns the version.

    Raises:
        Failure: the name has no form that a registry knows, or there is no workspace.
        mlflow.MlflowException: the registry does not take it.
    """
    import mlflow

    client = registry(name)
    model = mlflow.models.Model.load(model_uri)
    version = _registered(client, name, model.model_id)
    if version is None:
        with registry_of(name):
            version = str(mlflow.register_model(model_uri, name).version)
    if alias:
        client.set_registered_model_alias(name, alias, version)
    return version


@contextmanager
def registry_of(name: str) -> Iterator[None]:
    """The registry that a model's name is of is MLflow's for a while, also if what is called sets another."""
    import mlflow

    before = mlflow.get_registry_uri()
    if "." in name:
        mlflow.set_registry_uri(UNITY_CATALOG)
    try:
        yield
    finally:
        mlflow.set_registry_uri(before)


def registry(name: str) -> Any:
    """MLflow's client of the registry that a model's name is of."""
    import mlflow

    parts = name.split(".")
    if not all(parts) or len(parts) not in (1, 3) or "'" in name:
        raise Failure(f"{name} is no name for a model: Unity Catalog has catalog.schema.model, MLflow a name without.")
    if len(parts) == 1:
        return mlflow.MlflowClient()
    workspace()  # one line where none is named
    return mlflow.MlflowClient(registry_uri=UNITY_CATALOG)


def version_of(name: str, which: str | None) -> str:
    """The number of a version of a registered model that is named by its number, or by its alias; `None`: the newest.

    Raises:
        Failure: there is none, or it is not ready.
    """
    import mlflow

    client = registry(name)
    if which is None:
        found = _newest(client, name)
        if found is None:
            raise Failure(f"{name} is not registered: register MODEL {name}.")
    else:
        by_name = client.get_model_version if which.isdecimal() else client.get_model_version_by_alias
        try:
            found = by_name(name, which)
        except mlflow.MlflowException as error:
            raise Failure(f"{name} has no version {which}: {error.message}") from error
    if found.status != "READY":
        raise Failure(f"{name}, version {found.version}, is not ready: {found.status_message or found.status}.")
    return str(found.version)


def _registered(client: Any, name: str, model_id: str | None) -> str | None:
    """The newest version by that name, if it is this model. A search in Unity Catalog tells where a model came from,
    but not its id."""
    newest = _newest(client, name)
    if newest is None or model_id is None or model_id not in newest.source or newest.status != "READY":
        return None
    return str(newest.version)


def _newest(client: Any, name: str) -> Any:
    """The newest version by that name, `None` if there is none."""
    found = client.search_model_versions(f"name='{name}'")
    versions = list(found)
    while found.token:
        found = client.search_model_versions(f"name='{name}'", page_token=found.token)
        versions.extend(found)
    return max(versions, key=lambda version: int(version.version), default=None)
