"""``python -m rag_rerank`` is ``rag-rerank``."""

from rag_rerank.cli import main

main()
