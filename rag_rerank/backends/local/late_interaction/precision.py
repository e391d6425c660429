"""The precisions in which vectors are kept: rounding to fewer bits, and back to fp32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["GROUP", "VectorPrecision", "bytes_per_vector", "restore", "round_vectors"]

VectorPrecision = Literal["fp32", "fp16", "int8", "int4"]
"""What each number of a kept vector is rounded to."""

GROUP = 16
"""Numbers of a vector that share a factor at int4 (block-wise scales, as Q4_0 of llama.cpp has them for 32)."""

_STEPS = {"int8": 127, "int4": 7}
"""Steps on either side of zero."""


def bytes_per_vector(width: int, precision: VectorPrecision) -> int:
    """Return the bytes of a kept vector with this many numbers, factors included."""
    if precision == "int4":
        groups = -(-width // GROUP)
        return groups * GROUP // 2 + 2 * groups
    return {"fp32": 4 * width, "fp16": 2 * width, "int8": width + 4}[precision]


def round_vectors(vectors: Floats, precision: VectorPrecision) -> npt.NDArray[np.uint8]:
    """Return vectors in a precision, one row of bytes each.

    - ``int8``: 127 steps on either side of zero, times an fp32 factor for each vector, which comes first;
    - ``int4``: 7 steps on either side of zero, times an fp16 factor for each `GROUP` numbers; the factors come first.
    """
    import numpy as np

    if precision in ("fp32", "fp16"):
        return _as_bytes(vectors.astype("<f4" if precision == "fp32" else "<f2"))
    count, width = vectors.shape
    if precision == "int8":
        factors = np.maximum(np.abs(vectors).max(axis=1, keepdims=True, initial=0) / _STEPS["int8"], _TINY)
        numbers = np.rint(vectors / factors).astype(np.int8)
        return np.concatenate([_as_bytes(factors.astype("<f4")), _as_bytes(numbers)], axis=1)
    groups = -(-width // GROUP)
    padded = np.zeros((count, groups * GROUP), dtype=np.float32)
    padded[:, :width] = vectors
    grouped = padded.reshape(count, groups, GROUP)
    factors16 = np.maximum(np.abs(grouped).max(axis=2) / _STEPS["int4"], _TINY).astype("<f2")
    steps = np.rint(grouped / factors16[..., None].astype(np.float32)).clip(-_STEPS["int4"], _STEPS["int4"])
    nibbles = (steps.reshape(count, groups * GROUP) + 8).astype(np.uint8)
    packed = nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)
    return np.concatenate([_as_bytes(factors16), packed], axis=1)


_TINY = 1e-7
"""Keeps the factor of a vector of zeros from being zero; the smallest of fp16."""


def restore(rows: npt.NDArray[np.uint8], width: int, precision: VectorPrecision) -> tuple[Floats, Floats | None]:
    """Return the fp32 numbers in rows of bytes, and the factor of each vector that is still to be multiplied.

    A factor of a whole vector is left to the caller: to multiply a few products is less work than all numbers.

    Args:
        rows: What `round_vectors` returned, of one text or of several.
        width: Numbers in a vector.
        precision: Their precision.
    """
    import numpy as np

    if precision in ("fp32", "fp16"):
        numbers: Any = rows.view("<f4" if precision == "fp32" else "<f2")
        return numbers.astype(np.float32, copy=False), None
    if precision == "int8":
        factors: Floats = np.ascontiguousarray(rows[:, :4]).view("<f4")[:, 0]
        return rows[:, 4:].view(np.int8).astype(np.float32), factors
    groups = -(-width // GROUP)
    factors16 = np.ascontiguousarray(rows[:, : 2 * groups]).view("<f2").astype(np.float32)
    packed = rows[:, 2 * groups :]
    steps = np.empty((len(rows), groups * GROUP), dtype=np.float32)
    steps[:, 0::2] = packed & 15
    steps[:, 1::2] = packed >> 4
    steps -= 8
    grouped = steps.reshape(len(rows), groups, GROUP)
    grouped *= factors16[..., None]
    return steps[:, :width], None


def _as_bytes(numbers: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    import numpy as np

    contiguous = np.ascontiguousarray(numbers)
    width = contiguous.shape[1] * contiguous.itemsize
    return contiguous.view(np.uint8).reshape(len(contiguous), width)
