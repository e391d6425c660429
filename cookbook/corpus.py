"""What the demo and the notebooks use: real passages, real questions, and BM25 as the first stage."""

import gzip
import json
import re
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # in a notebook, the progress bar of bm25s warns that ipywidgets is missing
    import bm25s

DATA = Path(__file__).parent / "data"


def chunks() -> dict[str, str]:
    """Return passages of Wikipedia by id."""
    return {row["id"]: row["text"] for row in _rows("chunks.jsonl.gz")}


def questions(every: int = 1) -> list[dict]:
    """Return questions with ``id``, ``text`` and ``relevant``, the ids of the passages that hold an answer.

    With ``every=10`` these are the first, the eleventh, and so on: a sample that nobody chose, from the whole file.
    """
    return _rows("questions.jsonl.gz")[::every]


def first_relevant_rank(ids: Iterable[str], relevant: Collection[str]) -> int | None:
    """Return the rank, from 1, of the first passage that holds an answer; ``None`` if there is none."""
    return next((rank for rank, id in enumerate(ids, start=1) if id in relevant), None)


class Bm25:
    """A first stage: finds the passages that share the rarest words with a query."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.ids = list(texts)
        self.index = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
        self.index.index([_words(text) for text in texts.values()], show_progress=False)

    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        """Return the ids and scores of the best ``k`` passages, best first."""
        scores = self.index.get_scores(_words(query))
        best = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
        return [(self.ids[i], float(scores[i])) for i in best]


def _rows(name: str) -> list[dict]:
    with gzip.open(DATA / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
