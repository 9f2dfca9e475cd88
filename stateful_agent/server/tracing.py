"""MLflow's traces of the turns that a serving process takes."""

import logging
import os
import threading

import mlflow

logger = logging.getLogger(__name__)


def delay_tracing() -> None:
    """Turn tracing off until `start_tracing`."""
    # MLflow's ten threads that store traces would get ten times as much of the interpreter as the event loop.
    os.environ.setdefault("MLFLOW_ASYNC_TRACE_LOGGING_MAX_WORKERS", "1")
    mlflow.tracing.disable()


def start_tracing() -> None:
    """Let MLflow trace turns soon, from a thread of its own: requests need not wait for it.

    What MLflow imports for that takes as long as half of the start, and its store of traces may be away. The turns of
    the first two seconds are not traced.
    """
    threading.Thread(target=_trace, daemon=True).start()


def _trace() -> None:
    """Look up once where traces go: MLflow would ask its store again for each turn, and stall all the others."""
    name, experiment_id = os.environ.get("MLFLOW_EXPERIMENT_NAME"), os.environ.get("MLFLOW_EXPERIMENT_ID")
    try:
        if name or experiment_id:
            mlflow.set_experiment(name, experiment_id=None if name else experiment_id)
        elif not mlflow.get_tracking_uri().startswith("databricks"):  # which has no default one
            mlflow.set_experiment("Default")
    except Exception as error:
        logger.warning("The experiment for traces cannot be looked up: %s", error)
    mlflow.tracing.enable()
