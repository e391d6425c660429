"""Train a reranker of your own: fine-tune on judgments, or distil another reranker."""
