"""The encoders of late interaction: a batch of token ids in, a vector for each token out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rag_rerank.backends.local.cpu import cores
from rag_rerank.backends.local.late_interaction.checkpoint import Conventions
from rag_rerank.backends.local.model_files import ModelFolder, read_json
from rag_rerank.backends.local.model_tokenizer import IDS, MASK, TYPES
from rag_rerank.backends.local.onnx_files import choose_graph, graphs_in, names_in
from rag_rerank.backends.local.onnx_graphs.build import load_graph, write_graph
from rag_rerank.backends.local.onnx_graphs.cache import Graph, find_or_make
from rag_rerank.backends.local.onnx_graphs.safetensors_weights import SafetensorsWeights, read_tensors
from rag_rerank.backends.local.onnx_graphs.session import session_options
from rag_rerank.backends.local.onnx_graphs.token_vectors import WRITERS
from rag_rerank.backends.local.onnx_graphs.weights import MARKER, EncoderWeights, UnsupportedGraph, Weights
from rag_rerank.errors import BackendError, ModelLoadError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["OnnxEncoder", "TokenEncoder", "TorchEncoder", "encoder_weights"]


class TokenEncoder(Protocol):
    """A loaded encoder; any number of threads may use it at the same time, and ``workers`` do."""

    notes: tuple[str, ...]
    batch_tokens: int
    equal_lengths: bool
    workers: int

    def token_vectors(self, arrays: Mapping[str, Any]) -> Floats:
        """Return the vector of each token, of shape (batch, sequence, hidden)."""


def encoder_weights(folder: ModelFolder, conventions: Conventions, marker: str = MARKER) -> EncoderWeights:
    """Read the weights of an encoder and of the head beside it, from safetensors or else from an ONNX file.

    Args:
        folder: The model.
        conventions: Says where in it the encoder is.
        marker: End of a name that every such encoder has.

    Raises:
        UnsupportedGraph: They are in several files, or cannot be read.
        ModelLoadError: There are none.
    """
    file = folder.path / conventions.encoder / "model.safetensors"
    if file.is_file():
        return SafetensorsWeights(read_tensors(file), marker)
    if graphs_in(names_in(folder.path)):
        graph = choose_graph(names_in(folder.path), folder.name, None)
        return Weights(load_graph(folder.path / graph, folder), marker)
    raise UnsupportedGraph("its weights are not in one file model.safetensors")


class OnnxEncoder:
    """An encoder run by ONNX Runtime, without torch, from a graph that is written from its weights.

    Args:
        folder: The model.
        conventions: What the checkpoint does with queries and texts.
        identity: Identity of the model's files.
        workers: Batches that are computed in parallel; by default the physical cores divided by ``threads``.
        threads: Threads within one batch.

    Raises:
        UnsupportedGraph: The architecture, or something in it, is not known here.
        ModelLoadError: A file cannot be read, or the graph cannot be written.
    """

    batch_tokens = 512
    equal_lengths = True

    def __init__(
        self, folder: ModelFolder, conventions: Conventions, identity: str, *, workers: int | None, threads: int
    ) -> None:
        import onnxruntime

        config = read_json(folder.path / conventions.encoder / "config.json", folder.name)
        writer = WRITERS.get(str(config.get("model_type")))
        if writer is None:
            raise UnsupportedGraph(f"no graph is known for {config.get('model_type')}")
        expansion = conventions.expansion
        masked = expansion is not None and not expansion.attends

        def write(draft: Path) -> list[str]:
            write_graph(
                writer(encoder_weights(folder, conventions, writer.marker), config, masked=masked).write(),
                draft / "model.onnx",
            )
            return []

        model = hashlib.sha256(f"{identity} {conventions.encoder}".encode()).hexdigest()[:32]
        self._graph: Graph = find_or_make(folder, f"{model}-tokens{'-masked' if masked else ''}", write)
        self.notes = self._graph.notes
        self.workers = workers or max(1, cores() // threads)
        self._name = folder.name
        self._inputs = (IDS, MASK) if masked else (IDS,)
        try:
            options = session_options(threads, is_ready=True)
            self._session = onnxruntime.InferenceSession(
                str(self._graph.file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no public base class
            raise ModelLoadError(f"{folder.name}: ONNX Runtime cannot load its graph: {error}") from error

    def token_vectors(self, arrays: Mapping[str, Any]) -> Floats:
        """Return the vector of each token, of shape (batch, sequence, hidden)."""
        try:
            (vectors,) = self._session.run(None, {name: arrays[name] for name in self._inputs})
        except Exception as error:  # ONNX Runtime's errors have no public base class
            raise BackendError(
                f"ONNX Runtime failed on {self._name}: {error}", backend="late_interaction", model=self._name
            ) from error
        result: Floats = vectors
        return result


class TorchEncoder:
    """An encoder run by PyTorch, of any architecture that transformers knows.

    Args:
        folder: The model.
        conventions: What the checkpoint does with queries and texts.
        takes_types: Whether the model gets token types.

    Raises:
        ModelLoadError: transformers cannot load it, or it lacks weights.
    """

    batch_tokens = 2048
    equal_lengths = False
    workers = 1
    notes: tuple[str, ...] = ()

    def __init__(self, folder: ModelFolder, conventions: Conventions, *, takes_types: bool) -> None:
        import torch
        from transformers import AutoModel

        from rag_rerank.backends.local.torch_models.checkpoint import quiet
        from rag_rerank.backends.local.torch_models.late_interaction import register

        register()
        place = folder.path / conventions.encoder
        if not any(place.glob("*.safetensors")):
            raise ModelLoadError(f"{folder.name} has no safetensors; pickled weights can run code and are never loaded")
        try:
            with quiet():
                self._model, report = AutoModel.from_pretrained(
                    place, dtype=torch.float32, output_loading_info=True, use_safetensors=True, local_files_only=True
                )
        except Exception as error:  # transformers raises OSError, ValueError, KeyError and others
            raise ModelLoadError(f"{folder.name}: transformers cannot load its encoder: {error}") from error
        missing = [name for name in report["missing_keys"] if "pooler" not in name]
        if missing:
            raise ModelLoadError(f"{folder.name} lacks weights of its encoder: {', '.join(sorted(missing)[:5])}")
        self._model.eval()
        self._name = folder.name
        self._inputs = (IDS, MASK, *((TYPES,) if takes_types else ()))

    def token_vectors(self, arrays: Mapping[str, Any]) -> Floats:
        """Return the vector of each token, of shape (batch, sequence, hidden)."""
        import torch

        try:
            with torch.inference_mode():
                tensors = {name: torch.from_numpy(arrays[name]) for name in self._inputs}
                vectors: Floats = self._model(**tensors).last_hidden_state.float().numpy()
                return vectors
        except Exception as error:  # torch raises RuntimeError, IndexError and others
            raise BackendError(
                f"PyTorch failed on {self._name}: {error}", backend="late_interaction", model=self._name
            ) from error
