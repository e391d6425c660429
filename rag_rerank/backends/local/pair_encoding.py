"""The inputs of local models: encode query and text as one pair, and batch pairs of similar length.

The ids are those that the model's own tokenizer gives for the pair. Only two things are done differently: the query is
tokenised once instead of once for each pair, and only the text is ever cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rag_rerank.backends.local.model_files import ModelFolder, read_json
from rag_rerank.errors import InputTooLong, ModelLoadError
from rag_rerank.text.tokenizers import HuggingFaceTokens, TextLimit
from rag_rerank.trace import Coverage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from tokenizers import Tokenizer

__all__ = ["Batch", "EncodedPairs", "OnOverflow", "PairTokenizer", "apply_overflow", "concatenate"]

_CHUNK_TEXTS = 256
"""Texts given to the tokenizer at once: to free the encodings of ten thousand in one go takes some 80 ms, in which no
other Python thread runs, and no event loop either."""

_CHUNK_CHARACTERS = 200_000
"""Characters given to the tokenizer at once: an encoding takes a hundred bytes a token until its ids are read."""

OnOverflow = Literal["truncate", "error"]
"""What to do with a text that does not fit: read its beginning and say so, or raise `InputTooLong`."""


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
    """

    ids: Sequence[Sequence[int] | npt.NDArray[np.int32]]
    types: Sequence[Sequence[int] | npt.NDArray[np.uint8]]
    coverage: tuple[Coverage, ...]
    pad: int

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
        types = np.zeros_like(ids)
        for row, i in enumerate(rows):
            length = len(self.ids[i])
            ids[row, :length] = self.ids[i]
            mask[row, :length] = 1
            types[row, :length] = self.types[i]
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}

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
    """A model's fast tokenizer for pairs; set up once and never changed, so that threads may share it."""

    def __init__(self, folder: ModelFolder, max_length: int) -> None:
        self._tokenizer = self.text_tokenizer = load_tokenizer(folder)
        self._tokens = HuggingFaceTokens(self._tokenizer)
        self.window = max_length
        self._name = folder.name
        self._pad = _pad_id(self._tokenizer, folder)
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
        self._before = _Part(probe.ids[:query], probe.type_ids[:query])
        self._between = _Part(probe.ids[query_end:text], probe.type_ids[query_end:text])
        self._after = _Part(probe.ids[text_end:], probe.type_ids[text_end:])
        self._query_type, self._text_type = probe.type_ids[query], probe.type_ids[text]

    def encode(self, query: str, texts: Sequence[str], on_overflow: OnOverflow) -> EncodedPairs:
        """Join the query with each text; cut texts that do not fit, never the query.

        Raises:
            InputTooLong: The query leaves no room for a text; or a text does not fit and ``on_overflow="error"``.
        """
        import numpy as np

        query_ids = self._tokenizer.encode(query, add_special_tokens=False).ids
        head = _Part(
            [*self._before.ids, *query_ids, *self._between.ids],
            [*self._before.types, *[self._query_type] * len(query_ids), *self._between.types],
        )
        room = self._room(len(query_ids))
        lengths, ids, types = [], [], []
        for chunk in _chunks(texts):
            for encoding in self._tokenizer.encode_batch_fast(chunk, add_special_tokens=False):
                text_ids = encoding.ids[: max(0, room)]
                lengths.append((len(encoding), room))
                ids.append(np.array([*head.ids, *text_ids, *self._after.ids], dtype=np.int32))
                types.append(
                    np.array([*head.types, *[self._text_type] * len(text_ids), *self._after.types], dtype=np.uint8)
                )
        coverage = apply_overflow(lengths, len(query_ids), self.window, self._name, on_overflow)
        return EncodedPairs(ids, types, coverage, self._pad)

    def text_limit(self, query: str) -> TextLimit:
        """Return how long a text may be beside the query.

        Raises:
            InputTooLong: The query leaves no room for a text.
        """
        query_tokens = self._tokens.count(query)
        room = self._room(query_tokens)
        apply_overflow([(0, room)], query_tokens, self.window, self._name, "truncate")
        return TextLimit(room, self._tokens)

    def _room(self, query_tokens: int) -> int:
        """Return how many tokens of a text fit beside a query of this length."""
        return self.window - query_tokens - len(self._before.ids) - len(self._between.ids) - len(self._after.ids)


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
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
        InputTooLong: There is room for no token of any text; or some text does not fit and may not be cut.
    """
    if any(room < 1 for _, room in lengths):
        raise InputTooLong(
            f"the query has {query} tokens, which leaves no room for a text in the window of {window} tokens of "
            f"{name}; shorten the query or choose a model with a longer window"
        )
    if on_overflow == "error":
        for position, (length, room) in enumerate(lengths):
            if length > room:
                raise InputTooLong(
                    f"the text has {length} tokens, and {name} has room for {room} beside this query; split the text, "
                    'or allow cutting with on_overflow="truncate"',
                    position=position,
                )
    return tuple(Coverage(total=length, seen=min(length, room)) for length, room in lengths)


def load_tokenizer(folder: ModelFolder) -> Tokenizer:
    """Load ``tokenizer.json`` with truncation and padding off.

    Raises:
        ModelLoadError: The file is absent or not a tokenizer.
    """
    from tokenizers import Tokenizer

    file = folder.path / "tokenizer.json"
    if not file.is_file():
        raise ModelLoadError(
            f"{folder.name} has no tokenizer.json; convert it with: rag-rerank export {folder.name} -o DIR"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelLoadError(f"{folder.name}: tokenizer.json cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _pad_id(tokenizer: Tokenizer, folder: ModelFolder) -> int:
    """Return the id of the padding token; some models count positions from it."""
    file = folder.path / "tokenizer_config.json"
    settings: Mapping[str, Any] = read_json(file, folder.name) if file.is_file() else {}
    token = settings.get("pad_token")
    text = token.get("content") if isinstance(token, dict) else token
    id = tokenizer.token_to_id(text) if isinstance(text, str) else None
    if id is None:
        id = folder.config.get("pad_token_id")
    if not isinstance(id, int):
        raise ModelLoadError(f"{folder.name}: neither tokenizer_config.json nor config.json names a padding token")
    return id
