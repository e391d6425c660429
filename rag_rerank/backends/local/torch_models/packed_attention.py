"""BERT-like cross-encoders on packed tokens: no padding in the layers, and a last layer for one token only.

A cross-encoder's score is read from the first token of each input. So the last layer needs keys and values of all
tokens, but the rest of it (query, output, feed-forward) for that one token alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, "PackedBatch", "PackedBatch"], torch.Tensor]
    """Takes packed queries, keys and values (tokens, heads, size), the layout of the queries, and that of the keys."""

__all__ = ["PackedBatch", "PackedModel"]

ARCHITECTURES = (
    "BertForSequenceClassification",
    "CamembertForSequenceClassification",
    "RobertaForSequenceClassification",
    "XLMRobertaForSequenceClassification",
)
"""Classes of transformers whose layers have BERT's parts under BERT's names, and that score by the first token."""

_PARTS = attrgetter("base_model.embeddings", "base_model.pooler", "classifier")
_LAYER = attrgetter(
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.self.attention_head_size",
    "attention.output",
    "feed_forward_chunk",
)


class PackedModel:
    """A sequence classifier of `ARCHITECTURES`, run layer by layer on packed tokens.

    The embeddings get the padded input, because architectures count positions there in different ways; padding is
    dropped after them. Logits equal those of the model's own forward pass up to rounding. ``attention`` is the note on
    the attention for the trace.

    Args:
        model: The loaded classifier; its parts are used and not changed.
    """

    def __init__(self, model: Any) -> None:
        base = model.base_model
        self._embeddings, self._layers, self._pooler = base.embeddings, base.encoder.layer, base.pooler
        self._classifier = model.classifier
        self._size = self._layers[0].attention.self.attention_head_size
        self._attend, self.attention = choose_attention(model.device, model.dtype, self._size)

    @staticmethod
    def knows(model: Any) -> bool:
        """Whether a model can be run packed: it is of a supported class, and its parts have the names used here."""
        if type(model).__name__ not in ARCHITECTURES or model.config.is_decoder:
            return False
        try:
            _PARTS(model), _LAYER(model.base_model.encoder.layer[0])
        except AttributeError:  # another release of transformers
            return False
        return True

    def logits(self, features: Mapping[str, torch.Tensor], lengths: torch.Tensor) -> torch.Tensor:
        """Return the logits of each row.

        Args:
            features: Padded ids and types on the model's device.
            lengths: Tokens of each row, on the CPU, so that nothing derived from them has to wait for the device.
        """
        hidden = self._embeddings(**features)
        layout = PackedBatch.of(lengths, hidden.shape[1], hidden.device)
        first = PackedBatch.of(lengths.clamp(max=1), 1, hidden.device)
        tokens = hidden.flatten(0, 1)[layout.slots]
        for layer in self._layers[:-1]:
            tokens = self._layer(layer, tokens, layout, tokens, layout)
        ones = self._layer(self._layers[-1], tokens[layout.ends[:-1]], first, tokens, layout)[:, None]
        logits: torch.Tensor = self._classifier(ones if self._pooler is None else self._pooler(ones))
        return logits

    def _layer(
        self, layer: Any, queries: torch.Tensor, query_layout: PackedBatch, tokens: torch.Tensor, layout: PackedBatch
    ) -> torch.Tensor:
        """Return the layer's output for the query tokens, which attend to all tokens of their row."""
        inner = layer.attention.self
        q, k, v = (
            project(x).unflatten(1, (-1, self._size))
            for project, x in ((inner.query, queries), (inner.key, tokens), (inner.value, tokens))
        )
        attended = layer.attention.output(self._attend(q, k, v, query_layout, layout).flatten(1), queries)
        output: torch.Tensor = layer.feed_forward_chunk(attended)
        return output


@dataclass(frozen=True)
class PackedBatch:
    """The layout of packed tokens.

    Args:
        slots: The position of each token among ``rows * width`` padded ones.
        ends: End of each row among the packed tokens, after a leading 0; int32.
        width: Tokens of the longest row.
    """

    slots: torch.Tensor
    ends: torch.Tensor
    width: int

    @classmethod
    def of(cls, lengths: torch.Tensor, width: int, device: torch.device) -> PackedBatch:
        """Pack rows of these lengths, padded on the right to ``width``."""
        import torch

        slots = (torch.arange(width) < lengths[:, None]).flatten().nonzero().flatten()
        ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        return cls(slots.to(device), ends.to(device), width)

    def pad(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (tokens, heads, size) as (rows, heads, width, size), with zeros where there is no token."""
        rows = len(self.ends) - 1
        slots = tokens.new_zeros(rows * self.width, *tokens.shape[1:])
        slots[self.slots] = tokens
        return slots.unflatten(0, (rows, self.width)).transpose(1, 2)

    def mask(self) -> torch.Tensor:
        """Return (rows, 1, 1, width): whether there is a token."""
        import torch

        lengths = self.ends.diff()
        return (torch.arange(self.width, device=lengths.device) < lengths[:, None])[:, None, None]


def rowwise_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, query_layout: PackedBatch, layout: PackedBatch
) -> torch.Tensor:
    """Attend row by row, without padding; for a CPU, where small calls cost little."""
    import torch

    q_lengths, k_lengths = query_layout.ends.diff().tolist(), layout.ends.diff().tolist()
    rows = zip(q.split(q_lengths), k.split(k_lengths), v.split(k_lengths), strict=True)
    attend = torch.nn.functional.scaled_dot_product_attention
    return torch.cat([attend(*(x.transpose(0, 1)[None] for x in row))[0].transpose(0, 1) for row in rows])


def padded_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, query_layout: PackedBatch, layout: PackedBatch
) -> torch.Tensor:
    """Attend with padding inside the attention only; on any device, in any precision."""
    import torch

    padded = query_layout.pad(q), layout.pad(k), layout.pad(v)
    attended = torch.nn.functional.scaled_dot_product_attention(*padded, attn_mask=layout.mask())
    return attended.transpose(1, 2).flatten(0, 1)[query_layout.slots]


def unpadded_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, query_layout: PackedBatch, layout: PackedBatch
) -> torch.Tensor:
    """Attend without padding, by the flash attention that torch has had since 2.10; CUDA, half precision."""
    from torch.nn.attention.varlen import varlen_attn

    attended: torch.Tensor = varlen_attn(q, k, v, query_layout.ends, layout.ends, query_layout.width, layout.width)
    return attended


def choose_attention(device: torch.device, dtype: torch.dtype, size: int) -> tuple[Attention, str]:
    """Return the attention for a device, a precision and a size of heads, and the note on it for the trace."""
    import torch

    if device.type == "cpu":
        return rowwise_attention, "attention row by row"
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16) and kernel_works(device, dtype, size):
        return unpadded_attention, "attention without padding"
    return padded_attention, "padded inside the attention only"


def kernel_works(device: torch.device, dtype: torch.dtype, size: int) -> bool:
    """Try the kernel for rows of unequal length on a small input: does it run, and agree with the padded attention?

    The trial replaces a list of cards, versions of torch and sizes of heads.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(47, 2, size, generator=generator).to(device, dtype) for _ in "qkv")
    lengths = torch.tensor([7, 40])
    layout, first = PackedBatch.of(lengths, 40, device), PackedBatch.of(lengths.clamp(max=1), 1, device)
    inputs = (q, k, v, layout, layout), (q[layout.ends[:-1]], k, v, first, layout)
    try:
        return all(bool((unpadded_attention(*args) - padded_attention(*args)).abs().max() < 0.05) for args in inputs)
    except (ImportError, RuntimeError):
        return False
