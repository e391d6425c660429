"""``rag-rerank ltr``: learning to rank."""
