"""What a deployed agent needs access to in its workspace, by what its settings name."""

from typing import Any

from stateful_agent.settings import Settings


def resources(settings: Settings) -> list[Any]:
    """The workspace's resources that the settings name, in MLflow's classes. What a model is logged with, it may use.

    MLflow can name a provisioned Lakebase only: access to an autoscaling one is granted in its project. Of functions
    given as `catalog.schema.*` it cannot know which there are: access to these is granted in Unity Catalog.
    """
    from mlflow.models.resources import (  # seconds, which `--help` should not take
        DatabricksFunction,
        DatabricksGenieSpace,
        DatabricksLakebase,
        DatabricksServingEndpoint,
        DatabricksVectorSearchIndex,
    )

    found: list[Any] = [DatabricksServingEndpoint(endpoint_name=name) for name in endpoints_of(settings)]
    if settings.lakebase_instance_name:
        found.append(DatabricksLakebase(database_instance_name=settings.lakebase_instance_name))
    found += [DatabricksFunction(function_name=name) for name in settings.uc_functions if not name.endswith("*")]
    found += [DatabricksGenieSpace(genie_space_id=name) for name in settings.genie_spaces]
    found += [DatabricksVectorSearchIndex(index_name=name) for name in settings.vector_search_indexes]
    return found


def endpoints_of(settings: Settings) -> list[str]:
    """The workspace's serving endpoints that the agent asks: its models, and the one that embeds."""
    models = [settings.agent_model, *settings.agent_fallback_models, settings.embedding_model]
    named = (model.partition(":") for model in models if model)
    return list(dict.fromkeys(model for provider, _, model in named if provider == "databricks"))
