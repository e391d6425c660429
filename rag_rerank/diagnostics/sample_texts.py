"""Real text that ships with the package: questions with passages, on which models are compared and timed."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

from rag_rerank.text.unicode import is_blank, valid_unicode

__all__ = ["SampleQuestion", "as_read", "questions", "skewed_question"]

_FILE = Path(__file__).parents[1] / "models" / "check.jsonl.gz"

_WORDS, _SKEW, _SHORTEST, _LONGEST = 85, 0.6, 5, 400


class SampleQuestion(NamedTuple):
    """A query with the texts to rank for it."""

    query: str
    texts: tuple[str, ...]


def as_read(query: str, texts: Sequence[str]) -> SampleQuestion:
    """Return query and texts as a reranker reads them: valid Unicode, no blank texts; none for a blank query."""
    return SampleQuestion(
        valid_unicode(query),
        () if is_blank(query) else tuple(valid_unicode(text) for text in texts if not is_blank(text)),
    )


@cache
def questions() -> tuple[SampleQuestion, ...]:
    """Return six questions with 40 Wikipedia passages each, found by BM25; NOTICE names source and licence."""
    with gzip.open(_FILE, "rt", encoding="utf-8") as lines:
        _, *rows = map(json.loads, lines)
    return tuple(SampleQuestion(row["query"], tuple(row["texts"])) for row in rows)


def skewed_question(count: int = 100) -> SampleQuestion:
    """Return one question with texts of different lengths, as a retriever returns them: most are short, a few long.

    The texts are cut from the passages. Their lengths are the quantiles of a lognormal distribution (median 85 words,
    sigma 0.6; 5 to 400 words), in a mixed order that is always the same.
    """
    words = cycle(" ".join(text for question in questions() for text in question.texts).split())
    normal = NormalDist(math.log(_WORDS), _SKEW)
    lengths = [round(math.exp(normal.inv_cdf((i + 0.5) / count))) for i in range(count)]
    mixed = sorted(range(count), key=lambda i: (i * 0.618034) % 1)
    texts = (" ".join(islice(words, min(max(lengths[i], _SHORTEST), _LONGEST))) for i in mixed)
    return SampleQuestion(questions()[0].query, tuple(texts))
