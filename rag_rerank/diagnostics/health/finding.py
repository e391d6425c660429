"""What a check is given, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from time import time
from typing import TYPE_CHECKING, Any, Literal

from rag_rerank.base import Reranker
from rag_rerank.documentation import page_url
from rag_rerank.errors import RerankError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag_rerank.backends.api.base import ApiReranker
    from rag_rerank.backends.local.base import LocalReranker

__all__ = ["PAGE", "Finding", "Level", "Subject", "error_finding", "error_text"]

Level = Literal["ok", "warning", "problem"]

PAGE = "how-to/doctor/"
"""The page about the checks."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check says.

    Args:
        check: Name of the check: ``"key"``, ``"server"``.
        level: ``"ok"``; ``"warning"``: it works, but slower or less safely than it could; ``"problem"``: something
            that the reranker needs does not work.
        where: What it is about: a package, a variable, a file, a reranker.
        what: What was found, on one line. No key and no text of a document.
        advice: What to do about it; empty where nothing has to be done.
        page: The page of the documentation that says more.
    """

    check: str
    level: Level
    where: str
    what: str
    advice: str = ""
    page: str = PAGE

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, with the address of the page."""
        return {
            "check": self.check,
            "level": self.level,
            "where": self.where,
            "what": self.what,
            "advice": self.advice,
            "url": None if self.level == "ok" else page_url(self.page),
        }


def error_finding(check: str, where: str, error: RerankError, advice: str = "", level: Level = "problem") -> Finding:
    """Return a finding for an error of this library, whose message ends with what to do.

    Args:
        check: Name of the check.
        where: What the error is about.
        error: The error.
        advice: What to do, where the message does not say it.
        level: How bad it is.
    """
    what, _, mend = " ".join(str(error).split()).partition("; ")
    return Finding(check, level, where, what, mend or advice, error.page or PAGE)


@dataclass(frozen=True)
class Subject:
    """What is examined.

    Args:
        reranker: The reranker; ``None`` if its config cannot be built.
        live: Whether a provider may be sent a real request, which may cost money.
        full: Whether to do what takes long: import every extra that is installed, hash large model files.
        timeout: Seconds to wait for a server.
        wall_clock: Returns the time in seconds since 1970.
    """

    reranker: Reranker | None
    live: bool = False
    full: bool = False
    timeout: float = 5.0
    wall_clock: Callable[[], float] = field(default=time)

    @cached_property
    def parts(self) -> tuple[Reranker, ...]:
        """The reranker and all those inside it; equal ones once."""
        parts = [] if self.reranker is None else list(self.reranker.walk())
        return tuple(part for i, part in enumerate(parts) if part not in parts[:i])  # a plugin's need not be hashable

    @property
    def api_parts(self) -> list[ApiReranker]:
        """Those that call a provider or a server."""
        from rag_rerank.backends.api.base import ApiReranker

        return [part for part in self.parts if isinstance(part, ApiReranker)]

    @property
    def local_parts(self) -> list[LocalReranker]:
        """Those that run a model on this machine."""
        from rag_rerank.backends.local.base import LocalReranker

        return [part for part in self.parts if isinstance(part, LocalReranker)]


def error_text(error: Exception) -> str:
    """Return the class and the message of an error of any package, without what looks like a key."""
    from rag_rerank.backends.api.message_redaction import redacted_message

    return redacted_message(f"{type(error).__name__}: {error}", "", ())
