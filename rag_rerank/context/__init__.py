"""From a ranking to the text for an LLM: the best pieces within a token budget, and why the other hits are out."""

from rag_rerank.context.packing import Packing, pack
from rag_rerank.context.result import Context, Dropped, Piece, Reason

__all__ = ["Context", "Dropped", "Packing", "Piece", "Reason", "pack"]
