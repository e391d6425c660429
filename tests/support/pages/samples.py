"""Records and evaluations for pages, with random but plausible figures, and hostile texts to put into them."""

from __future__ import annotations

import random
from typing import Any

from rag_rerank.evaluation.data.judged import Problem
from rag_rerank.evaluation.report import (
    FIRST_STAGE,
    Bin,
    Comparison,
    Data,
    Depth,
    DocumentRanks,
    Evaluation,
    EvaluationSettings,
    MeanEstimate,
    Outcome,
    Reliability,
    Slice,
    System,
    Verdict,
)
from rag_rerank.records.record import BELOW_TOP_K, Entry, Record
from rag_rerank.trace import Coverage, StepScore, Trace, Usage

UNBROKEN = "no_place_to_break_" * 30
HOSTILE = (
    "</script><script>window.hurt = true</script>",
    "<img src=x onerror='window.hurt = true'>",
    "<!-- <script> ${window.hurt = true} `",
    "مرحبا بالعالم \u202eabc\u202c",
    "👩‍👩‍👧‍👦 日本語の文書",
    "lone \ud800 surrogate \udfff",
    UNBROKEN,
    "javascript:window.hurt=true",
    "\u2028\u2029\x00\x07",
)
MEASURES = ("nDCG@10", "nDCG@3", "RR@10", "R@100")


def record(
    number: int = 0, *, query: str | None = "how tall is K2?", name: str = "doc", size: int = 12
) -> dict[str, Any]:
    """Return the record of a cascade's call; every third is degraded, every fifth failed."""
    chance = random.Random(number)
    failed, top_k = number % 5 == 4, 5
    first = [f"{name}-{i}" for i in range(1, size + 1)]
    final = chance.sample(first, size)
    raw = {id: 4.0 - 0.6 * i for i, id in enumerate(final)}
    entries = [
        Entry(
            id=id,
            sha256="0" * 64,
            text=None if query is None else f"Text of {id}. " + "It is 8,611 metres high. " * 12,
            metadata={"source": "wiki", "year": 2024},
            first_rank=first.index(id) + 1,
            first_score=20.0 - first.index(id),
            rank=None if failed else rank,
            score=None if failed else 1 / (1 + 2.718 ** -raw[id]),
            raw_score=None if failed else raw[id],
            coverage=Coverage(total=140, seen=128 if rank % 6 == 0 else 140),
            window=(4, 18) if rank == 2 else None,
            dropped=BELOW_TOP_K if rank > top_k else None,
            visits=(StepScore("onnx:starter", rank, raw[id], None, "sigmoid", Coverage(total=140, seen=140)),),
        )
        for rank, id in enumerate(first if failed else final, start=1)
    ]
    usage = Usage(texts=size, tokens=1200 + number, seconds=0.04)
    child = Trace(step="onnx:starter", kind="onnx", model="starter@1", scale="sigmoid", seconds=0.04, usage=usage)
    return Record(
        id=f"{number:032x}",
        time=f"2026-11-20T12:{number // 60 % 60:02d}:{number % 60:02d}+00:00",
        version="0.1.0",
        reranker=("cascade", "onnx:starter")[number % 2],
        query=None if query is None else f"{query} ({number})",
        query_sha256="a" * 64,
        tags={"tenant": ("acme", "globex")[number % 2]},
        top_k=top_k,
        scale=None if failed else "sigmoid",
        seconds=0.02 + chance.random() / 10,
        usage=usage,
        degraded=("a fallback answered",) if number % 3 == 2 else (),
        error="ProviderUnavailable: 503" if failed else None,
        candidates=tuple(entries),
        trace=Trace(step="cascade", kind="cascade", seconds=0.05, notes=("12 of 12 entered",), children=(child,)),
    ).to_dict()


