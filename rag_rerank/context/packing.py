"""Packing: from a ranking to a context within a token budget."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rag_rerank._checks import number, one_of, plain_fields, whole_number
from rag_rerank._lazy import load_once
from rag_rerank.context.arguments import check_arguments
from rag_rerank.context.layout import Arrangement, Merge, Order, Source, notes_on_absent_keys, place
from rag_rerank.context.relevant_parts import check_spans, relevant_by_hit
from rag_rerank.context.result import Context, Piece
from rag_rerank.context.selection import HitOrder, Selection
from rag_rerank.context.similarity import Similarity, similarity_of
from rag_rerank.context.thresholds import apply_answerable, apply_threshold
from rag_rerank.context.token_budget import Budget
from rag_rerank.documentation import BUDGET, SCORES
from rag_rerank.errors import ConfigError, ContextWarning, caller_stacklevel, did_you_mean
from rag_rerank.text.tokenizers import EstimatedTokens, Tokenizer, Tokens, tokens
from rag_rerank.types import SCALES, Ranking, RelevantSpan, Scale

__all__ = ["Packing", "Trim", "pack"]

Trim = Literal["best", "sentences", "relevant"]

_BEST_IS_OUT = (
    "the best hit is not in the context, because it is over max_tokens; context.notes says more, and a larger "
    "max_tokens or trim='best' keeps it at least in part"
)


def pack(
    ranking: Ranking,
    *,
    display_text: Mapping[str, str] | None = None,
    top_k: int | None = None,
    max_tokens: int | None = None,
    tokenizer: Tokenizer | None = None,
    separator: str = "\n\n",
    answerable: float | None = None,
    min_score: float | None = None,
    min_score_scale: Scale | None = None,
    duplicates: Literal["exact"] | float | None = None,
    similarity: Similarity = "words",
    diversity: float = 0.0,
    per_source: int | None = None,
    source: Source | None = None,
    position: str | None = None,
    merge: Merge | None = None,
    order: Order = "relevance",
    trim: Trim | None = "best",
) -> Context:
    """Select the hits of a ranking that go to the LLM.

    Args:
        ranking: The ranking.
        display_text: See `Packing.pack`.
        top_k: This and the following are the options of `Packing`.
        max_tokens: See `Packing`.
        tokenizer: See `Packing`.
        separator: See `Packing`.
        answerable: See `Packing`.
        min_score: See `Packing`.
        min_score_scale: See `Packing`.
        duplicates: See `Packing`.
        similarity: See `Packing`.
        diversity: See `Packing`.
        per_source: See `Packing`.
        source: See `Packing`.
        position: See `Packing`.
        merge: See `Packing`.
        order: See `Packing`.
        trim: See `Packing`.

    Raises:
        ConfigError: See `Packing`.
        ModelLoadError: See `Packing`.
        InputError: See `Packing`.
    """
    packing = Packing(
        top_k=top_k,
        max_tokens=max_tokens,
        tokenizer=tokenizer,
        separator=separator,
        answerable=answerable,
        min_score=min_score,
        min_score_scale=min_score_scale,
        duplicates=duplicates,
        similarity=similarity,
        diversity=diversity,
        per_source=per_source,
        source=source,
        position=position,
        merge=merge,
        order=order,
        trim=trim,
    )
    return packing.pack(ranking, display_text=display_text)


@dataclass(frozen=True, kw_only=True)
class Packing:
    """The options for turning a ranking into a context: which hits to keep, and in which order to read them.

    The hits are considered from the top of the ranking down, and each is kept unless an option excludes it. By default
    all options are off.

    Args:
        top_k: How many hits to keep at most.
        max_tokens: How many tokens ``Context.text`` may have: a hard limit for the joined text. A hit that does not fit
            is left out, and the next ones are tried; for the best hit see ``trim``.
        tokenizer: What counts tokens: a function from a text to its number of tokens or to their list, a tiktoken name
            (``"o200k_base"``, ``"gpt-4o"``), or the path of a ``tokenizer.json``. Without it, ``max_tokens`` limits an
            estimate that is rather too high (`EstimatedTokens`), and a note says so. Without ``max_tokens`` it counts,
            and limits nothing.
        separator: The text between two pieces.
        answerable: The least probability that one of the ranking's candidates answers the query, 0 to 1. Below it no
            hit is kept, and a note says so. The reranker must be an `Answerable`. Where it says nothing, because
            another reranker answered, this is not applied, and a note says so.
        min_score: The least score, on the scale ``min_score_scale``. It is not applied, and a note says so, if the
            ranking is on another scale, or if another reranker answered than the one asked for (unless the scale is
            ``calibrated``).
        min_score_scale: The scale that ``min_score`` was written for.
        duplicates: ``"exact"`` keeps one of several texts that differ in white space only; a number above 0, up to 1,
            also keeps one of several texts whose ``similarity`` is at least this (0.8 is a good start for words, 0.95
            for embeddings). The copy with the better rank is kept.
        similarity: The similarity of two texts: ``"words"`` (Jaccard index of their words and word pairs), or a
            function from a list of texts to one vector each, such as the ``encode`` of an embedding model (cosine).
        diversity: 0 considers hits by rank; more, up to 1, prefers hits that are not similar to those kept, by maximal
            marginal relevance with lambda = 1 - diversity, where relevance is the raw score mapped to 0..1. It changes
            which hits are kept, not the order of reading.
        per_source: How many hits of one source to keep at most. A hit without a source is not counted.
        source: The document of a hit: a metadata key, or a function of the candidate.
        position: Metadata key of the place in the document, a whole number.
        merge: Merge neighbours of one source into one piece, without repeating their overlap. ``"chunks"``:
            ``position`` counts the chunks, and the overlap is what both texts share (20 characters or more).
            ``"characters"``: ``position`` is the character at which the text begins; neighbours touch, overlap by
            their positions, or have up to 2 characters of white space between them. Texts that contradict their
            positions are not merged. A merged piece takes the place of its best hit.
        order: The order of the pieces. ``"relevance"``: best first. ``"edges"``: the best at both ends (ranks 1, 3, 5
            ... 6, 4, 2), because models read the middle of a long context worst (Liu et al., Lost in the middle,
            TACL 2024). ``"source"``: by document, that of the best hit first, and in it by position.
        trim: What to do with a hit that is over ``max_tokens``. ``"best"``: if the best hit is over it by itself, keep
            as many of its sentences as fit: the first ones, or those around its best window where that is known. If
            not even one sentence fits, keep words, and if no word fits, characters. A heading before the text in
            ``display_text`` is kept in any case. A note says so, and ``Piece.trimmed`` has the characters that are
            left. ``"sentences"``: if the best hit fits, keep also whole sentences of the first other one that does not.
            ``"relevant"``: keep of each hit only the sentences that answer the query, in their order, with ``" … "`` in
            place of those between them, so that more hits fit. It needs ``hit.spans``: see `RelevantSpans`. A sentence
            is relevant if it is the best of its hit, or if its raw score lies in the upper half of the range of all
            sentences. If they do not fit, the most relevant ones that do are kept, and of the best hit at least words
            of its best sentence. Where the reranker decides itself what is relevant (``RelevantSpan.is_relevant``),
            its word counts; a hit in which it finds nothing is left out. A hit whose spans are ``None`` is kept whole,
            or as with ``"best"``.
            ``None``: trim nothing. If the best hit is not in the context, because nothing may be trimmed or not even
            one character fits, there are a `ContextWarning` and a note; the hits behind it are still considered.

    Raises:
        ConfigError: A value is out of range, or an option lacks another one that it needs. When packing: the
            tokenizer is unknown or returned an impossible count, or a function raised.
        ModelLoadError: When packing: the tokenizer's files cannot be loaded.
        InputError: When packing: it is no ranking, or a source cannot be hashed.
    """

    top_k: int | None = None
    max_tokens: int | None = None
    tokenizer: Tokenizer | None = field(default=None, repr=False)
    separator: str = "\n\n"
    answerable: float | None = None
    min_score: float | None = None
    min_score_scale: Scale | None = None
    duplicates: Literal["exact"] | float | None = None
    similarity: Similarity = field(default="words", repr=False)
    diversity: float = 0.0
    per_source: int | None = None
    source: Source | None = None
    position: str | None = None
    merge: Merge | None = None
    order: Order = "relevance"
    trim: Trim | None = "best"

    def __post_init__(self) -> None:
        plain_fields(self)
        try:
            self._check_values()
            self._check_companions()
        except ConfigError as error:
            raise error.under("", page=BUDGET) from error.__cause__

    def _check_values(self) -> None:
        for name in ("top_k", "max_tokens", "per_source"):
            value = getattr(self, name)
            if value is not None:
                whole_number(value, 1, name)
        one_of(self.order, get_args(Order), "order")
        for name, choices in (("min_score_scale", SCALES), ("merge", get_args(Merge)), ("trim", get_args(Trim))):
            if getattr(self, name) is not None:
                one_of(getattr(self, name), choices, name)
        number(self.diversity, "diversity", 0, 1)
        if self.answerable is not None:
            number(self.answerable, "answerable", 0, 1)
        if self.min_score is not None:
            number(self.min_score, "min_score")
        if self.duplicates is not None and not (isinstance(self.duplicates, str) and self.duplicates == "exact"):
            number(self.duplicates, "duplicates", 0, 1)
            if self.duplicates == 0:
                raise ConfigError(
                    f"expected a number above 0, got {self.duplicates!r}: every text reaches a similarity of 0",
                    path="duplicates",
                )
        if not callable(self.similarity) and not (isinstance(self.similarity, str) and self.similarity == "words"):
            raise ConfigError(f"expected 'words' or a function, got {self.similarity!r:.60}", path="similarity")
        if self.source is not None and not isinstance(self.source, str) and not callable(self.source):
            raise ConfigError(f"expected a metadata key or a function, got {self.source!r:.60}", path="source")
        for name, value in (
            ("separator", self.separator),
            ("position", "" if self.position is None else self.position),
        ):
            if not isinstance(value, str):
                raise ConfigError(f"expected a string, got {value!r:.60}", path=name)

    def _check_companions(self) -> None:
        if (self.min_score is None) != (self.min_score_scale is None):
            raise ConfigError(
                "min_score and min_score_scale go together: 0.5 means something else on every scale, so say which one "
                "the threshold was written for (a ranking's is ranking.scale)",
                path="min_score_scale" if self.min_score_scale is None else "min_score",
            )
        if self.min_score_scale == "rank":
            raise ConfigError(
                "a ranking on the scale 'rank' has no scores, only places; limit the number of texts with top_k",
                path="min_score_scale",
                page=SCORES,
            )
        needs = {
            "max_tokens": ["trim='sentences'"] * (self.trim == "sentences"),
            "source": ["per_source"] * (self.per_source is not None)
            + ["merge"] * (self.merge is not None)
            + ["order='source'"] * (self.order == "source"),
            "position": ["merge"] * (self.merge is not None),
        }
        for name, options in needs.items():
            if options and getattr(self, name) is None:
                raise ConfigError(f"{options[0]} needs {name}", path=name)

    @classmethod
    def from_dict(cls, options: Mapping[str, Any], *, path: str = "") -> Packing:
        """Make a packing from a mapping of its options.

        Args:
            options: The arguments of the constructor.
            path: The place in a larger config; messages start with it.

        Raises:
            ConfigError: An option is unknown (the message names the nearest one), or a value is wrong.
        """
        if not isinstance(options, Mapping):
            raise ConfigError(f"expected a mapping of options, got {type(options).__name__}", path=path, page=BUDGET)
        names = [f.name for f in fields(cls)]
        for name in options:
            if name not in names:
                raise ConfigError(
                    f"unknown option {name!r} of Packing{did_you_mean(str(name), names)}", path=path, page=BUDGET
                )
        try:
            return cls(**options)
        except ConfigError as error:
            raise error.under(path) from error.__cause__

    def to_dict(self) -> dict[str, Any]:
        """Return the options that are not at their defaults, in plain values.

        Raises:
            ConfigError: An option is a function or another live object, which no config can express.
        """
        options = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        for name, value in options.items():
            if isinstance(value, os.PathLike):
                alone = Path(value).name == os.fspath(value)  # without a slash it would be read as a tiktoken name
                options[name] = f"./{os.fspath(value)}" if alone else os.fspath(value)
            elif not isinstance(value, (str, int, float, type(None))):
                raise ConfigError(
                    f"{type(value).__name__} is a live object, which no config can express", path=name, page=BUDGET
                )
        return options

    def __deepcopy__(self, memo: dict[int, Any]) -> Packing:
        return self  # frozen, and a function or a tokenizer may not be copyable

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # without the loaded tokenizer

    @load_once
    def _tokens(self) -> Tokens | None:
        if self.tokenizer is not None:
            return tokens(self.tokenizer)
        return None if self.max_tokens is None else EstimatedTokens()

    @property
    def _estimates(self) -> bool:
        return self.tokenizer is None and self.max_tokens is not None

    def warm_up(self) -> None:
        """Load the tokenizer now, so that a wrong one raises before a reranker is called.

        Raises:
            ConfigError: See `Packing`.
            ModelLoadError: See `Packing`.
        """
        self._tokens  # noqa: B018

    def pack(self, ranking: Ranking, *, display_text: Mapping[str, str] | None = None) -> Context:
        """Select the hits of a ranking that go to the LLM, and report on every hit.

        The ranking is not changed. The same ranking gives the same context.

        Args:
            ranking: The ranking.
            display_text: Hit's id -> what the LLM reads of it, such as its text under a heading; else its text. It is
                counted, trimmed (from its beginning) and put into pieces; similarity is that of the texts alone.
        """
        check_arguments(ranking, display_text)
        display_text, relevant = display_text or {}, dict[str, list[RelevantSpan]]()
        hits, dropped, notes = apply_threshold(ranking, self.min_score, self.min_score_scale)
        hits, unanswered, more_notes = apply_answerable(ranking, hits, self.answerable)
        dropped, notes = dropped + unanswered, notes + more_notes
        if self.trim == "relevant":
            check_spans(ranking)
            relevant, more_notes = relevant_by_hit(hits, display_text)
            notes += more_notes
        places = {hit.id: place(hit, self.source, self.position) for hit in hits}
        needs_similarity = self.diversity > 0 or self.duplicates not in (None, "exact")
        similarity = similarity_of([hit.text for hit in hits], self.similarity) if needs_similarity and hits else None
        arrangement = Arrangement(places, self.merge, self.order)
        for strict in (False, True):
            order = HitOrder(hits, self.diversity, similarity)
            selection = Selection(
                hits,
                display_text,
                order,
                places,
                arrangement,
                self._budget(strict=strict),
                duplicates=self.duplicates,
                per_source=self.per_source,
                top_k=self.top_k,
                max_tokens=self.max_tokens,
                trim=self.trim,
                relevant=relevant,
            )
            pieces = self._with_counts(arrangement.arrange(selection.pieces))
            count = self._count([piece.text for piece in pieces])
            if count is None or self.max_tokens is None or count <= self.max_tokens:
                if selection.best_is_out:
                    warnings.warn(_BEST_IS_OUT, ContextWarning, stacklevel=caller_stacklevel())
                if self._estimates:
                    notes.append("the tokens are estimated, because no tokenizer was named; name the one of the LLM")
                context = Context(
                    pieces=pieces,
                    dropped=tuple(sorted([*dropped, *selection.dropped], key=lambda drop: drop.hit.rank)),
                    separator=self.separator,
                    scale=ranking.scale,
                    tokens_before=self._count([display_text.get(hit.id, hit.text) for hit in ranking]),
                    tokens=count,
                    tokens_estimated=self._estimates,
                    notes=(*notes, *selection.notes, *notes_on_absent_keys(places, self.source, self.position)),
                    degraded=ranking.degraded,
                )
                for report in () if ranking.origin is None else ranking.origin.on_context:
                    report(context)
                return context
        raise ConfigError("the function does not count the same text the same each time", path="tokenizer", page=BUDGET)

    def _budget(self, *, strict: bool) -> Budget | None:
        if self._tokens is None or self.max_tokens is None:
            return None
        return Budget(self._tokens, self.max_tokens, self.separator, strict=strict)

    def _with_counts(self, pieces: list[Piece]) -> tuple[Piece, ...]:
        return tuple(replace(piece, tokens=self._count([piece.text])) for piece in pieces)

    def _count(self, texts: list[str]) -> int | None:
        """Count joined texts; no text has no token, whatever a tokenizer returns for it."""
        if self._tokens is None:
            return None
        return self._tokens.count(self.separator.join(texts)) if texts else 0
