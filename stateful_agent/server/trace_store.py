"""Where traces are stored: MLflow's database or tracking server, and a collector of OpenTelemetry's beside it."""

import functools
import json
import os
from typing import Any

import mlflow
from mlflow.entities import Span, Trace, TraceInfo
from mlflow.tracing.client import TracingClient
from mlflow.tracing.export.mlflow_v3 import MlflowV3SpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource

from stateful_agent.server.mlflow_internals import as_opentelemetry

OTLP = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""OpenTelemetry's own variables, which name a collector."""

IN_SPANS = {"mlflow.trace.session", "mlflow.trace.user", "mlflow.trace_schema.version"}
"""What is known of a trace beside its spans, and can be told with them."""


class Store:
    """The store of a tracking URI."""

    def __init__(self, tracking_uri: str) -> None:
        mlflow.set_tracking_uri(tracking_uri)
        self._uri, self._client = tracking_uri, TracingClient(tracking_uri)
        self._collector = Collector() if any(os.environ.get(name) for name in OTLP) else None

    def add(self, traces: list[dict[str, Any]]) -> None:
        """Store traces, given as `Trace.to_dict` writes them.

        Raises:
            Exception: MLflow's store does not take them.
        """
        spans = [span for trace in traces for span in _spans(trace)]
        if self._collector:
            self._collector.add(spans)
        for trace in traces:
            trace["info"]["trace_location"]["mlflow_experiment"]["experiment_id"] = self._experiment_id
        try:
            self._client.log_spans(self._experiment_id, spans)
        except NotImplementedError:  # a store in files, or a server before MLflow 3.4
            exporter = MlflowV3SpanExporter(self._uri)
            for trace in traces:
                exporter._log_trace(Trace.from_dict(trace), [])
            return
        for trace in traces:
            if trace["info"].get("trace_metadata", {}).keys() - IN_SPANS or trace["info"].get("client_request_id"):
                self._client.start_trace(TraceInfo.from_dict(trace["info"]))

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


def _spans(trace: dict[str, Any]) -> list[Span]:
    """A trace's spans, and what else is known of it as attributes of the first, from which MLflow's stores take it."""
    told = trace["info"].get("trace_metadata", {})
    attributes = {f"mlflow.traceTag.{name}": value for name, value in trace["info"].get("tags", {}).items()}
    attributes |= {"session.id": told.get("mlflow.trace.session"), "user.id": told.get("mlflow.trace.user")}
    for span in trace["data"]["spans"]:
        if not span["parent_span_id"]:
            span["attributes"] |= {name: json.dumps(value) for name, value in attributes.items() if value}
    return [Span.from_dict(span) for span in trace["data"]["spans"]]
