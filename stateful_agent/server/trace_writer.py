"""The process that stores the traces of all workers.

MLflow's store takes longer to store a trace than the server to take a turn. In a process of its own, which gets what
the others leave of the processor, it delays no turn; many traces together cost it half of what they cost one by one.
"""

import json
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import threading
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Listener
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stateful_agent.server.signals import interrupts_delayed, stop_with_parent

if TYPE_CHECKING:
    from mlflow.entities import Span

logger = logging.getLogger(__name__)

MOST_BYTES = 64 * 1024 * 1024
"""Of traces that wait to be stored. What comes beyond is dropped, and counted."""

BATCH = 100
"""Traces that are stored together at most."""

END_SECONDS = 5.0
"""For what still waits to be stored, when the server stops."""

OTLP = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""OpenTelemetry's own variables, which name a collector."""

NICENESS = 10
"""Of a core that is wanted by others too, the process gets about a tenth."""

RESTART_SECONDS = 1.0


@dataclass(frozen=True)
class WriterAddress:
    """Where workers reach the writer."""

    path: str = field(default_factory=lambda: os.path.join(tempfile.mkdtemp(prefix="traces-"), "socket"))
    key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)


class TraceWriter:
    """Keeps the process running, from the one that supervises the server."""

    def __init__(self, address: WriterAddress) -> None:
        self._address = address
        self._process = self._start()
        self._is_closing = threading.Event()
        threading.Thread(target=self._keep, daemon=True).start()

    def close(self) -> None:
        """Let it store what it has, and end it."""
        self._is_closing.set()
        self._process.terminate()
        self._process.join(END_SECONDS + 1)
        self._process.kill()
        shutil.rmtree(os.path.dirname(self._address.path), ignore_errors=True)

    def _start(self) -> BaseProcess:
        process = multiprocessing.get_context("spawn").Process(target=write_traces, args=(self._address,))
        with interrupts_delayed():
            process.start()
        return process

    def _keep(self) -> None:
        while True:
            self._process.join()
            if self._is_closing.wait(RESTART_SECONDS):
                return
            self._process = self._start()


