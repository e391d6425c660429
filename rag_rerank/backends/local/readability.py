"""What a model can read: the letters that its vocabulary knows in pieces of words, and the languages it was made for.

A vocabulary that was not made for a script has its letters one by one, as bytes, or not at all. A model of such pieces
orders texts by chance, and no error says so. Languages in one script share their letters, so there the words decide:
function words of another language, or words in many pieces. A verdict depends on its query or text alone, for caches.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rag_rerank.errors import ReadabilityWarning, UnreadableText
from rag_rerank.execution.calls import warn_once
from rag_rerank.execution.protocols import PointwiseRanker
from rag_rerank.text.languages import (
    foreign_language,
    function_words,
    has_function_words,
    latin_words,
    share_in_scripts,
)
from rag_rerank.trace import Coverage
from rag_rerank.types import UNREADABLE_QUERY, UNREADABLE_TEXT, RelevantSpan, Scores

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "MULTILINGUAL",
    "OnUnreadable",
    "Readability",
    "ReadabilityCheck",
    "Reading",
    "decide",
    "read",
    "warn_of_unreadable",
]

OnUnreadable = Literal["first_stage", "score", "error"]
"""What to do with a query or a text that the model cannot read: leave it without a score, so that the order of the
first stage stays; score it, and say so; or raise `UnreadableText`."""

MULTILINGUAL = "multilingual"
"""In place of languages: the model was made for all that its vocabulary can write, in bytes if need be."""

_LEAST_READ = 0.7
"""Share of the letters that must be read, or be in the scripts of the model's languages. Over 38,000 texts and 6,000
queries in English, code among them, the embedded model reads no less than 0.67 of a text and, beside acronyms, 0.86 of
a query; of 960 texts and 4,760 queries in Russian, Arabic, Hindi and Thai, one text and 12 queries have more
(docs/explanation/languages.md)."""

_LEAST_LETTERS = 3
"""Letters that are not read, at least, for a verdict on a text of which something is read: an acronym has fewer."""

_MOST_PIECES = 2.2
"""Pieces a word, where next to none of the words is a function word of the model's languages. With `_LEAST_OWN`, 2 of
38,000 English texts reach it, both of them code, and 80 to 98 % of transliterated ones
(docs/explanation/languages.md)."""

_MOST_PIECES_OF_SEVERAL = 3.0
"""The same for a vocabulary of several languages, whose pieces are shorter, most of all in code."""

_LEAST_OWN = 0.12
"""Share of function words of the model's languages; 95 % of the passages of English prose have more than 0.2."""

_LEAST_VOCABULARY = 5000
"""Pieces of a vocabulary that is made of words, where the model's languages are not known. Smaller ones are made of
letters or bytes on purpose (ByT5 has 384); those of words have 20,000 and more."""

_LEAST_WORDS = 12
"""Words that are needed to judge by pieces a word."""

_SAMPLE = 150
"""Characters at the beginning, in the middle and at the end of a text that are looked at; 450 characters are some 75
words, and to tokenise them once more takes about one percent of the time of scoring them."""


class Readability(NamedTuple):
    """How well a model reads a query or a text.

    Args:
        share: Share of its letters that are in known pieces of at least two letters, or in a word or an ideograph of
            their own; 1.0 where there are no letters.
        language: Code of a language that the model was not made for, ``"unknown"`` where its words are in none of the
            model's languages and in no known one, or ``None``.
        readable: Whether the model reads it.
    """

    share: float
    language: str | None
    readable: bool


