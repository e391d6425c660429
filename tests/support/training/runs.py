"""Training runs in tests: on one thread, and with a copy of the checkpoint in place of the finished folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.training.toy_language import checkpoint

from rag_rerank.training.model_card.card import Card
from rag_rerank.training.model_folder import TrainedModel
from rag_rerank.training.settings import TrainingSettings

QUICK = TrainingSettings(
    epochs=1, batch=8, learning_rate=1e-3, max_length=32, evaluate_every=5, checkpoint_every=100, device="cpu"
)


@contextmanager
def copying() -> Iterator[list[Card]]:
    """Copy the checkpoint in place of `complete`, and yield the cards of the calls."""
    import torch

    cards: list[Card] = []

    def complete(checkpoint: Path, out: Path, *, card: Card, run: Mapping[str, Any], **options: Any) -> TrainedModel:
        """Replace the writing of ONNX files, int8 and card."""
        cards.append(card)
        shutil.copytree(checkpoint, out)
        (out / "training.json").write_text(json.dumps(run))
        return TrainedModel(path=out, card=card, calibration=None)

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("rag_rerank.training.train.complete", complete)
        torch.set_num_threads(1)
        yield cards
    torch.set_num_threads(threads)


def weights(folder: Path) -> dict[str, Any]:
    """Return the tensors of a checkpoint by name."""
    from safetensors.torch import load_file

    tensors: dict[str, Any] = load_file(folder / "model.safetensors")
    return tensors


def write_base(folder: Path) -> str:
    """Write the base of the tests."""
    return str(checkpoint(folder))
