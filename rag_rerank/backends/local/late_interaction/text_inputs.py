"""The inputs of late interaction: a query and each text alone, with markers, cut to lengths of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rag_rerank.backends.local.late_interaction.checkpoint import Conventions
from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.model_tokenizer import IDS, MASK, TYPES, ModelTokenizer, read_tokenizer, settings_of
from rag_rerank.backends.local.pair_encoding import EncodedPairs, OnLongQuery, OnOverflow, token_chunks
from rag_rerank.errors import InputTooLong, ModelLoadError
from rag_rerank.text.tokenizers import HuggingFaceTokens, TextLimit
from rag_rerank.trace import Coverage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["EncodedQuery", "InputToken", "TextTokenizer", "refuse_text"]


@dataclass(frozen=True)
class EncodedQuery:
    """The input of a query.

    Args:
        ids: Its token ids.
        mask: 1 for tokens that other tokens read; 0 for tokens that only fill a query up.
        coverage: How much of the query is in it.
        prompt_tokens: How many tokens are of the prompt and the special tokens before it; 0 where there is no prompt.
    """

    ids: npt.NDArray[np.int32]
    mask: npt.NDArray[np.int64]
    coverage: Coverage
    prompt_tokens: int = 0

    def arrays(self) -> Mapping[str, npt.NDArray[np.int64]]:
        """Return the input as a batch of one."""
        import numpy as np

        ids = self.ids.astype(np.int64)[None]
        return {IDS: ids, MASK: self.mask[None], TYPES: np.zeros_like(ids)}


class InputToken(NamedTuple):
    """A token of an input, and where it stands in the query or text.

    Args:
        id: Its id.
        piece: How the vocabulary writes it.
        start: Its first code point in the query or text; -1 for a token that is not of it: a special token, a marker.
        end: The code point after its last one; -1 likewise.
        is_filler: Whether it only fills a short query up.
    """

    id: int
    piece: str
    start: int
    end: int
    is_filler: bool = False


class TextTokenizer:
    """A model's fast tokenizer for single texts; set up once and never changed, so that threads may share it.

    Args:
        folder: The folder with the tokenizer.
        conventions: What the checkpoint does with queries and texts.
        text_length: Most tokens of a text, marker and special tokens included.
        query_length: Most tokens of a query, likewise.
        on_long_query: What to do with a longer query.
        adds_special: Whether special tokens stand around an input.
        model_tokenizer: The tokenizer with its settings, where they are not those of the folder's files.

    Raises:
        ModelLoadError: A length leaves no room for a token.
    """

    def __init__(
        self,
        folder: ModelFolder,
        conventions: Conventions,
        *,
        text_length: int,
        query_length: int,
        on_long_query: OnLongQuery = "truncate",
        adds_special: bool = True,
        model_tokenizer: ModelTokenizer | None = None,
    ) -> None:
        self.model_tokenizer: ModelTokenizer = model_tokenizer or read_tokenizer(folder)
        self._tokenizer = self.model_tokenizer.core
        _prepare(self._tokenizer, conventions)
        self.text_tokenizer = self._tokenizer
        self.window, self.query_length = text_length, query_length
        self._tokens = HuggingFaceTokens(self._tokenizer)
        self._name = folder.name
        self._conventions = conventions
        self._on_long_query = on_long_query
        probe = self._tokenizer.encode("a", add_special_tokens=adds_special)
        specials = probe.special_tokens_mask
        if 0 not in specials:
            raise ModelLoadError(f"{folder.name}: its tokenizer reads nothing of the letter a")
        start, end = specials.index(0), len(specials) - specials[::-1].index(0)
        self._before, self._after = probe.ids[:start], probe.ids[end:]
        around = len(self._before) + len(self._after)
        self._prompts = {text: self._ids(text) for text in (conventions.query_prompt, conventions.text_prompt)}
        self._text_room = text_length - around
        self._query_room = query_length - around
        for room, prompt, name in (
            (self._text_room, conventions.text_prompt, "max_length"),
            (self._query_room, conventions.query_prompt, "query_length"),
        ):
            if room - len(self._prompts[prompt]) < 1:
                raise ModelLoadError(f"{folder.name}: {name} leaves no room for a token beside markers; raise it")
        self._filler = _filler(self._tokenizer, conventions, folder)

    @property
    def takes_types(self) -> bool:
        """Whether the model gets token types."""
        return TYPES in self.model_tokenizer.inputs

    def encode_query(self, query: str, prompt: str | None = None) -> EncodedQuery:
        """Return the input of a query; a longer one is cut, and a shorter one filled up where the model does so.

        Args:
            query: The query.
            prompt: What goes before it; by default that of the checkpoint.

        Raises:
            InputTooLong: It does not fit, and ``on_long_query="error"``, or the prompt leaves no room for it.
        """
        import numpy as np

        prompt = self._conventions.query_prompt if prompt is None else prompt
        content, coverage, skipped = self._cut(query, prompt, self._query_room)
        if coverage.truncated and self._on_long_query == "error":
            raise InputTooLong(
                f"the query has {coverage.total} tokens, of which {self._name} reads {coverage.seen}; shorten it, "
                'raise query_length, or allow cutting with on_long_query="truncate"'
            )
        ids = [*self._before, *content, *self._after]
        expansion, count = self._conventions.expansion, len(ids)
        attends = expansion is not None and expansion.attends
        ids += [self._filler] * ((expansion.length if expansion else 0) - count)
        mask = np.ones(len(ids), dtype=np.int64)
        if not attends:
            mask[count:] = 0
        return EncodedQuery(np.array(ids, dtype=np.int32), mask, coverage, len(self._before) + skipped if prompt else 0)

    def encode_texts(self, texts: Sequence[str], on_overflow: OnOverflow) -> EncodedPairs:
        """Return the inputs of texts; a longer one is cut.

        Raises:
            InputTooLong: A text does not fit, and ``on_overflow="error"``.
        """
        import numpy as np

        prompt, room = self._conventions.text_prompt, self._text_room
        skipped = len(self._prompts[prompt])
        ids, coverage = [], []
        for chunk in token_chunks(texts):
            prompted = [prompt + text for text in chunk] if prompt else chunk
            for encoding in self._tokenizer.encode_batch_fast(prompted, add_special_tokens=False):
                content = encoding.ids
                total = max(len(content) - skipped, 0)
                coverage.append(Coverage(total, min(total, room - skipped)))
                if on_overflow == "error" and coverage[-1].truncated:
                    raise refuse_text(coverage[-1], self._name, len(coverage) - 1)
                ids.append(np.array([*self._before, *content[:room], *self._after], dtype=np.int32))
        types = [np.zeros(len(row), dtype=np.uint8) for row in ids]
        return EncodedPairs(ids, types, tuple(coverage), self.model_tokenizer.pad)

    def query_tokens(self, query: str) -> list[InputToken]:
        """Return the tokens of the input of a query, those that fill it up included."""
        tokens = self._tokens_of(query, self._conventions.query_prompt, self._query_room)
        expansion = self._conventions.expansion
        count = (expansion.length if expansion else 0) - len(tokens)
        return tokens + [self._outside(self._filler, is_filler=True)] * count

    def text_tokens(self, text: str) -> list[InputToken]:
        """Return the tokens of the input of a text."""
        return self._tokens_of(text, self._conventions.text_prompt, self._text_room)

    def last_characters(self, text: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Return the id of each token of the input of a text, and the place of its last character in the text.

        The place is that of a code point; -1 for a token that is not of the text: a special token, a marker.
        """
        import numpy as np

        prompt, room = self._conventions.text_prompt, self._text_room
        encoding = self._tokenizer.encode(prompt + text, add_special_tokens=False)
        content, skipped = encoding.ids[:room], len(self._prompts[prompt])
        ids = np.array([*self._before, *content, *self._after], dtype=np.int32)
        last = np.full(len(ids), -1, dtype=np.int32)
        of_text = slice(len(self._before) + skipped, len(self._before) + len(content))
        last[of_text] = [max(end - 1, start) - len(prompt) for start, end in encoding.offsets[skipped:room]]
        last[of_text] = np.maximum.accumulate(last[of_text])
        return ids, last

    def text_limit(self, query: str) -> TextLimit:
        """Return how long a text may be; that is the same beside every query."""
        return TextLimit(self._text_room - len(self._prompts[self._conventions.text_prompt]), self._tokens)

    def ids_of(self, words: Sequence[str]) -> tuple[int, ...]:
        """Return the ids of words of the vocabulary; words that are none are left out."""
        ids = (self._tokenizer.token_to_id(word) for word in words)
        return tuple(id for id in ids if id is not None)

    def _tokens_of(self, text: str, prompt: str, room: int) -> list[InputToken]:
        encoding = self._tokenizer.encode(prompt + text, add_special_tokens=False)
        skipped = len(self._prompts[prompt])
        tokens = [self._outside(id) for id in (*self._before, *encoding.ids[:room][:skipped])]
        for id, (start, end) in list(zip(encoding.ids, encoding.offsets, strict=True))[skipped:room]:
            start, end = max(start - len(prompt), 0), max(end - len(prompt), 0)
            tokens.append(InputToken(id, self._tokenizer.id_to_token(id) or "", start, end))
        return tokens + [self._outside(id) for id in self._after]

    def _outside(self, id: int, *, is_filler: bool = False) -> InputToken:
        return InputToken(id, self._tokenizer.id_to_token(id) or "", -1, -1, is_filler)

    def _cut(self, text: str, prompt: str, room: int) -> tuple[list[int], Coverage, int]:
        """Return the ids that fit, how much of the text they are, and how many are of the prompt."""
        content = self._ids(prompt + text)
        skipped = len(self._prompts[prompt] if prompt in self._prompts else self._ids(prompt))
        if room <= skipped:
            raise InputTooLong(f"the prompt before the query has {skipped} tokens, and {self._name} reads {room}")
        total = max(len(content) - skipped, 0)
        return content[:room], Coverage(total, min(total, room - skipped)), skipped

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def refuse_text(coverage: Coverage, name: str, position: int) -> InputTooLong:
    """Return the error for a text that may not be cut."""
    return InputTooLong(
        f"the text has {coverage.total} tokens, and {name} reads {coverage.seen} of a text; split the text, or allow "
        'cutting with on_overflow="truncate"',
        position=position,
    )


