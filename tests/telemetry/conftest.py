from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from rag_rerank import telemetry


class StartCounter(SpanProcessor):
    """Counts the spans that start."""

    def __init__(self) -> None:
        self.count = 0

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.count += 1


class Observed:
    """Collects spans and metrics in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._starts = StartCounter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(self._starts)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader])

    def instrument(self, **options: Any) -> None:
        telemetry.instrument(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    @property
    def tracer(self) -> Tracer:
        """Another tracer, like that of the application or of an HTTP client."""
        return self.tracers.get_tracer("another")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """All spans, in the order of their ends; each started span must have ended exactly once."""
        spans = self._exporter.get_finished_spans()
        assert len(spans) == self._starts.count
        assert len({span.context.span_id for span in spans}) == len(spans)
        return spans

    def span(self, name: str) -> ReadableSpan:
        [match] = [span for span in self.spans if span.name == name]
        return match

    def attributes(self, name: str) -> dict[str, Any]:
        return dict(self.span(name).attributes or {})

    @property
    def parents(self) -> dict[str, str | None]:
        """Name of each span -> name of its parent."""
        names = {span.context.span_id: span.name for span in self.spans}
        return {span.name: None if span.parent is None else names[span.parent.span_id] for span in self.spans}

    def points(self, metric: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        return [point for m in metrics if m.name == metric for point in m.data.data_points]

    def values(self, metric: str, *by: str) -> dict[Any, Any]:
        """Return the sums of a metric by the values of attributes."""
        points = self.points(metric)
        sums: dict[Any, Any] = {}
        for point in points:
            key = tuple(point.attributes.get(f"rag_rerank.{name}") for name in by)
            sums[key] = sums.get(key, 0) + (point.sum if hasattr(point, "sum") else point.value)
        return sums

    @property
    def everything(self) -> str:
        """All spans and metrics as one text to search in."""
        spans = "".join(span.to_json() for span in self.spans)
        data = self._reader.get_metrics_data()
        return spans + (data.to_json() if data else "")


@pytest.fixture
def observed() -> Iterator[Observed]:
    yield Observed()
    telemetry.uninstrument()
