"""Late interaction: query and text are read separately in one pass, and a head compares their tokens.

The steps after the similarities are computed for as many query tokens as the longest query of the batch has. Sums over
tokens, and matrix products, are padded back to the length of the whole input: the order in which a sum is taken depends
on its length, and so a pair's score might depend on the other queries of its batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import Any

from rag_rerank.backends.local.onnx_graphs.encoder import EncoderWriter
from rag_rerank.backends.local.onnx_graphs.weights import EncoderWeights, UnsupportedGraph
from rag_rerank.backends.local.torch_models.late_interaction import BEST, K1, LENGTH, NEVER, SIGNALS, SOFT, B

__all__ = ["LateInteractionWriter"]

_SMALL = 1e-6


class LateInteractionWriter(EncoderWriter):
    """A writer for the model that `rag_rerank.backends.local.torch_models.late_interaction` defines."""

    def __init__(self, weights: EncoderWeights, config: Mapping[str, Any]) -> None:
        super().__init__(weights, config)
        special = config.get("special_ids")
        if not isinstance(special, list) or not all(isinstance(id, int) for id in special):
            raise UnsupportedGraph(f"its config gives {special!r} as special_ids")
        self.special: list[int] = special

    def write(self) -> Any:
        """Write the graph, and return the model."""
        self.write_lengths()
        tokens = self.embeddings(self.positions())
        apart = self.apart()
        for layer in range(self.layers):
            tokens = self.layer(tokens, layer, apart=apart)
        vectors = self.node("Reshape", [tokens, "by row"], "vectors")
        self.write_masks()
        similar = self.similar(vectors)
        signals = [self.cosine(vectors), *self.of_query(similar), self.mean_coverage(similar)]
        head = self.weights.dense("classifier", head=True)
        if head.weight.shape != (len(SIGNALS), 1):
            raise UnsupportedGraph(f"its head has a weight of shape {head.weight.shape}")
        self.dense(self.node("Concat", signals, "signals", axis=1), head, "logits", few=True)
        return self.model(["input_ids", "token_type_ids"])

    def write_lengths(self) -> None:
        """Write the length of the inputs, the lengths of their queries, and that of the longest query."""
        self.node("Shape", ["input_ids"], "shape")
        self.node("Gather", ["shape", self.index(1)], "length")
        self.node("ReduceSum", ["token_type_ids", self.index(1)], "text's length", keepdims=1)
        self.node("Sub", ["length", "text's length"], "query's length")
        self.node("ReduceMax", ["query's length"], "longest in two axes", keepdims=1)
        self.node("Reshape", ["longest in two axes", self.integers("flat list", -1)], "longest")

    def positions(self) -> str:
        """Return the embedded positions, which restart with the text, plus the one segment that all tokens have."""
        table = self.weights.array("embeddings.position_embeddings.weight")
        segment = self.weights.array("embeddings.token_type_embeddings.weight")[0]
        self.node("Reshape", ["length", self.integers("no axis")], "end")
        self.node("Range", [self.integer("begin", 0), "end", self.integer("step", 1)], "places")
        self.node("Mul", ["token_type_ids", "query's length"], "before")
        self.node("Sub", ["places", "before"], "numbers")
        return self.node("Gather", [self.constant("positions", table + segment), "numbers"], "positions here")

    def apart(self) -> str:
        """Return the attention bias, for all layers, that keeps query and text from attending to each other."""
        self.node("Unsqueeze", ["token_type_ids", self.integers("as rows", 1, 3)], "asking parts")
        self.node("Unsqueeze", ["token_type_ids", self.integers("as columns", 1, 2)], "asked parts")
        self.node("Equal", ["asking parts", "asked parts"], "together")
        return self.node("Where", ["together", self.number(0), self.number(NEVER)], "apart")

    def write_masks(self) -> None:
        """Write the masks of compared tokens, of shape (batch, 1, n): ``asking`` (query) and ``words`` (text)."""
        self.node("Equal", ["token_type_ids", self.integer("step", 1)], "text")
        self.node("Not", ["text"], "query")
        self.asking, words = "query", "text"
        for id in self.special:
            self.node("Equal", ["input_ids", self.integer(f"special {id}", id)], f"is {id}")
            self.node("Not", [f"is {id}"], f"is not {id}")
            self.asking = self.node("And", [self.asking, f"is not {id}"], f"{self.asking}, not {id}")
            words = self.node("And", [words, f"is not {id}"], f"{words}, not {id}")
        for name, value in {"query": "query", "text": "text", "asking": self.asking, "words": words}.items():
            self.node("Unsqueeze", [value, self.index(1)], f"{name} in a row")
            self.node("Cast", [f"{name} in a row"], f"{name} counted", to=1)
        self.total("words counted", "words", axis=2)

    def similar(self, vectors: str) -> str:
        """Return the similarity of each query token to each text token; `NEVER` for tokens that are not compared."""
        import numpy as np

        scale = self.constant("unit", np.full(self.hidden, self.hidden**-0.5, np.float32))
        self.node("SimplifiedLayerNormalization", [vectors, scale], "units", axis=-1, epsilon=1e-24)
        self.product("units", "units", "all products", transB=1)
        return self.node("Where", ["words in a row", self.of_longest("all products"), self.number(NEVER)], "similar")

    def of_query(self, similar: str) -> list[str]:
        """Return the signals that are means over the query's tokens."""
        columns = [
            *self.largest(similar),
            *self.same(similar),
            self.node("Exp", [self.apply("Mul", "largest", -SOFT)], "softly"),
            self.split(),
        ]
        self.node("Shape", ["largest"], "one column")
        columns.append(self.node("Expand", [self.number(1), "one column"], "ones"))
        self.node("Concat", columns, "of the longest", axis=2)
        self.node("Sub", ["length", "longest"], "missing")
        nothing, behind = self.integers("pad nothing", 0, 0, 0, 0), self.integers("pad no column", 0)
        self.node("Concat", [nothing, "missing", behind], "pads", axis=0)
        self.node("Pad", ["of the longest", "pads"], "of each")
        self.node("Gather", [self.token_weights(), "input_ids"], "token weights")
        self.node("Unsqueeze", ["token weights", self.index(1)], "token weights in a row")
        self.node("Mul", ["token weights in a row", "asking counted"], "telling")
        self.node("Concat", ["asking counted", "telling"], "plain and telling", axis=1)
        self.product("plain and telling", "of each", "sums")
        self.node("Gather", ["sums", self.index(len(columns) - 1)], "weights", axis=2)
        self.node("Div", ["sums", self.apply("Max", "weights", _SMALL)], "means")
        self.node("Reshape", ["means", self.integers("means in a row", 0, -1)], "all means")
        plain = {"matched": 0, "hard": 4}
        telling = {"weighted": 1, "same": 2, "letters": 3, "unknown": 5}
        for name, place in {**plain, **{name: len(columns) + place for name, place in telling.items()}}.items():
            self.node("Gather", ["all means", self.index(place)], name, axis=1)
        self.node("Mul", ["unknown", "unknown"], "unknown squared")
        self.node("Mul", ["letters", "unknown squared"], "lexical")
        # Log takes several numbers at once and the rest one by one, with other last digits; ReduceLogSum does not
        self.node("ReduceLogSum", [self.apply("Max", "hard", exp(-SOFT))], "logarithm", axes=[1], keepdims=1)
        return ["matched", "weighted", "same", "lexical", self.apply("Div", "logarithm", -SOFT)]

    def largest(self, similar: str) -> list[str]:
        """Return the mean of each query token's largest similarities, and the largest, of shape (batch, longest, 1)."""
        self.node("TopK", [similar, self.integers("best count", BEST)], "best", also=("best places",), axis=2)
        self.node("Greater", ["best", self.number(NEVER)], "there")
        self.node("Cast", ["there"], "there counted", to=1)
        self.node("Where", ["there", "best", self.number(0)], "best there")
        self.total("there counted", "there", axis=2)
        self.total("best there", "best there", axis=2)
        self.node("Div", ["total best there", self.apply("Max", "total there", 1)], "few")
        self.node("Gather", ["best", self.index(0)], "first best", axis=2)
        return ["few", self.node("Max", ["first best", self.number(-1)], "largest")]

    def same(self, similar: str) -> list[str]:
        """Return the similarity of each query token to the same token in the text, and its saturated frequency."""
        self.node("Unsqueeze", [self.of_longest("input_ids"), self.index(2)], "asking ids")
        self.node("Unsqueeze", ["input_ids", self.index(1)], "asked ids")
        self.node("Equal", ["asking ids", "asked ids"], "same anywhere")
        self.node("And", ["same anywhere", "words in a row"], "same piece")
        self.node("Where", ["same piece", similar, self.number(0)], "similar to same")
        self.node("ReduceMax", ["similar to same"], "most similar to same", axes=[2], keepdims=1)
        self.node("Relu", ["most similar to same"], "held")
        self.node("Cast", ["same piece"], "same counted", to=1)
        self.total("same counted", "same", axis=2)
        damping = self.apply("Add", self.apply("Mul", "total words", K1 * B / LENGTH), K1 * (1 - B))
        self.node("Add", ["total same", damping], "damped")
        self.node("Div", [self.apply("Mul", "total same", K1 + 1), "damped"], "saturated")
        return ["held", "saturated"]

    def split(self) -> str:
        """Return which tokens of the query belong to a word in several pieces."""
        continues = self.constant("pieces that continue", self.weights.array("continues", head=True))
        self.node("Gather", [continues, "input_ids"], "continues")
        self.node("Add", ["longest", self.index(1)], "one longer")
        self.node("Slice", ["continues", self.index(1), "one longer", self.index(1)], "next continues")
        self.node("Max", [self.of_longest("continues"), "next continues"], "in several")
        return self.node("Unsqueeze", ["in several", self.index(2)], "split")

    def mean_coverage(self, similar: str) -> str:
        """Return the mean over the text's tokens of their largest similarity to the query's."""
        self.node("Unsqueeze", [self.of_longest(self.asking), self.index(2)], "asking in a column")
        self.node("Where", ["asking in a column", similar, self.number(NEVER)], "of asking")
        self.node("ReduceMax", ["of asking"], "largest back", axes=[1], keepdims=1)
        self.product(self.apply("Max", "largest back", -1), "words counted", "sum back", transB=1)
        self.node("Div", ["sum back", self.apply("Max", "total words", _SMALL)], "mean back")
        return self.node("Squeeze", ["mean back", self.index(2)], "covered")

    def cosine(self, vectors: str) -> str:
        """Return the cosine of the two sums of vectors, from their products with each other."""
        self.node("Concat", ["query counted", "text counted"], "parts", axis=1)
        self.product(vectors, "parts", "pooled", transA=1, transB=1)
        self.product("pooled", "pooled", "squares", transA=1)
        self.node("Reshape", ["squares", "means in a row"], "squares in a row")
        for name, place in {"query squared": 0, "both": 1, "text squared": 3}.items():
            self.node("Gather", ["squares in a row", self.index(place)], name, axis=1)
        self.node("Mul", ["query squared", "text squared"], "lengths squared")
        self.node("Sqrt", ["lengths squared"], "lengths")
        return self.node("Div", ["both", "lengths"], "cosine")

    def token_weights(self) -> str:
        """Return the weights of the word pieces, as a list."""
        return self.constant("weights of pieces", self.weights.array("token_weights.weight", head=True)[:, 0])

    def index(self, place: int) -> str:
        """Return a list with one index or axis."""
        return self.integers(f"at {place}", place)

    def of_longest(self, x: str) -> str:
        """Return ``x`` cut to the length of the longest query."""
        return self.node("Slice", [x, self.index(0), "longest", self.index(1)], f"{x} of the longest")

    def total(self, x: str, name: str, axis: int) -> str:
        """Write ``total NAME``, the sum of whole numbers, or of a few others, along an axis."""
        return self.node("ReduceSum", [x, self.index(axis)], f"total {name}", keepdims=1)

    def product(self, a: str, b: str, name: str, **transposed: Any) -> str:
        """Return the matrix product, for each row of the batch."""
        return self.node("FusedMatMul", [a, b], name, "com.microsoft", **transposed)

    def apply(self, op: str, x: str, value: float) -> str:
        """Return the result of an operator on ``x`` and a number."""
        return self.node(op, [x, self.number(value)], f"{x} {op} {value}")
