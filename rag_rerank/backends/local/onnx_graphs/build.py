"""Build the graph that is run in place of a model's own, and compare the logits of the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.onnx_graphs.activation import cut_activation
from rag_rerank.backends.local.onnx_graphs.cross_encoder import BertWriter, RobertaWriter
from rag_rerank.backends.local.onnx_graphs.late_interaction import LateInteractionWriter
from rag_rerank.backends.local.onnx_graphs.quantize import quantize
from rag_rerank.backends.local.onnx_graphs.weights import MARKER, UnsupportedGraph, Weights
from rag_rerank.backends.local.pair_encoding import EncodedPairs, PairTokenizer
from rag_rerank.backends.local.samples import QUERIES, TEXTS, TOLERANCE
from rag_rerank.backends.local.torch_models.late_interaction import MODEL_TYPE
from rag_rerank.errors import BackendError, InputTooLong, ModelLoadError
from rag_rerank.rank_correlation import relative_difference

__all__ = [
    "ARCHITECTURES",
    "CACHE_VERSION",
    "OWN_GRAPH",
    "OpenGraph",
    "Precision",
    "Runnable",
    "activation_note",
    "build",
    "load_graph",
    "rewrite",
    "write_graph",
    "write_without_activation",
]

ARCHITECTURES: Mapping[str, type[BertWriter] | type[LateInteractionWriter]] = {
    "bert": BertWriter,
    "roberta": RobertaWriter,
    "xlm-roberta": RobertaWriter,
    MODEL_TYPE: LateInteractionWriter,
}
"""``model_type`` of a transformers config -> the class that writes its graph."""

Precision = Literal["fp32", "int8"]
"""What the linear layers compute in."""

OWN_GRAPH = "runs its own graph"
"""Beginning of the note that says why the graph of a model could not be rewritten."""

CACHE_VERSION = 5
"""Raise it when the same model would give another graph."""

_BATCH_TOKENS = 512


class Runnable(Protocol):
    """An opened graph."""

    equal_lengths: bool

    def logits(self, arrays: Mapping[str, Any]) -> list[float]:
        """Return one logit a row."""


OpenGraph = Callable[[Path, "Path | None"], Runnable]
"""Opens an ONNX file as it is; or, given a second file, lets ONNX Runtime optimise the graph and write it there."""


def build(draft: Path, folder: ModelFolder, file: Path, precision: Precision, open_graph: OpenGraph) -> list[str]:
    """Write ``model.onnx`` and its weights into a folder, and return notes on them for the trace.

    Raises:
        ModelLoadError: The file cannot be read, or has nothing to compute in int8.
        OSError: The graph cannot be written.
    """
    import onnx

    target, unoptimised = draft / "model.onnx", draft / "between.onnx"
    samples = _samples(folder)
    notes: list[str] = []
    without = write_without_activation(file, folder, draft / "logits.onnx")
    if without is not None:
        file, activation = without
        notes.append(activation_note(activation))
    own_logits = _logits(open_graph(file, None), samples)
    try:
        if not samples:
            raise UnsupportedGraph("its window has no room for the samples to compare a faster one on")
        write_graph(rewrite(load_graph(file, folder), folder.config), target)
        _check(own_logits, target, samples, open_graph)
        if precision == "int8":
            write_graph(quantize(onnx.load(target), flat=True), target)
    except UnsupportedGraph as reason:
        notes.append(f"{OWN_GRAPH}: {reason}")
        own = load_graph(file, folder)
        write_graph(_quantize_own(own, folder) if precision == "int8" else own, unoptimised)
        _remove(target)
        open_graph(unoptimised, target)  # ONNX Runtime writes the optimised graph
        _remove(unoptimised)
    if without is not None:
        _remove(file)
    if precision == "int8" and samples:
        logits = _logits(open_graph(target, None), samples)
        largest = max(abs(a - b) for a, b in zip(logits, own_logits, strict=True))
        notes.append(
            f"computes in int8: on {len(own_logits)} sample pairs logits moved by up to {largest:.2g}, "
            f"of a spread of {max(own_logits) - min(own_logits):.2g}"
        )
    return notes


def write_without_activation(file: Path, folder: ModelFolder, target: Path) -> tuple[Path, str] | None:
    """Write a copy of a graph that ends in a sigmoid or softmax, without it.

    Returns:
        The copy, and the name of the activation; ``None`` where the graph ends in none.

    Raises:
        ModelLoadError: The file cannot be read, or can give no scores.
        OSError: The copy cannot be written.
    """
    import onnx

    try:
        graph = onnx.load(file, load_external_data=False)
    except Exception:  # protobuf's and onnx's errors have no common base class; ONNX Runtime says what is wrong
        return None
    if cut_activation(graph, folder.name, folder.config) is None:
        return None
    del graph
    model = load_graph(file, folder)
    activation = cut_activation(model, folder.name, folder.config)
    assert activation is not None
    write_graph(model, target)
    return target, activation


def activation_note(activation: str) -> str:
    """Return the note on an activation that was left out."""
    return f"the {activation} at the end of its graph is left out, so that raw scores are logits"


def rewrite(model: Any, config: Mapping[str, Any]) -> Any:
    """Return the fast graph of an exported cross-encoder as an ONNX model.

    Inputs are ``input_ids`` and, where the model has segments, ``token_type_ids``, both int64 of shape (batch,
    sequence); the output ``logits`` is fp32 of shape (batch, 1).

    Args:
        model: The exported ONNX model, weights loaded.
        config: The transformers config of the model.

    Raises:
        UnsupportedGraph: The architecture, or something in the config or the file, is not supported.
    """
    kind = config.get("model_type")
    writer = ARCHITECTURES.get(str(kind))
    if writer is None:
        raise UnsupportedGraph(f"no faster graph is known for {kind}")
    if config.get("hidden_act") != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
        raise UnsupportedGraph("its activation or its kind of positions is not known")
    return writer(Weights(model, MARKER), config).write()


def _samples(folder: ModelFolder) -> list[EncodedPairs]:
    """Return the sample pairs as inputs over the model's whole window, whatever window the user sets."""
    tokenizer = PairTokenizer(folder, folder.max_length(None))
    samples = []
    for query in QUERIES:
        with suppress(InputTooLong):  # no published model has a window that is that short
            samples.append(tokenizer.encode(query, TEXTS, "truncate"))
    return samples


