"""The graph of a ModernBERT encoder: token ids in, the vector of each token out. It has no padding.

Warner et al., "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder" (2024): rotary positions, norms before
each part, gated feed-forward layers, and attention within a window of neighbours in most layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rag_rerank.backends.local.onnx_graphs.weights import Dense, EncoderWeights, UnsupportedGraph
from rag_rerank.backends.local.onnx_graphs.writer import Writer
from rag_rerank.backends.local.torch_models.late_interaction import NEVER

__all__ = ["ModernBertWriter"]

_LOCAL, _GLOBAL = "sliding_attention", "full_attention"
_THETA = {_LOCAL: ("local_rope_theta", 10_000.0), _GLOBAL: ("global_rope_theta", 160_000.0)}
"""Where older configs hold the base of the rotary frequencies, and its default, as in transformers."""


class ModernBertWriter(Writer):
    """A writer for ModernBERT encoders.

    Args:
        weights: The weights of the model.
        config: The transformers config of the model.
        masked: Whether the graph takes an ``attention_mask``.

    Raises:
        UnsupportedGraph: Something in the config is not supported.
    """

    marker = "embeddings.tok_embeddings.weight"
    output = "token_vectors"

    def __init__(self, weights: EncoderWeights, config: Mapping[str, Any], *, masked: bool = False) -> None:
        super().__init__()
        if config.get("hidden_activation", "gelu") != "gelu" or config.get("rope_scaling"):
            raise UnsupportedGraph("its activation or its kind of positions is not known")
        if config.get("attention_bias") or config.get("mlp_bias"):
            raise UnsupportedGraph("its linear layers have biases")
        self.weights, self.masked = weights, masked
        self.hidden, self.heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        self.longest = int(config.get("max_position_embeddings", 8192))
        self.epsilon = float(config.get("norm_eps", 1e-5))
        self.window = int(config.get("local_attention", 128)) // 2
        self.kinds = _kinds(config)
        self.theta = {kind: _theta(config, kind) for kind in set(self.kinds)}

    def write(self) -> Any:
        """Write the graph, and return the model."""
        self.node("Shape", ["input_ids"], "shape")
        self.node("Concat", ["shape", self.integers("hidden", self.hidden)], "by row", axis=0)
        mask = self.node("Cast", ["attention_mask"], "mask", to=6) if self.masked else ""
        self.write_window()
        words = self.constant("words", self.weights.array(self.marker))
        self.node("Gather", [words, "input_ids"], "words here")
        self.node("Reshape", ["words here", self.integers("flat", -1, self.hidden)], "embedded tokens")
        tokens = self.layer_norm("embedded tokens", "embeddings.norm", "tokens 0")
        for number, kind in enumerate(self.kinds):
            tokens = self.layer(tokens, number, kind, mask)
        last = self.layer_norm(tokens, "final_norm", "last tokens")
        self.node("Reshape", [last, "by row"], self.output)
        inputs = ["input_ids", *(["attention_mask"] if self.masked else [])]
        return self.model(inputs, self.output, "sequence", self.hidden)

    def write_window(self) -> None:
        """Write ``apart``, the attention bias that keeps tokens from others outside their window."""
        places = self.integers("one", 1)
        self.node("Gather", ["shape", places], "length")
        self.node("Squeeze", ["length"], "end")
        self.node("Range", [self.integer("begin", 0), "end", self.integer("step", 1)], "places")
        self.node("Unsqueeze", ["places", self.integers("zero", 0)], "places in a row")
        self.node("Unsqueeze", ["places", places], "places in a column")
        self.node("Sub", ["places in a row", "places in a column"], "between")
        self.node("Abs", ["between"], "distance")
        self.node("Greater", ["distance", self.integer("window", self.window)], "outside")
        self.node("Where", ["outside", self.number(NEVER), self.number(0)], "outside bias")
        self.node("Unsqueeze", ["outside bias", self.integers("two axes", 0, 1)], "apart")

    def layer(self, tokens: str, number: int, kind: str, mask: str) -> str:
        """Return the output of a layer."""
        source, name = f"layers.{number}", f"layer {number}"
        x = tokens if number == 0 else self.layer_norm(tokens, f"{source}.attn_norm", f"{name} normed")
        attention = self.attention(x, f"{source}.attn", name, kind, mask)
        between = self.node("Add", [tokens, attention], f"{name} between")
        x = self.layer_norm(between, f"{source}.mlp_norm", f"{name} between normed")
        wide, gate = _parts(self.weights.array(f"{source}.mlp.Wi.weight"), 2)
        self.node("Gelu", [self.matrix(x, wide, f"{name} wide")], f"{name} active", "com.microsoft")
        self.node("Mul", [f"{name} active", self.matrix(x, gate, f"{name} gate")], f"{name} gated")
        (narrow,) = _parts(self.weights.array(f"{source}.mlp.Wo.weight"), 1)
        narrowed = self.matrix(f"{name} gated", narrow, f"{name} narrow")
        return self.node("Add", [between, narrowed], f"tokens {number + 1}")

    def attention(self, x: str, source: str, name: str, kind: str, mask: str) -> str:
        """Return the attention output of all tokens over those of their row, or of their window."""
        parts = _parts(self.weights.array(f"{source}.Wqkv.weight"), 3)
        shaped = []
        for part, layer in zip(("query", "key", "value"), parts, strict=True):
            rows = self.node("Reshape", [self.matrix(x, layer, f"{name} {part}"), "by row"], f"{name} {part} rows")
            shaped.append(rows if part == "value" else self.turn(rows, kind))
        inputs = [*shaped, "", mask, "apart" if kind == _LOCAL else ""]
        while not inputs[-1]:
            inputs.pop()
        self.node("MultiHeadAttention", inputs, f"{name} heads", "com.microsoft", num_heads=self.heads)
        self.node("Reshape", [f"{name} heads", "flat"], f"{name} attended")
        (output,) = _parts(self.weights.array(f"{source}.Wo.weight"), 1)
        return self.matrix(f"{name} attended", output, f"{name} mixed")

    def turn(self, rows: str, kind: str) -> str:
        """Return queries or keys with their rotary positions."""
        import numpy as np

        half = self.hidden // self.heads // 2
        speeds = self.theta[kind] ** -(np.arange(half) / half)
        angles = np.arange(self.longest)[:, None] * speeds
        tables = [self.constant(f"{f.__name__} {kind}", f(angles).astype(np.float32)) for f in (np.cos, np.sin)]
        inputs = [rows, self.integers("zero", 0), *tables]
        return self.node("RotaryEmbedding", inputs, f"{rows} turned", "com.microsoft", num_heads=self.heads)

    def layer_norm(self, x: str, source: str, name: str) -> str:
        """Return the layer norm of ``x``."""
        return self.norm(x, self.weights.norm(source), name, self.epsilon)


def _parts(weight: Any, count: int) -> list[Dense]:
    """Return a linear layer without bias as several, which share its outputs."""
    import numpy as np

    return [Dense(part.T, np.zeros(len(part), dtype=np.float32)) for part in np.split(weight, count)]


def _kinds(config: Mapping[str, Any]) -> Sequence[str]:
    """Return which layers attend to all tokens, and which to their window."""
    own = config.get("layer_types")
    every = int(config.get("global_attn_every_n_layers", 3))
    kinds = own or [_LOCAL if number % every else _GLOBAL for number in range(int(config["num_hidden_layers"]))]
    if not set(kinds) <= {_LOCAL, _GLOBAL}:
        raise UnsupportedGraph(f"it has layers of the kinds {sorted(set(kinds))}")
    return list(kinds)


def _theta(config: Mapping[str, Any], kind: str) -> float:
    """Return the base of the rotary frequencies."""
    settings = (config.get("rope_parameters") or {}).get(kind) or {}
    if settings.get("rope_type", "default") != "default":
        raise UnsupportedGraph(f"its positions are of the kind {settings['rope_type']}")
    name, default = _THETA[kind]
    return float(settings.get("rope_theta") or config.get(name) or default)
