"""The inputs of local models: encode query and text as one pair, and batch pairs of similar length.

The ids, token types and mask are those that the model's own tokenizer gives for the pair, cut to the window as
sentence-transformers and Text Embeddings Inference cut it (`shares`). Only one thing is done differently: the query is
tokenised once instead of once for each pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.model_tokenizer import IDS, MASK, TYPES, ModelTokenizer, read_tokenizer
from rag_rerank.backends.local.samples import QUERIES, TEXTS
from rag_rerank.errors import InputTooLong, ModelLoadError
from rag_rerank.text.tokenizers import HuggingFaceTokens, TextLimit
from rag_rerank.trace import Coverage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Batch",
    "EncodedPairs",
    "OnLongQuery",
    "OnOverflow",
    "PairTokenizer",
    "apply_overflow",
    "concatenate",
    "no_room",
    "query_share",
    "refuse_query",
    "shares",
    "token_chunks",
]

_CHUNK_TEXTS = 256
"""Texts given to the tokenizer at once: to free the encodings of ten thousand in one go takes some 80 ms, in which no
other Python thread runs, and no event loop either."""

_CHUNK_CHARACTERS = 200_000
"""Characters given to the tokenizer at once: an encoding takes a hundred bytes a token until its ids are read."""

OnOverflow = Literal["truncate", "error"]
"""What to do with a text that does not fit: read its beginning and say so, or raise `InputTooLong`."""

OnLongQuery = Literal["truncate", "error"]
"""What to do with a query that is longer than its share of the window: read its beginning and say so, or raise
`InputTooLong`."""


class Batch(NamedTuple):
    """A batch of the inputs of one call.

    Args:
        rows: Positions of the inputs.
        size: Token slots, padding included.
        group: The length of all inputs, where batches of that length can be joined without padding; else ``None``.
    """

    rows: list[int]
    size: int
    group: int | None


@dataclass(frozen=True)
class EncodedPairs:
    """The inputs of one query and its texts, in the order of the texts.

    Args:
        ids: Token ids of each pair; arrays where there may be many, because a list takes nine times the memory.
        types: Token type ids of each pair (0 for the query's part, 1 for the text's, in models that have two types).
        coverage: How much of each text is in its input.
        pad: Id to pad with.
        pad_type: Token type of padding.
        pads_left: Whether padding comes first.
        query: How much of the query is in the input that has the least of it.
    """

    ids: Sequence[Sequence[int] | npt.NDArray[np.int32]]
    types: Sequence[Sequence[int] | npt.NDArray[np.uint8]]
    coverage: tuple[Coverage, ...]
    pad: int
    pad_type: int = 0
    pads_left: bool = False
    query: Coverage | None = None

    @property
    def tokens(self) -> int:
        """Tokens that the model reads, padding not counted."""
        return sum(map(len, self.ids))

    def batches(self, tokens: int, *, equal_lengths: bool = False) -> list[Batch]:
        """Divide the inputs into batches, longest inputs first.

        A batch has at most ``tokens`` slots; a longer input is a batch of its own. Inputs of similar length go
        together, so that there is little padding; with ``equal_lengths``, only inputs of one length, so that there is
        none.
        """
        lengths = [len(ids) for ids in self.ids]
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        batches = []
        start = 0
        while start < len(order):
            width = lengths[order[start]]
            rows = order[start : start + max(1, tokens // width)]
            if equal_lengths:
                rows = [row for row in rows if lengths[row] == width]
            batches.append(Batch(rows, len(rows) * width, width if equal_lengths else None))
            start += len(rows)
        return batches

    def arrays(self, rows: Sequence[int]) -> Mapping[str, npt.NDArray[np.int64]]:
        """Return some inputs as arrays, padded to the longest of them."""
        import numpy as np

        width = max(len(self.ids[i]) for i in rows)
        ids = np.full((len(rows), width), self.pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        types = np.full_like(ids, self.pad_type)
        for row, i in enumerate(rows):
            length = len(self.ids[i])
            place = slice(width - length, width) if self.pads_left else slice(length)
            ids[row, place] = self.ids[i]
            mask[row, place] = 1
            types[row, place] = self.types[i]
        return {IDS: ids, MASK: mask, TYPES: types}

    def batch_arrays(
        self, tokens: int, *, equal_lengths: bool = False
    ) -> Iterator[tuple[list[int], Mapping[str, npt.NDArray[np.int64]]]]:
        """Yield positions and arrays of each of the `batches`."""
        for batch in self.batches(tokens, equal_lengths=equal_lengths):
            yield batch.rows, self.arrays(batch.rows)


def concatenate(batches: Sequence[Mapping[str, npt.NDArray[np.int64]]]) -> Mapping[str, npt.NDArray[np.int64]]:
    """Join batches of one width."""
    import numpy as np

    if len(batches) == 1:
        return batches[0]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


class PairTokenizer:
    """A model's fast tokenizer for pairs; set up once and never changed, so that threads may share it.

    Args:
        folder: The model.
        max_length: The window in tokens.
        tokenizer: The tokenizer that transformers has loaded; by default it is read from the files.
        on_long_query: What to do with a query that is longer than its share.

    Raises:
        ModelLoadError: It does not join pairs, or not in a way that is known here.
    """

    def __init__(
        self,
        folder: ModelFolder,
        max_length: int,
        tokenizer: ModelTokenizer | None = None,
        on_long_query: OnLongQuery = "truncate",
    ) -> None:
        self.model_tokenizer = tokenizer or read_tokenizer(folder)
        self._tokenizer = self.text_tokenizer = self.model_tokenizer.core
        self._tokens = HuggingFaceTokens(self._tokenizer)
        self.window = max_length
        self._name = folder.name
        self._on_long_query = on_long_query
        probe = self._tokenizer.encode("a", "b")
        parts = probe.sequence_ids
        if 0 not in parts or 1 not in parts:
            raise ModelLoadError(f"{folder.name}: its tokenizer does not join pairs; this is no cross-encoder")
        query, text = parts.index(0), parts.index(1)
        query_end = len(parts) - parts[::-1].index(0)
        if query_end == text:
            raise ModelLoadError(
                f"{folder.name}: its tokenizer puts nothing between query and text; this model wants a prompt around "
                "them that is not known here"
            )
        text_end = len(parts) - parts[::-1].index(1)
        types = probe.type_ids if TYPES in self.model_tokenizer.inputs else [0] * len(parts)
        self._before = _Part(probe.ids[:query], types[:query])
        self._between = _Part(probe.ids[query_end:text], types[query_end:text])
        self._after = _Part(probe.ids[text_end:], types[text_end:])
        self._query_type, self._text_type = types[query], types[text]
        self._room = max_length - len(self._before.ids) - len(self._between.ids) - len(self._after.ids)
        self._compare_with_library()

    @property
    def tail(self) -> int:
        """How many tokens come after the text."""
        return len(self._after.ids)

    def encode(self, query: str, texts: Sequence[str], on_overflow: OnOverflow) -> EncodedPairs:
        """Join the query with each text; where a pair is too long, both get their `shares` of the window.

        Raises:
            InputTooLong: The window has no room for a text; a query does not fit and ``on_long_query="error"``; or a
                text does not fit and ``on_overflow="error"``.
        """
        import numpy as np

        query_ids = self._tokenizer.encode(query, add_special_tokens=False).ids
        if self._room < 2:
            raise no_room(len(query_ids), self.window, self._name)
        heads: dict[int, _Part] = {}
        lengths, ids, types = [], [], []
        for chunk in token_chunks(texts):
            for encoding in self._tokenizer.encode_batch_fast(chunk, add_special_tokens=False):
                query_tokens, text_tokens = shares(len(query_ids), len(encoding), self._room)
                head = heads.get(query_tokens)
                if head is None:
                    head = heads[query_tokens] = self._head(self._trim(query_ids, query_tokens))
                text_ids = self._trim(encoding.ids, text_tokens)
                lengths.append((len(encoding), text_tokens if text_tokens < len(encoding) else self._room))
                ids.append(np.array([*head.ids, *text_ids, *self._after.ids], dtype=np.int32))
                types.append(
                    np.array([*head.types, *[self._text_type] * len(text_ids), *self._after.types], dtype=np.uint8)
                )
        query_coverage = Coverage(len(query_ids), min(heads, default=len(query_ids)))
        if query_coverage.truncated and self._on_long_query == "error":
            raise refuse_query(query_coverage, self.window, self._name)
        coverage = apply_overflow(lengths, len(query_ids), self.window, self._name, on_overflow)
        settings = self.model_tokenizer
        return EncodedPairs(
            ids, types, coverage, settings.pad, settings.pad_type, settings.pads_left, query=query_coverage
        )

    def text_limit(self, query: str) -> TextLimit:
        """Return how long a text may be beside the query, so that it is read whole.

        Raises:
            InputTooLong: The window has no room for a text, or the query leaves none and may not be cut.
        """
        query_tokens = self._tokens.count(query)
        share = query_share(query_tokens, self._room, self._on_long_query)
        apply_overflow([(0, self._room - share)], query_tokens, self.window, self._name, "truncate")
        return TextLimit(self._room - share, self._tokens)

    def lenient(self) -> PairTokenizer:
        """Return the same tokenizer, cutting queries whatever the user wants of it: for samples."""
        tokenizer = copy(self)
        tokenizer._on_long_query = "truncate"
        return tokenizer

    def _head(self, query_ids: Sequence[int]) -> _Part:
        """Return what comes before the text."""
        return _Part(
            [*self._before.ids, *query_ids, *self._between.ids],
            [*self._before.types, *[self._query_type] * len(query_ids), *self._between.types],
        )

    def _trim(self, ids: Sequence[int], count: int) -> Sequence[int]:
        """Return the tokens that are read of a query or text."""
        if count >= len(ids):
            return ids
        return ids[len(ids) - count :] if self.model_tokenizer.cuts_left else ids[:count]

    def _compare_with_library(self) -> None:
        """Compare a joined pair with the one that the tokenizers library joins.

        Raises:
            ModelLoadError: They differ: the template around a pair depends on its words.
        """
        query, text = QUERIES[0], TEXTS[1]
        pair = self._tokenizer.encode(query, text)
        query_ids, text_ids = (self._tokenizer.encode(part, add_special_tokens=False).ids for part in (query, text))
        head = self._head(query_ids)
        types = [*head.types, *[self._text_type] * len(text_ids), *self._after.types]
        if [*head.ids, *text_ids, *self._after.ids] != pair.ids or (
            TYPES in self.model_tokenizer.inputs and types != pair.type_ids
        ):
            raise ModelLoadError(
                f"{self._name}: its tokenizer joins pairs in a way that is not known here; use a model with a template "
                "such as [CLS] query [SEP] text [SEP]"
            )


def token_chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Divide texts into lists to tokenise at once; no text is divided."""
    start = characters = 0
    for position, text in enumerate(texts):
        if position > start and (position - start == _CHUNK_TEXTS or characters + len(text) > _CHUNK_CHARACTERS):
            yield list(texts[start:position])
            start, characters = position, 0
        characters += len(text)
    yield list(texts[start:])


