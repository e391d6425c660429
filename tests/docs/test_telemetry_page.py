"""docs/how-to/telemetry.md names each option, attribute and metric, and nothing else."""

import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.calibration_maps import answerability_map_for

from rag_rerank import (
    Answerable,
    Candidate,
    Cascade,
    Fallback,
    PointwiseReranker,
    RateLimited,
    Scores,
    Stage,
    Usage,
    pack,
    tagged,
    telemetry,
)
from rag_rerank.testing import ScriptedReranker
from rag_rerank.trace import Coverage

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "telemetry.md").read_text(encoding="utf-8")


class Knowing(ScriptedReranker):
    """Knows everything that can be known of a call."""

    model = "m"

    @property
    def takes_instruction(self) -> bool:
        return True

    def score(self, query: str, texts: Any) -> Scores:
        usage = Usage(len(texts), 1, 10, 1.0, 0.1, 1, 0.1, ("cost",))
        return Scores([1.0] * len(texts), "unbounded", usage, [Coverage(9, 9)] * len(texts))


def pack_in_every_way() -> None:
    """Pack so that hits are trimmed and dropped for every reason."""
    scores = {"x x. x x": 9.0, "y": 8.0, "z": 7.0}
    candidates = [Candidate(str(i), text, metadata={"doc": "d"}) for i, text in enumerate([*scores, "y", " "])]
    stages = tuple(Stage(reranker=ScriptedReranker(by_text=scores), depth=depth) for depth in (None, 3))
    ranking = Cascade(stages=stages).rerank("q", candidates)
    pack(ranking, max_tokens=2, tokenizer=lambda text: len(text.split()))
    pack(ranking, duplicates="exact", top_k=2)
    pack(ranking, per_source=1, source="doc")
    pack(ranking, min_score=8.5, min_score_scale="unbounded")
    fitted = ScriptedReranker(by_text={"x": -9.0, "y": -9.0})
    pack(Answerable(reranker=fitted, map=answerability_map_for(fitted)).rerank("q", ["x", "y"]), answerable=0.5)
    pack(replace(ranking, hits=tuple(replace(hit, spans=()) for hit in ranking)), trim="relevant")


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def test_all_that_is_told_is_in_the_tables_and_the_tables_tell_nothing_else() -> None:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry.instrument(
        tracer_provider=tracers,
        meter_provider=MeterProvider([reader]),
        texts=True,
        max_documents=1,
        tags=("NAME",),
    )
    try:
        with tagged(NAME="t"):
            candidates = [Candidate("a", "x", 1.0, {"m": 1}), Candidate("b", "y"), Candidate("c", "z")]
            failing: PointwiseReranker = ScriptedReranker(name="f", error=RateLimited("no"))
            Fallback(members=(failing, Knowing())).rerank("q", candidates, top_k=2)
            Knowing().rerank("q", candidates, top_k=2, instruction="find m")
        pack_in_every_way()
    finally:
        telemetry.uninstrument()
    told = {re.sub(r"\.\d+\.", ".N.", name) for span in exporter.get_finished_spans() for name in span.attributes or {}}
    rows = re.findall(r"^\| (`.+?) \| (?:all|call|context) \|", section("Spans"), re.MULTILINE)
    named = set(re.findall(r"`([^`]+)`", " ".join(rows)))
    assert told | {"rag_rerank.cancelled"} == named
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {m.name: m.unit for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    table = re.findall(r"^\| `([a-z_.]+)` \| \w+, `([^`]+)` \|", section("Metrics"), re.MULTILINE)
    assert dict(table) == metrics


def test_the_table_of_options_is_complete() -> None:
    options = set(inspect.signature(telemetry.instrument).parameters)
    table = PAGE.split("| option |")[1].split("\n\n")[0]
    assert {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])} == options
