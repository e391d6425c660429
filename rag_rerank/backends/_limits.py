"""How much a reranker asks of its provider: the limits as a user writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from rag_rerank.errors import ConfigError

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits that are kept on this side, before anything is sent; all are off by default.

    They count per key: all rerankers of this process with the same provider, server and key are counted together, in
    threads and on event loops alike; with an injected client, whose key is not known here, each reranker counts for
    itself. Where such rerankers name different limits, each keeps its own: it sends only while all of them together
    are below its numbers. So a background job with a smaller number leaves room for the others.

    A request begins only if, with it, no more than the limit began in the 60 seconds before, on whatever second they
    start (a sliding window: the whole minute's number may go at once, and then nothing for a minute). Who must wait
    stands in one line, first come, first served; a wait of 10 ms or more is noted in the trace. A wait that would
    outlast the retry budget or the time of the call is not begun: `RateLimited` is raised at once, with the wait in
    ``retry_after``. Each attempt counts as a request. When a provider answers 429 and says how long to wait, all who
    keep a limit of requests, tokens or concurrency with this key wait that long, but no longer than a minute.

    Money is what answers say was billed, times the price (`Price`); where an answer does not say it, our estimate.
    Before a request is sent, the estimate for it and for what is left of the call is added to what was spent; if that
    is over the ceiling, `CostExceeded` is raised and nothing is sent. Attempts without an answer may be billed by the
    provider too; they are not counted here.

    Args:
        requests_per_minute: Requests begun in any 60 seconds at most.
        tokens_per_minute: Tokens of them at most. Estimated before sending, the query once for each text, and put
            right when the answer says what was read. A request with more than that is halved.
        concurrency: Requests in flight at the same time at most.
        cost_per_call: US dollars for one call of ``rerank`` at most.
        cost_per_process: US dollars that this process spends with this key at most.

    Raises:
        ConfigError: A value that is not more than 0, or not finite, or no whole number where one is counted.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    cost_per_call: float | None = None
    cost_per_process: float | None = None

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value, counted = getattr(self, name), not name.startswith("cost")
            if value is None:
                continue
            number = isinstance(value, int if counted else (int, float)) and not isinstance(value, bool)
            if not (number and value > 0 and math.isfinite(value)):
                kind = "a whole number of at least 1" if counted else "a finite number of dollars, more than 0"
                raise ConfigError(f"{name} must be {kind}, or None for no limit, got {value!r}", path=name)

    @property
    def paced(self) -> bool:
        """Whether a request may have to wait."""
        return (self.requests_per_minute, self.tokens_per_minute, self.concurrency) != (None, None, None)

    @property
    def priced(self) -> bool:
        """Whether there is a ceiling of cost."""
        return (self.cost_per_call, self.cost_per_process) != (None, None)

    def admit(self, requests: int, tokens: int, more: int) -> bool:
        """Whether one more request, of so many tokens, may join what began in the last minute."""
        return (self.requests_per_minute is None or requests < self.requests_per_minute) and (
            self.tokens_per_minute is None or tokens + more <= self.tokens_per_minute
        )

    def __str__(self) -> str:
        """Name what a request may have to wait for."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("cost")}
        return ", ".join(f"limits.{name}={value}" for name, value in named.items() if value is not None)
