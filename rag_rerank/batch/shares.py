"""The share that one of several processes has: of a provider's limits, and of the cores."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from rag_rerank.backends.api.limiter import Limits
from rag_rerank.base import Reranker
from rag_rerank.errors import ConfigError

__all__ = ["share_of"]

_PER_KEY = ("requests_per_minute", "tokens_per_minute", "concurrency", "cost_per_process")
"""Limits that hold for all calls with one key; ``cost_per_call`` holds for each call."""


def share_of(reranker: Reranker, processes: int, cores: int | None = None) -> Reranker:
    """Return the reranker for each of several processes that run at the same time.

    A process counts its own requests only. So each gets its part of every limit, rounded down, and all together keep
    within it. Local models get as many workers as the process has cores, unless the config says how many.

    Raises:
        ConfigError: A limit is smaller than the number of processes.
    """
    share: Reranker = _with_share(reranker, processes, cores)
    return share


def _with_share(value: Any, processes: int, cores: int | None) -> Any:
    """Return a config field with the shares inside it; the same object where nothing changes."""
    if isinstance(value, Limits):
        return _share_of_limits(value, processes)
    if isinstance(value, tuple):
        items = tuple(_with_share(item, processes, cores) for item in value)
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changes: dict[str, Any] = {}
    for f in fields(value):
        if not f.init or f.metadata.get("live"):
            continue
        inner = getattr(value, f.name)
        new = _with_share(inner, processes, cores)
        if f.name == "workers" and inner is None and isinstance(value, Reranker):
            new = cores
        if new is not inner:
            changes[f.name] = new
    return replace(value, **changes) if changes else value


def _share_of_limits(limits: Limits, processes: int) -> Limits:
    shares: dict[str, Any] = {}
    for name in _PER_KEY:
        limit = getattr(limits, name)
        if limit is None or processes == 1:
            continue
        shares[name] = limit / processes if name.startswith("cost") else limit // processes
        if not shares[name]:
            raise ConfigError(
                f"limits.{name} is {limit}, too little for {processes} processes; use at most {limit}", path="actors"
            )
    return replace(limits, **shares) if shares else limits
