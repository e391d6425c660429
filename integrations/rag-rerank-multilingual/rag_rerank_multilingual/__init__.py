"""The files of the model ``embedded-multilingual``; rag-rerank finds them here, and nothing has to be imported."""
