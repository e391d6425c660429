"""What a cascade with a margin saves and what it loses, against a fixed depth at the same cost.

    python benchmarks/cascade.py COLLECTIONS --collection trec-dl19 --cheap bm25 --strong embedded --margins 2 4 8

COLLECTIONS is a folder with one folder a collection in BEIR's form, with a run (`rag_rerank.evaluation.read`);
the measure is that of ir-measures, with linear gain as trec_eval has it. Each (query, passage) pair of the first
stage's hits is scored once by either model and kept in ``--scores``, one JSON line a query, so that a second run only
computes. The curve is then replayed through the library's `Cascade`.

``--cheap`` and ``--strong`` name a reranker or a config file; ``bm25`` means the scores of the run itself, and
``bi-encoder:FOLDER`` the cosines of a sentence-transformers model. ``kept`` is the share of the strong model's own top
``--cut`` (over all hits) that stands in the cascade's. The rival of each row is the smallest fixed depth that costs at
least as many pairs on average; differences are margin minus depth, with a paired interval over queries. At the end
margin and depth are chosen on one half of the queries, as the smallest that keep ``--share`` there, and applied to
the other half, both ways round.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ir_measures import iter_calc, nDCG
from paired import interval

import rag_rerank
from rag_rerank import Candidate, Cascade, PointwiseReranker, Scale, Scores, Stage, TruncationWarning
from rag_rerank.evaluation.data.judged import Judged
from rag_rerank.evaluation.data.read import read

MEASURE = nDCG @ 10

Kept = Mapping[str, Mapping[str, float]]
"""Query id -> document id -> raw score."""


@dataclass(frozen=True, kw_only=True)
class BiEncoder(PointwiseReranker):
    """Cosine of the embeddings of query and text; a text is embedded once a process."""

    kind: ClassVar[str] = "bi-encoder"

    model: str

    @property
    def scale(self) -> Scale:
        return "similarity"

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        vectors = embeddings(self.model)
        new = [text for text in dict.fromkeys((query, *texts)) if text not in vectors]
        if new:
            made = encoder(self.model).encode(new, batch_size=8, normalize_embeddings=True)
            vectors.update(zip(new, made, strict=True))
        return Scores([float(vectors[text] @ vectors[query]) for text in texts], self.scale)


@cache
def encoder(model: str) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(model, device="cpu")


@cache
def embeddings(model: str) -> dict[str, np.ndarray]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Replayed(PointwiseReranker):
    """Gives scores that were kept; texts are document ids here, and queries are query ids."""

    kind: ClassVar[str] = "replayed"

    kept: Kept

    @property
    def scale(self) -> Scale:
        return "unbounded"

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        return Scores([self.kept[query][text] for text in texts], self.scale)


def scores(spec: str, judged: Judged, folder: Path) -> Kept:
    """Return a model's score of each pair; those that ``folder`` lacks are computed and kept there."""
    if spec == "bm25":
        return {query.id: {c.id: c.score or 0.0 for c in query.candidates} for query in judged.queries}
    kind, _, model = spec.partition(":")
    reranker = BiEncoder(model=model) if kind == "bi-encoder" else rag_rerank.build(spec)
    name = "bi-encoder" if kind == "bi-encoder" else Path(spec).stem
    file = folder / f"{judged.name}.{name}.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    kept = {line["query"]: line["scores"] for line in map(json.loads, lines)}
    missing, started = [query for query in judged.queries if query.id not in kept], time.perf_counter()
    with file.open("a", encoding="utf-8") as out:
        for query in missing:
            ranking = reranker.rerank(query.text, query.candidates)
            kept[query.id] = {hit.id: hit.raw_score for hit in ranking if hit.raw_score is not None}
            out.write(json.dumps({"query": query.id, "scores": kept[query.id]}) + "\n")
            out.flush()
    if missing:
        print(f"{judged.name}: {spec} scored {len(missing)} queries in {time.perf_counter() - started:.0f} s")
    return kept


@dataclass(frozen=True)
class Outcome:
    """The orders of one way to rank, and how many pairs the strong model scored for each query."""

    orders: Mapping[str, Sequence[str]]
    pairs: np.ndarray