def _prepare(tokenizer: Any, conventions: Conventions) -> None:
    """Let markers be one token each, and lower-case inputs where the checkpoint does."""
    from tokenizers import AddedToken
    from tokenizers.normalizers import Lowercase, Sequence

    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    for marker in conventions.markers:
        words = marker.split(None, 1)
        word = next((piece for piece in (marker, *words[:1]) if words and piece in vocabulary), None)
        if word is not None and tokenizer.encode(word, add_special_tokens=False).tokens != [word]:
            tokenizer.add_special_tokens([AddedToken(word, normalized=False, special=True)])
    if conventions.lower_case:
        own = tokenizer.normalizer
        tokenizer.normalizer = Sequence([Lowercase(), own] if own is not None else [Lowercase()])


def _filler(tokenizer: Any, conventions: Conventions, folder: ModelFolder) -> int:
    """Return the id of the token that fills queries up; 0 where none does.

    Raises:
        ModelLoadError: The tokenizer does not know it.
    """
    if conventions.expansion is None:
        return 0
    settings = settings_of(folder)
    names = [conventions.expansion.token]
    if names == [None]:
        for role in ("mask_token", "eos_token"):
            token = settings.get(role)
            names.append(token.get("content") if isinstance(token, dict) else token)
        names.append("[MASK]")
    id = next((id for name in names if name and (id := tokenizer.token_to_id(name)) is not None), None)
    if id is None:
        raise ModelLoadError(f"{folder.name} fills queries up with a token that its tokenizer does not know: {names}")
    filler: int = id
    return filler
