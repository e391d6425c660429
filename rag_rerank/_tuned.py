"""What is tuned, and what measuring it gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from rag_rerank._bench import Timing
from rag_rerank.agreement import Agreement
from rag_rerank.backends._local import LocalReranker
from rag_rerank.backends._sample import TOLERANCE

__all__ = ["Measured", "Report", "Setting"]


class Setting(NamedTuple):
    """What is chosen; ``workers`` and ``threads`` are ``None`` for a reranker that has none."""

    workers: int | None
    threads: int | None
    batch_tokens: int

    def changes(self, present: Setting) -> dict[str, Any]:
        """Return the fields to set where another setting is present; the layout as a whole or not at all."""
        layout = {"workers": self.workers, "threads": self.threads} if self[:2] != present[:2] else {}
        budget = {"batch_tokens": self.batch_tokens} if self.batch_tokens != present.batch_tokens else {}
        return layout | budget


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One setting, with its times.

    Args:
        setting: The setting.
        timing: Wall times of one call with all texts.
        moved: Largest difference of a logit from that of the present setting; relative beyond -1..1.
    """

    setting: Setting
    timing: Timing
    moved: float

    @property
    def exact(self) -> bool:
        """Whether the scores are those of the present setting, within what fp32 rounds."""
        return self.moved <= TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**self.setting._asdict(), "seconds": self.timing.to_dict(), "moved": self.moved}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `tune` found.

    Args:
        reranker: The reranker as it was given.
        tuned: The same with the chosen settings; equal where the present ones stay.
        texts: On how many texts it was measured.
        layouts: ``workers`` and ``threads`` compared, at the present ``batch_tokens``.
        budgets: ``batch_tokens`` compared, at the best layout. Times of different comparisons are not comparable.
        present: The present setting, in the last comparison.
        chosen: The chosen setting, in the last comparison; the same as ``present`` where that stays.
        int8: For information: time in 8 bits in the last comparison, and the agreement of its scores with fp32;
            ``None`` where it cannot be had or is what the reranker has already.
    """

    reranker: LocalReranker
    tuned: LocalReranker
    texts: int
    layouts: tuple[Measured, ...]
    budgets: tuple[Measured, ...]
    present: Measured
    chosen: Measured
    int8: tuple[Timing, Agreement] | None

    @property
    def changes(self) -> dict[str, int]:
        """The fields that the choice sets, with their values; empty where the present setting stays."""
        return self.chosen.setting.changes(self.present.setting)

    @property
    def gain(self) -> float:
        """How many times as fast the choice is as the present setting; 1 where that stays."""
        return self.present.timing.median / self.chosen.timing.median

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; seconds, not milliseconds."""
        int8 = self.int8 and {
            "seconds": self.int8[0].to_dict(),
            "gain": self.chosen.timing.median / self.int8[0].median,
            **self.int8[1].to_dict(),
        }
        return {
            "reranker": self.reranker.label,
            "texts": self.texts,
            "layouts": [row.to_dict() for row in self.layouts],
            "budgets": [row.to_dict() for row in self.budgets],
            "present": self.present.to_dict(),
            "chosen": self.chosen.to_dict(),
            "changes": self.changes,
            "gain": self.gain,
            "int8": int8,
        }
