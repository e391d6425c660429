"""Embedding models: one vector a text, compared by cosine or dot product."""
