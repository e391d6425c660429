"""From a ranking to the text that goes to an LLM: the best pieces that fit into a budget, and why the rest is out."""

from rag_rerank.context.packing import Packing, pack
from rag_rerank.context.result import Context, Dropped, Piece, Reason

__all__ = ["Context", "Dropped", "Packing", "Piece", "Reason", "pack"]
