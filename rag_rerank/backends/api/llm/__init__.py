"""What the reranker that asks a language model is made of: prompts, answers, strategies, clients and calls."""