@dataclass(frozen=True)
class _Part:
    ids: list[int]
    types: list[int]


def shares(query: int, text: int, room: int) -> tuple[int, int]:
    """Return how many tokens of a query and of a text are read: the one rule of cutting for all local models.

    It is the strategy ``longest_first`` of the tokenizers library (``truncate_encodings``), which
    sentence-transformers and Text Embeddings Inference use. What fits is not cut; else the longer of the two gives way,
    down to half of the room. So a text keeps at least half of it (less a token where it is odd) beside any query, and a
    query does beside any text.

    Args:
        query: Tokens of the query.
        text: Tokens of the text.
        room: Tokens of the window that both can have.
    """
    if query + text <= room:
        return query, text
    short = min(query, text)
    if 2 * short > room:
        short = room // 2
    return (short, room - short) if query <= text else (room - short, short)


def query_share(query: int, room: int, on_long_query: OnLongQuery) -> int:
    """Return how many tokens of the room texts must leave to a query, so that they are read whole."""
    return query if on_long_query == "error" else min(query, room - room // 2)


def refuse_query(query: Coverage, window: int, name: str) -> InputTooLong:
    """Return the error for a query that may not be cut."""
    return InputTooLong(
        f"the query has {query.total} tokens, of which {query.seen} fit beside these texts into the window of {window} "
        f'tokens of {name}; shorten it, allow cutting with on_long_query="truncate", or choose a model with a longer '
        "window"
    )


def no_room(query: int, window: int, name: str) -> InputTooLong:
    """Return the error for a window without room for a text."""
    return InputTooLong(
        f"the query has {query} tokens, which leaves no room for a text in the window of {window} tokens of {name}; "
        "shorten the query or choose a model with a longer window"
    )


def apply_overflow(
    lengths: Sequence[tuple[int, int]], query: int, window: int, name: str, on_overflow: OnOverflow
) -> tuple[Coverage, ...]:
    """Decide how much of each text is read: the one rule of overflow for all local models.

    Args:
        lengths: Tokens of each text, and how many of them fit into the window beside query and template.
        query: Tokens of the query, for the message.
        window: Tokens of the whole window, for the message.
        name: Model, for the message.
        on_overflow: What to do with a text that does not fit.

    Raises:
        InputTooLong: There is room for no token of some text; or some text does not fit and may not be cut.
    """
    if any(room < 1 for _, room in lengths):
        raise no_room(query, window, name)
    if on_overflow == "error":
        for position, (length, room) in enumerate(lengths):
            if length > room:
                raise InputTooLong(
                    f"the text has {length} tokens, and {name} has room for {room} beside this query; split the text, "
                    'or allow cutting with on_overflow="truncate"',
                    position=position,
                )
    return tuple(Coverage(total=length, seen=min(length, room)) for length, room in lengths)
