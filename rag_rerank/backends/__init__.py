"""Rerankers that score text, one file each: onnx, torch, lexical, cohere, voyage, http."""
