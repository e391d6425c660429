"""What was found amiss while reading: counted exactly, shown by the first few."""

from __future__ import annotations

from rag_rerank.evaluation.data.judged import Problem

__all__ = ["Problems"]

SHOWN = 5
"""How many examples a problem keeps."""


class Problems:
    """Collects problems while data is read; the order is that of their first example."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, list[str]]] = {}

    def note(self, kind: str, example: str, count: int = 1) -> None:
        """Count a problem; ``example`` says where it is, ``"qrels.tsv:17: document 'd9' of query 'q2'"``."""
        before, examples = self._found.get(kind, (0, []))
        if len(examples) < SHOWN:
            examples.append(example)
        self._found[kind] = before + count, examples

    def listed(self) -> tuple[Problem, ...]:
        """Return what was found."""
        return tuple(Problem(kind=k, count=n, examples=tuple(shown)) for k, (n, shown) in self._found.items())

    def told(self) -> str:
        """Return the same in one sentence, for an error."""
        return "; ".join(f"{kind}: {count} ({shown[0]})" for kind, (count, shown) in self._found.items())