@dataclass(frozen=True)
class ReadabilityCheck:
    """A check of queries and texts against a model's vocabulary and languages; threads may share it.

    Args:
        tokenizer: The model's ``tokenizers.Tokenizer``, without truncation and padding; ``None`` for no check.
        languages: Codes of the model's languages, or ``("multilingual",)``; empty where they are not known.
    """

    tokenizer: Any
    languages: tuple[str, ...]

    def of_texts(self, texts: Sequence[str]) -> list[Readability]:
        """Return how well each text is read."""
        if not self._applies:
            return [Readability(1.0, None, True)] * len(texts)
        samples = [_sample(text) for text in texts]
        encodings = self.tokenizer.encode_batch_fast(samples, add_special_tokens=False)
        return [self._readability(sample, encoding.ids) for sample, encoding in zip(samples, encodings, strict=True)]

    def _readability(self, text: str, ids: Sequence[int]) -> Readability:
        pieces = self._pieces.pieces_of(text, ids)
        share = pieces.read / pieces.letters if pieces.letters else 1.0
        reads_letters = share >= _LEAST_READ or 0 < pieces.read > pieces.letters - _LEAST_LETTERS
        if not reads_letters:  # one by one, in a script of the model's languages: acronyms, or how its vocabulary is
            reads_letters = share_in_scripts(text, self.languages) >= _LEAST_READ
        language = self._foreign_language(text, pieces) if reads_letters and self._knows_words else None
        return Readability(share, language, reads_letters and language is None)

    def _foreign_language(self, text: str, pieces: Pieces) -> str | None:
        words, share = latin_words(text)
        if share < 0.5:
            return None
        language = foreign_language(words, self.languages)
        most_pieces = _MOST_PIECES if len(self.languages) == 1 else _MOST_PIECES_OF_SEVERAL
        if language is None and len(words) >= _LEAST_WORDS and pieces.a_word >= most_pieces:
            own = function_words(self.languages)
            return "unknown" if sum(word in own for word in words) < _LEAST_OWN * len(words) else None
        return language

    @cached_property
    def _applies(self) -> bool:
        if MULTILINGUAL in self.languages or self.tokenizer is None:
            return False
        return bool(self.languages) or self.tokenizer.get_vocab_size() >= _LEAST_VOCABULARY

    @cached_property
    def _knows_words(self) -> bool:
        return bool(self.languages) and has_function_words(self.languages)

    @cached_property
    def _pieces(self) -> PieceTable:
        return PieceTable(self.tokenizer)


def _sample(text: str) -> str:
    if len(text) <= 3 * _SAMPLE:
        return text
    middle = (len(text) - _SAMPLE) // 2
    return f"{text[:_SAMPLE]} {text[middle : middle + _SAMPLE]} {text[-_SAMPLE:]}"


@dataclass(frozen=True)
class Reading:
    """What a model reads of one call.

    Args:
        rows: Positions of the texts that are scored.
        texts: These texts.
        unscored: Position -> reason, for all others.
        notes: How much is read of query and texts, where that is too little.
        degraded: Why the scores are not what was asked for; empty where texts are left without a score instead.
    """

    rows: Sequence[int]
    texts: Sequence[str]
    unscored: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()

    def of_all_texts(self, scores: Scores) -> Scores:
        """Return scores of the texts that are scored as scores of all texts."""
        if not self.unscored:
            return replace(scores, degraded=(*scores.degraded, *self.degraded))
        count = len(self.rows) + len(self.unscored)
        values, coverage = [0.0] * count, [Coverage(total=0, seen=0)] * count
        for position, value, one_coverage in zip(self.rows, scores.values, scores.coverage, strict=True):
            values[position], coverage[position] = value, one_coverage
        spans: list[tuple[RelevantSpan, ...] | None] = [None] * count if scores.spans else []
        for position, of_text in zip(self.rows, scores.spans, strict=False):
            spans[position] = of_text
        return replace(scores, values=values, coverage=coverage, unscored=self.unscored, spans=spans)


def read(
    reranker: PointwiseRanker,
    check: ReadabilityCheck,
    on_unreadable: OnUnreadable | None,
    query: str,
    texts: Sequence[str],
) -> Reading:
    """Decide what of a call is scored.

    Args:
        reranker: The reranker, for messages.
        check: The check for its model.
        on_unreadable: ``None`` for "first_stage" if the model's languages are known, else for "score".
        query: The query.
        texts: The texts.

    Raises:
        UnreadableText: The query or a text cannot be read, and ``on_unreadable`` is "error".
    """
    query_readability, *of_texts = check.of_texts([query, *texts])
    return decide(reranker, check.languages, on_unreadable, query_readability, of_texts, texts)


