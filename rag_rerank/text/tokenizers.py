"""Tokenizers: a function, a tiktoken name or a ``tokenizer.json``; the limit of a text's length beside a query."""

from __future__ import annotations

import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, Any, Union

from rag_rerank._checks import plain
from rag_rerank._files import ConfigPath, expand_user
from rag_rerank._lazy import need
from rag_rerank.errors import ConfigError, ModelLoadError, ModelUnavailable, did_you_mean
from rag_rerank.text.unicode import valid_unicode

__all__ = [
    "EstimatedTokens",
    "HuggingFaceTokens",
    "TextLimit",
    "Tokenizer",
    "TokenizerName",
    "Tokens",
    "is_tokenizer_file",
    "tokens",
]

Tokenizer = Union[str, "os.PathLike[str]", Callable[[str], int | Sequence[Any]], Any]
"""A tokenizer, or what `tokens` makes one from.

- a callable from a text to its number of tokens, or to its tokens: a list, an array, a ``BatchEncoding``;
- the name of a tiktoken encoding or of a model that tiktoken knows: ``"o200k_base"``, ``"gpt-4o"``;
- a Hugging Face ``tokenizer.json``, or a folder that holds one: a path object, or a string that ends in ``.json`` or
  has a slash in it;
- a ``tiktoken.Encoding``, a ``tokenizers.Tokenizer``, a tokenizer of transformers, or another object whose ``encode``
  returns the tokens of a text, such as a ``SentencePieceProcessor``.
"""


def is_tokenizer_file(spec: str) -> bool:
    """Whether a text names a file or a folder, and no encoding of tiktoken."""
    return spec.endswith(".json") or any(mark in spec for mark in {"/", os.sep})


TokenizerName = Annotated[str, ConfigPath(lambda spec, folder: is_tokenizer_file(spec))]
"""The type of a config field that is a tokenizer: a tiktoken name, or the path of a ``tokenizer.json``."""

Span = tuple[int, int]
"""The first character, and the one after the last."""


class Tokens(ABC):
    """A tokenizer as this library uses it."""

    @abstractmethod
    def count(self, text: str) -> int:
        """Return how many tokens a text has."""

    def spans(self, text: str) -> list[Span] | None:
        """Return the characters of each token, or ``None`` if the tokenizer does not tell them.

        If one character takes several tokens, each of them has the whole character.
        """
        return None


def tokens(spec: Tokenizer, *, path: str = "tokenizer") -> Tokens:
    """Return the tokenizer for a spec; its files are read at once.

    Args:
        spec: See `Tokenizer`.
        path: The argument's name; messages start with it.

    Raises:
        ConfigError: There is no tokenizer of that name, or the spec is not a tokenizer.
        ModelLoadError: Its file cannot be read, or (`ModelUnavailable`) not be downloaded now.
        MissingExtraError: tiktoken is not installed.
    """
    if isinstance(spec, os.PathLike):
        return _from_file(Path(spec), path)
    if isinstance(spec, str):
        return _from_file(expand_user(spec), path) if is_tokenizer_file(spec) else _Tiktoken(_encoding(spec, path))
    if hasattr(spec, "encode_ordinary"):
        return _Tiktoken(spec)
    spec = getattr(spec, "backend_tokenizer", spec)  # inside a fast tokenizer of transformers
    if hasattr(spec, "to_str"):
        from tokenizers import Tokenizer as Rust

        return HuggingFaceTokens(_without_truncation(Rust.from_str(spec.to_str())))  # the caller's keeps its settings
    function = spec if callable(spec) else getattr(spec, "encode", None)
    if callable(function):
        return _Function(function, path)
    raise ConfigError(
        "expected a function from a text to its number of tokens or their list, a tiktoken name, or the path of a "
        f"tokenizer.json, got {type(spec).__name__}",
        path=path,
    )


class _Function(Tokens):
    def __init__(self, function: Callable[[str], object], path: str) -> None:
        self._function = function
        self._path = path

    def count(self, text: str) -> int:
        try:
            output = self._function(valid_unicode(text))
        except Exception as error:  # the caller's own code can raise anything
            raise ConfigError(
                f"the function raised {type(error).__name__}; it must take any text", path=self._path
            ) from error
        number = _number_of(output)
        if number is not None and number >= 0:
            return number
        kind = type(output).__name__
        value = f"{output!r} ({kind})" if isinstance(output, (int, float)) else kind
        raise ConfigError(
            f"the function must return a whole number of tokens, 0 or more, or a list of them; it returned {value} for "
            f"a text of {len(text)} characters",
            path=self._path,
        )


def _number_of(output: Any) -> int | None:
    """Return how many tokens a function counted or listed; ``None`` where its output is neither."""
    if isinstance(output, Mapping):  # of a tokenizer of transformers
        return _number_of(output.get("input_ids"))
    shape: Sequence[int] = getattr(output, "shape", ())
    if len(shape) > 0:  # an array of tokens, or a batch of one
        return int(shape[-1]) if math.prod(shape[:-1]) == 1 else None
    number = plain(output)
    if isinstance(number, int) and not isinstance(number, bool):
        return number
    if number is not output or isinstance(output, (str, bytes, Set)) or not hasattr(output, "__len__"):
        return None
    is_batch = isinstance(output, Sequence) and len(output) > 0 and isinstance(output[0], (list, tuple))
    return None if is_batch else len(output)


