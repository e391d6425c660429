"""A fake of the bench that times rerankers, so that no test of tuning depends on the machine."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.diagnostics.sample_texts import SampleQuestion


class FakeBench:
    """Runs nothing: a setting takes ``cost`` seconds a text, times the next factor of ``noise``.

    Args:
        cost: Seconds a text of a reranker.
        noise: Factors, in turn.
        scores: Logits of a reranker for some texts.
    """

    def __init__(
        self,
        cost: Callable[[Any], float],
        noise: Iterable[float] = (1.0,),
        scores: Callable[[Any, Sequence[str]], Sequence[float]] = lambda _, texts: [float(len(t)) for t in texts],
    ) -> None:
        self.cost, self.noise, self.scores = cost, itertools.cycle(noise), scores
        self.loaded: set[LocalReranker] = set()
        self.most_loaded = 0
        self.ran: list[tuple[LocalReranker, SampleQuestion]] = []

    def engine(self, reranker: LocalReranker) -> Any:
        self.loaded.add(replace(reranker, batch_tokens=None))
        self.most_loaded = max(self.most_loaded, len(self.loaded))
        workers = getattr(reranker, "workers", None) or 4 // getattr(reranker, "threads", 1)
        return SimpleNamespace(workers=workers, batch_tokens=512, device="cpu", notes=())

    def run(self, reranker: LocalReranker, question: SampleQuestion) -> tuple[float, Sequence[float]]:
        self.engine(reranker)
        self.ran.append((reranker, question))
        return len(question.texts) * self.cost(reranker) * next(self.noise), self.scores(reranker, question.texts)

    def __enter__(self) -> "FakeBench":
        return self

    def __exit__(self, *_: object) -> None:
        self.keep(())

    def keep(self, rerankers: Iterable[LocalReranker]) -> None:
        self.loaded &= {replace(reranker, batch_tokens=None) for reranker in rerankers}


def best_at(threads: int, budget: int, gain: float = 2.0) -> Callable[[Any], float]:
    """Return the cost on a machine that is faster with one number of threads, and again with one budget."""

    def cost(reranker: Any) -> float:
        right = getattr(reranker, "threads", threads) == threads, (reranker.batch_tokens or 512) == budget
        return float(0.001 / gain ** sum(right))

    return cost
