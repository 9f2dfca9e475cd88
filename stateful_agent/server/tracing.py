"""Traces of the turns that a worker takes, on their way to the process that stores them."""

import logging
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection
from typing import Any

import mlflow
from mlflow.environment_variables import MLFLOW_TRACE_SAMPLING_RATIO

from stateful_agent.metrics import TRACES_DROPPED
from stateful_agent.server.mlflow_internals import (
    FinishedTrace,
    collect_traces,
    is_destination_set,
    named_experiment,
    trace_into,
)
from stateful_agent.server.trace_writer import BATCH, WriterAddress

logger = logging.getLogger(__name__)

MOST_WAITING = 2048
"""Traces of one process that wait to be handed over. What comes beyond is dropped, and counted."""

BATCH_SECONDS = 0.2
"""How long traces are gathered, before they are handed over together."""

END_SECONDS = 2.0
"""For the last ones, when the server stops."""

ASKING_SECONDS = 20.0
"""To ask a workspace, when the server starts, where the traces of its experiment go."""

FLUSHING_SECONDS = 5.0
"""For a workspace to take the last ones, where MLflow stores them, when the server stops."""


@contextmanager
def traced(writer: WriterAddress | None) -> Iterator[None]:
    """Let turns be traced, and their traces be stored by another process, if there is such a `writer`.

    What goes into tables of Unity Catalog is stored by MLflow, on threads of this process.
    """
    # The images in what is asked stay where they are: MLflow would look for them in every value of every trace.
    os.environ.setdefault("MLFLOW_TRACE_EXTRACT_ATTACHMENTS", "false")
    uri = mlflow.get_tracking_uri()
    if MLFLOW_TRACE_SAMPLING_RATIO.get() == 0:
        mlflow.tracing.disable()  # or MLflow would begin a span of each turn, to drop it
    if writer is None:
        yield
        return
    if uri.startswith("databricks") and _are_stored_by_mlflow():
        yield
        _done_within(FLUSHING_SECONDS, mlflow.flush_trace_async_logging)
        return
    handover = Handover(writer, uri)
    collect_traces(handover.put)
    try:
        yield
    finally:
        handover.close()


def _are_stored_by_mlflow() -> bool:
    """Whether a workspace's traces go where only MLflow sends them: where the graph says, or into Unity Catalog."""
    if is_destination_set():
        return True
    experiment = _done_within(ASKING_SECONDS, named_experiment)
    if experiment is None or experiment.trace_location is None:
        return False
    trace_into(experiment)
    return True


def _done_within(seconds: float, ask: Callable[[], Any]) -> Any:
    """What a function returns; `None` if it fails, which is logged, or takes longer."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(ask())
        except Exception as error:
            logger.warning("The workspace that stores the traces: %s", error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


class Handover:
    """Gathers a worker's finished traces and sends them to the writer, on a thread: a turn waits for none of it.

    They are kept until the writer confirms that they are stored: if it was killed, the next one is sent them again.
    """

    def __init__(self, writer: WriterAddress, tracking_uri: str) -> None:
        self._writer, self._tracking_uri = writer, tracking_uri
        self._waiting: deque[FinishedTrace] = deque()
        self._sent: dict[int, list[bytes]] = {}
        """What is not confirmed yet, by the numbers of deliveries."""
        self._sent_again: set[int] = set()
        self._number = 0
        self._is_closing = threading.Event()
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="traces")
        self._thread.start()

    def put(self, trace: FinishedTrace) -> None:
        """Take a finished trace."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(trace)
        else:
            _count_dropped(1)

    def close(self) -> None:
        """Send what is left."""
        self._is_closing.set()
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        while not self._is_closing.wait(BATCH_SECONDS):
            self._exchange()
        self._exchange()

    def _exchange(self) -> None:
        if not (self._waiting or self._sent):
            return
        try:
            connection = self._connection or self._connect()
            while self._sent and connection.poll():
                self._sent.pop(connection.recv(), None)
            while self._waiting:
                gathered = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                self._number += 1
                self._sent[self._number] = [each for trace in gathered if (each := _pickled(trace))]
                self._send(connection, self._number)
        except (OSError, EOFError):  # it has ended; another one will be there in a moment
            self._connection = None

    def _connect(self) -> Connection:
        connection = self._connection = Client(self._writer.path, "AF_UNIX", authkey=self._writer.key)
        # What two writers did not live to store may be what kills them.
        for number in self._sent_again & self._sent.keys():
            _count_dropped(len(self._sent.pop(number)))
        self._sent_again = set(self._sent)
        for number in self._sent:
            self._send(connection, number)
        return connection

    def _send(self, connection: Connection, number: int) -> None:
        connection.send((number, self._tracking_uri, self._sent[number]))


def _pickled(trace: FinishedTrace) -> bytes | None:
    """A trace for the writer; `None` if the graph has put into it what cannot be written."""
    info, spans = trace
    try:
        # The tags of a graph's own may be anything, of types that the writer does not have.
        info.tags, info.trace_metadata = _in_words(info.tags), _in_words(info.trace_metadata)
        return pickle.dumps((info, [span.to_dict() for span in spans]))
    except Exception as error:
        logger.warning("A trace cannot be written: %s", error)
        _count_dropped(1)
        return None


def _in_words(values: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def _count_dropped(traces: int) -> None:
    TRACES_DROPPED.labels("worker").inc(traces)
