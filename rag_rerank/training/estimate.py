"""What asking a teacher will cost, in words that a user can decide by."""

from __future__ import annotations

from dataclasses import dataclass

from rag_rerank.trace import Usage

__all__ = ["Estimate"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What asking a teacher will cost, told before anything is sent.

    Args:
        teacher: Its label.
        queries: How many queries there are.
        pairs: How many (query, passage) pairs.
        answered: How many of the queries it answered before, which costs nothing now.
        paid: US dollars that those answers cost.
        ahead: What the other queries will cost: texts, requests, tokens, search units, money; our estimates.
        unpriced: Labels of providers that would be asked and whose price is not known.
    """

    teacher: str
    queries: int
    pairs: int
    answered: int
    paid: float
    ahead: Usage
    unpriced: tuple[str, ...]

    @property
    def cost(self) -> float:
        """US dollars in all, those paid before included, as far as prices are known."""
        return self.paid + (self.ahead.cost or 0.0)

    def __str__(self) -> str:
        """Say it in words, one thing a sentence."""
        said = [f"{self.teacher} scores {self.pairs:,} pairs of {self.queries:,} queries"]
        if self.answered:
            said.append(f"{self.answered:,} queries were answered before, for ${self.paid:.4g}")
        ahead = self.ahead
        counts = (
            *((ahead.texts, "texts"), (ahead.requests, "requests")),
            *((ahead.tokens, "tokens"), (ahead.search_units, "search units")),
        )
        rest = [f"{count:,.0f} {name}" for count, name in counts if count]
        if rest:
            said.append(f"ahead by estimate: {', '.join(rest)}")
        if ahead.cost is not None:
            said.append(f"by known prices ${ahead.cost:.4g}, so ${self.cost:.4g} in all")
        elif not self.unpriced:
            said.append("no provider is asked, so it costs no money")
        if self.unpriced:
            said.append(f"the price of {', '.join(self.unpriced)} is not known here")
        return "; ".join(said)
