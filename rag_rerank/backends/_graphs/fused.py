"""The fast graph of a cross-encoder, written anew from its weights.

It computes what the exported graph computes, in fewer and faster operators (`encoder`), with differences that leave the
logits as they are but for rounding. All inputs of a batch have the same length, so there is no padding, no attention
mask for it, and no row whose numbers could depend on another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rag_rerank.backends._graphs.cross_encoder import BertWriter, RobertaWriter
from rag_rerank.backends._graphs.late_interaction import LateInteractionWriter
from rag_rerank.backends._graphs.weights import UnknownGraph
from rag_rerank.backends._late_interaction import MODEL_TYPE

__all__ = ["ARCHITECTURES", "fused"]

ARCHITECTURES: Mapping[str, type[BertWriter] | type[LateInteractionWriter]] = {
    "bert": BertWriter,
    "roberta": RobertaWriter,
    "xlm-roberta": RobertaWriter,
    MODEL_TYPE: LateInteractionWriter,
}
"""``model_type`` of the transformers configs that are known here -> what writes their graph."""


def fused(model: Any, config: Mapping[str, Any]) -> Any:
    """Return the fast graph of an exported cross-encoder as an ONNX model.

    Inputs are ``input_ids`` and, where the model has segments, ``token_type_ids``, both int64 of shape (batch,
    sequence); the output ``logits`` is fp32 of shape (batch, 1).

    Args:
        model: The exported ONNX model, weights loaded.
        config: The transformers config of the model.

    Raises:
        UnknownGraph: The architecture or something in its config or file is not known here.
    """
    kind = config.get("model_type")
    writer = ARCHITECTURES.get(str(kind))
    if writer is None:
        raise UnknownGraph(f"no faster graph is known for {kind}")
    if config.get("hidden_act") != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
        raise UnknownGraph("its activation or its kind of positions is not known")
    return writer(model, config).written()
