"""Windows: long texts read whole, in overlapping pieces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, NamedTuple

from rag_rerank._checks import one_of
from rag_rerank._lazy import load_once
from rag_rerank.compose.calibrated import calibrates
from rag_rerank.compose.cascade import tops_unscored
from rag_rerank.compose.window_splitting import Span, SplitText
from rag_rerank.compose.wrapper import Wrapper
from rag_rerank.errors import ConfigError
from rag_rerank.execution.plan import Call, InThread, Plan, PlanResult
from rag_rerank.text.tokenizers import TextLimit, Tokens, tokens
from rag_rerank.text.unicode import is_blank
from rag_rerank.trace import Coverage
from rag_rerank.types import Candidate, Hit, Ranking, Scale, best_first, present, renumber

__all__ = ["Windows"]

_BEST = 3
"""Windows that count with ``pool="top"``, where the user names no number."""

_MANY = 2000
"""Windows whose pooling takes some ten milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Windows(Wrapper):
    """Lets its reranker read long texts whole: as overlapping windows, each of them a candidate.

    A text that fits goes through as it is. Of any other, each window is scored, and the raw scores of its windows
    become one (for the scale ``sigmoid`` these are logits, so a mean is one of log-odds):

    - ``"max"``: the best window's score, MaxP of Dai and Callan (SIGIR 2019).
    - ``"mean"``: the mean over all windows; a long text with one good place loses.
    - ``"top"``: the mean over the best ``top_m`` windows, or over all where there are fewer.

    The scale stays the reranker's. ``hit.window`` says where the best window stands in the text, for all three, and
    ``hit.coverage`` how much of the text was read, in tokens of the whole text, with no token counted twice. A window
    without a score (a deadline passed, a cascade stopped before it) does not count in the pool and lowers the
    coverage; a text of which no window has a score has none, for the reason that its first window got. A blank window
    is not scored and leaves nothing unread.

    Local models, and composites and caches of nothing else but those and ``lexical``, know how much fits beside a
    query; to say so, all members of a composite are loaded at the first call. For providers, name a tokenizer and a
    number of tokens that their window surely has room for; a local model in one composite with a provider may have less
    room, and then tells what it cut.

    Args:
        reranker: What scores the windows; any reranker that puts scored hits first.
        tokens: Tokens of a window; never more than the reranker has room for. ``None`` for as many as fit.
        overlap: Tokens that neighbouring windows share at most. The default is a long sentence, so that a sentence that
            is cut by one window stands whole in the next. Where a query leaves little room, at most half a window.
        pool: How the scores of windows become one.
        top_m: For ``pool="top"``: how many windows; 3 by default.
        tokenizer: What counts ``tokens``: a tiktoken name, or the path of a ``tokenizer.json``. ``None`` for the
            reranker's own.

    Raises:
        ConfigError: It is not known how much fits; a number that makes no sense; an unknown ``pool``; or a cascade that
            leaves the best hits without a score.
        InputTooLong: The query leaves no room for a text.
    """

    kind: ClassVar[str] = "windows"

    tokens: int | None = None
    overlap: int = 32
    pool: Literal["max", "mean", "top"] = "max"
    top_m: int | None = None
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.pool, ("max", "mean", "top"), "pool")
        if tops_unscored(self.reranker):
            raise ConfigError("border_only leaves the best hits without a score to pool", path="reranker")
        if calibrates(self.reranker):
            raise ConfigError(
                "a window's probability is not its text's; put Calibrated around Windows, with a map fitted on both",
                path="reranker",
            )
        if self.overlap < 0:
            raise ConfigError(f"overlap must be at least 0, got {self.overlap}", path="overlap")
        if self.tokens is not None and self.tokens < max(1, 2 * self.overlap):
            raise ConfigError(
                f"windows of {self.tokens} tokens cannot share {self.overlap}; at most half of them",
                path="tokens",
            )
        if self.top_m is not None and self.pool != "top":
            raise ConfigError(f"pool {self.pool!r} knows no top_m; pool 'top' does", path="top_m")
        if self.top_m is not None and self.top_m < 1:
            raise ConfigError(f"top_m must be at least 1, got {self.top_m}", path="top_m")
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
        """It reads texts of any length."""
        return True

    def text_limits(self, query: str) -> tuple[TextLimit, ...]:
        """None: texts of any length are read whole."""
        return ()

    def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> None:
        """Return ``None``: the reranker knows nothing of how many windows a text becomes."""

    def warm_up(self) -> None:
        """Load the reranker and the tokenizer."""
        super().warm_up()
        _ = self._counter

    @load_once
    def _counter(self) -> Tokens | None:
        return None if self.tokenizer is None else tokens(self.tokenizer)

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        pieces: list[_CandidateWindows] = yield InThread(partial(self._divided, query, candidates))
        ranking: Ranking = yield Call(self.reranker, query, tuple(c for piece in pieces for c in piece.candidates))
        decided = partial(self._decided, pieces, ranking)
        return (yield InThread(decided)) if len(ranking) > _MANY else decided()

    def _decided(self, pieces: Sequence[_CandidateWindows], ranking: Ranking) -> PlanResult:
        """Make the hits of the windows into hits of the candidates."""
        found = {hit.id: (place, hit) for place, hit in enumerate(ranking)}
        pooled = [self._pooled(piece, ranking.scale, [found[c.id] for c in piece.candidates]) for piece in pieces]
        scored = best_first(hit for _, hit in pooled if hit.raw_score is not None)
        without = [hit for _, hit in sorted(pooled, key=lambda item: item[0]) if hit.raw_score is None]
        return PlanResult(
            renumber((*scored, *without)),
            ranking.scale,
            notes=_told(pieces, ranking),
            substituted=ranking.substituted,
            own_scores=True,
        )

    def _divided(self, query: str, candidates: tuple[Candidate, ...]) -> list[_CandidateWindows]:
        """Return what goes to the reranker for each candidate. Takes some time: texts are tokenised."""
        full = [not is_blank(c.text) for c in candidates]
        rooms = self._rooms(query) if any(full) else ()
        mark = "#"
        while any(mark in c.id for c in candidates):  # so that no window's id can be another's
            mark += "#"
        return [
            _candidate_windows(c, rooms if has else (), self.overlap, mark)
            for c, has in zip(candidates, full, strict=True)
        ]

    def _rooms(self, query: str) -> tuple[TextLimit, ...]:
        """Return what a window must fit."""
        rooms = self.reranker.text_limits(query) if self.reranker.knows_text_limit else ()
        if self._counter is not None and self.tokens is not None:
            return (TextLimit(self.tokens, self._counter), *rooms)
        if not rooms:
            raise ConfigError(
                f"{self.reranker.label} reads texts of any length; for windows all the same, name tokens and a "
                "tokenizer",
                path="tokenizer",
            )
        return tuple(replace(room, tokens=min(room.tokens, self.tokens or room.tokens)) for room in rooms)

    def _pooled(self, piece: _CandidateWindows, scale: Scale, found: Sequence[tuple[int, Hit]]) -> tuple[int, Hit]:
        """Return the hit of a candidate, with the first place that a window of it has in the ranking."""
        first, hit = min(found, key=lambda item: item[0])
        if piece.document is None:
            return first, hit
        scored = [
            (hit.raw_score, window, hit)
            for window, (_, hit) in zip(piece.windows, found, strict=True)
            if hit.raw_score is not None
        ]
        if not scored:
            return first, Hit(0, None, None, piece.candidate, unscored=hit.unscored)
        best = sorted((raw for raw, _, _ in scored), reverse=True)
        best = best[: {"max": 1, "mean": len(best), "top": self.top_m or _BEST}[self.pool]]
        raw = math.fsum(value / len(best) for value in best)
        _, (start, end), of = max(scored, key=lambda item: item[0])
        inner = of.window or (0, end - start)
        return first, Hit(
            rank=0,
            score=present(raw, scale),
            raw_score=raw,
            candidate=piece.candidate,
            coverage=piece.coverage({window: hit.coverage for _, window, hit in scored}),
            window=(start + inner[0], start + inner[1]),
        )


