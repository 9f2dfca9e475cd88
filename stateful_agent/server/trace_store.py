"""Where traces are stored: MLflow's database or tracking server, and a collector of OpenTelemetry's beside it."""

import functools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import mlflow
from mlflow.entities import Span, Trace, TraceData, TraceInfo, TraceLocation
from mlflow.tracing.client import TracingClient
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource

from stateful_agent.server.mlflow_internals import FinishedTrace, add_previews, as_opentelemetry, tell_of_spans

OTLP = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""OpenTelemetry's own variables, which name a collector."""

IN_SPANS = {"mlflow.trace.session", "mlflow.trace.user", "mlflow.trace_schema.version"}
"""What is known of a trace beside its spans, and can be told with them."""

AT_THE_SAME_TIME = 10
"""Traces that are stored at once where each takes requests of its own."""

WrittenTrace: TypeAlias = tuple[TraceInfo, list[dict[str, Any]]]
"""What is known of a trace, and its spans as `Span.to_dict` writes them."""


class Store:
    """The store of a tracking URI."""

    def __init__(self, tracking_uri: str) -> None:
        mlflow.set_tracking_uri(tracking_uri)
        self._uri, self._client = tracking_uri, TracingClient(tracking_uri)
        self._collector = Collector() if any(os.environ.get(name) for name in OTLP) else None

    def add(self, traces: list[WrittenTrace]) -> list[Exception]:
        """Store traces. Returns why, for each that could not be stored.

        Raises:
            Exception: MLflow's store takes none of them.
        """
        read = [(info, _spans(info, written)) for info, written in traces]
        spans = [span for _, own in read for span in own]
        if self._collector:
            self._collector.add(spans)
        for info, _ in read:
            info.trace_location = TraceLocation.from_experiment_id(self._experiment_id)
        if self._uri.startswith("databricks"):
            return self._add_each(read)
        try:
            self._client.log_spans(self._experiment_id, spans)
        except NotImplementedError:  # a store in files, or a server before MLflow 3.4
            return self._add_each(read)
        errors: list[Exception] = []
        for info, own in read:
            if info.trace_metadata.keys() - IN_SPANS or info.client_request_id:
                try:
                    add_previews(info, own)  # which servers of an older MLflow would forget otherwise
                    self._client.start_trace(info)
                except Exception as error:
                    errors.append(error)
        return errors

    def _add_each(self, traces: list[FinishedTrace]) -> list[Exception]:
        """Store traces one by one, some at the same time: the spans of each are a file."""

        def add(trace: FinishedTrace) -> Exception | None:
            info, spans = trace
            try:
                add_previews(info, spans)
                tell_of_spans(Trace(info, TraceData(spans)))
                self._client._upload_trace_data(self._client.start_trace(info), TraceData(spans))
            except Exception as error:
                return error
            return None

        with ThreadPoolExecutor(AT_THE_SAME_TIME) as threads:
            return [error for error in threads.map(add, traces) if error]

    @functools.cached_property
    def _experiment_id(self) -> str:
        """Where traces go. It is made if it is not there yet."""
        name, experiment_id = os.environ.get("MLFLOW_EXPERIMENT_NAME"), os.environ.get("MLFLOW_EXPERIMENT_ID")
        if experiment_id and not name:
            return experiment_id
        return str(mlflow.set_experiment(name or "Default").experiment_id)


@functools.cache
def store_of(tracking_uri: str) -> Store:
    """The one store of a tracking URI."""
    return Store(tracking_uri)


class Collector:
    """What collects the traces of many services, and is sent ours as well, by OpenTelemetry's protocol over HTTP."""

    def __init__(self) -> None:
        os.environ.setdefault("OTEL_SERVICE_NAME", "stateful-agent")
        self._exporter, self._resource = OTLPSpanExporter(), Resource.create()

    def add(self, spans: list[Span]) -> None:
        """Send spans. The exporter tries again for a while, and then logs that it could not."""
        self._exporter.export([as_opentelemetry(span, self._resource) for span in spans])


def _spans(info: TraceInfo, written: list[dict[str, Any]]) -> list[Span]:
    """A trace's spans, and what else is known of it as attributes of the first, from which MLflow's stores take it."""
    told = info.trace_metadata
    attributes = {f"mlflow.traceTag.{name}": value for name, value in info.tags.items()}
    attributes |= {"session.id": told.get("mlflow.trace.session"), "user.id": told.get("mlflow.trace.user")}
    for span in written:
        if not span["parent_span_id"]:
            span["attributes"] |= {name: json.dumps(value) for name, value in attributes.items() if value}
    return [Span.from_dict(span) for span in written]
