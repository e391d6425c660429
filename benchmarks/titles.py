"""What a title in the scored text is worth: nDCG@10 of the text alone, and with the title before it.

    python benchmarks/titles.py COLLECTIONS --collection scifact --collection nfcorpus --depth 100 --queries 60

COLLECTIONS is a folder with one folder per collection in the format of BEIR, whose ``corpus.jsonl`` has titles. The
titles move from the text into the metadata, where a reranker of the type ``template`` reads them again.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import replace
from pathlib import Path

import rag_rerank
from rag_rerank import Candidate, Template, TruncationWarning
from rag_rerank.evaluation import evaluate, read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("--collection", action="append", required=True)
    parser.add_argument("--reranker", default="embedded", help="name or config file")
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--queries", type=int)
    options = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    reranker = rag_rerank.build(options.reranker)
    rerankers = {"text": reranker, "title and text": Template(reranker=reranker, text="{title} {text}")}
    print("| collection | candidates with a title | text | title and text | change |")
    print("|---|---:|---:|---:|---|")
    for name in options.collection:
        titles = _titles(options.collections / name)
        judged = read(options.collections / name, depth=options.depth, queries=options.queries)
        queries = tuple(
            replace(query, candidates=tuple(_apart(c, titles[c.id]) for c in query.candidates))
            for query in judged.queries
        )
        shown = [titles[c.id] != "" for query in queries for c in query.candidates]
        evaluation = evaluate(replace(judged, queries=queries), rerankers, depth=options.depth)
        measure = evaluation.settings.measures[0]
        means = {system.name: system.measures[measure].mean for system in evaluation.systems}
        (change,) = (
            c.difference
            for c in evaluation.comparisons
            if (c.baseline, c.system, c.measure) == ("text", "title and text", measure)
        )
        print(
            f"| {name}, {len(queries)} queries | {sum(shown) / len(shown):.0%} | {means['text']:.3f} "
            f"| {means['title and text']:.3f} | {change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}] |",
            flush=True,
        )


def _titles(folder: Path) -> dict[str, str]:
    with (folder / "corpus.jsonl").open(encoding="utf-8") as lines:
        return {str(row["_id"]): (row.get("title") or "").strip() for row in map(json.loads, lines)}


def _apart(candidate: Candidate, title: str) -> Candidate:
    """Return a candidate with its title in the metadata, and no longer at the beginning of its text."""
    assert candidate.text.startswith(title)
    return replace(
        candidate, text=candidate.text[len(title) :].strip(), metadata={**candidate.metadata, "title": title}
    )


if __name__ == "__main__":
    main()
