"""What a cascade with a margin saves and what it loses, against a fixed depth at the same cost.

    python benchmarks/cascade.py COLLECTIONS --collection trec-dl19 --cheap bm25 --strong embedded --margins 2 4 8

COLLECTIONS is a folder with one folder a collection; ``judged.py``, beside this file, tells their form and the
measures. Each (query, passage) pair of the first stage's hits is scored once by either model and kept in ``--scores``,
one JSON line a query, so that a second run only computes. The curve is then replayed through the library's `Cascade`.

``--cheap`` and ``--strong`` name a reranker or a config file; ``bm25`` means the scores of the run itself, and
``bi-encoder:FOLDER`` the cosines of a sentence-transformers model. ``kept`` is the share of the strong model's own top
``--cut`` over all hits that stands in the cascade's. The rival of a margin is the smallest fixed depth that costs at
least as many pairs on average; differences are margin minus depth, with a paired interval over queries. ``border only``
is the variant in which those surely in skip the strong model and stand first in the cheap order; the library leaves it
out, so it is computed here. At the end margin and depth are chosen on every other query, as the smallest that keep the
whole top for ``--share`` of them, and applied to the rest.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ir_measures import nDCG
from judged import Collection, interval, per_query, read

import rag_rerank
from rag_rerank import Cascade, PointwiseReranker, Scale, Scores, Stage, TruncationWarning

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


def scores(spec: str, collection: Collection, folder: Path) -> Kept:
    """Return a model's score of each pair; those that ``folder`` lacks are computed and kept there."""
    if spec == "bm25":
        return {q: dict(hits) for q, hits in collection.run.items()}
    kind, _, model = spec.partition(":")
    reranker = BiEncoder(model=model) if kind == "bi-encoder" else rag_rerank.build(spec)
    name = "bi-encoder" if kind == "bi-encoder" else Path(spec).stem
    file = folder / f"{collection.name}.{name}.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    kept = {line["query"]: line["scores"] for line in map(json.loads, lines)}
    missing, started = [q for q in collection.queries if q not in kept], time.perf_counter()
    with file.open("a", encoding="utf-8") as out:
        for q in missing:
            ranking = reranker.rerank(collection.queries[q], collection.candidates(q))
            kept[q] = {hit.id: hit.raw_score for hit in ranking if hit.raw_score is not None}
            out.write(json.dumps({"query": q, "scores": kept[q]}) + "\n")
            out.flush()
    if missing:
        print(f"{collection.name}: {spec} scored {len(missing)} queries in {time.perf_counter() - started:.0f} s")
    return kept


@dataclass(frozen=True)
class Outcome:
    """The orders of one way to rank, and how many pairs the strong model scored for each query."""

    orders: Mapping[str, Sequence[str]]
    pairs: Mapping[str, int]


