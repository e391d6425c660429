"""Answers that survive when contexts keep only relevant sentences: ``pack(trim="relevant")`` beside plain trimming.

    python benchmarks/spans.py COLLECTIONS --qed qed-dev.jsonlines --xquad xquad.en.json

COLLECTIONS is a folder with selqa-test, nq-qed and xquad-en in BEIR's form; what is absent is skipped. The places of
the answers in nq-qed and xquad-en are in files of google-research-datasets/QED and google-deepmind/xquad on GitHub.

Each question has ten candidates, one of which holds the answer. `embedded` ranks them. ``--by`` says what scores the
sentences: ``vectors``, `embedded` by the token vectors of whole texts; ``sentences``, `embedded` with each sentence
as a text of its own; or the name of another reranker. ``--half`` takes every second question of the sample: what was
chosen on ``tune`` is reported on ``report``. "Kept"
is the share of questions whose answer is whole in the context: for selqa-test the whole answer sentence, else the
answer's words, both in the text that is known to hold it. "Cut" is the share of the tokens of all ten texts that is
gone. "First sentences" keeps of each text as many sentences from its beginning as have at least the tokens of its
relevant ones. The second table has the answers kept within budgets of tokens, by ``trim``.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

from answer_places import Question, read_questions

import rag_rerank
from rag_rerank import (
    Cached,
    Context,
    ContextWarning,
    Hit,
    Ranking,
    RelevantSpans,
    TruncationWarning,
    build,
    pack,
)
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.text.sentences import sentences
from rag_rerank.text.tokenizers import tokens

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"
COLLECTIONS = ("xquad-en", "selqa-test", "nq-qed")
BUDGETS = (100, 200, 400, 800)
TRIMS = ("best", "sentences", "relevant")
HALVES = {"all": slice(None), "tune": slice(0, None, 2), "report": slice(1, None, 2)}

count_tokens = lru_cache(maxsize=None)(tokens(EMBEDDED).count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("--qed", type=Path, help="qed-dev.jsonlines")
    parser.add_argument("--xquad", type=Path, help="xquad.en.json")
    parser.add_argument("--by", action="append", help="by default vectors, sentences and lexical")
    parser.add_argument("--half", choices=("all", "tune", "report"), default="all")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--collection", action="append", help="by default all three")
    options = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    warnings.simplefilter("ignore", ContextWarning)
    answers = {"nq-qed": options.qed, "xquad-en": options.xquad}
    print("| collection | sentences by | kept | cut | first sentences: kept | cut |")
    budget_rows = []
    embedded = build("embedded")
    for name in options.collection or COLLECTIONS:
        folder = options.collections / name
        if not folder.is_dir() or (name in answers and answers[name] is None):
            print(f"{name} is skipped: no collection, or no answers")
            continue
        questions = read_questions(folder, answers.get(name), count=options.queries, depth=10, seed=options.seed)
        questions = questions[HALVES[options.half]]
        for by in options.by or ("vectors", "sentences", "lexical"):
            rankings = list(rank_all(questions, embedded, by))
            print(
                f"| {name}, {len(questions)} questions | {by} | {' | '.join(trade_off(questions, rankings))} |",
                flush=True,
            )
            budget_rows += [
                f"| {name} | {by} | {trim} | {' | '.join(within_budgets(questions, rankings, trim))} |"
                for trim in TRIMS
            ]
    print(f"\n| collection | sentences by | trim | {' | '.join(f'{budget} tokens' for budget in BUDGETS)} |")
    print("\n".join(budget_rows))


def rank_all(questions: Sequence[Question], embedded: LateInteractionReranker, by: str) -> Iterator[Ranking]:
    """Yield the ranking of each question by `embedded`, with the spans of all hits by a reranker."""
    scorers = {"vectors": None, "sentences": Cached(reranker=embedded)}  # a cache has no token vectors
    reranker = RelevantSpans(reranker=embedded, by=scorers[by] if by in scorers else build(by))
    for question in questions:
        yield reranker.rerank(question.text, question.candidates)


def trade_off(questions: Sequence[Question], rankings: Sequence[Ranking]) -> list[str]:
    """Return kept and cut of the relevant sentences, and of the first sentences."""
    kept = first_kept = left = first_left = total = 0
    for question, ranking in zip(questions, rankings, strict=True):
        context = pack(ranking, trim="relevant")
        kept += is_kept(question, context)
        total += sum(count_tokens(hit.text) for hit in ranking)
        for piece in context.pieces:
            size = count_tokens(piece.text)
            end = end_of_first_sentences(piece.best, size)
            left, first_left = left + size, first_left + count_tokens(piece.best.text[:end])
            first_kept += piece.best.id == question.id and question.is_kept([(0, end)])
    return [
        *(f"{kept / len(questions):.1%}", f"{1 - left / total:.0%}"),
        *(f"{first_kept / len(questions):.1%}", f"{1 - first_left / total:.0%}"),
    ]


def within_budgets(questions: Sequence[Question], rankings: Sequence[Ranking], trim: str) -> Iterator[str]:
    """Yield the share of the answers that are kept within each budget."""
    for budget in BUDGETS:
        pack_all = partial(pack, max_tokens=budget, tokenizer=count_tokens, trim=trim)
        kept = sum(is_kept(q, pack_all(ranking)) for q, ranking in zip(questions, rankings, strict=True))
        yield f"{kept / len(questions):.1%}"


def is_kept(question: Question, context: Context) -> bool:
    """Whether the answer is whole in the context."""
    for piece in context.pieces:
        if piece.best.id == question.id:
            whole = (0, len(piece.best.text))
            return question.is_kept(piece.parts or (piece.trimmed or whole,))
    return False


def end_of_first_sentences(hit: Hit, size: int) -> int:
    """Return where the first sentences end that have at least so many tokens together."""
    ends = [end for _, end in sentences(hit.text)]
    return next((end for end in ends if count_tokens(hit.text[:end]) >= size), len(hit.text))


if __name__ == "__main__":
    main()
