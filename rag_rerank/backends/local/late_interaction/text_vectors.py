"""What is kept of one text: its token vectors, what the signals need beside them, and facts for the trace.

A row is one text as bytes: a header of fixed size, the code of the text's language, the token ids, the mean vector, and
the vectors. Rows of one engine have the same layout, so that those of a call are content without a look at each number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rag_rerank.backends.local.kept_vectors.row_header import HEADER_BYTES, RowFacts, header_bytes, read_header
from rag_rerank.backends.local.late_interaction.precision import VectorPrecision, bytes_per_vector, round_vectors
from rag_rerank.backends.local.readability import Readability
from rag_rerank.trace import Coverage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Bytes = npt.NDArray[np.uint8]
    Ids = npt.NDArray[np.int32]

__all__ = ["JoinedRows", "RowLayout", "TextVectors"]


@dataclass(frozen=True)
class TextVectors:
    """What is kept of one text, before it is rounded.

    Args:
        vectors: Unit vectors of its compared tokens, of shape (tokens, width).
        ids: Ids of these tokens; empty where the model's score does not need them.
        mean: Unit vector of the sum of all its token vectors; empty where the score does not need it.
        coverage: How much of the text is read.
        readability: How well the model reads it.
    """

    vectors: Floats
    ids: Ids
    mean: Floats
    coverage: Coverage
    readability: Readability


@dataclass(frozen=True)
class RowLayout:
    """How the rows of one engine are laid out.

    Args:
        width: Numbers in a vector.
        precision: What each is rounded to.
        with_signals: Whether token ids and the mean vector are kept.
        vocabulary: Number of token ids; up to 65,536 of them take two bytes each.
    """

    width: int
    precision: VectorPrecision
    with_signals: bool
    vocabulary: int = 2**31

    def to_bytes(self, text: TextVectors) -> bytes:
        """Return a text as a row."""
        parts = [header_bytes(RowFacts(text.coverage, text.readability, len(text.vectors)))]
        if self.with_signals:
            parts += [text.ids.astype(self._id_type).tobytes(), text.mean.astype(self._mean_type).tobytes()]
        return b"".join([*parts, *round_vectors(text.vectors, self.precision)])

    def facts(self, row: bytes | memoryview) -> RowFacts | None:
        """Return the facts about a text, or ``None`` for bytes that are no row of this layout."""
        facts = read_header(row)
        empty, each = self._sizes
        return facts if facts is not None and len(row) == empty + facts.count * each else None

    def join(self, rows: Sequence[bytes | memoryview], counts: Sequence[int]) -> JoinedRows:
        """Join rows; ``counts`` says how many vectors each has."""
        import numpy as np

        views, place = [memoryview(row) for row in rows], HEADER_BYTES
        factor_bytes, number_bytes = bytes_per_vector(self.width, self.precision)
        total, starts = sum(counts), [place] * len(rows)

        def part(bytes_a_vector: int, beside: int = 0) -> bytes:
            """Return the next part of all rows."""
            nonlocal starts
            ends = [start + bytes_a_vector * count + beside for start, count in zip(starts, counts, strict=True)]
            content = b"".join([view[start:end] for view, start, end in zip(views, starts, ends, strict=True)])
            starts = ends
            return content

        ids: Ids = np.empty(0, dtype=np.int32)
        means: Floats = np.empty((len(rows), 0), dtype=np.float32)
        if self.with_signals:
            ids = np.frombuffer(part(self._id_bytes), self._id_type).astype(np.int32, copy=False)
            means = np.frombuffer(part(0, self._mean_bytes), self._mean_type).astype(np.float32, copy=False)
            means = means.reshape(len(rows), self.width)
        factors = np.frombuffer(part(factor_bytes), np.uint8).reshape(total, factor_bytes)
        numbers = np.frombuffer(part(number_bytes), np.uint8).reshape(total, number_bytes)
        return JoinedRows(self, np.asarray(counts, dtype=np.intp), factors, numbers, ids, means)

    @property
    def _id_bytes(self) -> int:
        return 2 if self.vocabulary <= 2**16 else 4

    @property
    def _id_type(self) -> str:
        return f"<u{self._id_bytes}"

    @property
    def _mean_bytes(self) -> int:
        return self.width * (4 if self.precision == "fp32" else 2)

    @property
    def _mean_type(self) -> str:
        return "<f4" if self.precision == "fp32" else "<f2"

    @cached_property
    def _sizes(self) -> tuple[int, int]:
        """The bytes of a row without vectors, and those that each vector adds."""
        beside, ids = (self._mean_bytes, self._id_bytes) if self.with_signals else (0, 0)
        return HEADER_BYTES + beside, ids + sum(bytes_per_vector(self.width, self.precision))


@dataclass(frozen=True)
class JoinedRows:
    """The rows of several texts, one after the other.

    Args:
        layout: Their layout.
        counts: How many vectors each text has.
        factors: The factors of all vectors, as rows of bytes (see `round_vectors`).
        numbers: The numbers of all vectors, likewise.
        ids: Their token ids.
        means: The mean vector of each text.
    """

    layout: RowLayout
    counts: npt.NDArray[np.intp]
    factors: Bytes
    numbers: Bytes
    ids: Ids
    means: Floats

    def parts(self, part_of: npt.NDArray[np.intp], count: int) -> JoinedRows:
        """Return stretches of the texts as if each were a text of its own, in the same order; they have no means.

        Args:
            part_of: The part that each vector belongs to, rising; -1 for none.
            count: How many parts there are; some may have no vector.
        """
        import numpy as np

        in_part = part_of >= 0
        return JoinedRows(
            self.layout,
            np.bincount(part_of[in_part], minlength=count).astype(np.intp),
            self.factors[in_part],
            self.numbers[in_part],
            self.ids[in_part] if self.layout.with_signals else self.ids,
            np.empty((count, 0), dtype=np.float32),
        )
