"""The graph that is run instead of a model's own: made once, compared with it, and kept on disk.

A made graph lies in the assets folder of the Hugging Face cache (``HF_ASSETS_CACHE``), under a checksum of all it was
made of: the model's commit or files, the precision, this recipe, and ONNX Runtime's version. Its weights lie in a file
of their own, which ONNX Runtime maps into memory instead of reading it. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from rag_rerank.backends._encoder import PairTokenizer
from rag_rerank.backends._graphs.fused import fused
from rag_rerank.backends._graphs.int8 import quantised
from rag_rerank.backends._graphs.weights import UnknownGraph
from rag_rerank.backends._sample import QUERIES, TEXTS, TOLERANCE
from rag_rerank.backends._weights import ModelFolder
from rag_rerank.errors import ModelLoadError

__all__ = ["OWN_GRAPH", "Graph", "Precision", "prepared"]

Precision = Literal["fp32", "int8"]
"""What the linear layers are computed in."""

OWN_GRAPH = "runs its own graph"
"""How the note begins that says why no graph was written anew for a model."""

_RECIPE = 1
"""Grows when the same model would be made into another graph."""

_BATCH_TOKENS = 512


class Runnable(Protocol):
    """An opened graph: what it gives for batches of arrays."""

    exact: bool

    def logits(self, arrays: Mapping[str, Any]) -> list[float]:
        """Return one logit a row."""


Open = Callable[[Path, "Path | None"], Runnable]
"""Opens an ONNX file as it is; or lets ONNX Runtime optimise it and write the outcome into the second file."""


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


def prepared(
    folder: ModelFolder, file: Path, identity: str, precision: Precision, tokenizer: PairTokenizer, open_: Open
) -> Graph:
    """Return the graph to run for a model's ONNX file, made now or found where an earlier call left it.

    Where nothing can be written to the cache, the graph is made in the temporary folder at each start, with a note.

    Args:
        folder: The model.
        file: Its ONNX file.
        identity: Another one for other contents of the model's files.
        precision: What the linear layers compute in.
        tokenizer: Makes the inputs of the sample pairs.
        open_: Opens a graph.

    Raises:
        ModelLoadError: The file cannot be read, or the graph cannot be written.
    """
    model = hashlib.sha256(f"{identity} {file.name}".encode()).hexdigest()[:32]
    made_of = f"{model}-{precision}-{_RECIPE}-ort{_runtime_version()}"
    cache, trouble = _cache()
    kept = _found(cache / made_of)
    if kept is not None:
        return kept
    try:
        draft = Path(tempfile.mkdtemp(dir=None if trouble else cache, prefix=f".{made_of[:8]}-"))
        try:
            _make(draft, folder, file, precision, tokenizer, open_)
            if not trouble:
                return _kept(draft, cache / made_of)
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


def _found(target: Path) -> Graph | None:
    """Return a kept graph if it is whole: a weights file that was cut would crash the process that maps it."""
    try:
        report = json.loads((target / "graph.json").read_text(encoding="utf-8"))
        sizes = {file.name: file.stat().st_size for file in target.iterdir() if file.name != "graph.json"}
    except (OSError, ValueError):
        return None
    if report.get("sizes") != sizes:
        return None
    return Graph(target / "model.onnx", tuple(report["notes"]))


def _whole(folder: Path) -> Graph:
    graph = _found(folder)
    if graph is None:
        raise OSError(f"{folder} is not as it was written")
    return graph


def _kept(draft: Path, target: Path) -> Graph:
    """Move a made graph to its place; where another process was faster, its graph is taken."""
    if _found(target) is None:
        shutil.rmtree(target, ignore_errors=True)  # a broken one
    try:
        draft.rename(target)
    except OSError:  # another process put the same graph there in this moment, or _whole says what is wrong
        shutil.rmtree(draft, ignore_errors=True)
    return _whole(target)


def _make(
    draft: Path, folder: ModelFolder, file: Path, precision: Precision, tokenizer: PairTokenizer, open_: Open
) -> None:
    """Write ``model.onnx``, its weights, and ``graph.json`` with what there is to say about them."""
    import onnx

    made, between = draft / "model.onnx", draft / "between.onnx"
    wanted = list(_logits(open_(file, None), tokenizer))
    notes = []
    try:
        _write(fused(_loaded(file, folder), folder.config), made)
        _check(wanted, list(_logits(open_(made, None), tokenizer)))
        if precision == "int8":
            _write(quantised(onnx.load(made), flat=True), made)
    except UnknownGraph as reason:
        notes.append(f"{OWN_GRAPH}: {reason}")
        own = _loaded(file, folder)
        _write(quantised(own, flat=False) if precision == "int8" else own, between)
        _remove(made)
        open_(between, made)  # ONNX Runtime writes what it makes of it
        _remove(between)
    if precision == "int8":
        given = list(_logits(open_(made, None), tokenizer))
        moved = max(abs(a - b) for a, b in zip(given, wanted, strict=True))
        notes.append(
            f"computes in int8: on {len(wanted)} sample pairs logits moved by up to {moved:.2g}, "
            f"of a spread of {max(wanted) - min(wanted):.2g}"
        )
    sizes = {written.name: written.stat().st_size for written in draft.iterdir()}
    report = {"model": folder.name, "notes": notes, "sizes": sizes}
    (draft / "graph.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _loaded(file: Path, folder: ModelFolder) -> Any:
    import onnx

    try:
        return onnx.load(file)
    except Exception as error:  # protobuf's and onnx's errors have no common base class
        raise ModelLoadError(f"{folder.name}: {file.name} cannot be read: {error}") from error


def _write(model: Any, file: Path) -> None:
    """Write a model with its weights in a file beside it; the model itself is of no use afterwards."""
    import onnx

    _remove(file)  # onnx would write behind the weights that are there
    onnx.save_model(model, file, save_as_external_data=True, location=_weights(file).name, size_threshold=1024)


def _weights(file: Path) -> Path:
    return file.with_name(f"{file.name}_data")


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    _weights(file).unlink(missing_ok=True)


def _logits(graph: Runnable, tokenizer: PairTokenizer) -> Iterator[float]:
    """Yield the logits of the sample pairs, in the order of the pairs."""
    for query in QUERIES:
        inputs = tokenizer.encode(query, TEXTS, "truncate")
        values = [0.0] * len(TEXTS)
        for rows, arrays in inputs.batches(_BATCH_TOKENS, exact=graph.exact):
            for row, logit in zip(rows, graph.logits(arrays), strict=True):
                values[row] = logit
        yield from values


def _check(wanted: list[float], given: list[float]) -> None:
    """Refuse a made graph whose logits are not the model's own."""
    for a, b in zip(wanted, given, strict=True):
        if not abs(a - b) <= TOLERANCE * max(1.0, abs(a)):
            raise UnknownGraph(f"the faster one gave a logit of {b:.6g} instead of {a:.6g}")
