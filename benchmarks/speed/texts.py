"""Queries and candidates of declared token lengths, cut and joined from the cookbook's real passages.

A length is that of the whole input in BERT's uncased vocabulary: query, text and the embedded model's four special
tokens; other cross-encoders have three. Texts are cut at a word's end, so a few are some tokens shorter than
declared. The same arguments give the same texts.
"""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist
from typing import Any

ROOT = Path(__file__).parents[2]
TOKENIZER = ROOT / "rag_rerank" / "models" / "late-minilm-v1" / "tokenizer.json"

WINDOW = 512
MEDIAN = 134
SKEW = 0.55
SPECIALS = 4


@dataclass(frozen=True)
class Case:
    """A query with its candidates.

    Args:
        query: A real question.
        texts: The candidates.
        lengths: Tokens of each input, query and special tokens included, at most 512.
    """

    query: str
    texts: tuple[str, ...]
    lengths: tuple[int, ...]


@cache
def tokenizer() -> Any:
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(TOKENIZER))
    loaded.no_truncation()
    return loaded


def cases(count: int, candidates: int, skew: float = SKEW, first: int = 0) -> list[Case]:
    """Return some cases; two that differ in their number (from ``first``) share no query.

    Lengths are lognormal with a median of 134 tokens: the text's part has ``skew`` as its sigma, the query's is as it
    is. They are drawn one from each of ``candidates`` equal parts of the distribution, so that each case has its
    whole width.
    """
    return [_case(first + i, _sampled_lengths(candidates, skew, first + i)) for i in range(count)]


def even(candidates: int, length: int, number: int = 0) -> Case:
    """Return one case whose inputs have about one length."""
    return _case(number, lambda overhead: [length - overhead] * candidates)


def _sampled_lengths(candidates: int, skew: float, number: int) -> Any:
    def lengths(overhead: int) -> list[int]:
        rng = random.Random(f"{candidates} {skew} {number}")
        normal = NormalDist(math.log(MEDIAN - overhead), skew)
        sample = [normal.inv_cdf((i + rng.uniform(0.001, 0.999)) / candidates) for i in range(candidates)]
        rng.shuffle(sample)
        return [max(8, min(WINDOW - overhead, round(math.exp(value)))) for value in sample]

    return lengths


def _case(number: int, lengths: Any) -> Case:
    query = _questions()[number % len(_questions())]
    overhead = len(tokenizer().encode(query, add_special_tokens=False)) + SPECIALS
    stream = _stream(number)
    texts = [_text(stream, length) for length in lengths(overhead)]
    return Case(query, tuple(text for text, _ in texts), tuple(overhead + tokens for _, tokens in texts))


def _text(stream: Iterator[list[tuple[str, int]]], length: int) -> tuple[str, int]:
    """Join words of passage after passage until one more would be too long."""
    joined_words: list[str] = []
    room = length
    for words in stream:
        fit = sum(end <= room for end in accumulate(tokens for _, tokens in words))
        joined_words += (word for word, _ in words[:fit])
        room -= sum(tokens for _, tokens in words[:fit])
        if fit < len(words):
            return " ".join(joined_words), length - room
    raise AssertionError("the stream of passages does not end")


def _stream(number: int) -> Iterator[list[tuple[str, int]]]:
    rng = random.Random(f"passages {number}")
    while True:
        yield rng.choice(_passages())


@cache
def _questions() -> Sequence[str]:
    texts = [row["text"] for row in _rows("questions.jsonl.gz")]
    random.Random(0).shuffle(texts)
    return texts


@cache
def _passages() -> Sequence[list[tuple[str, int]]]:
    """Return each passage as its words, each with its number of tokens."""
    texts = [row["text"] for row in _rows("chunks.jsonl.gz")]
    encodings = tokenizer().encode_batch([text.split() for text in texts], is_pretokenized=True)
    passages = []
    for text, encoding in zip(texts, encodings, strict=True):
        counts = [0] * len(text.split())
        for word in encoding.word_ids:
            if word is not None:
                counts[word] += 1
        passages.append(list(zip(text.split(), counts, strict=True)))
    return passages


def _rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(ROOT / "cookbook" / "data" / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
