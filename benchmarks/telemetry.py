"""The overhead of telemetry: microseconds a call, beside the same call without it.

    python benchmarks/telemetry.py --candidates 10 100

The reranker computes nothing; it is called alone, or as two stages of a cascade (three spans). ``spans and metrics``
uses the SDK with an exporter that drops everything and a reader that is never read, so that the network is left out;
``not sampled`` has a sampler that takes no span. The settings take turns in rounds of ``--calls`` calls. A figure is
the median round, in microseconds of CPU time a call, because the machine may be busy with other work.
"""

from __future__ import annotations

import argparse
import statistics
import time

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from rag_rerank import Candidate, Cascade, Reranker, Stage, telemetry
from rag_rerank.testing import ScriptedReranker


class DroppingExporter(SpanExporter):
    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def switch_to(setting: str) -> None:
    telemetry.uninstrument()
    if setting == "off":
        return
    sampler: Sampler = ALWAYS_OFF if setting == "not sampled" else ALWAYS_ON
    tracers = TracerProvider(sampler=sampler)
    tracers.add_span_processor(SimpleSpanProcessor(DroppingExporter()))
    meters = MeterProvider([InMemoryMetricReader()])
    telemetry.instrument(tracer_provider=tracers, meter_provider=meters, texts=setting.endswith("texts"))


def microseconds(reranker: Reranker, candidates: list[Candidate], calls: int) -> float:
    started = time.process_time()
    for _ in range(calls):
        reranker.rerank("q", candidates)
    return (time.process_time() - started) / calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    leaf = ScriptedReranker(name="leaf")
    trees: dict[str, Reranker] = {"leaf": leaf, "cascade of two": Cascade(stages=(Stage(reranker=leaf),) * 2)}
    settings = ("off", "not sampled", "spans and metrics", "with texts")
    print("candidates  call            " + "".join(f"{setting:>19}" for setting in settings) + "   (µs a call)")
    for count in options.candidates:
        candidates = [Candidate(f"d{i}", "a short text " * 20, 0.5, {"source": "s"}) for i in range(count)]
        for name, tree in trees.items():
            rounds: dict[str, list[float]] = {setting: [] for setting in settings}
            for _ in range(options.rounds):
                for setting in settings:
                    switch_to(setting)
                    tree.rerank("q", candidates)
                    rounds[setting].append(microseconds(tree, candidates, options.calls))
            figures = "".join(f"{statistics.median(rounds[setting]):>19.0f}" for setting in settings)
            print(f"{count:<12}{name:<16}{figures}")
    telemetry.uninstrument()


if __name__ == "__main__":
    main()
