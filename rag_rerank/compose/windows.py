"""Windows: long texts read whole, in overlapping windows; how texts are split, and how much of them was read."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import ClassVar, Literal, NamedTuple

from rag_rerank._checks import at_least, one_of
from rag_rerank._lazy import load_once
from rag_rerank.compose.calibration.calibrated import calibrates
from rag_rerank.compose.wrapper import Wrapper
from rag_rerank.documentation import SCORES
from rag_rerank.errors import ConfigError, InputTooLong
from rag_rerank.execution.plan import Call, InThread, Plan, PlanResult
from rag_rerank.execution.ranking import best_first, renumber, shift_spans
from rag_rerank.text.tokenizers import TextLimit, TokenizerName, Tokens, tokens
from rag_rerank.text.unicode import in_surrogate_pair, is_blank, may_cut
from rag_rerank.trace import Coverage
from rag_rerank.types import Candidate, Hit, Ranking, RelevantSpan, Scale, present

__all__ = ["SplitText", "Windows"]

Span = tuple[int, int]
"""Characters of a text: the first, and the one after the last."""

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
        if self.reranker.scale == "rank" and self.pool != "max":
            raise ConfigError(
                f"{self.reranker.label} gives places and no scores, and the mean of places is none; use pool 'max'",
                path="pool",
                page=SCORES,
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
        windows = tuple(window for item in split for window in item.candidates)
        ranking: Ranking = yield Call(self.reranker, query, windows, spans=False)  # windows part sentences
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
            spans=_joined_spans(scored, len(item.candidate.text)),
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
    parts = (
        replace(candidate, id=f"{candidate.id}{mark}{i}", text=text[a:b], vector=None)  # a vector is of the whole text
        for i, (a, b) in enumerate(windows, 1)
    )
    return _CandidateWindows(candidate, tuple(parts), windows, split)


def _joined_spans(scored: Iterable[tuple[float, Span, Hit]], length: int) -> tuple[RelevantSpan, ...] | None:
    """Return the spans of all windows, at their places in the text; where two overlap, the more relevant one stays.

    ``None`` where those of no window are known.
    """
    of_windows = [(start, hit.spans) for _, (start, _), hit in scored if hit.spans is not None]
    if not of_windows:
        return None
    spans = [span for start, of_window in of_windows for span in shift_spans(of_window, start, length)]
    disjoint: list[RelevantSpan] = []  # in text order
    for span in sorted(spans, key=lambda span: -span.raw_score):
        place = bisect_left(disjoint, span.start, key=lambda other: other.end - 1)
        if place == len(disjoint) or span.end <= disjoint[place].start:
            disjoint.insert(place, span)
    return tuple(disjoint)


def _notes(split: Sequence[_CandidateWindows], ranking: Ranking) -> tuple[str, ...]:
    windows = {c.id for item in split if item.text is not None for c in item.candidates}
    if not windows:
        return ()
    count = sum(item.text is not None for item in split)
    unscored = sum(hit.raw_score is None and hit.id in windows for hit in ranking)
    note = f"{count} of {len(split)} texts were split into {len(windows)} windows"
    return (f"{note}, {unscored} of which got no score" if unscored else note,)


class SplitText:
    """A text that is longer than some limit: its tokens, its windows, and how much of it was read.

    The windows cover the whole text in its order, and each is within every limit. A window is counted by itself,
    because it may have more tokens than the same characters have inside the text. A window ends at white space if
    there is some in its second half, else between two tokens, but never inside a surrogate pair, nor inside what a
    reader sees as one character (a letter with its marks, a family of emoji), unless that alone is too long.

    Args:
        text: The text.
        limits: The limits that every window must keep; overlap and coverage count the tokens of the first one.
        overlap: Tokens that two neighbouring windows share at most.

    Raises:
        InputTooLong: A single character does not fit.
    """

    def __init__(self, text: str, limits: Sequence[TextLimit], overlap: int) -> None:
        self._text = text
        self._limits = limits
        spans = limits[0].tokenizer.spans(text)
        assert spans is not None  # only a tokenizer that is a function has none, and no config field holds one
        self._starts = list(accumulate((start for start, _ in spans), max))  # rising
        self._overlap = min(overlap, limits[0].tokens // 2)
        self.windows = tuple(self._split())

    def coverage(self, read: Iterable[tuple[Span, Coverage | None]]) -> Coverage:
        """Return how much of the text was read, each token counted once.

        Args:
            read: The windows that were scored, each with its own coverage where that is known; of a truncated window
                only the beginning counts.
        """
        count = counted_end = 0
        estimated = False
        for (start, end), coverage in sorted(read, key=lambda window: window[0]):
            estimated |= coverage is not None and coverage.estimated
            first, last = self._token(start), self._token(end)
            if coverage is not None and coverage.truncated:
                last = first + (last - first) * coverage.seen // coverage.total
            count += max(0, last - max(first, counted_end))
            counted_end = max(counted_end, last)
        return Coverage(len(self._starts), count, estimated=estimated)

    def _split(self) -> Iterator[Span]:
        start = done = 0
        while done < len(self._text):
            end = self._end(start)
            if end <= done:  # the overlap fills the window, so this window has none
                start, end = done, self._end(done)
            yield start, end
            start, done = self._next(start, end), end

    def _end(self, start: int) -> int:
        """Return where a window that begins here ends: as far as every limit allows."""
        first = self._token(start)
        end = self._place_before(start, self._place(first + self._limits[0].tokens), len(self._text) + 1)
        while True:
            excess = max(limit.excess(self._text[start:end]) for limit in self._limits)
            if not excess:
                return end
            inside = self._token(end) - first
            fewer = self._place(first + inside - min(excess, (inside + 1) // 2))
            end = self._place_before(start, fewer if start < fewer < end else (start + end) // 2, end)

    def _place_before(self, start: int, target: int, end: int) -> int:
        """Return a good place to end a window: before ``end``, and at ``target`` or near it.

        Only if a window cannot hold what a reader sees as one character is that one parted.

        Raises:
            InputTooLong: There is no place: the window has a single character.
        """
        target = max(target, start + 1)
        backwards, forwards = range(target, start, -1), range(target + 1, end)
        place = self._soft_end(start, target) if target < end else None
        if place is None:
            place = next((place for place in forwards if may_cut(self._text, place)), None)
        if place is None:
            inside = (place for place in (*backwards, *forwards) if place < end)
            place = next((place for place in inside if not in_surrogate_pair(self._text, place)), None)
        if place is None:
            raise InputTooLong(
                f"the query leaves {self._limits[0].tokens} tokens for a text, and not even a single character "
                "fits; shorten the query or choose a model with a longer window"
            )
        return place

    def _next(self, start: int, end: int) -> int:
        """Return where the next window begins: at the start of a word, where the overlap has one."""
        first, last = self._token(start), self._token(end)
        shared = min(self._overlap, (last - first) // 2)  # so that each window reads something new
        begin = min(self._place(last - shared), end)
        if begin <= start:
            return end
        text = self._text
        for place in range(begin, end):
            if text[place - 1].isspace() and not text[place].isspace() and may_cut(text, place):
                return place
        return next((place for place in range(begin, end) if may_cut(text, place)), end)

    def _soft_end(self, start: int, end: int) -> int | None:
        """Return the last good place to end a window, at this one or before it; ``None`` if there is none."""
        text = self._text
        if end == len(text):
            return end
        for place in range(end, (start + end) // 2, -1):
            if (text[place].isspace() or text[place - 1].isspace()) and may_cut(text, place):
                return place
        return next((place for place in range(end, start, -1) if may_cut(text, place)), None)

    def _token(self, place: int) -> int:
        """Return the first token that begins here or later."""
        return bisect_left(self._starts, place)

    def _place(self, token: int) -> int:
        """Return where a token begins; after the last one, the end of the text."""
        return self._starts[token] if token < len(self._starts) else len(self._text)
