"""What telemetry adds to a call: microseconds, beside the same call without it.

    python benchmarks/telemetry.py --candidates 10 100

A call is one of a reranker whose scores cost nothing, alone or as two stages of a cascade (three spans). ``spans and
metrics`` goes to the SDK with an exporter that drops what it gets and a reader that is never read, so that the network
is left out; ``not sampled`` has a sampler that takes no span. Ways take turns in rounds of ``--calls`` calls; a figure
is the median round, in microseconds of CPU time a call, because the machine may do other things too.
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


class Dropped(SpanExporter):
    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def switched(way: str) -> None:
    telemetry.uninstrument()
    if way == "off":
        return
    sampler: Sampler = ALWAYS_OFF if way == "not sampled" else ALWAYS_ON
    tracers = TracerProvider(sampler=sampler)
    tracers.add_span_processor(SimpleSpanProcessor(Dropped()))
    meters = MeterProvider([InMemoryMetricReader()])
    telemetry.instrument(tracer_provider=tracers, meter_provider=meters, texts=way.endswith("texts"))


def microseconds(reranker: Reranker, candidates: list[Candidate], calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        reranker.rerank("q", candidates)
    return (time.process_time() - began) / calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    leaf = ScriptedReranker(name="leaf")
    trees: dict[str, Reranker] = {"leaf": leaf, "cascade of two": Cascade(stages=(Stage(reranker=leaf),) * 2)}
    ways = ("off", "not sampled", "spans and metrics", "with texts")
    print("candidates  call            " + "".join(f"{way:>19}" for way in ways) + "   (µs a call)")
    for count in options.candidates:
        candidates = [Candidate(f"d{i}", "a short text " * 20, 0.5, {"source": "s"}) for i in range(count)]
        for name, tree in trees.items():
            rounds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(options.rounds):
                for way in ways:
                    switched(way)
                    tree.rerank("q", candidates)
                    rounds[way].append(microseconds(tree, candidates, options.calls))
            figures = "".join(f"{statistics.median(rounds[way]):>19.0f}" for way in ways)
            print(f"{count:<12}{name:<16}{figures}")
    telemetry.uninstrument()


if __name__ == "__main__":
    main()
