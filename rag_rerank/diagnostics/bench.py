"""Time settings of local rerankers against each other, so that a busy machine misleads as little as possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median, quantiles
from time import perf_counter
from typing import Any, Protocol

from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.backends.local.engine import LoadedModel
from rag_rerank.diagnostics.sample_texts import SampleQuestion

__all__ = ["Bench", "LoadedBench", "Timing", "interleave"]


@dataclass(frozen=True)
class Timing:
    """Wall time of the same work in several rounds.

    Args:
        seconds: One number a round.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Middle of the rounds, in seconds."""
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """Width of the middle half of the rounds (interquartile range), in seconds; 0 for a single round."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = quantiles(self.seconds, n=4, method="inclusive")
        return high - low

    def faster_than(self, other: Timing) -> bool:
        """Whether this is faster by more than the larger of the two spreads."""
        return other.median - self.median > max(self.spread, other.spread)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: seconds."""
        return {"median": self.median, "spread": self.spread, "rounds": len(self.seconds)}


def interleave(runs: Sequence[Callable[[], float]], rounds: int) -> list[Timing]:
    """Return the times that each run reports: all runs in turn in each round, in reverse order in every other round."""
    seconds: list[list[float]] = [[] for _ in runs]
    order = list(range(len(runs)))
    for _ in range(rounds):
        for i in order:
            seconds[i].append(runs[i]())
        order.reverse()
    return [Timing(tuple(row)) for row in seconds]


class Bench(Protocol):
    """The interface through which rerankers are run and timed."""

    def engine(self, reranker: LocalReranker) -> LoadedModel:
        """Return the model with these settings, loaded now if it is not loaded yet."""

    def run(self, reranker: LocalReranker, question: SampleQuestion) -> tuple[float, Sequence[float]]:
        """Score the texts; return the seconds without loading, and the logits."""

    def keep(self, rerankers: Iterable[LocalReranker]) -> None:
        """Release the models that these do not need."""


class LoadedBench:
    """A bench with its own loaded instances; settings that differ only in ``batch_tokens`` share one."""

    def __init__(self) -> None:
        self._loaded: dict[LocalReranker, LocalReranker] = {}

    def __enter__(self) -> LoadedBench:
        return self

    def __exit__(self, *_: object) -> None:
        self.keep(())

    def engine(self, reranker: LocalReranker) -> LoadedModel:
        """Return the model with these settings, loaded now if it is not loaded yet."""
        return self._with_model(reranker)._runtime[0]

    def run(self, reranker: LocalReranker, question: SampleQuestion) -> tuple[float, Sequence[float]]:
        """Score the texts; return the seconds without loading, and the logits."""
        loaded = self._with_model(reranker)
        _, pool = loaded._runtime
        started = perf_counter()
        scores = pool.submit(loaded._task(question.query, question.texts, reranker.batch_tokens)).result()
        return perf_counter() - started, scores.values

    def keep(self, rerankers: Iterable[LocalReranker]) -> None:
        """Close the instances that these do not need."""
        needed = set(map(_without_batch_tokens, rerankers))
        for key in [key for key in self._loaded if key not in needed]:
            self._loaded.pop(key).close()

    def _with_model(self, reranker: LocalReranker) -> LocalReranker:
        """Return the instance that holds the model for these settings."""
        key = _without_batch_tokens(reranker)
        return self._loaded.setdefault(key, key)


def _without_batch_tokens(reranker: LocalReranker) -> LocalReranker:
    return replace(reranker, batch_tokens=None)