class EstimatedTokens(Tokens):
    """An estimate of the tokens of a text for any LLM, made to be too high rather than too low.

    A run of up to 5 ASCII letters is a token, a longer one has a token for each 4 letters; each 2 digits, each
    punctuation mark, and white space other than single spaces are a token. A character outside of ASCII is 1 token if
    UTF-8 has 2 bytes for it, 1.5 with 3 bytes (Chinese, Japanese, Hindi, Thai ...), 3 with 4 bytes (emoji). A tenth is
    added. docs/how-to/budget.md has the measured distance to a real tokenizer.
    """

    def count(self, text: str) -> int:
        """Return the estimate."""
        ascii_tokens = sum(_estimate(match[0]) for match in _ASCII_RUN.finditer(text))
        wide = () if text.isascii() else (c for c in text if c > "\x7f")
        return math.ceil(1.1 * (ascii_tokens + sum(1 if c < "\u0800" else 1.5 if c <= "\uffff" else 3 for c in wide)))


_ASCII_RUN = re.compile(r"[A-Za-z]+|[0-9]+|(?! \S)[ \t-\r\x1c-\x1f]+|[\x00-\x7f](?<! )")
"""Letters, digits, white space that is not a single space, or any other character but a space."""


def _estimate(run: str) -> int:
    if run.isalpha():
        return 1 if len(run) <= 5 else math.ceil(len(run) / 4)
    return math.ceil(len(run) / 2) if run.isdigit() else 1


class _Tiktoken(Tokens):
    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    def count(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(valid_unicode(text)))

    def spans(self, text: str) -> list[Span]:
        fixed = valid_unicode(text)
        pieces = self._encoding.decode_tokens_bytes(self._encoding.encode_ordinary(fixed))
        characters = [i for i, character in enumerate(fixed) for _ in character.encode()]  # byte -> its character
        ends = accumulate(map(len, pieces), initial=0)
        return _original_spans(text, fixed, [(characters[a], characters[b - 1] + 1) for a, b in pairwise(ends)])


class HuggingFaceTokens(Tokens):
    """A ``tokenizers.Tokenizer`` with truncation and padding off; no one else may change it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def count(self, text: str) -> int:
        """Return how many tokens a text has."""
        # encode_batch_fast computes no offsets
        (encoding,) = self._tokenizer.encode_batch_fast([valid_unicode(text)], add_special_tokens=False)
        return len(encoding.ids)

    def spans(self, text: str) -> list[Span]:
        """Return the characters of each token."""
        fixed = valid_unicode(text)
        return _original_spans(text, fixed, self._tokenizer.encode(fixed, add_special_tokens=False).offsets)


def _without_truncation(tokenizer: Any) -> Any:
    """Turn truncation and padding off, and return the tokenizer."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _original_spans(text: str, fixed: str, spans: list[Span]) -> list[Span]:
    """Return spans of the valid text as spans of the caller's text, in which a surrogate pair is two characters."""
    if len(fixed) == len(text):
        return spans
    positions = [0]
    for character in fixed:
        is_pair = ord(character) > 0xFFFF and text[positions[-1]] != character
        positions.append(positions[-1] + (2 if is_pair else 1))
    return [(positions[a], positions[b]) for a, b in spans]


def _from_file(place: Path, path: str) -> HuggingFaceTokens:
    """Return the tokenizer of a ``tokenizer.json``, or of the folder that has it."""
    file = place / "tokenizer.json" if place.is_dir() else place
    if not file.is_file():
        raise ConfigError(f"there is no file {str(file)!r}; name a tokenizer.json, or a folder that has one", path=path)
    state = file.stat()
    return _read_file(file.absolute(), path, state.st_mtime_ns, state.st_size, state.st_ino)


@lru_cache(maxsize=2)  # `pack` is called once for each query, and reading the file takes longer than packing
def _read_file(file: Path, path: str, *_state: int) -> HuggingFaceTokens:
    """Read a ``tokenizer.json`` once for each state of the file."""
    from tokenizers import Tokenizer as Rust

    try:
        tokenizer = Rust.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises bare Exceptions
        raise ModelLoadError(
            f"{path}: {file} cannot be read as a tokenizer.json: {error}; fetch it again, or name another"
        ) from error
    return HuggingFaceTokens(_without_truncation(tokenizer))


def _encoding(name: str, path: str) -> Any:
    tiktoken = need("tiktoken", extra="tiktoken")
    names = tiktoken.list_encoding_names()
    try:
        encoding_name = name if name in names else tiktoken.encoding_name_for_model(name)
    except KeyError as error:
        raise ConfigError(
            f"tiktoken knows neither an encoding nor a model {name!r}{did_you_mean(name, names)} (the path of a "
            "tokenizer.json has a slash in it or ends in .json)",
            path=path,
        ) from error
    try:
        return tiktoken.get_encoding(encoding_name)
    except Exception as error:  # errors of network, disk and checksums come from several libraries
        message = (
            f"{path}: tiktoken cannot load the encoding {encoding_name!r}, whose file it downloads on first use "
            f"({type(error).__name__}); on a machine without internet, set TIKTOKEN_CACHE_DIR to a folder that has it"
        )
        if type(error).__module__.partition(".")[0] in ("requests", "urllib3"):
            reason = f"tiktoken's file of {encoding_name!r} is not on this machine, and cannot be downloaded"
            raise ModelUnavailable(message, reason=reason) from error
        raise ModelLoadError(message) from error


@dataclass(frozen=True, slots=True)
class TextLimit:
    """The greatest length of a text beside a query: a text with at most this many tokens is read whole.

    Args:
        tokens: The most tokens of a text, at least 1.
        tokenizer: The tokenizer that counts them.
    """

    tokens: int
    tokenizer: Tokens

    def excess(self, text: str) -> int:
        """Return by how many tokens a text is too long; 0 if it fits."""
        return max(0, self.tokenizer.count(text) - self.tokens)