class Replay:
    """All that is known of one collection, one cheap and one strong model."""

    def __init__(self, collection: Collection, cheap: Kept, strong: Kept, cut: int) -> None:
        self.collection, self.cut = collection, cut
        self.cheap, self.strong = Replayed(kept=cheap), Replayed(kept=strong)
        self.full = self.cascade()
        self.places = {q: self.cheap.rerank(q, self.pool(q)) for q in collection.queries}

    def pool(self, query: str) -> list[rag_rerank.Candidate]:
        return [rag_rerank.Candidate(d, d) for d, _ in self.collection.run[query]]

    def cascade(self, *, depth: int | None = None, margin: float | None = None) -> Outcome:
        """Rank by the library's cascade."""
        last = Stage(reranker=self.strong, depth=depth, margin=margin)
        whole = Cascade(stages=(Stage(reranker=self.cheap), last), cut=None if margin is None else self.cut)
        rankings = {q: whole.rerank(q, self.pool(q)) for q in self.collection.queries}
        return Outcome(
            {q: [hit.id for hit in ranking] for q, ranking in rankings.items()},
            {q: sum(hit.unscored is None for hit in ranking) for q, ranking in rankings.items()},
        )

    def border_only(self, margin: float) -> Outcome:
        """Rank with those that are surely in ahead, in the cheap order and unseen by the strong model."""
        orders, pairs = {}, {}
        for q, order in self.cascade(margin=margin).orders.items():
            cheap = [(hit.id, hit.raw_score) for hit in self.places[q] if hit.raw_score is not None]
            first_out = cheap[self.cut][1] if len(cheap) > self.cut else -math.inf
            sure = [d for d, score in cheap if score - first_out > margin]
            reach = self.places[q][self.cut - 1].raw_score if len(cheap) > self.cut else math.inf
            near = {d for d, score in cheap if reach - score <= margin}
            orders[q] = sure + [d for d in order if d not in set(sure)]
            pairs[q] = len(near - set(sure))
        return Outcome(orders, pairs)

    def kept(self, outcome: Outcome) -> np.ndarray:
        """Return for each query the share of the strong model's own top that stands in this one's."""
        return np.array(
            [
                len({*self.full.orders[q][: self.cut]} & {*outcome.orders[q][: self.cut]}) / self.cut
                for q in self.collection.queries
            ]
        )

    def quality(self, outcome: Outcome) -> np.ndarray:
        values = per_query([MEASURE], self.collection.qrels, outcome.orders)[str(MEASURE)]
        return np.array([values[q] for q in self.collection.queries])

    def needed(self) -> tuple[np.ndarray, np.ndarray]:
        """Return for each query the smallest margin and the smallest depth that keep the whole top."""
        margins, depths = [], []
        for q in self.collection.queries:
            top = set(self.full.orders[q][: self.cut])
            deepest = max((hit for hit in self.places[q] if hit.id in top), key=lambda hit: hit.rank)
            last_in = self.places[q][: self.cut][-1].raw_score
            margins.append(max(0.0, last_in - deepest.raw_score))
            depths.append(deepest.rank)
        return np.array(margins), np.array(depths)


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def change(one: np.ndarray, other: np.ndarray) -> str:
    low, high = interval(one - other)
    return f"{(one - other).mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def curve(replay: Replay, margins: Sequence[float]) -> None:
    whole = mean(replay.full.pairs.values())
    alone = Outcome({q: [hit.id for hit in hits] for q, hits in replay.places.items()}, {})
    print(
        f"  cheap alone    0 pairs, kept {replay.kept(alone).mean():.3f}, {MEASURE} {replay.quality(alone).mean():.4f}"
    )
    print(f"  strong on all  {whole:.1f} pairs, kept 1.000, {MEASURE} {replay.quality(replay.full).mean():.4f}")
    print(
        "  | margin | pairs (10 %..90 %) | share | kept | nDCG | rival depth | kept | nDCG | kept, margin - depth ",
        end="",
    )
    print("| nDCG, margin - depth | border only: pairs | kept | nDCG |")
    print("  |" + "---|" * 13)
    for margin in margins:
        ours, border = replay.cascade(margin=margin), replay.border_only(margin)
        pairs = np.array(list(ours.pairs.values()))
        depth = math.ceil(pairs.mean())
        rival = replay.cascade(depth=depth)
        cells = [
            f"{margin:g}",
            "{:.1f} ({:.0f}..{:.0f})".format(pairs.mean(), *np.quantile(pairs, [0.1, 0.9])),
            f"{pairs.mean() / whole:.0%}",
            *figures(replay, ours),
            f"{depth}",
            *figures(replay, rival),
            change(replay.kept(ours), replay.kept(rival)),
            change(replay.quality(ours), replay.quality(rival)),
            f"{mean(border.pairs.values()):.1f}",
            *figures(replay, border),
        ]
        print(f"  | {' | '.join(cells)} |", flush=True)


def figures(replay: Replay, outcome: Outcome) -> tuple[str, str]:
    return f"{replay.kept(outcome).mean():.3f}", f"{replay.quality(outcome).mean():.4f}"


def chosen(replay: Replay, share: float) -> None:
    margins, depths = replay.needed()
    margin, depth = (float(np.quantile(needed[::2], share, method="higher")) for needed in (margins, depths))
    print(f"  chosen on every other query to keep the whole top of {share:.0%} of them, applied to the rest:")
    for label, outcome in (
        (f"margin {margin:.3g}", replay.cascade(margin=margin)),
        (f"depth {depth:.0f}", replay.cascade(depth=int(depth))),
    ):
        pairs, kept = np.array(list(outcome.pairs.values()))[1::2], replay.kept(outcome)[1::2]
        print(
            f"    {label}: {pairs.mean():.1f} pairs, kept {kept.mean():.3f}, whole top of {(kept == 1).mean():.0%}, "
            f"{MEASURE} {replay.quality(outcome)[1::2].mean():.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("--collection", action="append", required=True)
    parser.add_argument("--queries", type=int)
    parser.add_argument("--cheap", required=True, help="bm25, bi-encoder:FOLDER, a reranker's name or a config file")
    parser.add_argument("--strong", default="embedded", help="likewise")
    parser.add_argument("--margins", type=float, nargs="+", required=True, help="in the cheap model's raw scores")
    parser.add_argument("--cut", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.9)
    parser.add_argument("--scores", type=Path, default=Path("cascade-scores"), help="folder for the scores of pairs")
    options = parser.parse_args()
    if not options.collections.is_dir():
        sys.exit(f"no such folder: {options.collections}")
    options.scores.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", TruncationWarning)
    for name in options.collection:
        collection = read(options.collections / name, options.queries)
        cheap, strong = (scores(spec, collection, options.scores) for spec in (options.cheap, options.strong))
        print(f"{name}: {len(collection.queries)} queries, {options.cheap} -> {options.strong}, cut {options.cut}")
        replay = Replay(collection, cheap, strong, options.cut)
        curve(replay, options.margins)
        chosen(replay, options.share)


if __name__ == "__main__":
    main()
