"""Real tokenizers that need no network."""

from pathlib import Path

import tiktoken

import rag_rerank

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"
"""A folder with the tokenizer.json of the embedded model: WordPiece."""

MERGES = ("he", "ll", "hell", "wo", " w", ". ", "\n\n", ".\n\n")


def tiny_encoding() -> tiktoken.Encoding:
    """A real byte-level encoding of tiktoken with a few merges, one of them across a full stop and a paragraph."""
    ranks = {bytes([i]): i for i in range(256)} | {merge.encode(): 256 + i for i, merge in enumerate(MERGES)}
    return tiktoken.Encoding("tiny", pat_str=r"[\s\S]+", mergeable_ranks=ranks, special_tokens={"<|end|>": 999})
