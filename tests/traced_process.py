"""What a serving process does for its traces: a module of its own, so that a process that is spawned can import it."""

import threading
from multiprocessing.synchronize import Lock

import mlflow

from stateful_agent.server.tracing import delay_tracing, start_tracing


def trace_a_turn(tracking_uri: str, setting_up: Lock) -> None:
    mlflow.set_tracking_uri(tracking_uri)
    delay_tracing()
    start_tracing(setting_up)
    for thread in set(threading.enumerate()) - {threading.main_thread()}:
        thread.join()
    with mlflow.start_span("turn"):
        pass
    mlflow.flush_trace_async_logging()
