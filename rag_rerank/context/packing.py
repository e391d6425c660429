"""The options of packing, checked where they are given, and the packing itself."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rag_rerank._lazy import load_once
from rag_rerank.context.layout import Arrangement, HitPlace, Merge, Order, Source, place
from rag_rerank.context.result import Context, Piece
from rag_rerank.context.selection import HitOrder, Selection, apply_threshold
from rag_rerank.context.similarity import Similarity, similarity_of
from rag_rerank.context.token_budget import Budget
from rag_rerank.errors import ConfigError, did_you_mean
from rag_rerank.text.tokenizers import Tokenizer, Tokens, tokens
from rag_rerank.types import SCALES, Hit, Ranking, Scale

__all__ = ["Packing", "pack"]


def pack(ranking: Ranking, *, shown: Mapping[str, str] | None = None, **options: Any) -> Context:
    """Choose what goes to the LLM.

    Args:
        ranking: What to choose from.
        shown: See `Packing.pack`.
        options: Those of `Packing`.

    Raises:
        ConfigError: See `Packing`.
        ModelLoadError: See `Packing`.
        InputError: See `Packing`.
    """
    return Packing(**options).pack(ranking, shown=shown)


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How a ranking becomes a context: what is kept, and in which order it is read.

    The hits are looked at from the top of the ranking downwards, and each is kept unless an option speaks against
    it. Everything that is not asked for is off.

    Args:
        top_k: How many hits to keep at most.
        max_tokens: How many tokens ``Context.text`` has at most: a hard budget for the text as it is joined. A hit
            that does not fit is left out and the next ones are tried; if none fits, the context is empty.
        tokenizer: What counts: a function from text to a number, a tiktoken name (``"o200k_base"``, ``"gpt-4o"``), or
            the path of a ``tokenizer.json``. Without ``max_tokens``, it only counts.
        separator: What stands between two pieces.
        min_score: The least score, on the scale ``min_score_scale``. Not applied, with a note, to a ranking on another
            scale, or where another reranker answered than the one asked for (unless the scale is ``calibrated``).
        min_score_scale: The scale that ``min_score`` was written for.
        duplicates: ``"exact"`` keeps one of several texts that differ in white space only; a number above 0, up to 1,
            keeps one of those whose ``similarity`` reaches it, too (0.8 is a good start for words, 0.95 for
            embeddings). The copy that stands higher is the one that is kept.
        similarity: How alike two texts are: ``"words"`` (Jaccard index of their words and word pairs), or a function
            from a list of texts to one vector each, such as the ``encode`` of an embedding model (cosine).
        diversity: 0 looks at hits by their rank; more, up to 1, prefers those that are unlike what is kept, by maximal
            marginal relevance with lambda = 1 - diversity, where relevance is the raw score moved to 0..1. It changes
            what is kept, not in which order it is read.
        per_source: How many hits of one source to keep at most. A hit without a source is not counted.
        source: What names a hit's document: a metadata key, or a function of the candidate.
        position: Metadata key of the place in the document, a whole number.
        merge: Make one piece of neighbours of one source, with nothing said twice where they overlap. ``"chunks"``:
            ``position`` counts the chunks, and the overlap is what both texts share (20 characters or more).
            ``"characters"``: ``position`` is the character at which the text begins; neighbours touch, overlap as
            their positions say, or lie 2 characters of white space apart. Texts that contradict their positions stay
            apart. A merged piece stands at the place of its best hit.
        order: How the pieces are read. ``"relevance"``: best first. ``"edges"``: the best at both ends (ranks 1, 3, 5
            ... 6, 4, 2), because models read the middle of a long context worst (Liu et al., Lost in the middle,
            TACL 2024). ``"source"``: by document, that of the best hit first, and in it by position.
        trim: ``"sentences"`` keeps whole sentences of the first hit that does not fit: the first ones, or those around
            the hit's best window where it is known. ``Piece.trimmed`` says which characters are left.

    Raises:
        ConfigError: A value that is out of range, or an option without the one that it needs. When packing: the
            tokenizer is unknown or returned nonsense, or a function raised.
        ModelLoadError: When packing: the tokenizer's files cannot be had.
        InputError: When packing: a source that cannot be compared.
    """

    top_k: int | None = None
    max_tokens: int | None = None
    tokenizer: Tokenizer | None = field(default=None, repr=False)
    separator: str = "\n\n"
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
    trim: Literal["sentences"] | None = None

    def __post_init__(self) -> None:
        for name in ("top_k", "max_tokens", "per_source"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"expected a whole number of at least 1, got {value!r}", path=name)
        _one_of("min_score_scale", self.min_score_scale, (None, *SCALES))
        _one_of("merge", self.merge, (None, *get_args(Merge)))
        _one_of("order", self.order, get_args(Order))
        _one_of("trim", self.trim, (None, "sentences"))
        _number("diversity", self.diversity, 0, 1)
        if self.min_score is not None:
            _number("min_score", self.min_score, -math.inf, math.inf)
        if self.duplicates not in (None, "exact"):
            _number("duplicates", self.duplicates, 0, 1)
            if self.duplicates == 0:
                raise ConfigError(
                    f"expected a number above 0, got {self.duplicates!r}: every text reaches a similarity of 0",
                    path="duplicates",
                )
        if self.similarity != "words" and not callable(self.similarity):
            raise ConfigError(f"expected 'words' or a function, got {self.similarity!r:.60}", path="similarity")
        if self.source is not None and not isinstance(self.source, str) and not callable(self.source):
            raise ConfigError(f"expected a metadata key or a function, got {self.source!r:.60}", path="source")
        for name, value in (("separator", self.separator), ("position", self.position or "")):
            if not isinstance(value, str):
                raise ConfigError(f"expected a string, got {value!r:.60}", path=name)
        self._check_companions()

    def _check_companions(self) -> None:
        if (self.min_score is None) != (self.min_score_scale is None):
            raise ConfigError(
                "min_score and min_score_scale go together: 0.5 means something else on every scale, so say which one "
                "the threshold was written for (a ranking's is ranking.scale)",
                path="min_score_scale" if self.min_score_scale is None else "min_score",
            )
        needs = {
            "tokenizer": ["max_tokens"] * (self.max_tokens is not None),
            "max_tokens": ["trim"] * (self.trim is not None),
            "source": ["per_source"] * (self.per_source is not None)
            + ["merge"] * (self.merge is not None)
            + ["order='source'"] * (self.order == "source"),
            "position": ["merge"] * (self.merge is not None),
        }
        for name, wanting in needs.items():
            if wanting and getattr(self, name) is None:
                raise ConfigError(f"{wanting[0]} needs {name}", path=name)

    @classmethod
    def from_dict(cls, options: Mapping[str, Any], *, path: str = "") -> Packing:
        """Make a packing from a mapping of its options.

        Args:
            options: What the constructor takes.
            path: Where in a larger config this stands; messages start with it.

        Raises:
            ConfigError: An unknown option (with the nearest known one), or a wrong value.
        """
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                raise ConfigError(f"unknown option {name!r} of Packing{did_you_mean(str(name), known)}", path=path)
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
                alone = Path(value).name == os.fspath(value)  # would be read as a tiktoken name
                options[name] = f"./{os.fspath(value)}" if alone else os.fspath(value)
            elif not isinstance(value, (str, int, float)):
                raise ConfigError(f"{type(value).__name__} is a live object, which no config can express", path=name)
        return options

    def __deepcopy__(self, memo: dict[int, Any]) -> Packing:
        return self  # frozen, and a function or a tokenizer may not be copyable

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # not the tokenizer that was loaded

    @load_once
    def _tokens(self) -> Tokens | None:
        return None if self.tokenizer is None else tokens(self.tokenizer)

    def warm_up(self) -> None:
        """Read the tokenizer now, so that a wrong one is found before anything is asked of a reranker.

        Raises:
            ConfigError: See `Packing`.
            ModelLoadError: See `Packing`.
        """
        self._tokens  # noqa: B018

    def pack(self, ranking: Ranking, *, shown: Mapping[str, str] | None = None) -> Context:
        """Choose what goes to the LLM, and say what became of every hit.

        Nothing of the ranking is changed. The same ranking gives the same context.

        Args:
            ranking: What to choose from.
            shown: Hit's id -> what the LLM reads of it, such as its text under a heading; others are shown by their
                text. This is what is counted, trimmed (from its beginning) and put into pieces. Whether a hit is blank
                or a duplicate, and how alike two hits are, is told by their texts, to which headings would add
                likeness or unlikeness.
        """
        shown = shown or {}
        hits, dropped, notes = apply_threshold(ranking, self.min_score, self.min_score_scale)
        places = {hit.id: place(hit, self.source, self.position) for hit in hits}
        compared = self.diversity > 0 or self.duplicates not in (None, "exact")
        alike = similarity_of([hit.text for hit in hits], self.similarity) if compared and hits else None
        arrangement = Arrangement(places, self.merge, self.order)
        for strict in (False, True):
            order = HitOrder(hits, self.diversity, alike)
            selection = Selection(
                hits,
                shown,
                order,
                places,
                arrangement,
                self._budget(strict=strict),
                duplicates=self.duplicates,
                per_source=self.per_source,
                top_k=self.top_k,
                max_tokens=self.max_tokens,
                trim=self.trim,
            )
            pieces = self._counted(arrangement.of(selection.kept))
            used = self._count([piece.text for piece in pieces])
            if used is None or self.max_tokens is None or used <= self.max_tokens:
                return Context(
                    pieces=pieces,
                    dropped=tuple(sorted([*dropped, *selection.dropped], key=lambda drop: drop.hit.rank)),
                    separator=self.separator,
                    scale=ranking.scale,
                    tokens_before=self._count([shown.get(hit.id, hit.text) for hit in ranking]),
                    tokens=used,
                    notes=(*notes, *self._unknown(hits, places)),
                    degraded=ranking.degraded,
                )
        raise ConfigError("the function does not count the same text the same each time", path="tokenizer")

    def _budget(self, *, strict: bool) -> Budget | None:
        if self._tokens is None or self.max_tokens is None:
            return None
        return Budget(self._tokens, self.max_tokens, self.separator, strict=strict)

    def _counted(self, pieces: list[Piece]) -> tuple[Piece, ...]:
        return tuple(replace(piece, tokens=self._count([piece.text])) for piece in pieces)

    def _count(self, texts: list[str]) -> int | None:
        """Count joined texts; nothing is no token, whatever a tokenizer says."""
        if self._tokens is None:
            return None
        return self._tokens.count(self.separator.join(texts)) if texts else 0

    def _unknown(self, hits: list[Hit], places: Mapping[str, HitPlace]) -> list[str]:
        """Say which key is probably misspelt."""
        notes = []
        if hits and self.source is not None and all(at.source is None for at in places.values()):
            notes.append("no hit has a source" + (f" under {self.source!r}" if isinstance(self.source, str) else ""))
        if hits and self.position is not None and all(at.position is None for at in places.values()):
            notes.append(f"no hit has a whole number under {self.position!r}")
        return notes


def _one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise ConfigError(f"expected one of {', '.join(map(repr, known))}, got {value!r:.60}", path=name)


def _number(name: str, value: Any, least: float, most: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and abs(value) < math.inf and least <= value <= most):
        limits = "a finite number" if least == -math.inf else f"a number in {least:g}..{most:g}"
        raise ConfigError(f"expected {limits}, got {value!r:.60}", path=name)
