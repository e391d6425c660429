"""Windows: long texts read whole, in overlapping windows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, NamedTuple

from rag_rerank._checks import at_least, one_of
from rag_rerank._lazy import load_once
from rag_rerank.compose.calibrated import calibrates
from rag_rerank.compose.window_splitting import Span, SplitText
from rag_rerank.compose.wrapper import Wrapper
from rag_rerank.errors import ConfigError
from rag_rerank.execution.plan import Call, InThread, Plan, PlanResult
from rag_rerank.execution.ranking import best_first, renumber
from rag_rerank.text.tokenizers import TextLimit, TokenizerName, Tokens, tokens
from rag_rerank.text.unicode import is_blank
from rag_rerank.trace import Coverage
from rag_rerank.types import Candidate, Hit, Ranking, Scale, present

__all__ = ["Windows"]

_TOP_M = 3
"""Windows that count with ``pool="top"``, where the user gives no number."""

_MANY = 2000
"""Windows whose pooling takes some ten milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Windows(Wrapper):
    """A reranker that reads long texts whole: it splits them into overlapping windows, and pools the windows' scores.

    Each window goes to the reranker as a candidate of its own. Texts that fit go to it unchanged. The scale stays the
    reranker's. ``hit.window`` is the place of the best window in the text, for all three pools. ``hit.coverage`` counts
    the tokens of the whole text that were read, each once. A window without a score (a deadline passed, a cascade
    stopped before it) is left out of the pool and lowers the coverage. If no window of a text has a score, the text has
    none either, and gives its first window's reason. Blank windows are not scored and do not lower the coverage.

    How much text fits beside a query is known for local models, for ``lexical``, and for composites and caches made of
    these only; all members of a composite are loaded for it at the first call. With providers, give ``tokenizer``, and
    in ``tokens`` a number that surely fits their context window. If a local model with a shorter window is in one
    composite with a provider, it truncates, and reports it as usual.

    Args:
        reranker: The reranker that scores the windows.
        tokens: The length of a window in tokens; never more than the reranker can read. By default as many as fit.
        overlap: How many tokens two neighbouring windows share at most; never more than half of a window. The default,
            32, is the length of a long sentence, so that a sentence cut by one window is whole in the next.
        pool: How the raw scores of a text's windows become one score. (Those of the scale ``sigmoid`` are logits, so a
            mean is a mean of log-odds.)

            - ``"max"``: The score of the best window: MaxP of Dai and Callan (SIGIR 2019). This is the default.
            - ``"mean"``: The mean over all windows. It lowers a long text with a single relevant passage.
            - ``"top"``: The mean over the best ``top_m`` windows, or over all where there are fewer.
        top_m: How many windows count with ``pool: top``. By default 3.
        tokenizer: The tokenizer that counts ``tokens``: a tiktoken name (extra ``tiktoken``), or the path of a
            ``tokenizer.json``. By default the reranker's own; name one where the reranker has none, as providers.

    Raises:
        ConfigError: It is not known how much text fits, a number or ``pool`` is not allowed, or the reranker is
            calibrated.
        InputTooLong: The query leaves no room for a text.
    """

    kind: ClassVar[str] = "windows"

    tokens: int | None = None
    overlap: int = 32
    pool: Literal["max", "mean", "top"] = "max"
    top_m: int | None = None
    tokenizer: TokenizerName | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.pool, ("max", "mean", "top"), "pool")
        if calibrates(self.reranker):
            raise ConfigError(
                "a window's probability is not its text's; put Calibrated around Windows, with a map fitted on both",
                path="reranker",
            )
        at_least(self.overlap, 0, "overlap")
        if self.tokens is not None and self.tokens < max(1, 2 * self.overlap):
            raise ConfigError(
                f"windows of {self.tokens} tokens cannot share {self.overlap}; at most half of them",
                path="tokens",
            )
        if self.top_m is not None:
            if self.pool != "top":
                raise ConfigError(f"pool {self.pool!r} has no top_m; pool 'top' does", path="top_m")
            at_least(self.top_m, 1, "top_m")
        if self.tokenizer is not None and self.tokens is None:
            raise ConfigError("a tokenizer counts the tokens of a window, so say how many", path="tokens")
        if self.tokenizer is None and not self.reranker.knows_text_limit:
            raise ConfigError(
                f"{self.reranker.label} does not say how much of a text it reads; name a tokenizer, and in tokens how "
                "many it surely reads beside a query",
                path="tokenizer",
            )

    @property
    def knows_text_limit(self) -> bool:
        """True: it reads texts of any length."""
        return True

    def text_limits(self, query: str) -> tuple[TextLimit, ...]:
        """Return no limit: texts of any length are read whole."""
        return ()

    def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> None:
        """Return ``None``: how many windows a text becomes is not known before it is split."""

    def warm_up(self) -> None:
        """Load the reranker and the tokenizer."""
        super().warm_up()
        _ = self._counter

    @load_once
    def _counter(self) -> Tokens | None:
        return None if self.tokenizer is None else tokens(self.tokenizer)

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        split: list[_CandidateWindows] = yield InThread(partial(self._split, query, candidates))
        ranking: Ranking = yield Call(self.reranker, query, tuple(w for item in split for w in item.candidates))
        pool = partial(self._pool_all, split, ranking)
        return (yield InThread(pool)) if len(ranking) > _MANY else pool()

    def _split(self, query: str, candidates: tuple[Candidate, ...]) -> list[_CandidateWindows]:
        """Return what goes to the reranker for each candidate. Takes some time: texts are tokenised."""
        has_text = [not is_blank(c.text) for c in candidates]
        limits = self._window_limits(query) if any(has_text) else ()
        mark = "#"
        while any(mark in c.id for c in candidates):  # so that no window's id is another candidate's
            mark += "#"
        return [
            _candidate_windows(c, limits if text else (), self.overlap, mark)
            for c, text in zip(candidates, has_text, strict=True)
        ]

    def _window_limits(self, query: str) -> tuple[TextLimit, ...]:
        """Return the limits that every window must keep."""
        limits = self.reranker.text_limits(query) if self.reranker.knows_text_limit else ()
        if self._counter is not None and self.tokens is not None:
            return (TextLimit(self.tokens, self._counter), *limits)
        if not limits:
            raise ConfigError(
                f"{self.reranker.label} reads texts of any length; to use windows nevertheless, name tokens and a "
                "tokenizer",
                path="tokenizer",
            )
        return tuple(replace(limit, tokens=min(limit.tokens, self.tokens or limit.tokens)) for limit in limits)

    def _pool_all(self, split: Sequence[_CandidateWindows], ranking: Ranking) -> PlanResult:
        """Turn the hits of the windows into hits of the candidates."""
        hits = {hit.id: (place, hit) for place, hit in enumerate(ranking)}
        pooled = [self._pool_one(item, ranking.scale, [hits[c.id] for c in item.candidates]) for item in split]
        scored = best_first(hit for _, hit in pooled if hit.raw_score is not None)
        unscored = [hit for _, hit in sorted(pooled, key=lambda item: item[0]) if hit.raw_score is None]
        return PlanResult(
            renumber((*scored, *unscored)),
            ranking.scale,
            notes=_notes(split, ranking),
            substituted=ranking.substituted,
            own_scores=True,
        )

    def _pool_one(self, item: _CandidateWindows, scale: Scale, hits: Sequence[tuple[int, Hit]]) -> tuple[int, Hit]:
        """Return the hit of a candidate, with the place of its highest window in the ranking of the windows."""
        first, hit = min(hits, key=lambda place_and_hit: place_and_hit[0])
        if item.text is None:
            return first, hit
        scored = [
            (hit.raw_score, window, hit)
            for window, (_, hit) in zip(item.windows, hits, strict=True)
            if hit.raw_score is not None
        ]
        if not scored:
            return first, Hit(0, None, None, item.candidate, unscored=hit.unscored)
        best = sorted((raw for raw, _, _ in scored), reverse=True)
        best = best[: {"max": 1, "mean": len(best), "top": self.top_m or _TOP_M}[self.pool]]
        raw = math.fsum(value / len(best) for value in best)
        _, (start, end), best_hit = max(scored, key=lambda score_window_hit: score_window_hit[0])
        inner = best_hit.window or (0, end - start)
        return first, Hit(
            rank=0,
            score=present(raw, scale),
            raw_score=raw,
            candidate=item.candidate,
            coverage=item.coverage({window: hit.coverage for _, window, hit in scored}),
            window=(start + inner[0], start + inner[1]),
        )


