"""The cache of built graphs on disk: each is built once, compared with the model's own graph, and found again.

A graph is cached in the assets folder of the Hugging Face cache (``HF_ASSETS_CACHE``), under a checksum of all that
decides it: the model's commit or files, the precision, `CACHE_VERSION`, and the version of ONNX Runtime. Its weights
are in a file of their own, which ONNX Runtime maps into memory instead of reading it. The folder may be deleted at any
time. Files that a killed process left there are removed a day later, when the next graph is built.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_rerank._files import cache_folder
from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.onnx_graphs.build import CACHE_VERSION, OpenGraph, Precision, build
from rag_rerank.errors import ConfigError, ModelLoadError

__all__ = ["Graph", "TemporaryFolder", "find_or_make", "load_or_build", "temporary_folder"]

_A_DAY = 86_400.0


@dataclass(frozen=True)
class Graph:
    """A graph that is ready to run.

    Args:
        file: Its ONNX file.
        notes: Notes on it for the trace.
        cleanup: Removes a graph that could not be cached, when it is garbage-collected.
    """

    file: Path
    notes: tuple[str, ...]
    cleanup: Any = None


def load_or_build(folder: ModelFolder, file: Path, identity: str, precision: Precision, open_graph: OpenGraph) -> Graph:
    """Return the graph to run for a model's ONNX file: from the cache, or built now.

    Where the cache cannot be written, the graph is built in the temporary folder at each start, with a note.

    Args:
        folder: The model.
        file: Its ONNX file.
        identity: Identity of the model's files, which changes with their contents.
        precision: What the linear layers compute in.
        open_graph: Opens a graph.

    Raises:
        ModelLoadError: The file cannot be read or has nothing to compute in int8, or the graph cannot be written.
    """
    model = hashlib.sha256(f"{identity} {file.relative_to(folder.path).as_posix()}".encode()).hexdigest()[:32]
    return find_or_make(folder, f"{model}-{precision}", lambda draft: build(draft, folder, file, precision, open_graph))


def find_or_make(folder: ModelFolder, name: str, write: Callable[[Path], list[str]]) -> Graph:
    """Return a graph from the cache, or make it now.

    Args:
        folder: The model.
        name: Its name in the cache, which all that decides the graph must change, but for the versions of this package
            and of ONNX Runtime.
        write: Writes ``model.onnx`` into a folder, and returns notes on it for the trace.

    Raises:
        ModelLoadError: The graph cannot be written.
    """
    key = f"{name}-{CACHE_VERSION}-ort{_runtime_version()}"
    cache, trouble = _cache()
    graph = None if cache is None else _find(cache / key)
    if graph is not None:
        return graph
    import tempfile  # needed only at the rare start at which a graph is built

    try:
        draft = Path(tempfile.mkdtemp(prefix="rag-rerank-")) if trouble or cache is None else _draft(cache)
        try:
            _write_report(draft, folder, write(draft))
            if not trouble and cache is not None:
                return _put_in_place(draft, cache / key)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as error:
        raise ModelLoadError(
            f"{folder.name}: its optimised graph cannot be written ({error}); make room, set HF_ASSETS_CACHE to "
            "another folder, or run the model's own graph with optimize=False"
        ) from error
    graph = _find_complete(draft)
    return Graph(graph.file, (*graph.notes, f"the optimised graph is not kept: {trouble}"), TemporaryFolder(draft))


class TemporaryFolder:
    """A folder that is deleted when this object is garbage-collected, at the interpreter's exit at the latest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)


def temporary_folder() -> TemporaryFolder:
    """Make a folder for a graph that is not cached."""
    import tempfile  # needed only at the rare start at which a graph is written

    return TemporaryFolder(Path(tempfile.mkdtemp(prefix="rag-rerank-")))


def _runtime_version() -> str:
    import onnxruntime

    version: str = onnxruntime.__version__
    return version


def _cache() -> tuple[Path | None, str]:
    """Return the folder of cached graphs, and why none can be added to it (empty where it can)."""
    try:
        cache = cache_folder("graphs")
        cache.mkdir(parents=True, exist_ok=True)
    except (OSError, ConfigError) as error:
        return None, str(error)
    return cache, "" if os.access(cache, os.W_OK) else f"{cache} is not writable"


def _draft(cache: Path) -> Path:
    """Make a folder to write a graph in, with the user's default permissions, and remove drafts older than a day."""
    for old in cache.glob(".*"):
        with suppress(OSError):  # another process is removing it, or has put it in its place
            if time.time() - old.stat().st_mtime > _A_DAY:
                shutil.rmtree(old, ignore_errors=True)
    draft = _hidden_folder(cache)
    draft.mkdir()
    return draft


def _hidden_folder(cache: Path) -> Path:
    return cache / f".{os.urandom(8).hex()}"


def _find(target: Path) -> Graph | None:
    """Return a cached graph if it is complete: a truncated weights file would crash the process that maps it."""
    try:
        report = json.loads((target / "graph.json").read_text(encoding="utf-8"))
        sizes = {file.name: file.stat().st_size for file in target.iterdir() if file.name != "graph.json"}
        is_complete, notes = report["sizes"] == sizes, tuple(report["notes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Graph(target / "model.onnx", notes) if is_complete else None


def _find_complete(folder: Path) -> Graph:
    graph = _find(folder)
    if graph is None:
        raise OSError(f"{folder} is not as it was written")
    return graph


def _write_report(draft: Path, folder: ModelFolder, notes: list[str]) -> None:
    """Write ``graph.json``: the notes on a graph, and the sizes of its files, which show whether it is complete."""
    for file in draft.iterdir():
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())  # a power cut may leave a file of the right size full of zeros
    sizes = {file.name: file.stat().st_size for file in draft.iterdir()}
    report = {"model": folder.name, "notes": notes, "sizes": sizes}
    (draft / "graph.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _put_in_place(draft: Path, target: Path) -> Graph:
    """Move a built graph to its place; where another process was faster, use its graph."""
    if _find(target) is None:
        trash = _hidden_folder(target.parent)
        with suppress(OSError):  # there is none, or another process is faster
            target.rename(trash)  # in one step, so that no process finds half of it
        shutil.rmtree(trash, ignore_errors=True)
    try:
        draft.rename(target)
    except OSError:
        if _find(target) is None:
            raise
        shutil.rmtree(draft, ignore_errors=True)
    return _find_complete(target)
