"""The weights of a text's terms: as numbers, as a row to keep, and from a table without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rag_rerank.backends.local.kept_vectors.row_header import HEADER_BYTES, RowFacts, header_bytes, read_header
from rag_rerank.backends.local.model_files import ModelFolder, read_json
from rag_rerank.backends.local.onnx_graphs.safetensors_weights import read_tensors
from rag_rerank.backends.local.onnx_graphs.weights import UnsupportedGraph
from rag_rerank.backends.local.readability import Readability
from rag_rerank.backends.local.sparse.checkpoint import Side
from rag_rerank.errors import ModelLoadError
from rag_rerank.trace import Coverage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Ids = npt.NDArray[np.int64]

__all__ = ["K1", "LENGTH", "B", "TermLayout", "TermWeights", "WeightTable", "largest", "read_table"]

K1, B = 1.2, 0.75
"""BM25's constants, at the values that Lucene has by default."""

LENGTH = 80.0
"""Tokens of a text of usual length: in place of the mean, because a text is scored without a corpus."""


class TermWeights(NamedTuple):
    """The terms of a query or a text that have a weight, in the order of their ids.

    Args:
        ids: Their ids in the vocabulary.
        weights: The weight of each.
    """

    ids: Ids
    weights: Floats


def largest(terms: TermWeights, count: int | None) -> TermWeights:
    """Return the terms with the largest weights, at most ``count``; of equal ones, those with lower ids."""
    import numpy as np

    if count is None or len(terms.ids) <= count:
        return terms
    order = np.sort(np.argsort(-np.abs(terms.weights), kind="stable")[:count])
    return TermWeights(terms.ids[order], terms.weights[order])


@dataclass(frozen=True)
class TermLayout:
    """How the terms of a text are laid out as bytes: a header, the ids, and the weights in fp32.

    Args:
        vocabulary: Number of token ids; up to 65,536 of them take two bytes each.
    """

    vocabulary: int

    def to_bytes(self, terms: TermWeights, coverage: Coverage, readability: Readability) -> bytes:
        """Return a text as a row."""
        header = header_bytes(RowFacts(coverage, readability, len(terms.ids)))
        return header + terms.ids.astype(self._id_type).tobytes() + terms.weights.astype("<f4").tobytes()

    def facts(self, row: bytes | memoryview) -> RowFacts | None:
        """Return the facts about a text, or ``None`` for bytes that are no row of this layout."""
        facts = read_header(row)
        is_whole = facts is not None and len(row) == HEADER_BYTES + facts.count * (self._id_bytes + 4)
        return facts if is_whole else None

    def terms(self, row: bytes | memoryview, count: int) -> TermWeights:
        """Return the terms of a row, which has so many."""
        import numpy as np

        end = HEADER_BYTES + count * self._id_bytes
        view = memoryview(row)
        ids = np.frombuffer(view[HEADER_BYTES:end], self._id_type).astype(np.int64)
        return TermWeights(ids, np.frombuffer(view[end:], "<f4"))

    @property
    def _id_bytes(self) -> int:
        return 2 if self.vocabulary <= 2**16 else 4

    @property
    def _id_type(self) -> str:
        return f"<u{self._id_bytes}"


@dataclass(frozen=True)
class WeightTable:
    """A weight for each token of a vocabulary.

    Args:
        weights: The weight of each id.
    """

    weights: Floats

    def present(self, ids: Sequence[int]) -> TermWeights:
        """Return the weight of each token that occurs, however often."""
        import numpy as np

        terms = np.unique(np.asarray(ids, dtype=np.int64))
        return _with_weight(TermWeights(terms, self.weights[terms]))

    def frequent(self, ids: Sequence[int]) -> TermWeights:
        """Return how often each token with a weight in the table occurs, saturated as in BM25.

        The weight of a token that occurs ``tf`` times among ``length`` tokens is
        ``tf (k1 + 1) / (tf + k1 (1 - b + b length / LENGTH))`` (Robertson and Zaragoza, 2009).
        """
        import numpy as np

        terms, counts = np.unique(np.asarray(ids, dtype=np.int64), return_counts=True)
        norm = K1 * (1 - B + B * len(ids) / LENGTH)
        weights = counts * (K1 + 1) / (counts + norm)
        return _with_weight(TermWeights(terms, np.where(self.weights[terms] != 0, weights, 0).astype(np.float32)))


def _with_weight(terms: TermWeights) -> TermWeights:
    nonzero = terms.weights != 0
    return TermWeights(terms.ids[nonzero], terms.weights[nonzero])


def read_table(folder: ModelFolder, side: Side, tokenizer: Any, *, without_special: bool) -> WeightTable:
    """Read the table of weights of a side.

    Args:
        folder: The checkpoint.
        side: The side.
        tokenizer: Its ``tokenizers.Tokenizer``.
        without_special: Whether special tokens, the unknown token among them, get no weight.

    Raises:
        ModelLoadError: It is absent, cannot be read, or does not fit the vocabulary.
    """
    import numpy as np

    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if side.weights is None:
        table = _read_tensor(folder, folder.path / side.place / "model.safetensors")
        if table.shape != (size,):
            raise ModelLoadError(
                f"{folder.name}: its table has the shape {table.shape}, and its tokenizer {size} tokens"
            )
        table = table.copy()
    else:
        table = np.zeros(size, dtype=np.float32)
        for token, weight in _read_weights(folder, folder.path / side.weights).items():
            id = tokenizer.token_to_id(token)
            if id is not None:
                table[id] = weight
    if not np.isfinite(table).all():
        raise ModelLoadError(f"{folder.name}: its table has weights that are no finite numbers")
    if without_special:
        table[[id for id, token in tokenizer.get_added_tokens_decoder().items() if token.special]] = 0
    return WeightTable(table)


def _read_weights(folder: ModelFolder, file: Path) -> Mapping[str, float]:
    weights = read_json(file, folder.name)
    if not all(isinstance(weight, (int, float)) and not isinstance(weight, bool) for weight in weights.values()):
        raise ModelLoadError(f"{folder.name}: {file.name} has weights that are no numbers")
    return weights


def _read_tensor(folder: ModelFolder, file: Path) -> Floats:
    try:
        return read_tensors(file)["weight"]
    except KeyError:
        raise ModelLoadError(f"{folder.name}: {file.name} has no table named weight") from None
    except UnsupportedGraph as error:
        raise ModelLoadError(f"{folder.name}: {error}") from error
