"""Measure what a local model does on languages that it was not made for, with the check of readability and without.

    python benchmarks/languages.py COLLECTIONS [--model embedded] [--store FOLDER] [--queries 25] [--collection NAME]

COLLECTIONS is a folder with one folder a collection, as `rag_rerank.evaluation.read` takes them; each has a run of its
first stage. Three tables:

- the check, on all queries and their candidates: how many queries stay in the first stage's order, and how many texts
  of the others have no score. For collections in the model's language these are false alarms, for the others hits;
- nDCG@10 on the first ``--queries`` of them: the first stage, the model with ``on_unreadable="first_stage"``, and with
  ``"score"``, each with the change against the first stage and its 95 % bootstrap interval;
- with ``--mixed``, lists in two languages: in each list of a collection in the model's language, a share of the
  documents counts as unreadable, as if they were in another language and the first stage read both. The rule that ships
  is beside two others: all unreadable texts last, and the first stage's order as soon as there is one.

``--store`` keeps the vectors of texts in a folder, so that a second run encodes nothing twice; the model is then run by
type ``late_interaction``, else by ``onnx``. Where Unidecode is installed, ``latin:NAME`` is the collection NAME in
Latin letters.
"""

from __future__ import annotations

import argparse
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
from paired import interval

import rag_rerank
from rag_rerank import Candidate, ReadabilityWarning, TruncationWarning
from rag_rerank.backends.local.readability import Readability
from rag_rerank.evaluation import Judged, JudgedQuery, read
from rag_rerank.evaluation.measures import per_query
from rag_rerank.execution.ranking import keep_first_stage, ranked_hits
from rag_rerank.types import UNREADABLE_QUERY, UNREADABLE_TEXT, Ranking, Scores