def decide(
    reranker: PointwiseRanker,
    model_languages: Sequence[str],
    on_unreadable: OnUnreadable | None,
    query_readability: Readability,
    of_texts: Sequence[Readability],
    texts: Sequence[str],
) -> Reading:
    """Do what `read` does, with the verdicts on query and texts at hand."""
    unreadable = [i for i, readability in enumerate(of_texts) if not readability.readable]
    if query_readability.readable and not unreadable:
        return Reading(range(len(texts)), texts)
    what = "the query" if not query_readability.readable else f"{len(unreadable)} of {len(texts)} texts"
    languages = f", which was made for: {', '.join(model_languages)}" if model_languages else ""
    note = f"not readable by {reranker.label}{languages}: {what} ({_facts(query_readability, of_texts)})"
    mode = on_unreadable or ("first_stage" if model_languages else "score")
    if mode == "error":
        raise UnreadableText(
            f"{note}; choose a model for that language, or let on_unreadable keep the order of the first stage",
            backend=reranker.kind,
            model=reranker.model_id,
        )
    if mode == "score":
        return Reading(range(len(texts)), texts, notes=(note,), degraded=(f"{_SCORED_ANYWAY}: {what}",))
    if not query_readability.readable:
        return Reading((), (), dict.fromkeys(range(len(texts)), UNREADABLE_QUERY), (note,))
    rows = [i for i, readability in enumerate(of_texts) if readability.readable]
    return Reading(rows, [texts[i] for i in rows], dict.fromkeys(unreadable, UNREADABLE_TEXT), (note,))


_SCORED_ANYWAY = "scored, although the model cannot read it"


def _facts(query: Readability, texts: Sequence[Readability]) -> str:
    """Return the numbers: the letters that the vocabulary reads, and languages."""
    share = sum(text.share for text in texts) / len(texts)
    facts = [
        f"its vocabulary reads {query.share:.0%} of the letters of the query and {share:.0%} of those of the texts"
    ]
    if query.language:
        facts.append(f"language of the query: {query.language}")
    if languages := Counter(text.language for text in texts if text.language):
        facts.append("of texts: " + ", ".join(f"{language} ({count})" for language, count in languages.most_common()))
    return "; ".join(facts)


def warn_of_unreadable(reranker: PointwiseRanker, scores: Scores) -> Scores:
    """Warn once a reranker if there was something in a call that it cannot read; return the scores."""
    left_out = not {UNREADABLE_QUERY, UNREADABLE_TEXT}.isdisjoint(scores.unscored.values())
    if left_out or any(reason.startswith(_SCORED_ANYWAY) for reason in scores.degraded):
        warn_once(
            reranker,
            f"{reranker.label} cannot read a query or texts in this script or language; "
            + ("they stay in the order of the first stage" if left_out else "it scores them all the same")
            + ". The trace says how much it reads. Choose a model for the language, or set on_unreadable",
            ReadabilityWarning,
        )
    return scores


class Pieces(NamedTuple):
    """The pieces of a text.

    Args:
        letters: Letters of the text.
        read: Letters that are read.
        a_word: Pieces a word; 1.0 where there is no word.
    """

    letters: float
    read: float
    a_word: float


