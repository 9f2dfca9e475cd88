"""What belongs to MLflow's private parts, as of 3.17: its traces, taken from it to be stored elsewhere."""

import json
import os
from collections.abc import Callable
from typing import TypeAlias

import mlflow
from mlflow.entities import Experiment, TraceData
from mlflow.entities.span import Span as MlflowSpan
from mlflow.entities.span import create_mlflow_span
from mlflow.entities.trace import Trace
from mlflow.entities.trace_info import TraceInfo
from mlflow.entities.trace_location import TraceLocation
from mlflow.entities.trace_state import TraceState
from mlflow.tracing import provider as tracer
from mlflow.tracing.constant import (
    MAX_CHARS_IN_TRACE_INFO_METADATA,
    TRACE_SCHEMA_VERSION,
    TRACE_SCHEMA_VERSION_KEY,
    TraceMetadataKey,
    TraceTagKey,
)
from mlflow.tracing.trace_manager import InMemoryTraceManager
from mlflow.tracing.utils import (
    add_size_stats_to_trace_metadata,
    aggregate_usage_from_spans,
    generate_trace_id_v3,
)
from mlflow.tracing.utils.truncation import set_request_response_preview
from opentelemetry import trace as opentelemetry
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

UNKNOWN_EXPERIMENT = "0"
"""Whoever stores a trace knows its experiment. MLflow's own processor would ask the store for it at every turn."""


FinishedTrace: TypeAlias = tuple[TraceInfo, list[MlflowSpan]]
"""What is known of a trace, and its spans. What comes of the spans, such as previews, is not in it yet."""


def collect_traces(deliver: Callable[[FinishedTrace], None]) -> None:
    """Hand each finished trace to `deliver`, which must not wait, instead of storing it from this process.

    All of MLflow's functions for tracing work on. Where tracing has been disabled, it stays so.
    """
    if isinstance(tracer.provider.get(), opentelemetry.NoOpTracerProvider):
        return

    def initialize() -> None:
        provider = TracerProvider(sampler=tracer._get_trace_sampler(), resource=Resource.get_empty())
        provider.add_span_processor(TraceCollector(deliver))
        tracer.provider.set(provider)

    tracer.provider.reset()
    tracer.provider.once.do_once(initialize)


def is_destination_set() -> bool:
    """Whether the graph's code, or `MLFLOW_TRACING_DESTINATION`, says where traces go."""
    return tracer._MLFLOW_TRACE_USER_DESTINATION.get() is not None


def named_experiment() -> Experiment | None:
    """The experiment that the environment names, if it is there.

    Raises:
        MlflowException: the store does not answer, or has none with that id.
    """
    name, experiment_id = os.environ.get("MLFLOW_EXPERIMENT_NAME"), os.environ.get("MLFLOW_EXPERIMENT_ID")
    if name:
        return mlflow.get_experiment_by_name(name)
    return mlflow.get_experiment(experiment_id) if experiment_id else None


def trace_into(experiment: Experiment) -> None:
    """Let MLflow itself trace into an experiment, which it would ask for at every turn."""
    mlflow.set_experiment(experiment_id=experiment.experiment_id)
    tracer.provider.get_or_init_tracer(__name__)  # which asks for it once more


class TraceCollector(SpanProcessor):
    """Registers spans where MLflow looks for them while they are open, and delivers the trace when its root has ended.

    A span that ends after the root of its trace is lost.
    """

    def __init__(self, deliver: Callable[[FinishedTrace], None]) -> None:
        self._deliver = deliver
        self._traces = InMemoryTraceManager.get_instance()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Register a span, and with the first one its trace."""
        assert span.context
        trace_id = self._traces.get_mlflow_trace_id_from_otel_id(span.context.trace_id)
        if span.parent is None:
            trace_id = generate_trace_id_v3(span)
            info = TraceInfo(
                trace_id=trace_id,
                trace_location=TraceLocation.from_experiment_id(UNKNOWN_EXPERIMENT),
                request_time=(span.start_time or 0) // 1_000_000,
                state=TraceState.IN_PROGRESS,
                tags={TraceTagKey.TRACE_NAME: span.name},
            )
            self._traces.register_trace(span.context.trace_id, info)
        if trace_id:
            self._traces.register_span(create_mlflow_span(span, trace_id))

    def on_end(self, span: ReadableSpan) -> None:
        """Deliver the trace, if it is its root that ends."""
        if span.parent is not None or not span.context:
            return
        # Not `pop_trace`, which makes the previews first, while the turn waits.
        with self._traces._lock:
            trace_id = self._traces._otel_id_to_mlflow_trace_id.pop(span.context.trace_id, None)
            found = self._traces._traces.pop(trace_id, None)
        if found:
            found.info.execution_duration = ((span.end_time or 0) - (span.start_time or 0)) // 1_000_000
            if found.info.state is TraceState.IN_PROGRESS:
                found.info.state = TraceState.from_otel_status(span.status)
            self._deliver((found.info, list(found.span_dict.values())))


def add_previews(info: TraceInfo, spans: list[MlflowSpan]) -> None:
    """Add the beginning of what was asked and answered to what is known of a trace."""
    set_request_response_preview(info, TraceData(spans))


def tell_of_spans(trace: Trace) -> None:
    """Add to what is told of a trace what a store that does not look into the spans cannot know, as MLflow does."""
    told, spans = trace.info.trace_metadata, trace.data.spans
    told[TRACE_SCHEMA_VERSION_KEY] = str(TRACE_SCHEMA_VERSION)
    told[TraceMetadataKey.INPUTS] = (trace.info.request_preview or "")[:MAX_CHARS_IN_TRACE_INFO_METADATA]
    told[TraceMetadataKey.OUTPUTS] = (trace.info.response_preview or "")[:MAX_CHARS_IN_TRACE_INFO_METADATA]
    if usage := aggregate_usage_from_spans(spans):
        told[TraceMetadataKey.TOKEN_USAGE] = json.dumps(usage)
    add_size_stats_to_trace_metadata(trace)


def as_opentelemetry(span: MlflowSpan, resource: Resource) -> ReadableSpan:
    """The span as OpenTelemetry's exporters take it, of the service that the `resource` names."""
    found: ReadableSpan = span._span
    found._resource = resource  # which MLflow leaves empty
    return found
