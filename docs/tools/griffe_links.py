"""A Griffe extension: names in single backticks of docstrings become links to their place in the API reference.

A docstring writes ``code`` in double backticks, and `Name` or `Class.method` in single ones. Names of the public
modules and of the members of the class at hand are linked; others become code.
"""

from __future__ import annotations

import importlib
import re
from functools import cache
from typing import Any

import griffe

MODULES = (
    "rag_rerank",
    *("rag_rerank.context", "rag_rerank.records", "rag_rerank.telemetry", "rag_rerank.evaluation"),
    *("rag_rerank.evaluation.probes", "rag_rerank.export", "rag_rerank.agreement", "rag_rerank.testing"),
)
"""Modules whose ``__all__`` is public; the first that has a name is the one that the reference lists it under."""

_NAME = re.compile(r"(?<![`\w])`([A-Za-z_][\w.]*)`(?!`)")


@cache
def public_names() -> dict[str, str]:
    """Return name -> path of the public names, such as ``pack`` -> ``rag_rerank.pack``."""
    names: dict[str, str] = {}
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            names.setdefault(name, f"{module}.{name}")
    return names


class DocstringLinks(griffe.Extension):
    """Turns `Name` into a link, in the docstrings of classes, functions and attributes."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring is None:
            return
        owner = obj if obj.is_class else obj.parent if obj.parent is not None and obj.parent.is_class else None

        def link(match: re.Match[str]) -> str:
            name = match[1]
            path = self.path_of(name, owner)
            return f"[`{name}`][{path}]" if path else f"``{name}``"

        obj.docstring.value = _NAME.sub(link, obj.docstring.value)

    @staticmethod
    def path_of(name: str, owner: griffe.Object | None) -> str | None:
        """Return the path of a name in the reference, or ``None``."""
        head, _, member = name.removeprefix("rag_rerank.").partition(".")
        path = public_names().get(head)
        if path is not None:
            if not member:
                return path
            thing = getattr(importlib.import_module(path.rpartition(".")[0]), head)
            return f"{path}.{member}" if member in vars(thing) else None
        if owner is not None and "." not in name and name in owner.members and not name.startswith("_"):
            base = public_names().get(owner.name)
            return f"{base}.{name}" if base else None
        return None
