"""The instruction of a call: what relevance means for this question, in words, for rerankers that take one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["call_instruction", "instruction_or"]

_instruction: ContextVar[str | None] = ContextVar("rag_rerank_instruction", default=None)


@contextmanager
def call_instruction(instruction: str | None) -> Iterator[None]:
    """Let the rerankers inside follow an instruction; with ``None``, that of the call around it stays."""
    if instruction is None:
        yield
        return
    token = _instruction.set(instruction)
    try:
        yield
    finally:
        _instruction.reset(token)


def instruction_or(configured: str | None) -> str | None:
    """Return the instruction of the call; without one, that of the config."""
    return configured if (instruction := _instruction.get()) is None else instruction
