"""Which ONNX file of a model is run: exporters write one or more graphs of a model, under names that tell little."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from rag_rerank.backends.local.model_files import ONNX_FILES
from rag_rerank.errors import ModelLoadError

__all__ = ["choose_graph", "graph_note", "graphs_in", "names_in", "onnx_patterns"]

_USUAL = ("onnx/model.onnx", "model.onnx")


def choose_graph(names: Iterable[str], model: str, file: str | None) -> str:
    """Return the graph to run, by its path within the model.

    Args:
        names: The model's files, as paths with ``/``.
        model: The model's name, for messages.
        file: The graph that the user names, with or without ``onnx/`` before it; ``None`` for ``model.onnx``, or else
            the only one that there is.

    Raises:
        ModelLoadError: There is no graph, not the one that the user names, or more than one to choose from.
    """
    graphs = graphs_in(names)
    if file is not None:
        path = PurePosixPath(file).as_posix()
        choice = next((graph for graph in graphs if graph in (path, f"onnx/{path}")), None)
        if choice is None:
            raise ModelLoadError(f"{model} has no ONNX file {file!r}; it has {', '.join(graphs) or 'none'}")
        return choice
    usual = next((name for name in _USUAL if name in graphs), None)
    if usual is not None:
        return usual
    if not graphs:
        raise ModelLoadError(
            f'{model} has no ONNX file; make one with: rag-rerank export {model} -o DIR, or use the "torch" backend'
        )
    if len(graphs) > 1:
        raise ModelLoadError(
            f"{model} has no model.onnx, but {len(graphs)} other ONNX files; choose one with the key file, such as "
            f"file={graphs[0]!r}: {', '.join(graphs)}"
        )
    return graphs[0]


def graphs_in(names: Iterable[str]) -> list[str]:
    """Return the graphs among a model's files: those at its top and in ``onnx/``, where exporters put them."""
    return sorted(name for name in names if name.endswith(".onnx") and str(PurePosixPath(name).parent) in (".", "onnx"))


def onnx_patterns(names: Collection[str], model: str, file: str | None) -> tuple[str, ...]:
    """Return the patterns of the files to read, for the graph that `choose_graph` returns.

    Weights that are too large for the graph are in a file beside it; exporters add ``_data`` or ``.data`` to its name.
    """
    graph = choose_graph(names, model, file)
    return (graph, f"{graph}_data", f"{graph}.data", "*.json") if graph not in _USUAL else ONNX_FILES


def graph_note(graph: str) -> tuple[str, ...]:
    """Return a note for the trace where another graph than the usual one is run."""
    return () if graph in _USUAL else (f"the graph is {graph}",)


def names_in(folder: Path) -> list[str]:
    """Return the files of a folder as `choose_graph` takes them."""
    places = (folder, folder / "onnx")
    return [file.relative_to(folder).as_posix() for place in places if place.is_dir() for file in place.iterdir()]
