"""Whether caches, stores and files that calls write to can be used, and whether their disks have room."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rag_rerank._files import absolute_path, cache_folder, expand_user
from rag_rerank.diagnostics.health.finding import Finding, Subject, error_finding
from rag_rerank.diagnostics.health.missing import find_missing
from rag_rerank.errors import ConfigError, RerankError

if TYPE_CHECKING:
    from rag_rerank.backends.local.kept_vectors.opening import StoreSettings

__all__ = ["check_caches", "check_stores"]

_LEAST_FREE = 2**30
"""Bytes that a disk should have free: a model and its graph take 0.1 to 5 GiB."""

_LOCK_SECONDS = 1.0
"""Seconds to wait for a process that writes to a score cache; a write takes milliseconds."""


def check_caches(subject: Subject) -> Iterator[Finding]:
    """Yield the folders for models and for graphs that cannot be written to, and disks without room."""
    from huggingface_hub import constants

    lacks_models = subject.reranker is not None and any(row.check == "model" for row in find_missing(subject.reranker))
    use = "models cannot be fetched into it"
    yield from _check_folder("HF_HUB_CACHE", lambda: expand_user(constants.HF_HUB_CACHE), use, is_needed=lacks_models)
    use = "optimised graphs are built anew at each start"
    yield from _check_folder("HF_ASSETS_CACHE", lambda: cache_folder("graphs"), use, is_needed=False)


def check_stores(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with stores of vectors, score caches and files of records that the config names."""
    from rag_rerank.backends.local.kept_vectors.base import VectorReranker
    from rag_rerank.backends.local.kept_vectors.opening import StoreSettings
    from rag_rerank.compose.cache.cached import Cached
    from rag_rerank.compose.recorded import Recorded

    for part in subject.parts:
        try:
            if isinstance(part, VectorReranker) and isinstance(part.store, StoreSettings) and part.store.path:
                yield _check_vectors(part.label, part.store)
            if isinstance(part, Cached) and part.path:
                yield _check_scores(part.label, part.path)
            if isinstance(part, Recorded):
                yield from _check_parent(part.label, part.file)
        except RerankError as error:
            yield error_finding("store", part.label, error)


def _check_folder(variable: str, find: Callable[[], Path], use: str, *, is_needed: bool) -> Iterator[Finding]:
    """Yield whether files can be made in the folder that a variable names, and whether its disk has room."""
    try:
        folder = find()
    except ConfigError as error:
        yield error_finding("cache", variable, error)
        return
    if (reason := _why_not_writable(folder)) is not None:
        what = f"{folder} cannot be written to ({reason}); {use}"
        advice = f"make it writable for this user, or set {variable} or HF_HOME to a folder that is"
        yield Finding("cache", "problem" if is_needed else "warning", variable, what, advice)
        return
    free = shutil.disk_usage(_nearest_folder(folder)).free
    room = f"{free / 2**30:,.1f} GiB are free"
    if free < _LEAST_FREE:
        advice = f"make room, or set {variable} or HF_HOME to a folder on another disk"
        yield Finding("disk", "warning", variable, f"only {room} at {folder}", advice)
    else:
        yield Finding("cache", "ok", variable, f"{folder} can be written to, {room}")


def _why_not_writable(folder: Path) -> str | None:
    """Return why no file can be made in a folder, or in the nearest one above it that exists; ``None`` if one can."""
    nearest = _nearest_folder(folder)
    if not nearest.is_dir():
        return f"{nearest} is no folder"
    try:
        with tempfile.TemporaryFile(dir=nearest):  # os.access says yes to root, also on a read-only disk
            return None
    except OSError as error:
        return error.strerror or str(error)


def _nearest_folder(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if os.path.lexists(place))


def _check_vectors(label: str, settings: StoreSettings) -> Finding:
    """Return whether a store of vectors can be opened; an absent one, whether it can be made.

    Raises:
        ConfigError: It is there, and cannot be opened.
        MissingExtraError: lmdb is not installed.
    """
    from rag_rerank.backends.local.kept_vectors.opening import open_store

    folder = absolute_path(settings.path or "")
    if not folder.exists() and not settings.read_only:
        reason = _why_not_writable(folder)
        if reason is None:
            return Finding("store", "ok", label, f"{folder} does not exist yet, and can be made")
        advice = "make its folder writable, or name another one"
        return Finding("store", "problem", label, f"{folder} cannot be made: {reason}", advice)
    store = open_store(replace(settings, read_only=True))
    try:
        texts = store.stats.texts
    finally:
        store.close()
    if not settings.read_only and (reason := _why_not_writable(folder)) is not None:
        advice = "make it writable, or set read_only if it is complete"
        return Finding("store", "problem", label, f"{folder} cannot be written to: {reason}", advice)
    return Finding("store", "ok", label, f"{folder} has {texts:,} texts")


def _check_scores(label: str, path: str) -> Finding:
    from rag_rerank.compose.cache.cache_stores import check_cache_file

    file = absolute_path(path)
    if file.exists():
        return Finding("store", "ok", label, f"{file} has {check_cache_file(path, _LOCK_SECONDS):,} scores")
    return next(_check_parent(label, path))


def _check_parent(label: str, path: str) -> Iterator[Finding]:
    file = absolute_path(path)
    if (reason := _why_not_writable(file.parent)) is None:
        yield Finding("store", "ok", label, f"{file} can be written to")
    else:
        advice = "make its folder writable, or name another file"
        yield Finding("store", "problem", label, f"{file} cannot be written to: {reason}", advice)
