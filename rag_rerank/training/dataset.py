"""What the model is shown, row by row: a function of data and seed alone, so that a resumed run sees the same."""

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

_PLACES = 3
"""Places that are named of a kind of problem."""


class TrainingRows:
    """Rows of a query with some of its passages, in the order in which they are shown.

    Args:
        examples: What was read.
        settings: Which loss, how many rows, and the seed.

    Raises:
        InputError: No example teaches the loss anything.
    """

    def __init__(self, examples: Sequence[Example], settings: TrainingSettings) -> None:
        self._settings = settings
        self._rows: list[tuple[str, list[tuple[Passage, float]]]] = []
        idle = []
        for example in examples:
            found = losses.with_labels(settings.loss, example)
            if found:
                self._rows.append((example.query, found))
            else:
                idle.append(f"{example.source}: {example.query!r}")
        losses.check(settings.loss, [found for _, found in self._rows])
        kind = f"queries from which {settings.loss!r} learns nothing, left out"
        self.problems = (Problem(kind=kind, count=len(idle), examples=tuple(idle[:_PLACES])),) if idle else ()
        self.queries = len(self._rows)
        self.pairs = sum(len(found) for _, found in self._rows)
        self._epoch, self._order = -1, list[int]()

    def __len__(self) -> int:
        return math.ceil(self._settings.epochs * self.queries)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return math.ceil(len(self) / self._settings.batch)

    def row(self, number: int) -> tuple[str, list[str], list[float]]:
        """Return a query, its passages and their labels."""
        epoch, position = divmod(number, self.queries)
        if epoch != self._epoch:
            order = list(range(self.queries))
            random.Random(f"{self._settings.seed}/{epoch}").shuffle(order)
            self._epoch, self._order = epoch, order
        query, found = self._rows[self._order[position]]
        drawn = self._drawn(found, random.Random(f"{self._settings.seed}/{number}"))
        return query, [passage.text for passage, _ in drawn], [label for _, label in drawn]

    def _drawn(self, found: list[tuple[Passage, float]], chance: random.Random) -> list[tuple[Passage, float]]:
        """Return as many passages as a step takes, two that differ among them, in the order in which they stood."""
        shuffled = chance.sample(range(len(found)), len(found))
        other = next((i for i in shuffled if found[i][1] != found[shuffled[0]][1]), shuffled[-1])
        rest = [i for i in shuffled[1:] if i != other]
        chosen = {shuffled[0], other, *rest[: self._settings.passages - 2]}
        return [found[i] for i in sorted(chosen)]

    def dataset(self) -> Any:
        """Return the rows as the trainer takes them; each is made when it is asked for."""
        from datasets import Dataset

        def shown(numbers: dict[str, list[int]]) -> dict[str, list[Any]]:
            rows = [self.row(number) for number in numbers["row"]]
            return {name: [row[i] for row in rows] for i, name in enumerate(("query", "docs", "label"))}

        return Dataset.from_dict({"row": list(range(len(self)))}).with_transform(shown)


def fingerprint(examples: Iterable[Example]) -> str:
    """Return a hash of all that a model can learn from examples, and of their order."""
    found = sha256()
    for example in examples:
        passages = [(p.text, p.grade, p.teacher, p.origin) for p in example.passages]
        found.update(json.dumps([example.query, passages]).encode())
    return found.hexdigest()
