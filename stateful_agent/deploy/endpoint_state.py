"""An endpoint of Databricks as the workspace describes it: how far a version is, what is served, and its logs."""

from collections.abc import Callable, Iterator
from typing import Any

from stateful_agent.deploy.failure import Failure
from stateful_agent.deploy.progress import State, wait_until_ready
from stateful_agent.deploy.workspace import refusals, workspace

FAILED_UPDATES = ("update failed", "update canceled")


def endpoint_of(name: str) -> str:
    """The endpoint that a model of Unity Catalog is served at unless another is named, as `databricks.agents` has it.

    A name without periods is an endpoint's own.
    """
    return "agents_" + name[:56].replace(".", "-").rstrip("_-") if "." in name else name


def entities_of(endpoint: Any) -> list[Any]:
    """What an endpoint serves, and is about to serve, each version once: as it is about to be."""
    found: dict[tuple[str | None, str | None], Any] = {}
    for config in (endpoint.config, endpoint.pending_config):
        for entity in (config.served_entities if config else None) or []:
            found[entity.entity_name, entity.entity_version] = entity
    return list(found.values())


def state_of(endpoint: Any, version: str) -> State:
    """How far a version is, by the workspace's description of the endpoint."""
    entity = next((one for one in entities_of(endpoint) if one.entity_version == version), None)
    state = entity.state if entity else None
    deployment = _words(state and state.deployment).removeprefix("deployment ")
    ready, update = _state(endpoint)
    words = deployment or (update if update in FAILED_UPDATES else "waiting")
    words += f": {state.deployment_state_message}" if state and state.deployment_state_message else ""
    if deployment in ("failed", "aborted") or update in FAILED_UPDATES:
        return State(words, has_failed=True)
    return State(words, is_ready=deployment == ready == "ready" and update != "in progress")


def wait(endpoint: str, version: str, tell: Callable[[str], None], minutes: float) -> None:
    """Wait until an endpoint serves a version, and tell each change on the way.

    Raises:
        Failure: it cannot be served, or not within these minutes.
    """
    client = workspace()

    def look() -> State:
        with refusals(f"looking at the endpoint {endpoint}"):
            return state_of(client.serving_endpoints.get(endpoint), version)

    wait_until_ready(endpoint, look, tell, minutes)


def status(name: str) -> Iterator[str]:
    """What an endpoint serves, in lines. `name` is the endpoint's, or that of its model.

    Raises:
        Failure: there is no such endpoint.
    """
    client = workspace()
    with refusals(f"looking at the endpoint {endpoint_of(name)}"):
        endpoint = client.serving_endpoints.get(endpoint_of(name))
    ready, update = _state(endpoint)
    yield f"{endpoint.name}: {ready}" + (f", {update}" if update not in ("", "not updating") else "")
    routes = endpoint.config.traffic_config.routes if endpoint.config and endpoint.config.traffic_config else []
    traffic = {route.served_model_name: route.traffic_percentage for route in routes or []}
    for entity in entities_of(endpoint):
        words = state_of(endpoint, entity.entity_version).words
        yield f"  {entity.entity_name}, version {entity.entity_version}: {traffic.get(entity.name, 0)} %, {words}"
        for variable, value in sorted((entity.environment_vars or {}).items()):
            yield f"    {variable}={value}"


def logs(name: str, version: str | None = None) -> Iterator[str]:
    """The log of a version's build and, once it has begun, of its serving, as the workspace has them.

    Raises:
        Failure: there is no such endpoint, or it serves no such version.
    """
    client = workspace()
    name = endpoint_of(name)
    with refusals(f"reading the logs of {name}"):
        entities = entities_of(client.serving_endpoints.get(name))
        found = [entity for entity in entities if version in (None, entity.entity_version)]
        if not found:
            raise Failure(f"{name} does not serve version {version}." if version else f"{name} serves nothing.")
        entity = max(found, key=lambda one: int(one.entity_version or 0))
        yield f"--- build of version {entity.entity_version}"
        yield client.serving_endpoints.build_logs(name, entity.name).logs or ""
        if entity.state and _words(entity.state.deployment) == "deployment ready":
            yield f"--- version {entity.entity_version}"
            yield client.serving_endpoints.logs(name, entity.name).logs or ""


def _state(endpoint: Any) -> tuple[str, str]:
    """Whether an endpoint is ready, and how its update goes, in words."""
    return (_words(endpoint.state.ready), _words(endpoint.state.config_update)) if endpoint.state else ("", "")


def _words(state: Any) -> str:
    """A state of the SDK's in words, none if it is not known."""
    return state.value.replace("_", " ").lower() if state else ""
