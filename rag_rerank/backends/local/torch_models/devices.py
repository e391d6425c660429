"""Devices and number formats of PyTorch."""

from __future__ import annotations

from typing import Any

from rag_rerank.errors import ConfigError

__all__ = ["dtype_named", "is_out_of_memory", "release_gpu_memory", "usable_device"]


def usable_device(name: str) -> str:
    """Return the name of the device to use, after a check that it works here."""
    import torch

    if name == "auto":
        mps = torch.backends.mps.is_available()
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"torch knows no device {name!r}", path="device") from error
    try:
        torch.empty(0, device=device)
    except Exception as error:  # AssertionError where torch is built without it, RuntimeError where there is none
        raise ConfigError(f"the device {name!r} cannot be used here: {error}", path="device") from error
    return str(device)


def dtype_named(name: str) -> Any:
    """Return a number format of torch; ``"auto"`` as it is."""
    import torch

    return name if name == "auto" else getattr(torch, name)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that the batch was too large: CUDA has a class for it, MPS only messages."""
    import torch

    messages = ("MPS backend out of memory", "Invalid buffer size")
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and str(error).startswith(messages)
    )


def release_gpu_memory() -> None:
    """Release the GPU memory that torch reserves for later."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
