"""The rows that a model is trained on: a function of data and seed alone, so that a resumed run sees the same."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from rag_rerank.evaluation import Problem
from rag_rerank.training import losses
from rag_rerank.training.data.examples import Example, Passage
from rag_rerank.training.settings import TrainingSettings

__all__ = ["TrainingRows", "fingerprint"]

_EXAMPLES = 3
"""Queries that a problem names."""


class TrainingRows:
    """Rows of a query with some of its passages, in the order of the training.

    Args:
        examples: The training data.
        settings: The loss, the number of rows, and the seed.

    Raises:
        InputError: The loss can learn from no example.
    """

    def __init__(self, examples: Sequence[Example], settings: TrainingSettings) -> None:
        self._settings = settings
        self._rows: list[tuple[str, list[tuple[Passage, float]]]] = []
        useless = []
        for example in examples:
            passages = losses.label_passages(settings.loss, example)
            if passages:
                self._rows.append((example.query, passages))
            else:
                useless.append(f"{example.source}: {example.query!r}")
        losses.check_labels(settings.loss, [passages for _, passages in self._rows])
        kind = f"queries from which {settings.loss!r} learns nothing, left out"
        problem = Problem(kind=kind, count=len(useless), examples=tuple(useless[:_EXAMPLES]))
        self.problems = (problem,) if useless else ()
        self.queries = len(self._rows)
        self.pairs = sum(len(passages) for _, passages in self._rows)
        self._epoch, self._order = -1, list[int]()

    def __len__(self) -> int:
        return math.ceil(self._settings.epochs * self.queries)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return math.ceil(len(self) / self._settings.batch)

    def row(self, number: int) -> tuple[str, list[str], list[float]]:
        """Return a query, its passages and their labels."""
        epoch, position = divmod(number, self.queries)
        if epoch != self._epoch:
            order = list(range(self.queries))
            random.Random(f"{self._settings.seed}/{epoch}").shuffle(order)
            self._epoch, self._order = epoch, order
        query, passages = self._rows[self._order[position]]
        sample = self._sample(passages, random.Random(f"{self._settings.seed}/{number}"))
        return query, [passage.text for passage, _ in sample], [label for _, label in sample]

    def dataset(self) -> Any:
        """Return the rows as the trainer takes them; each row is built when it is read."""
        from datasets import Dataset

        def build(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
            rows = [self.row(number) for number in batch["row"]]
            return {name: [row[i] for row in rows] for i, name in enumerate(("query", "docs", "label"))}

        return Dataset.from_dict({"row": list(range(len(self)))}).with_transform(build)

    def _sample(self, passages: list[tuple[Passage, float]], rng: random.Random) -> list[tuple[Passage, float]]:
        """Return as many passages as a step takes, in their order, with two different labels among them."""
        shuffled = rng.sample(range(len(passages)), len(passages))
        other = next((i for i in shuffled if passages[i][1] != passages[shuffled[0]][1]), shuffled[-1])
        rest = [i for i in shuffled[1:] if i != other]
        positions = {shuffled[0], other, *rest[: self._settings.passages - 2]}
        return [passages[i] for i in sorted(positions)]


def fingerprint(examples: Iterable[Example]) -> str:
    """Return the SHA-256 of all that a model can learn from examples, and of their order."""
    digest = sha256()
    for example in examples:
        passages = [(p.text, p.grade, p.teacher, p.origin) for p in example.passages]
        digest.update(json.dumps([example.query, passages]).encode())
    return digest.hexdigest()