def evaluation(
    *, names: tuple[str, ...] = ("starter", "large", "api"), queries: int = 60, seed: int = 0
) -> dict[str, Any]:
    """Return an evaluation with one reranker for each name; its figures are random but plausible."""
    chance = random.Random(seed)
    systems = (FIRST_STAGE, *names)
    lift = {name: 0.09 - 0.03 * i for i, name in enumerate(systems)} | {FIRST_STAGE: 0.0}
    outcomes = tuple(_outcome(i, systems, lift, chance) for i in range(queries))
    return Evaluation(
        time="2026-11-20T12:00:00+00:00",
        version="0.1.0",
        data=Data(
            name="handbook",
            fingerprint="f" * 64,
            queries=queries,
            candidates=99.2,
            judged=0.31,
            relevant=1,
            ceiling=dict.fromkeys(MEASURES, 0.93),
            problems=(
                Problem(kind="judged documents that are not in the corpus", count=3, examples=("qrels.tsv:17: 'd9'",)),
            ),
        ),
        settings=EvaluationSettings(measures=MEASURES, depth=100, top_k=5, samples=10_000, seed=0),
        systems=tuple(_system(i, name, 0.48 + lift[name], queries, chance) for i, name in enumerate(systems)),
        comparisons=tuple(_comparison(name, lift[name], m, chance, queries) for m in MEASURES[:3] for name in names),
        slices=tuple(
            Slice(
                field=field,
                value=value,
                queries=max(1, queries // len(values)),
                measures={name: {"nDCG@3": 0.5 + lift[name]} for name in systems},
                comparisons=tuple(
                    _comparison(n, lift[n], m, chance, queries // 4) for m in MEASURES[:2] for n in names
                ),
            )
            for field, values in {
                "query class": ("how-to", "lookup", "troubleshooting"),
                "query length": ("1 to 4 words", "5 to 8 words", "9 words and more"),
                "product": tuple(f"product {i}" for i in range(20)),
            }.items()
            for value in values
        ),
        verdict=Verdict(
            rerank=bool(names),
            system=names[0] if names else None,
            depth=50 if names else None,
            top_k=5,
            words=f"Use {names[0]} with depth 50 and top_k 5." if names else "Do not rerank here.",
            reasons=("nDCG@10 rises by 0.060 (0.031 to 0.089).", "No slice falls by more than chance explains.")
            if names
            else ("No reranker was given.",),
        ),
        outcomes=outcomes,
    ).to_dict()


def _estimate(mean: float, width: float) -> MeanEstimate:
    return MeanEstimate(mean=mean, low=mean - width, high=mean + width)


def _system(index: int, name: str, level: float, queries: int, chance: random.Random) -> System:
    if index == 0:
        return System(
            name=name,
            label=name,
            measures={measure: _estimate(level, 0.03) for measure in MEASURES},
            failures={"candidates": queries // 10, "scoring": queries // 4},
        )
    bins = tuple(
        Bin(low=i / 10, high=(i + 1) / 10, count=400 // (i + 1), score=i / 10 + 0.05, relevant=(i / 10) ** 1.6)
        for i in range(10)
    )
    return System(
        name=name,
        label=f"onnx:{name}",
        config={"type": "onnx", "model": name},
        scale="sigmoid" if index < 3 else "unbounded",
        measures={measure: _estimate(level + 0.01 * i, 0.03) for i, measure in enumerate(MEASURES)},
        p50=0.012 * 5**index,
        p95=0.02 * 5**index,
        texts=queries * 99,
        tokens=queries * 9000,
        cost=0.002 * queries if index == 3 else None,
        estimated=("cost",) if index == 3 else (),
        truncated=0.12 / index,
        errors=index - 1,
        degraded=index - 1,
        failures={
            "candidates": queries // 10,
            "truncation": queries // 20,
            "tie": queries // 30,
            "scoring": queries // 9,
        },
        depths=tuple(
            Depth(
                depth=d, measures={m: _estimate(0.48 + (level - 0.48) * (1 - 0.9 ** (d / 3)), 0.03) for m in MEASURES}
            )
            for d in (5, 10, 20, 30, 50, 75, 100)
        ),
        reliability=Reliability(ece=0.08 * index + chance.random() / 50, bins=bins) if index < 3 else None,
    )


def _comparison(name: str, lift: float, measure: str, chance: random.Random, queries: int) -> Comparison:
    mean = lift + chance.gauss(0, 0.03)
    p = chance.random() ** 4
    return Comparison(
        system=name,
        baseline=FIRST_STAGE,
        measure=measure,
        difference=_estimate(mean, 0.02 + chance.random() / 20),
        p=p,
        p_adjusted=min(1.0, p * 3),
        helped=queries // 2,
        hurt=queries // 5,
        unchanged=queries - queries // 2 - queries // 5,
    )


def _outcome(i: int, systems: tuple[str, ...], lift: dict[str, float], chance: random.Random) -> Outcome:
    values = {name: min(1.0, max(0.0, 0.48 + lift[name] + chance.gauss(0, 0.25))) for name in systems}
    return Outcome(
        id=f"q{i}",
        text=f"How do I reset the thing number {i} after an update?",
        candidates=100,
        relevant=2,
        slices={"query class": chance.choice(("how-to", "lookup", "troubleshooting")), "query length": "5 to 8 words"},
        measures={name: dict.fromkeys(MEASURES, values[name]) for name in systems},
        failures={
            name: chance.choice(("candidates", "truncation", "tie", "scoring"))
            for name in systems
            if values[name] < 0.2
        },
        places=tuple(
            DocumentRanks(
                id=f"doc-{i}-{j}", grade=2 - j, ranks={n: chance.choice((None, 1, 3, 17, 44)) for n in systems}
            )
            for j in range(2)
        ),
        seconds={name: chance.random() for name in systems[1:]},
    )