def _logits(graph: Runnable, samples: list[EncodedPairs]) -> list[float]:
    """Return the logits of the sample pairs, in the order of the pairs."""
    logits = []
    for inputs in samples:
        values = [0.0] * len(TEXTS)
        for rows, arrays in inputs.batch_arrays(_BATCH_TOKENS, equal_lengths=graph.equal_lengths):
            for row, logit in zip(rows, graph.logits(arrays), strict=True):
                values[row] = logit
        logits += values
    return logits


def _check(own_logits: list[float], target: Path, samples: list[EncodedPairs], open_graph: OpenGraph) -> None:
    """Raise `UnsupportedGraph` for a rewritten graph whose logits differ from those of the model's own graph."""
    try:
        logits = _logits(open_graph(target, None), samples)
    except (BackendError, ModelLoadError) as error:
        raise UnsupportedGraph(f"the faster one does not run: {error}") from error
    for own_logit, logit in zip(own_logits, logits, strict=True):
        if not relative_difference(logit, own_logit) <= TOLERANCE:
            raise UnsupportedGraph(f"the faster one gave a logit of {logit:.6g} instead of {own_logit:.6g}")


def _quantize_own(own_model: Any, folder: ModelFolder) -> Any:
    try:
        return quantize(own_model, flat=False)
    except UnsupportedGraph as reason:
        raise ModelLoadError(f"{folder.name} cannot be computed in int8: {reason}; use fp32") from reason


def load_graph(file: Path, folder: ModelFolder) -> Any:
    """Load a model with its weights, also where files beside it are links, as in the hub's cache."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    try:
        model = onnx.load(file, load_external_data=False)
        for tensor in filter(uses_external_data, model.graph.initializer):
            info = ExternalDataInfo(tensor)
            if Path(info.location).is_absolute() or ".." in Path(info.location).parts:
                raise ValueError(f"its weights are outside its folder, in {info.location}")
            with (file.parent / info.location).open("rb") as stream:
                stream.seek(info.offset or 0)
                tensor.raw_data = stream.read(info.length or -1)
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
        return model
    except Exception as error:  # protobuf's and onnx's errors have no common base class
        raise ModelLoadError(f"{folder.name}: {file.name} cannot be read: {error}") from error


def write_graph(model: Any, file: Path) -> None:
    """Write a model with its weights in a file beside it; the model object is unusable afterwards."""
    import onnx

    _remove(file)  # onnx would append to a weights file that is there
    onnx.save_model(model, file, save_as_external_data=True, location=_weights(file).name, size_threshold=1024)
    if _weights(file).is_file():  # onnx makes it readable to the user alone
        _weights(file).chmod(file.stat().st_mode)


def _weights(file: Path) -> Path:
    return file.with_name(f"{file.name}_data")


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    _weights(file).unlink(missing_ok=True)
