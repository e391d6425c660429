"""Training runs in tests: on one thread, and with the checkpoint copied where the finished folder would be made."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rag_rerank.training.card import Card
from rag_rerank.training.settings import Settings
from training.language import checkpoint

QUICK = Settings(
    epochs=1, batch=8, learning_rate=1e-3, max_length=32, evaluate_every=5, checkpoint_every=100, device="cpu"
)


def copied(checkpoint: Path, out: Path, *, calibration: Any, card: Card) -> None:
    """Stand in for what makes ONNX files, int8 and card of a checkpoint."""
    shutil.copytree(checkpoint, out)


@contextmanager
def copying() -> Iterator[list[Card]]:
    """Put `copied` in place, and give the cards that it was handed."""
    import torch

    cards: list[Card] = []
    stub = ModuleType("rag_rerank.training.folder")

    def complete(checkpoint: Path, out: Path, *, calibration: Any, card: Card) -> None:
        cards.append(card)
        copied(checkpoint, out, calibration=calibration, card=card)

    stub.complete = complete  # type: ignore[attr-defined]
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, stub.__name__, stub)
        torch.set_num_threads(1)
        yield cards
    torch.set_num_threads(threads)


def weights(folder: Path) -> dict[str, Any]:
    """Return the tensors of a checkpoint by name."""
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(folder / "model.safetensors")
    return found


def made_base(folder: Path) -> str:
    """Write the base that tests begin with."""
    return str(checkpoint(folder))
