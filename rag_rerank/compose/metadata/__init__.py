"""Rerankers that use the metadata of candidates: in the text that is scored, or as a prior on their age."""
