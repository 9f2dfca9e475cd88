"""MLflow's traces of the turns that a serving process takes."""

import logging
import os
import threading
from multiprocessing.synchronize import Lock

import mlflow
from mlflow.environment_variables import MLFLOW_TRACE_SAMPLING_RATIO

logger = logging.getLogger(__name__)

SET_UP_SECONDS = 60
"""At most, for another process to set up the store of traces."""


def delay_tracing() -> None:
    """Turn tracing off until `start_tracing`."""
    # MLflow's ten threads that store traces would get ten times as much of the interpreter as the event loop.
    os.environ.setdefault("MLFLOW_ASYNC_TRACE_LOGGING_MAX_WORKERS", "1")
    mlflow.tracing.disable()


def start_tracing(setting_up: Lock) -> None:
    """Let MLflow trace turns soon, from a thread of its own: requests need not wait for it.

    What MLflow imports for that takes as long as half of the start, and its store of traces may be away. The turns of
    the first two seconds are not traced. One process after the other is `setting_up`: of two that create MLflow's
    tables at once, one fails. Where no turn is sampled, there is no store to set up.
    """
    if MLFLOW_TRACE_SAMPLING_RATIO.get() == 0:
        return
    threading.Thread(target=_trace, args=(setting_up,), daemon=True).start()


def _trace(setting_up: Lock) -> None:
    held = setting_up.acquire(timeout=SET_UP_SECONDS)  # a process that was killed meanwhile holds it for ever
    try:
        _set_up()
    finally:
        if held:
            setting_up.release()


def _set_up() -> None:
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
