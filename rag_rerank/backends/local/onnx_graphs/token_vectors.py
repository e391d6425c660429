"""The graph of an encoder alone: token ids in, the vector of each token out. It has no padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rag_rerank.backends.local.onnx_graphs.encoder import EncoderWriter
from rag_rerank.backends.local.onnx_graphs.modernbert import ModernBertWriter
from rag_rerank.backends.local.onnx_graphs.weights import MARKER, EncoderWeights, UnsupportedGraph
from rag_rerank.backends.local.torch_models.late_interaction import MODEL_TYPE

__all__ = ["WRITERS", "TokenVectorsWriter"]


class TokenVectorsWriter(EncoderWriter):
    """A writer for BERT encoders.

    The output has the shape (batch, sequence, hidden). All inputs of a batch have one length.

    Args:
        weights: The weights of the model.
        config: The transformers config of the model.
        masked: Whether the graph takes an ``attention_mask``: ColBERT's expansion tokens read the query, and no token
            reads them.

    Raises:
        UnsupportedGraph: Something in the config is not supported.
    """

    marker = MARKER
    output = "token_vectors"

    def __init__(self, weights: EncoderWeights, config: Mapping[str, Any], *, masked: bool = False) -> None:
        super().__init__(weights, config)
        if config.get("hidden_act") != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
            raise UnsupportedGraph("its activation or its kind of positions is not known")
        self.masked = masked

    def write(self) -> Any:
        """Write the graph, and return the model."""
        self.node("Shape", ["input_ids"], "shape")
        mask = self.node("Cast", ["attention_mask"], "mask", to=6) if self.masked else ""
        table = self.weights.array("embeddings.position_embeddings.weight")
        segment = self.weights.array("embeddings.token_type_embeddings.weight")[0]  # all tokens have the first one
        self.node("Slice", ["shape", self.integers("one", 1), self.integers("two", 2)], "length")
        numbers = [self.constant("positions", table + segment), self.integers("zero", 0), "length", "zero"]
        tokens = self.embeddings(self.node("Slice", numbers, "positions here"))
        for layer in range(self.layers):
            tokens = self.layer(tokens, layer, mask=mask)
        self.node("Reshape", [tokens, "by row"], self.output)
        inputs = ["input_ids", *(["attention_mask"] if self.masked else [])]
        return self.model(inputs, self.output, "sequence", self.hidden)


WRITERS: Mapping[str, type[TokenVectorsWriter] | type[ModernBertWriter]] = {
    "bert": TokenVectorsWriter,
    "modernbert": ModernBertWriter,
    MODEL_TYPE: TokenVectorsWriter,
}
"""``model_type`` of a transformers config -> the class that writes the graph of its encoder."""