def write_traces(address: WriterAddress) -> None:
    """Store traces as they come, until SIGTERM; then what is there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervising process ends this one, after the workers
    backlog = Backlog()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: backlog.close())
    stop_with_parent()
    os.nice(NICENESS)
    Path(address.path).unlink(missing_ok=True)  # one that was killed leaves it
    with Listener(address.path, "AF_UNIX", authkey=address.key) as listener:
        threading.Thread(target=_accept, args=(listener, backlog), daemon=True).start()
        store: Store | None = None
        while batch := backlog.take():
            tracking_uri, traces = batch
            store = store or Store(
                tracking_uri
            )  # which imports most of MLflow: it is time enough when there are traces
            store.add([pickle.loads(trace) for trace in traces])


class Backlog:
    """The traces that wait to be stored."""

    def __init__(self) -> None:
        self._batches: deque[tuple[str, list[bytes]]] = deque()
        self._bytes, self._is_closed = 0, False
        self._changed = threading.Condition()

    def put(self, tracking_uri: str, traces: list[bytes]) -> None:
        """Add some, as far as there is room."""
        with self._changed:
            for trace in traces:
                if self._bytes + len(trace) > MOST_BYTES:
                    _count_dropped(1)
                    continue
                if not self._batches or len(self._batches[-1][1]) == BATCH:
                    self._batches.append((tracking_uri, []))
                self._batches[-1][1].append(trace)
                self._bytes += len(trace)
            self._changed.notify()

    def take(self) -> tuple[str, list[bytes]] | None:
        """The next ones, and the store that they are for. `None` if there are no more, and none come any more."""
        with self._changed:
            while not self._batches and not self._is_closed:
                self._changed.wait(0.5)  # seconds; a signal is handled in between
            if not self._batches:
                return None
            tracking_uri, traces = self._batches.popleft()
            self._bytes -= sum(map(len, traces))
            return tracking_uri, traces

    def close(self) -> None:
        """Let `take` end after what is there."""
        self._is_closed = True


def _count_dropped(traces: int) -> None:
    from stateful_agent.metrics import TRACES_DROPPED  # which imports much that is not needed here otherwise

    TRACES_DROPPED.labels("writer").inc(traces)


def _accept(listener: Listener, backlog: Backlog) -> None:
    while True:
        try:
            connection = listener.accept()
        except (OSError, EOFError, multiprocessing.AuthenticationError):
            continue
        threading.Thread(target=_receive, args=(connection, backlog), daemon=True).start()


def _receive(connection: Connection, backlog: Backlog) -> None:
    try:
        while True:
            tracking_uri, traces = pickle.loads(connection.recv_bytes())
            backlog.put(tracking_uri, traces)
    except (OSError, EOFError):
        connection.close()


class Store:
    """MLflow's store of traces, which is a database or a tracking server."""

    def __init__(self, tracking_uri: str) -> None:
        import mlflow
        from mlflow.tracing.client import TracingClient

        mlflow.set_tracking_uri(tracking_uri)
        self._uri, self._client = tracking_uri, TracingClient(tracking_uri)
        self._experiment_id: str | None = None
        self._collector = Collector() if any(os.environ.get(name) for name in OTLP) else None

    def add(self, traces: list[dict[str, Any]]) -> None:
        """Store traces, given as `Trace.to_dict` writes them. What cannot be stored is dropped, with a warning."""
        try:
            self._experiment_id = self._experiment_id or _experiment_id()
            self._add(traces, self._experiment_id)
        except Exception as error:
            logger.warning("%d traces cannot be stored: %s", len(traces), error)
            _count_dropped(len(traces))

    def _add(self, traces: list[dict[str, Any]], experiment_id: str) -> None:
        from mlflow.entities import Trace, TraceInfo
        from mlflow.tracing.export.mlflow_v3 import MlflowV3SpanExporter

        for trace in traces:
            trace["info"]["trace_location"]["mlflow_experiment"]["experiment_id"] = experiment_id
        spans = [span for trace in traces for span in _spans(trace)]
        if self._collector:
            self._collector.add(spans)
        try:
            self._client.log_spans(experiment_id, spans)
        except NotImplementedError:  # a store in files, or a server before MLflow 3.4
            exporter = MlflowV3SpanExporter(self._uri)
            for trace in traces:
                exporter._log_trace(Trace.from_dict(trace), [])
            return
        for trace in traces:
            if trace["info"].get("trace_metadata", {}).keys() - IN_SPANS or trace["info"].get("client_request_id"):
                self._client.start_trace(TraceInfo.from_dict(trace["info"]))


class Collector:
    """What collects the traces of many services, and is sent ours as well, by OpenTelemetry's protocol over HTTP."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource

        os.environ.setdefault("OTEL_SERVICE_NAME", "stateful-agent")
        self._exporter, self._resource = OTLPSpanExporter(), Resource.create()

    def add(self, spans: "list[Span]") -> None:
        """Send spans. The exporter tries again for a while, and then logs that it could not."""
        from stateful_agent.server.mlflow_internals import as_opentelemetry

        self._exporter.export([as_opentelemetry(span, self._resource) for span in spans])


IN_SPANS = {"mlflow.trace.session", "mlflow.trace.user", "mlflow.trace_schema.version"}
"""What is known of a trace beside its spans, and can be told with them."""


def _spans(trace: dict[str, Any]) -> "list[Span]":
    """A trace's spans, and what else is known of it as attributes of the first, from which MLflow's stores take it."""
    from mlflow.entities import Span

    told = trace["info"].get("trace_metadata", {})
    attributes = {f"mlflow.traceTag.{name}": value for name, value in trace["info"].get("tags", {}).items()}
    attributes |= {"session.id": told.get("mlflow.trace.session"), "user.id": told.get("mlflow.trace.user")}
    for span in trace["data"]["spans"]:
        if not span["parent_span_id"]:
            span["attributes"] |= {name: json.dumps(value) for name, value in attributes.items() if value}
    return [Span.from_dict(span) for span in trace["data"]["spans"]]


def _experiment_id() -> str:
    """Where traces go. It is made if it is not there yet."""
    import mlflow

    name, experiment_id = os.environ.get("MLFLOW_EXPERIMENT_NAME"), os.environ.get("MLFLOW_EXPERIMENT_ID")
    if experiment_id and not name:
        return experiment_id
    return str(mlflow.set_experiment(name or "Default").experiment_id)
