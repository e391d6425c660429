"""The instruction of a call: what relevance means for this question, in words, for rerankers that take one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from rag_rerank.documentation import INSTRUCTIONS
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.text.unicode import is_blank, valid_unicode

if TYPE_CHECKING:
    from rag_rerank.execution.protocols import Ranker

__all__ = [
    "call_instruction",
    "check_field",
    "check_instruction",
    "instruction_or",
    "notes_on_instruction",
    "without_call_instruction",
]

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


@contextmanager
def without_call_instruction() -> Iterator[None]:
    """Let what runs inside see the instructions of the config alone."""
    token = _instruction.set(None)
    try:
        yield
    finally:
        _instruction.reset(token)


def instruction_or(configured: str | None) -> str | None:
    """Return the instruction of the call; without one, that of the config."""
    return configured if (instruction := _instruction.get()) is None else instruction


def check_instruction(reranker: Ranker, instruction: str | None) -> str | None:
    """Return the instruction of a call as a plain string, after a check that the reranker takes it.

    Raises:
        InputError: It is blank, not a string, or not valid Unicode.
        ConfigError: The reranker takes none, and none inside it does.
    """
    if instruction is None:
        return None
    if (problem := _problem(instruction)) is not None:
        raise InputError(f"the instruction {problem}")
    if not reranker.takes_instruction:
        raise ConfigError(
            f"{reranker.label} takes no instruction, so this one would change nothing; leave it out, or use a reranker "
            "that follows instructions, such as qwen3, mxbai or voyage",
            page=INSTRUCTIONS,
        )
    return str.__str__(instruction)


def check_field(instruction: object) -> None:
    """Raise `ConfigError` unless the field ``instruction`` of a reranker is ``None``, or a text that is not blank."""
    if instruction is not None and (problem := _problem(instruction)) is not None:
        raise ConfigError(f"the instruction {problem}", path="instruction", page=INSTRUCTIONS)


def _problem(instruction: object) -> str | None:
    """Return what is wrong with an instruction, and how to mend it; ``None`` where nothing is."""
    if not isinstance(instruction, str):
        return f"must be a string, got {type(instruction).__name__}"
    if is_blank(instruction):
        return "is blank; leave it out for the default"
    if valid_unicode(instruction) is not instruction:
        return "holds half of a surrogate pair, which no model can read; remove it, or decode the text again"
    return None


def notes_on_instruction(reranker: Ranker) -> tuple[str, ...]:
    """Return a note for the trace if the call has an instruction, and this reranker takes none."""
    if _instruction.get() is None or reranker.takes_instruction:
        return ()
    return (f"{reranker.label} takes no instruction",)