class _CandidateWindows(NamedTuple):
    """A candidate on its way: what is scored for it, and the windows which that is, where it is cut."""

    candidate: Candidate
    candidates: tuple[Candidate, ...]
    windows: tuple[Span, ...] = ()
    document: SplitText | None = None

    def coverage(self, read: dict[Span, Coverage | None]) -> Coverage:
        """Return how much of the text was read, by the windows that were; blank ones have nothing to read."""
        assert self.document is not None
        empty = {window: None for window in self.document.windows if window not in self.windows}
        return self.document.coverage([*read.items(), *empty.items()])


def _candidate_windows(candidate: Candidate, rooms: Sequence[TextLimit], overlap: int, mark: str) -> _CandidateWindows:
    text = candidate.text
    if not any(room.excess(text) for room in rooms):
        return _CandidateWindows(candidate, (candidate,))
    document = SplitText(text, rooms, overlap)
    windows = tuple((start, end) for start, end in document.windows if not is_blank(text[start:end]))
    parts = (replace(candidate, id=f"{candidate.id}{mark}{i}", text=text[a:b]) for i, (a, b) in enumerate(windows, 1))
    return _CandidateWindows(candidate, tuple(parts), windows, document)


def _told(pieces: Sequence[_CandidateWindows], ranking: Ranking) -> tuple[str, ...]:
    windows = {c.id for piece in pieces if piece.document is not None for c in piece.candidates}
    if not windows:
        return ()
    cut = sum(piece.document is not None for piece in pieces)
    without = sum(hit.raw_score is None and hit.id in windows for hit in ranking)
    note = f"{cut} of {len(pieces)} texts went in {len(windows)} windows"
    return (f"{note}, {without} of which got no score" if without else note,)