class Replay:
    """All that is known of one collection, one cheap and one strong model."""

    def __init__(self, judged: Judged, cheap: Kept, strong: Kept, cut: int) -> None:
        self.cut = cut
        self.grades = {query.id: dict(query.grades) for query in judged.queries}
        self.pools = {query.id: [Candidate(c.id, c.id) for c in query.candidates] for query in judged.queries}
        self.cheap, self.strong = Replayed(kept=cheap), Replayed(kept=strong)
        self.full = self.cascade()
        self.places = {q: self.cheap.rerank(q, pool) for q, pool in self.pools.items()}

    def cascade(self, **last: Any) -> Outcome:
        """Rank by the library's cascade, with these options of its last stage."""
        stages = (Stage(reranker=self.cheap), Stage(reranker=self.strong, **last))
        whole = Cascade(stages=stages, cut=self.cut if "margin" in last else None)
        rankings = {q: whole.rerank(q, pool) for q, pool in self.pools.items()}
        return Outcome(
            {q: [hit.id for hit in ranking] for q, ranking in rankings.items()},
            np.array([sum(hit.unscored is None for hit in ranking) for ranking in rankings.values()]),
        )

    def kept(self, outcome: Outcome) -> np.ndarray:
        """Return for each query the share of the strong model's own top that stands in this one's."""
        return np.array(
            [len({*self.full.orders[q][: self.cut]} & {*outcome.orders[q][: self.cut]}) / self.cut for q in self.pools]
        )

    def quality(self, outcome: Outcome) -> np.ndarray:
        run = {q: {d: -float(rank) for rank, d in enumerate(order)} for q, order in outcome.orders.items()}
        values = {metric.query_id: metric.value for metric in iter_calc([MEASURE], self.grades, run)}
        return np.array([values[q] for q in self.pools])

    def needed(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the margin and the depth that it takes to keep each hit of the strong model's own top, by query."""
        margins, depths = [], []
        for q, hits in self.places.items():
            top = [hit for hit in hits if hit.id in self.full.orders[q][: self.cut]]
            margins.append([max(0.0, hits[self.cut - 1].raw_score - hit.raw_score) for hit in top])
            depths.append([max(self.cut, hit.rank) for hit in top])
        return np.array(margins), np.array(depths)


def change(one: np.ndarray, other: np.ndarray) -> str:
    low, high = interval(one - other)
    return f"{(one - other).mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def curve(replay: Replay, margins: Sequence[float]) -> None:
    alone = Outcome({q: [hit.id for hit in hits] for q, hits in replay.places.items()}, np.zeros(1))
    for label, outcome in (("cheap alone", alone), ("strong on all", replay.full)):
        kept, quality = replay.kept(outcome).mean(), replay.quality(outcome).mean()
        print(f"  {label}: {outcome.pairs.mean():.1f} pairs, kept {kept:.3f}, {MEASURE} {quality:.4f}")
    print(
        f"  | margin | pairs a query (10 %..90 %) | kept | {MEASURE} | rival depth | kept, change | {MEASURE}, change |"
    )
    print("  |" + "---|" * 7)
    for margin, border_only in product(margins, (False, True)):
        ours = replay.cascade(margin=margin, border_only=border_only)
        depth = max(1, math.ceil(ours.pairs.mean()))
        rival = replay.cascade(depth=depth)
        cells = (
            f"{margin:g}{', border only' if border_only else ''}",
            "{:.1f} ({:.0f}..{:.0f})".format(ours.pairs.mean(), *np.quantile(ours.pairs, [0.1, 0.9])),
            f"{replay.kept(ours).mean():.3f}",
            f"{replay.quality(ours).mean():.4f}",
            f"{depth}",
            change(replay.kept(ours), replay.kept(rival)),
            change(replay.quality(ours), replay.quality(rival)),
        )
        print(f"  | {' | '.join(cells)} |", flush=True)


def chosen(replay: Replay, share: float) -> None:
    margins, depths = replay.needed()
    ways: dict[str, list[Outcome]] = {"margin": [], "margin, border only": [], "depth": []}
    for half in (0, 1):
        margin, depth = (np.quantile(needed[half::2], share, method="higher").item() for needed in (margins, depths))
        print(f"  keeps {share:.0%} on half {half + 1}: margin {margin:.3g}, depth {depth}")
        ways["margin"].append(replay.cascade(margin=margin))
        ways["margin, border only"].append(replay.cascade(margin=margin, border_only=True))
        ways["depth"].append(replay.cascade(depth=depth))
    for label, outcomes in ways.items():
        pairs, kept, quality = (
            np.concatenate([values(outcome)[1 - half :: 2] for half, outcome in enumerate(outcomes)])
            for values in (lambda outcome: outcome.pairs, replay.kept, replay.quality)
        )
        figures = f"{pairs.mean():.1f} pairs, kept {kept.mean():.3f}, {MEASURE} {quality.mean():.4f}"
        print(f"    {label}, on the other half: {figures}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("--collection", action="append", required=True)
    parser.add_argument("--queries", type=int)
    parser.add_argument("--cheap", required=True, help="bm25, bi-encoder:FOLDER, a reranker's name or a config file")
    parser.add_argument("--strong", default="embedded", help="likewise")
    parser.add_argument("--margins", type=float, nargs="+", required=True, help="in the cheap model's raw scores")
    parser.add_argument("--cut", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.95)
    parser.add_argument("--scores", type=Path, default=Path("cascade-scores"), help="folder for the scores of pairs")
    options = parser.parse_args()
    if not options.collections.is_dir():
        sys.exit(f"no such folder: {options.collections}")
    options.scores.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", TruncationWarning)
    for name in options.collection:
        judged = read(options.collections / name, queries=options.queries)
        cheap, strong = (scores(spec, judged, options.scores) for spec in (options.cheap, options.strong))
        print(f"{name}: {len(judged.queries)} queries, {options.cheap} -> {options.strong}, cut {options.cut}")
        replay = Replay(judged, cheap, strong, options.cut)
        curve(replay, options.margins)
        chosen(replay, options.share)


if __name__ == "__main__":
    main()
