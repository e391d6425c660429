"""Learned sparse models run by sentence-transformers: a masked language model, and the pooling of its logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.sparse.checkpoint import module_places
from rag_rerank.backends.local.sparse.term_weights import TermWeights
from rag_rerank.backends.local.torch_models.checkpoint import check_trained, quiet, refuse_own_code
from rag_rerank.backends.local.torch_models.devices import (
    dtype_named,
    is_out_of_memory,
    release_gpu_memory,
    usable_device,
)
from rag_rerank.errors import BackendError, ModelLoadError

__all__ = ["SparseTorchEncoder"]


class SparseTorchEncoder:
    """sentence-transformers' `SparseEncoder`, which gets inputs that are made here.

    Args:
        folder: The checkpoint.
        place: Folder of the model for texts within it.
        device: Name of a torch device, or ``"auto"``.
        dtype: What the model computes in.
        max_active_dims: The most terms of a query and of a text; ``None`` for all.

    Raises:
        ModelLoadError: It has pickled weights only, lacks weights, or cannot be loaded.
    """

    def __init__(
        self, folder: ModelFolder, place: str, *, device: str, dtype: str, max_active_dims: int | None
    ) -> None:
        import torch
        from sentence_transformers import SparseEncoder

        _check_weights(folder)
        self.name, self.device = folder.name, usable_device(device)
        self._max_active_dims = max_active_dims
        try:
            with quiet():
                self._model = SparseEncoder(
                    str(folder.path),
                    device=self.device,
                    trust_remote_code=False,
                    local_files_only=True,
                    model_kwargs={"dtype": dtype_named(dtype), "use_safetensors": True},
                ).eval()
        except Exception as error:  # transformers raises many kinds of errors for broken files
            if (folder.path / "config.json").is_file():
                refuse_own_code(folder, error)
            raise ModelLoadError(f"{folder.name} cannot be loaded: {error}") from error
        encoder = self._model.transformers_model
        if encoder is None:
            raise ModelLoadError(f"{folder.name} has no transformer, so it is no learned sparse model")
        missing = check_trained(encoder, folder.path / place)
        if missing:
            raise ModelLoadError(
                f"{folder.name} lacks trained weights, which would be random: {', '.join(missing[:5])}; is it a "
                "learned sparse model?"
            )
        self.width = int(encoder.config.vocab_size)
        self.is_plain = self.device == "cpu" and encoder.dtype == torch.float32
        self.note = f"computed on {self.device} in {str(encoder.dtype).removeprefix('torch.')}"

    def term_weights(self, arrays: Mapping[str, Any], task: Literal["query", "document"]) -> Sequence[TermWeights]:
        """Return the terms of each input of a batch that have a weight.

        Raises:
            BackendError: PyTorch fails, or the device has no memory for the batch.
        """
        import torch
        from sentence_transformers.util import select_max_active_dims

        more: dict[str, Any] = {} if self._max_active_dims is None else {"max_active_dims": self._max_active_dims}
        try:
            with torch.inference_mode():
                features = {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}
                dense = self._model(features, task=task, **more)["sentence_embedding"]
                if self._max_active_dims is not None:
                    dense = select_max_active_dims(dense, max_active_dims=self._max_active_dims)
                weights = dense.float().cpu().numpy()
        except Exception as error:  # torch raises RuntimeError, IndexError and others
            if is_out_of_memory(error):
                release_gpu_memory()
                raise self._error(f"{self.device} has no memory for a batch; lower batch_tokens") from error
            raise self._error(f"PyTorch failed on {self.name}: {error}") from error
        return [TermWeights(ids := row.nonzero()[0], row[ids]) for row in weights]

    def _error(self, message: str) -> BackendError:
        return BackendError(message, backend="sparse", model=self.name)


def _check_weights(folder: ModelFolder) -> None:
    """Refuse a checkpoint with pickled weights, before anything is read.

    Raises:
        ModelLoadError: A module has no safetensors file, but pickled ones.
    """
    for place in module_places(folder):
        part = folder.path / place
        if any(part.glob("*.bin")) and not any(part.glob("*.safetensors")):
            raise ModelLoadError(
                f"{folder.name} has pickled weights only in {place or '.'}, which can run code when they are read; "
                "save the model as safetensors"
            )
