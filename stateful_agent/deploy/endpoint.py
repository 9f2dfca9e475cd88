"""The serving endpoint on Databricks that a registered model is deployed to."""

from typing import Any

from stateful_agent.deploy.failure import Failure
from stateful_agent.deploy.log import resources
from stateful_agent.settings import Settings


def deployment(name: str, version: str, settings: Settings) -> dict[str, Any]:
    """The serving endpoint to create, in the words of Databricks' REST API, and the resources it needs access to."""
    variables = {"AGENT_MODEL": settings.agent_model} | {
        name.upper(): value for name, value in settings if name.startswith("lakebase_")
    }
    served = {
        "entity_name": name,
        "entity_version": version,
        "workload_size": "Small",
        "scale_to_zero_enabled": True,
        "environment_vars": {key: value for key, value in variables.items() if value},
    }
    return {
        "endpoint": {"name": name.replace(".", "-"), "config": {"served_entities": [served]}},
        "resources": [resource.to_dict() for resource in resources(settings)],
    }


def deploy(name: str, version: str, *, dry_run: bool) -> dict[str, Any]:
    """Deploy a version of a registered model. Returns what is created, or would be.

    Raises:
        Failure: this is no dry run, which is all that is built yet.
    """
    if not dry_run:
        raise Failure("Deploying is not built yet: add --dry-run to see what it will create.")
    return deployment(name, version, Settings())
