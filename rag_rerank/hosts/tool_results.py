"""Trim long results of tools: rerank their parts, and keep what fits into a token budget, in their own order."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rag_rerank._checks import whole_number
from rag_rerank._lazy import load_once
from rag_rerank.base import Reranker
from rag_rerank.context import Context, Packing
from rag_rerank.errors import RerankError
from rag_rerank.hosts.failure import OnFailure, check_on_failure, failure_text
from rag_rerank.hosts.options import check_instruction_option
from rag_rerank.hosts.result_parts import split_result
from rag_rerank.text.sentences import Span
from rag_rerank.text.tokenizers import EstimatedTokens, Tokenizer, Tokens, tokens
from rag_rerank.text.unicode import is_blank
from rag_rerank.types import Candidate, Ranking

__all__ = ["ResultTrimmer", "TrimmedResult", "find_scalars", "result_query"]

_LEAST = 50
"""The least budget: room for a sentence and two marks."""

_PART = 100
"""The most tokens of a part, about."""

_LONGEST_ARGUMENT = 200
"""Characters of an argument that is still read as a part of the question; a longer one is material, such as a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimmedResult:
    """What the model reads of one result of a tool.

    Args:
        tool: The tool's name.
        call_id: The id of the tool call; ``None`` where the host gives none.
        texts: The result's texts as the model reads them, in their order; ``None`` for one that is left out, because
            the mark of the text before it counts it.
        tokens_before: Tokens of the whole texts.
        tokens: Tokens of ``texts``.
        context: What was kept and what was not, with reasons: its hits are parts of the texts, and their metadata have
            ``text`` (the number of the text) and ``start`` (the first character in it). ``None`` where the reranker
            failed, or there was no query.
        degraded: Why it is not quite what was asked for; with no ``context``, the texts are whole.
    """

    tool: str
    call_id: str | None
    texts: tuple[str | None, ...]
    tokens_before: int
    tokens: int
    context: Context | None
    degraded: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and the reasons as plain values, without the texts."""
        return {
            "tool": self.tool,
            "call_id": self.call_id,
            "tokens_before": self.tokens_before,
            "tokens": self.tokens,
            "parts_kept": 0 if self.context is None else len(self.context),
            "parts_left_out": 0 if self.context is None else len(self.context.dropped),
            "degraded": list(self.degraded),
        }


def result_query(query: str, arguments: Mapping[str, Any]) -> str:
    """Return what the parts of a result are compared with: the user's words, and the texts among the arguments.

    Args:
        query: The user's words.
        arguments: The arguments of the tool call. Strings and numbers in it count, on every level, unless they are
            longer than 200 characters or already in the query.
    """
    words = map(str, find_scalars(arguments))
    texts = [text for text in words if len(text) <= _LONGEST_ARGUMENT and text not in query]
    return "\n".join(part for part in (query, " ".join(dict.fromkeys(texts))) if not is_blank(part))


def find_scalars(value: object) -> Iterator[str | float]:
    """Yield the texts and numbers in mappings and lists, on every level."""
    if isinstance(value, Mapping):
        yield from find_scalars(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from find_scalars(item)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield value


class ResultTrimmer:
    """Trims results of tools by a reranker: the rules that the adapters share.

    Args:
        reranker: What orders the parts of a result.
        max_tokens: How many tokens the texts of one result may have, with the marks of what was left out.
        tokenizer: What counts tokens, as in `Packing`; ``None`` estimates them.
        instruction: What relevance means, in words; see `Reranker.rerank`.
        on_failure: See `OnFailure`.

    Raises:
        ConfigError: An option is wrong.
    """

    def __init__(
        self,
        reranker: Reranker,
        *,
        max_tokens: int,
        tokenizer: Tokenizer | None,
        instruction: str | None,
        on_failure: OnFailure,
    ) -> None:
        self.reranker = reranker
        self.max_tokens = whole_number(max_tokens, _LEAST, "max_tokens")
        check_instruction_option(reranker, instruction)
        check_on_failure(on_failure)
        self._tokenizer = tokenizer
        self._instruction = instruction
        self._on_failure: OnFailure = on_failure

    @load_once
    def _tokens(self) -> Tokens:
        return EstimatedTokens() if self._tokenizer is None else tokens(self._tokenizer)

    def is_long(self, texts: Sequence[str]) -> bool:
        """Whether the texts of a result are over the budget."""
        return sum(map(self._tokens.count, texts)) > self.max_tokens

    def trim(self, tool: str, call_id: str | None, query: str, texts: Sequence[str]) -> TrimmedResult:
        """Trim the texts of one result that `is_long`."""
        result = _Result(self, tool, call_id, texts)
        if is_blank(query):
            return result.whole_result("there is no query to compare it with")
        try:
            ranking = self.reranker.rerank(query, result.candidates, instruction=self._instruction)
        except RerankError as error:
            return result.whole_result(failure_text(self.reranker, error, self._on_failure))
        return result.pack(ranking)

    async def atrim(self, tool: str, call_id: str | None, query: str, texts: Sequence[str]) -> TrimmedResult:
        """Do what `trim` does without blocking the event loop."""
        import asyncio

        result = await asyncio.to_thread(_Result, self, tool, call_id, texts)
        if is_blank(query):
            return result.whole_result("there is no query to compare it with")
        try:
            ranking = await self.reranker.arerank(query, result.candidates, instruction=self._instruction)
        except RerankError as error:
            return result.whole_result(failure_text(self.reranker, error, self._on_failure))
        return await asyncio.to_thread(result.pack, ranking)


class _Result:
    """The texts of one result, as candidates, and the way back from hits to texts."""

    def __init__(self, trimmer: ResultTrimmer, tool: str, call_id: str | None, texts: Sequence[str]) -> None:
        self._tool = tool
        self._call_id = call_id
        self._texts = texts
        self._tokenizer = trimmer._tokenizer
        self._tokens = trimmer._tokens
        self._max_tokens = trimmer.max_tokens
        self._before = sum(map(self._tokens.count, texts))
        self._frames: list[list[tuple[Span, Span]]] = []
        self.candidates: list[Candidate] = []
        size = max(_LEAST // 3, min(_PART, trimmer.max_tokens // 4))
        for number, text in enumerate(texts):
            split = split_result(text, size, self._tokens)
            self._frames.append(split.frame)
            self.candidates += [
                Candidate(f"{number}:{start}", text[start:end], metadata={"text": number, "start": start})
                for start, end in split.parts
            ]

    def whole_result(self, reason: str) -> TrimmedResult:
        """Return the whole result."""
        return TrimmedResult(
            tool=self._tool,
            call_id=self._call_id,
            texts=tuple(self._texts),
            tokens_before=self._before,
            tokens=self._before,
            context=None,
            degraded=(f"the result is whole: {reason}",),
        )

    def pack(self, ranking: Ranking) -> TrimmedResult:
        """Return the best parts that fit, in their order.

        The budget of the parts is lowered until all is within the limit: how many marks there are, and what the frame
        takes, is known only when parts are chosen. A frame that would take the place of half of the parts is left out.
        """
        most = self._max_tokens - 2 * self._tokens.count(_mark(self._before))
        budget, with_frame = most, True
        quiet = replace(ranking, origin=None)  # recorders see the last packing alone
        while True:
            packing = Packing(
                max_tokens=max(budget, 1),
                tokenizer=None if self._tokenizer is None else self._tokens.count,
                separator=f"\n{_mark(self._before)}\n",
                source="text",
                position="start",
                merge="characters",
                order="source",
            )
            texts = self._render(packing.pack(quiet), with_frame=with_frame)
            count = sum(self._tokens.count(text) for text in texts if text)
            if count <= self._max_tokens or (budget <= 1 and not with_frame):
                break
            budget = min(budget - 1, budget - (count - self._max_tokens))
            if with_frame and 2 * budget < most:
                budget, with_frame = most, False
        return TrimmedResult(
            tool=self._tool,
            call_id=self._call_id,
            texts=texts,
            tokens_before=self._before,
            tokens=count,
            context=packing.pack(ranking),
            degraded=ranking.degraded,
        )

    def _render(self, context: Context, *, with_frame: bool) -> tuple[str | None, ...]:
        spans_of_texts: list[list[Span]] = [[] for _ in self._texts]
        for piece in context.pieces:
            for hit in piece.hits:
                number, start = hit.candidate.metadata["text"], hit.candidate.metadata["start"]
                first, end = piece.trimmed or (0, len(hit.text))
                spans_of_texts[number].append((start + first, start + end))
        for spans, frame in zip(spans_of_texts, self._frames if with_frame else (), strict=False):
            starts = sorted(start for start, _ in spans)
            spans += [piece for piece, (first, end) in frame if bisect_left(starts, first) < bisect_left(starts, end)]
        rendered: list[str | None] = []
        omitted: list[str] = []  # texts that are left out as a whole, one after the other
        place = 0  # where their mark goes
        for text, spans in zip(self._texts, spans_of_texts, strict=True):
            if spans or is_blank(text):
                rendered.append(self._join(text, sorted(spans)) if spans else text)
                omitted = []
                continue
            if not omitted:
                place = len(rendered)
            omitted.append(text)
            rendered.append(None)
            rendered[place] = _mark(sum(map(self._tokens.count, omitted)))
        return tuple(rendered)

    def _join(self, text: str, spans: Sequence[Span]) -> str:
        """Return the parts of a text that are kept, with a mark in place of each stretch that is longer than a mark."""
        around = "\n" if "\n" in text else " "
        out, place = "", 0
        for start, end in [*spans, (len(text), len(text))]:
            gap = text[place:start]
            count = self._tokens.count(gap)
            mark = _mark(count)
            if is_blank(gap) or count <= self._tokens.count(mark):
                out += gap
            else:
                out = f"{out.rstrip()}{around if out else ''}{mark}{around if start < len(text) else ''}"
            out += text[start:end]
            place = max(place, end)
        return out


def _mark(count: int) -> str:
    return f"[… {count:,} tokens left out]"
