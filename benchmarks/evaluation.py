"""Evaluate every reranker that runs without a download on judged collections, and print one table.

    python benchmarks/evaluation.py COLLECTIONS --collection trec-dl19 --collection cranfield
        --config embedded --config lexical --bi-encoder all-MiniLM-L6-v2 --records records --depth 50 --queries 80

COLLECTIONS is a folder with one folder per collection, as `rag_rerank.evaluation.read` takes them. For each collection
this does what ``rag-rerank eval`` does; ``--bi-encoder`` adds an embedding model, and its fusion with the first stage.
Answers are stored in ``--records``, so that the same command goes on where it stopped. ``--html`` names a folder for
the pages.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import rag_rerank
from rag_rerank import CalibrationWarning, Ensemble, Reranker, TruncationWarning
from rag_rerank.backends.embedding import EmbeddingReranker
from rag_rerank.backends.first_stage import FirstStageReranker
from rag_rerank.evaluation import Evaluation, evaluate, read
from rag_rerank.evaluation.report import FIRST_STAGE, MeanEstimate
from rag_rerank.pages.page import evaluation_page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("--collection", action="append", required=True)
    parser.add_argument("--config", action="append", default=[], help="NAME or NAME=FILE")
    parser.add_argument("--bi-encoder", help="embedding model: a folder, or a hub id")
    parser.add_argument("--tokens", type=int, help="tokens that the bi-encoder reads; by default the model's own")
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--queries", type=int)
    parser.add_argument("--records", type=Path)
    parser.add_argument("--html", type=Path)
    options = parser.parse_args()
    for category in (TruncationWarning, CalibrationWarning):
        warnings.simplefilter("ignore", category)
    rerankers = dict(map(_build, options.config))
    if options.bi_encoder:
        name = Path(options.bi_encoder).name
        bi_encoder = EmbeddingReranker(model=options.bi_encoder, max_length=options.tokens, name=name)
        rerankers[name] = bi_encoder
        rerankers[f"{name} + first stage, RRF"] = Ensemble(members=(bi_encoder, FirstStageReranker()))
    print("| collection | system | nDCG@10 | change | p | lift at top-3 | helped, hurt, same | cut |")
    print("|---|---|---:|---|---:|---|---|---:|")
    verdicts = []
    for name in options.collection:
        judged = read(options.collections / name, depth=options.depth, queries=options.queries)
        records = options.records and options.records / name
        evaluation = evaluate(judged, rerankers, depth=options.depth, records=records)
        print("\n".join(_rows(evaluation)), flush=True)
        verdicts.append(f"- {name}: {evaluation.verdict.words}")
        if options.html:
            (options.html / f"{name}.html").write_text(evaluation_page(evaluation.to_dict()), encoding="utf-8")
    print("\n" + "\n".join(verdicts))


def _build(config: str) -> tuple[str, Reranker]:
    name, _, file = config.partition("=")
    return name, rag_rerank.build(file or name)


def _rows(evaluation: Evaluation) -> Iterator[str]:
    measure = evaluation.settings.measures[0]
    by_system = {(c.system, c.measure): c for c in evaluation.comparisons if c.baseline == FIRST_STAGE}
    for system in evaluation.systems:
        mean = f"{system.measures[measure].mean:.4f}"
        if system.name == FIRST_STAGE:
            yield f"| {evaluation.data.name}, {evaluation.data.queries} queries | first stage | {mean} | | | | | |"
            continue
        whole, top = by_system[system.name, measure], by_system[system.name, "nDCG@3"]
        p = "< 0.001" if whole.p_adjusted < 0.001 else f"{whole.p_adjusted:.3f}"
        cut = "" if system.truncated is None else f"{system.truncated:.0%}"
        counts = f"{whole.helped}, {whole.hurt}, {whole.unchanged}"
        change, lift = _change(whole.difference), _change(top.difference)
        yield f"| | {system.name} | {mean} | {change} | {p} | {lift} | {counts} | {cut} |"


def _change(difference: MeanEstimate) -> str:
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


if __name__ == "__main__":
    main()
