"""The ONNX file that comes with a model, for encoders that no graph is written for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rag_rerank.backends.local.cpu import cores
from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.model_tokenizer import IDS, MASK, TYPES
from rag_rerank.backends.local.onnx_files import choose_graph, graph_note, names_in
from rag_rerank.backends.local.onnx_graphs.session import session_options
from rag_rerank.errors import BackendError, ModelLoadError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["ExportedEncoder"]

_TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")
"""Names that exporters give to the vectors of tokens."""


class ExportedEncoder:
    """The ONNX file of a model as it is, for architectures that no graph is written for.

    Args:
        folder: The model.
        workers: Batches that are computed in parallel; by default the physical cores divided by ``threads``.
        threads: Threads within one batch.

    Raises:
        ModelLoadError: There is no file, it cannot be loaded, or gives no vectors of tokens.
    """

    batch_tokens = 512
    equal_lengths = True

    def __init__(self, folder: ModelFolder, *, workers: int | None, threads: int) -> None:
        import onnxruntime

        graph = choose_graph(names_in(folder.path), folder.name, None)
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder.path / graph), session_options(threads, is_ready=False), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no public base class
            raise ModelLoadError(f"{folder.name}: ONNX Runtime cannot load {graph}: {error}") from error
        outputs = {output.name: len(output.shape or ()) for output in self._session.get_outputs()}
        names = [name for name in _TOKEN_OUTPUTS if name in outputs] or [n for n, rank in outputs.items() if rank == 3]
        if not names:
            raise ModelLoadError(
                f"{folder.name}: {graph} gives {', '.join(outputs)}, and no token vectors; export it without pooling"
            )
        self._output = names[0]
        self._inputs = [one.name for one in self._session.get_inputs()]
        if unknown := [name for name in self._inputs if name not in (IDS, MASK, TYPES)]:
            raise ModelLoadError(f"{folder.name}: {graph} takes {', '.join(unknown)}, which is not known here")
        self.notes = graph_note(graph)
        self.workers = workers or max(1, cores() // threads)
        self._name = folder.name

    def token_vectors(self, arrays: Mapping[str, Any]) -> Floats:
        """Return the vector of each token, of shape (batch, sequence, hidden)."""
        try:
            (vectors,) = self._session.run([self._output], {name: arrays[name] for name in self._inputs})
        except Exception as error:  # ONNX Runtime's errors have no public base class
            raise BackendError(
                f"ONNX Runtime failed on {self._name}: {error}", backend="embedding", model=self._name
            ) from error
        result: Floats = vectors.astype("float32", copy=False)
        return result