class _CandidateWindows(NamedTuple):
    """A candidate, and what the reranker gets for it: the candidate itself, or its windows where it was split."""

    candidate: Candidate
    candidates: tuple[Candidate, ...]
    windows: tuple[Span, ...] = ()
    text: SplitText | None = None

    def coverage(self, scored: Mapping[Span, Coverage | None]) -> Coverage:
        """Return how much of the text was read: the scored windows, and the blank ones, which have nothing to read."""
        assert self.text is not None
        blank: dict[Span, None] = {window: None for window in self.text.windows if window not in self.windows}
        return self.text.coverage([*scored.items(), *blank.items()])


def _candidate_windows(candidate: Candidate, limits: Sequence[TextLimit], overlap: int, mark: str) -> _CandidateWindows:
    text = candidate.text
    if not any(limit.excess(text) for limit in limits):
        return _CandidateWindows(candidate, (candidate,))
    split = SplitText(text, limits, overlap)
    windows = tuple((start, end) for start, end in split.windows if not is_blank(text[start:end]))
    parts = (replace(candidate, id=f"{candidate.id}{mark}{i}", text=text[a:b]) for i, (a, b) in enumerate(windows, 1))
    return _CandidateWindows(candidate, tuple(parts), windows, split)


def _notes(split: Sequence[_CandidateWindows], ranking: Ranking) -> tuple[str, ...]:
    windows = {c.id for item in split if item.text is not None for c in item.candidates}
    if not windows:
        return ()
    count = sum(item.text is not None for item in split)
    unscored = sum(hit.raw_score is None and hit.id in windows for hit in ranking)
    note = f"{count} of {len(split)} texts were split into {len(windows)} windows"
    return (f"{note}, {unscored} of which got no score" if unscored else note,)