class PieceTable:
    """What the pieces of a vocabulary hold, looked up once a piece.

    Reads WordPiece, Unigram, BPE on characters or on bytes, and fallback to bytes, as far as the pieces themselves show
    where a word begins: all but ``##`` of WordPiece, ``\u2581`` of SentencePiece, ``\u0120`` of BPE on bytes.

    Args:
        tokenizer: A ``tokenizers.Tokenizer``.
    """

    def __init__(self, tokenizer: Any) -> None:
        import numpy as np

        self._tokenizer = tokenizer
        model = tokenizer.model
        self._special = frozenset(tokenizer.get_added_tokens_decoder())
        names = {"[UNK]", "<unk>", getattr(model, "unk_token", None)} - {None}
        self._unknown = {id for name in names if (id := tokenizer.token_to_id(name)) is not None}
        self._continues = getattr(model, "continuing_subword_prefix", None) or ""
        self._ends = getattr(model, "end_of_word_suffix", None) or ""
        self._whole_words = type(model).__name__ == "WordLevel"
        self._on_bytes = any("ByteLevel" in str(part) for part in (tokenizer.pre_tokenizer, tokenizer.decoder))
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        self._letters: npt.NDArray[np.int16] = np.full(size, -1, dtype=np.int16)  # -1 until it is looked up
        self._flags: npt.NDArray[np.uint8] = np.zeros(size, dtype=np.uint8)

    def pieces_of(self, text: str, ids: Sequence[int]) -> Pieces:
        """Count the letters in the pieces of a text, whose ids are given."""
        import numpy as np

        in_text = sum(map(str.isalpha, text))
        if not ids:
            return Pieces(in_text, 0, 1.0)
        row = np.asarray(ids)
        for id in set(row[self._letters[row] < 0].tolist()):
            self._look_up(id)
        letters, flags = self._letters[row], self._flags[row]
        begins = flags & _BEGINS > 0
        begins[0] = True
        begins[1:] |= letters[:-1] == 0
        ends = np.append(begins[1:] | (letters[1:] == 0), True) | (flags & _ENDS > 0)
        one_by_one = (flags & _LETTER > 0) & ~(begins & ends)
        read = int(letters[~one_by_one & (flags & _BYTES == 0)].sum())
        unknown = int((flags & _UNKNOWN > 0).sum())
        words = int((begins & (letters > 0)).sum())
        return Pieces(
            letters=max(int(letters.sum()), read + unknown, in_text if unknown or not self._unknown else 0),
            read=read,
            a_word=int((letters > 0).sum()) / words if words else 1.0,
        )

    def _look_up(self, id: int) -> None:
        letters, flags = self._content(id)
        self._flags[id] = flags
        self._letters[id] = min(letters, 1000)  # set last: other threads take it for the sign that both are there

    def _content(self, id: int) -> tuple[int, int]:
        """Return the number of letters in a piece, and its flags."""
        piece = self._tokenizer.id_to_token(id)
        if id in self._unknown:
            return 0, _UNKNOWN
        if id in self._special or piece is None:
            return 0, 0
        if _BYTE.fullmatch(piece):
            return _letters_in_bytes(bytes([int(piece[3:5], 16)])), _BYTES
        flags = _BEGINS if self._whole_words or piece.startswith(_WORD_BEGINS) else 0
        if self._continues and not piece.startswith(self._continues):
            flags |= _BEGINS
        if self._ends and piece.endswith(self._ends):
            flags |= _ENDS
        text = piece.removeprefix(self._continues).removesuffix(self._ends)
        if self._on_bytes:
            content = bytes(_byte_of()[char] for char in text if char in _byte_of())
            try:
                text = content.decode()
            except UnicodeDecodeError:
                return _letters_in_bytes(content), flags | _BYTES
        letters = [char for char in text if char.isalpha()]
        if len(letters) == 1 and not _is_ideograph(letters[0]):
            flags |= _LETTER
        return len(letters), flags


_BEGINS, _ENDS, _LETTER, _BYTES, _UNKNOWN = 1, 2, 4, 8, 16
"""Flags of a piece: it begins a word; it ends one; it holds one letter only; it is a part of a character; it stands for
unknown characters."""

_WORD_BEGINS = ("\u2581", "\u0120")
"""What stands for the space before a word: in SentencePiece, and in BPE on bytes."""

_BYTE = re.compile("<0x[0-9A-F]{2}>")
"""A piece for one byte, in vocabularies that fall back to bytes."""


def _letters_in_bytes(content: bytes) -> int:
    """Count the characters of several bytes that begin here, as UTF-8 marks them, and ASCII letters."""
    return sum(byte >= 0xC0 or (chr(byte).isalpha() and byte < 0x80) for byte in content)


def _is_ideograph(char: str) -> bool:
    """Whether a character alone can be a word or a syllable: Han, and composed Hangul."""
    return "\u3400" <= char <= "\u9fff" or "\uac00" <= char <= "\ud7a3" or char >= "\U00020000"


@cache
def _byte_of() -> Mapping[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(0x100) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
