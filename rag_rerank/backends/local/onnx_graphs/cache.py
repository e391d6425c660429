"""The graph that is run instead of a model's own: made once, compared with it, and kept on disk.

A made graph lies in the assets folder of the Hugging Face cache (``HF_ASSETS_CACHE``), under a checksum of all it was
made of: the model's commit or files, the precision, this recipe, and ONNX Runtime's version. Its weights lie in a file
of their own, which ONNX Runtime maps into memory instead of reading it. The folder may be deleted at any time. What a
process that was killed leaves there is removed a day later, when the next graph is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.onnx_graphs.build import CACHE_VERSION, Open, Precision, build
from rag_rerank.errors import ModelLoadError

__all__ = ["Graph", "load_or_build"]

_A_DAY = 86_400.0


@dataclass(frozen=True)
class Graph:
    """A graph that is ready to run.

    Args:
        file: Its ONNX file.
        notes: What the trace should say about it.
        keeper: Removes a file that could not be kept, when the graph is let go.
    """

    file: Path
    notes: tuple[str, ...]
    keeper: Any = None


def load_or_build(folder: ModelFolder, file: Path, identity: str, precision: Precision, open_: Open) -> Graph:
    """Return the graph to run for a model's ONNX file, made now or found where an earlier call left it.

    Where nothing can be written to the cache, the graph is made in the temporary folder at each start, with a note.

    Args:
        folder: The model.
        file: Its ONNX file.
        identity: Another one for other contents of the model's files.
        precision: What the linear layers compute in.
        open_: Opens a graph.

    Raises:
        ModelLoadError: The file cannot be read or has nothing to compute in int8, or the graph cannot be written.
    """
    model = hashlib.sha256(f"{identity} {file.name}".encode()).hexdigest()[:32]
    made_of = f"{model}-{precision}-{CACHE_VERSION}-ort{_runtime_version()}"
    cache, trouble = _cache()
    kept = _find(cache / made_of)
    if kept is not None:
        return kept
    import tempfile  # at the rare start at which a graph is made

    try:
        draft = Path(tempfile.mkdtemp(prefix="rag-rerank-")) if trouble else _draft(cache)
        try:
            _describe(draft, folder, build(draft, folder, file, precision, open_))
            if not trouble:
                return _keep(draft, cache / made_of)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as error:
        raise ModelLoadError(
            f"{folder.name}: its optimised graph cannot be written ({error}); make room, set HF_ASSETS_CACHE to "
            "another folder, or run the model's own graph with optimize=False"
        ) from error
    graph = _whole(draft)
    return Graph(graph.file, (*graph.notes, f"the optimised graph is not kept: {trouble}"), _Keeper(draft))


class _Keeper:
    """Deletes a folder when it is itself let go, at the interpreter's exit at the latest."""

    def __init__(self, folder: Path) -> None:
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def _runtime_version() -> str:
    import onnxruntime

    version: str = onnxruntime.__version__
    return version


def _cache() -> tuple[Path, str]:
    """Return the folder of kept graphs, and why none can be added to it (empty where it can)."""
    from huggingface_hub.constants import HF_ASSETS_CACHE

    cache = Path(HF_ASSETS_CACHE).expanduser() / "rag-rerank" / "graphs"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return cache, str(error)
    return cache, "" if os.access(cache, os.W_OK) else f"{cache} is not writable"


def _draft(cache: Path) -> Path:
    """Make a folder to write a graph in, readable to whom the user's files are, and remove those long forgotten."""
    for old in cache.glob(".*"):
        with suppress(OSError):  # another process is removing it, or put it in its place
            if time.time() - old.stat().st_mtime > _A_DAY:
                shutil.rmtree(old, ignore_errors=True)
    draft = _dotted(cache)
    draft.mkdir()
    return draft


def _dotted(cache: Path) -> Path:
    return cache / f".{os.urandom(8).hex()}"


def _find(target: Path) -> Graph | None:
    """Return a kept graph if it is whole: a weights file that was cut would crash the process that maps it."""
    try:
        report = json.loads((target / "graph.json").read_text(encoding="utf-8"))
        sizes = {file.name: file.stat().st_size for file in target.iterdir() if file.name != "graph.json"}
        whole, notes = report["sizes"] == sizes, tuple(report["notes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Graph(target / "model.onnx", notes) if whole else None


def _whole(folder: Path) -> Graph:
    graph = _find(folder)
    if graph is None:
        raise OSError(f"{folder} is not as it was written")
    return graph


def _describe(draft: Path, folder: ModelFolder, notes: list[str]) -> None:
    """Write ``graph.json``: what there is to say about a graph, and by what to know that it is whole."""
    for written in draft.iterdir():
        with written.open("rb+") as opened:
            os.fsync(opened.fileno())  # a power cut may leave a file of the right size full of zeros
    sizes = {written.name: written.stat().st_size for written in draft.iterdir()}
    report = {"model": folder.name, "notes": notes, "sizes": sizes}
    (draft / "graph.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _keep(draft: Path, target: Path) -> Graph:
    """Move a made graph to its place; where another process was faster, its graph is taken."""
    if _find(target) is None:
        broken = _dotted(target.parent)
        with suppress(OSError):  # there is none, or another process is faster
            target.rename(broken)  # at once, so that nobody finds half of it
        shutil.rmtree(broken, ignore_errors=True)
    try:
        draft.rename(target)
    except OSError:
        if _find(target) is None:
            raise
        shutil.rmtree(draft, ignore_errors=True)
    return _whole(target)
