"""Cross-encoders of one's own: fine-tuned on judgments, or taught by another reranker."""