SHARES = (0.01, 0.05, 0.1, 0.2, 0.4, 0.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("--collection", action="append")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--store", help="folder of kept vectors")
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--queries", type=int, default=25, help="queries to score; 0 for the check alone")
    parser.add_argument("--mixed", action="append", default=[], help="collection for lists in two languages")
    options = parser.parse_args()
    for category in (TruncationWarning, ReadabilityWarning):
        warnings.simplefilter("ignore", category)
    names = options.collection or sorted(folder.name for folder in options.collections.iterdir())
    model = Model(options.model, options.store)
    print("| collection | queries | stay as they are | texts | cannot be read | lists with some |")
    print("|---|---:|---:|---:|---:|---:|")
    judged = {name: _read(options.collections, name, options.depth) for name in names}
    for name, data in judged.items():
        print(model.check(name, data), flush=True)
    if options.queries:
        print("\n| collection | queries | first stage | with the check | change | without | change |")
        print("|---|---:|---:|---:|---|---:|---|")
        for name, data in judged.items():
            print(model.quality(name, _first(data, options.queries)), flush=True)
    for name in options.mixed:
        print(f"\n| {name}: unreadable texts | as it ships | all of them last | none reranked beside one |")
        print("|---:|---:|---:|---:|")
        data = _first(_read(options.collections, name, options.depth), options.queries)
        for row in model.mixed(data):
            print(row, flush=True)


class Model:
    """A local model with the check of readability, and the same without."""

    def __init__(self, name: str, store: str | None) -> None:
        kind = {"type": "late_interaction", "store": {"path": store}} if store else {"type": "onnx"}
        (self.checked, self.unchecked) = (
            rag_rerank.build({**kind, "model": name, "on_unreadable": mode}) for mode in ("first_stage", "score")
        )
        self._known: dict[str, Readability] = {}

    def check(self, name: str, data: Judged) -> str:
        """Return the row of the check."""
        self._look_at([query.text for query in data.queries])
        self._look_at([candidate.text for query in data.queries for candidate in query.candidates])
        outcomes = [self._outcome(query) for query in data.queries]
        stay = sum(len(o.unscored) == len(o.values) > 0 for o in outcomes)
        partly = sum(0 < len(o.unscored) < len(o.values) for o in outcomes)
        texts = {candidate.text for query in data.queries for candidate in query.candidates if candidate.text.strip()}
        unreadable = sum(not self._known[text].readable for text in texts)
        count = len(data.queries)
        return f"| {name} | {count} | {stay} ({stay / count:.1%}) | {len(texts)} | {unreadable} | {partly} |"

    def _look_at(self, texts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text.strip() and text not in self._known]
        for start in range(0, len(new), 1000):
            part = new[start : start + 1000]
            self._known |= zip(part, self.checked.readability(part), strict=True)

    def _outcome(self, query: JudgedQuery) -> Scores:
        """Return what the check makes of a query's list, without any score."""
        texts = [candidate.text for candidate in query.candidates if candidate.text.strip()]
        if not self._known[query.text].readable:
            unscored = dict.fromkeys(range(len(texts)), UNREADABLE_QUERY)
        else:
            unscored = {i: UNREADABLE_TEXT for i, text in enumerate(texts) if not self._known[text].readable}
        return keep_first_stage(Scores([0.0] * len(texts), "sigmoid", unscored=unscored))

    def quality(self, name: str, data: Judged) -> str:
        """Return the row of nDCG@10."""
        checked: dict[str, Ranking] = {q.id: self.checked.rerank(q.text, q.candidates) for q in data.queries}
        unchecked = {
            q.id: self.unchecked.rerank(q.text, q.candidates) if checked[q.id].degraded else checked[q.id]
            for q in data.queries
        }
        first = _ndcg(data, {q.id: [c.id for c in q.candidates] for q in data.queries})
        cells = [f"{name}", str(len(data.queries)), f"{fmean(first):.3f}"]
        for rankings in (checked, unchecked):
            values = _ndcg(data, {id: [hit.id for hit in ranking] for id, ranking in rankings.items()})
            cells += [f"{fmean(values):.3f}", _change(np.array(values) - np.array(first))]
        return f"| {' | '.join(cells)} |"

    def mixed(self, data: Judged) -> Iterator[str]:
        """Yield the rows of lists in two languages; the change against the first stage."""
        scored = {q.id: self.checked.score(q.text, [c.text for c in q.candidates]) for q in data.queries}
        first = np.array(_ndcg(data, {q.id: [c.id for c in q.candidates] for q in data.queries}))
        rules: tuple[Callable[[Scores], Scores], ...] = (keep_first_stage, lambda scores: scores, _none_beside_one)
        for share in SHARES:
            changes: list[list[float]] = [[] for _ in rules]
            for seed in range(5):
                chance = random.Random(seed)
                foreign = {c.id: chance.random() < share for q in data.queries for c in q.candidates}
                for rule, values in zip(rules, changes, strict=True):
                    orders = {q.id: _order(q.candidates, scored[q.id], foreign, rule) for q in data.queries}
                    values += list(np.array(_ndcg(data, orders)) - first)
            print_cells = " | ".join(f"{fmean(values):+.3f}" for values in changes)
            yield f"| {share:.0%} | {print_cells} |"


def _order(
    candidates: Sequence[Candidate], scores: Scores, foreign: dict[str, bool], rule: Callable[[Scores], Scores]
) -> list[str]:
    unscored = {i: UNREADABLE_TEXT for i, candidate in enumerate(candidates) if foreign[candidate.id]}
    return [
        hit.id for hit in ranked_hits(candidates, rule(replace(scores, unscored=unscored)), range(len(candidates)), {})
    ]


def _none_beside_one(scores: Scores) -> Scores:
    return replace(scores, unscored=dict.fromkeys(range(len(scores.values)), "-")) if scores.unscored else scores


def _read(folder: Path, name: str, depth: int) -> Judged:
    base, is_latin = name.removeprefix("latin:"), name.startswith("latin:")
    data = read(folder / base, depth=depth)
    return _in_latin_letters(data) if is_latin else data


def _in_latin_letters(data: Judged) -> Judged:
    from unidecode import unidecode

    def rewrite(query: JudgedQuery) -> JudgedQuery:
        candidates = tuple(replace(c, text=unidecode(c.text)) for c in query.candidates)
        return replace(query, text=unidecode(query.text), candidates=candidates)

    return replace(data, queries=tuple(map(rewrite, data.queries)))


def _first(data: Judged, count: int) -> Judged:
    return replace(data, queries=data.queries[:count])


def _ndcg(data: Judged, orders: dict[str, list[str]]) -> list[float]:
    values = per_query(data, orders, ["nDCG@10"])["nDCG@10"]
    return [values[query.id] for query in data.queries]


def _change(differences: np.ndarray) -> str:
    low, high = interval(differences)
    return f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
