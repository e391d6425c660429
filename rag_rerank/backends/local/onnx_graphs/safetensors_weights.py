"""Read an encoder's weights from safetensors, without torch.

The format is a length, a JSON header with type, shape and place of each tensor, and the numbers (its README in
huggingface/safetensors). Only numbers are read, and never code.
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_rerank.backends.local.onnx_graphs.weights import MARKER, Dense, Norm, UnsupportedGraph

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

__all__ = ["SafetensorsWeights", "read_tensors"]

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}
_MOST_HEADER = 100 * 2**20
"""Bytes of a header at most, as in the format's own reader."""


class SafetensorsWeights:
    """The weights of an encoder and of the head beside it; see `EncoderWeights`.

    Args:
        tensors: All tensors of the model by name.
        marker: End of a name that every encoder has; the part before it is the prefix of all its names.

    Raises:
        UnsupportedGraph: No tensor's name ends with ``marker``, or more than one.
    """

    def __init__(self, tensors: dict[str, Array], marker: str = MARKER) -> None:
        self.tensors = tensors
        matches = [name for name in tensors if name == marker or name.endswith(f".{marker}")]
        if len(matches) != 1:
            raise UnsupportedGraph(f"it has {len(matches)} weights named {marker}")
        self._encoder_prefix = matches[0].removesuffix(marker)

    def array(self, name: str, *, head: bool = False) -> Array:
        """Return a weight of the encoder, or of the head beside it, in fp32.

        Raises:
            UnsupportedGraph: There is none of that name.
        """
        full = name if head else f"{self._encoder_prefix}{name}"
        if full not in self.tensors:
            raise UnsupportedGraph(f"it has no weight named {full}")
        return self.tensors[full]

    def dense(self, name: str, *, head: bool = False) -> Dense:
        """Return a linear layer; its bias is 0 where there is none."""
        import numpy as np

        weight = self.array(f"{name}.weight", head=head).T
        full = f"{name}.bias" if head else f"{self._encoder_prefix}{name}.bias"
        bias = self.tensors.get(full, np.zeros(weight.shape[1], dtype=np.float32))
        return Dense(weight, bias)

    def norm(self, name: str) -> Norm:
        """Return a layer norm; its offset is 0 where there is none."""
        import numpy as np

        gamma = self.array(f"{name}.weight")
        return Norm(gamma, self.tensors.get(f"{self._encoder_prefix}{name}.bias", np.zeros_like(gamma)))


def read_tensors(file: Path) -> dict[str, Array]:
    """Return the tensors of a safetensors file, in fp32.

    Raises:
        UnsupportedGraph: The file cannot be read, or holds numbers of a type that is not known here.
    """
    import numpy as np

    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            size = int.from_bytes(content[:8], "little")
            if not 2 <= size <= min(_MOST_HEADER, len(content) - 8):
                raise ValueError("it does not begin with a header")
            header: dict[str, Any] = json.loads(content[8 : 8 + size])
            tensors = {}
            for name, facts in header.items():
                if name == "__metadata__":
                    continue
                start, end = facts["data_offsets"]
                part = content[8 + size + start : 8 + size + end]
                if facts["dtype"] == "BF16":  # the upper half of an fp32 number
                    numbers = (np.frombuffer(part, "<u2").astype(np.uint32) << 16).view(np.float32)
                else:
                    numbers = np.frombuffer(part, _TYPES[facts["dtype"]]).astype(np.float32)
                tensors[name] = numbers.reshape(facts["shape"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnsupportedGraph(f"{file.name} cannot be read: {type(error).__name__}: {error}") from error
    return tensors
