"""The precisions in which vectors are kept: rounding to fewer bits, and what is multiplied afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Bytes = npt.NDArray[np.uint8]

__all__ = ["GROUP", "VectorPrecision", "bytes_per_vector", "restore", "round_vectors"]

VectorPrecision = Literal["fp32", "fp16", "int8", "int4"]
"""What each number of a kept vector is rounded to."""

GROUP = 16
"""Numbers of a vector that share a factor at int4 (block-wise scales, as Q4_0 of llama.cpp has them for 32)."""

_INT8_STEPS, _INT4_STEPS = 127, 7
"""Steps on either side of zero."""

_TINY = 1e-7
"""Keeps the factor of a vector of zeros from being zero; about the smallest number of fp16."""


def bytes_per_vector(width: int, precision: VectorPrecision) -> tuple[int, int]:
    """Return the bytes of a vector's factors, and of its numbers."""
    if precision == "int4":
        groups = -(-width // GROUP)
        return 2 * groups, groups * GROUP // 2
    return {"fp32": (0, 4 * width), "fp16": (0, 2 * width), "int8": (4, width)}[precision]


def round_vectors(vectors: Floats, precision: VectorPrecision) -> tuple[bytes, bytes]:
    """Return the factors of vectors and their numbers, as bytes.

    - ``int8``: 127 steps on either side of zero, times an fp32 factor for each vector;
    - ``int4``: 7 steps on either side of zero, times an fp16 factor for each `GROUP` numbers; two numbers a byte.
    """
    import numpy as np

    if precision in ("fp32", "fp16"):
        return b"", vectors.astype("<f4" if precision == "fp32" else "<f2").tobytes()
    if precision == "int8":
        factors = np.maximum(np.abs(vectors).max(axis=1, keepdims=True, initial=0) / _INT8_STEPS, _TINY)
        return factors.astype("<f4").tobytes(), np.rint(vectors / factors).astype(np.int8).tobytes()
    count, width = vectors.shape
    groups = -(-width // GROUP)
    padded = np.zeros((count, groups * GROUP), dtype=np.float32)
    padded[:, :width] = vectors
    grouped = padded.reshape(count, groups, GROUP)
    halves = np.maximum(np.abs(grouped).max(axis=2) / _INT4_STEPS, _TINY).astype("<f2")
    steps = np.rint(grouped / halves[..., None].astype(np.float32)).clip(-_INT4_STEPS, _INT4_STEPS)
    nibbles = (steps.reshape(count, groups * GROUP) + 8).astype(np.uint8)
    return halves.tobytes(), (nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)).tobytes()


def restore(
    factors: Bytes, numbers: Bytes, width: int, precision: VectorPrecision
) -> tuple[npt.NDArray[Any], Floats | None]:
    """Return the numbers of vectors, and the factor of each that is still to be multiplied.

    The numbers are of the type that was kept (fp32, fp16 or int8; fp32 for int4). A factor of a whole vector is left to
    the caller: to multiply a few products is less work than all numbers.

    Args:
        factors: Factors, one row of bytes a vector.
        numbers: Numbers, one row of bytes a vector.
        width: Numbers in a vector.
        precision: Their precision.
    """
    import numpy as np

    if precision in ("fp32", "fp16"):
        return numbers.view("<f4" if precision == "fp32" else "<f2"), None
    if precision == "int8":
        return numbers.view(np.int8), factors.view("<f4")[:, 0]
    groups = -(-width // GROUP)
    steps = np.empty((len(numbers), groups * GROUP), dtype=np.float32)
    steps[:, 0::2] = numbers & 15
    steps[:, 1::2] = numbers >> 4
    steps -= 8
    grouped = steps.reshape(len(numbers), groups, GROUP)
    grouped *= factors.view("<f2").astype(np.float32)[..., None]
    return steps[:, :width], None
