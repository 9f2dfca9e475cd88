"""Where MLflow shows a trace."""

import os
from urllib.parse import quote, urlsplit

import mlflow

DEFAULT_EXPERIMENT = "0"
"""Of a tracking server, where no experiment is named."""


def trace_url(trace_id: str) -> str | None:
    """The page of a trace, on the tracking server or in the workspace that traces are stored in.

    `None` where they are stored in a database or in files, or where it takes more than this process's environment to
    know the workspace (`DATABRICKS_HOST`) or the experiment (`MLFLOW_EXPERIMENT_ID`).
    """
    uri, experiment = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_EXPERIMENT_ID")
    if uri.startswith("databricks"):
        host = os.environ.get("DATABRICKS_HOST", "").rstrip("/").removeprefix("https://")
        pages = f"https://{host}/ml" if host else None
    elif uri.startswith(("http://", "https://")):
        address = urlsplit(uri)
        pages = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path.rstrip('/')}/#"
        if "MLFLOW_EXPERIMENT_NAME" not in os.environ:
            experiment = experiment or DEFAULT_EXPERIMENT
    else:
        pages = None
    if pages is None or experiment is None:
        return None
    return f"{pages}/experiments/{experiment}/traces?selectedEvaluationId={quote(trace_id, safe='')}"
