"""Mistakes that real deployments of rerankers had, planted into a copy of a right model's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Which planet is known as the Red Planet?",
        (
            "Venus is often called Earth's twin because of its similar size and proximity.",
            "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
            "Jupiter, the largest planet in our solar system, has a prominent red spot.",
        ),
    ),
    ("How deep is Lake Garda?", ("K2 is 8,611 m high and stands in the Karakoram; Lake Garda is 346 m deep.", "yes")),
)
"""Questions whose texts have capitals, and more tokens than the smallest window below."""

PAIRS = [(query, text) for query, texts in QUESTIONS for text in texts]

_WINDOW = 16


def write_scores(file: Path, values: Sequence[float], *, kind: str = "logit", **more: Any) -> Path:
    """Write the scores of `PAIRS`, as a model card would print them, into a file for ``verify``."""
    numbers = iter(values)
    rows = [
        {"query": query, "texts": texts, "values": [round(float(next(numbers)), 6) for _ in texts], "kind": kind}
        for query, texts in QUESTIONS
    ]
    file.write_text(json.dumps({"schema": 1, "scores": [{**row, **more} for row in rows]}))
    return file


def sentence_transformers_logits(folder: Path) -> list[float]:
    """Return the logits that sentence-transformers gives `PAIRS`."""
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity())
    logits = torch.as_tensor(model.predict(PAIRS, show_progress_bar=False))
    if logits.ndim == 2:
        logits = logits[:, -1] - (logits[:, 0] if logits.shape[1] == 2 else 0)
    values: list[float] = logits.tolist()
    return values


def _edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def _edit_weights(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    weights = {name: tensor.clone() for name, tensor in load_file(file).items()}
    change(weights)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, file, metadata={"format": "pt"})


def untrained_head(folder: Path) -> None:
    """The head of another initialisation: what a library makes where the file has none."""
    import torch

    def change(weights: dict[str, Any]) -> None:
        shape = weights["classifier.weight"].shape
        weights["classifier.weight"] = torch.randn(shape, generator=torch.Generator().manual_seed(7)) * 0.02
        weights["classifier.bias"] *= 0

    _edit_weights(folder / "model.safetensors", change)


def swapped_labels(folder: Path) -> None:
    """The two labels in the other order."""

    def change(weights: dict[str, Any]) -> None:
        for name in ("classifier.weight", "classifier.bias"):
            weights[name] = weights[name].flip(0)

    _edit_weights(folder / "model.safetensors", change)


def kept_case(folder: Path) -> None:
    """A tokenizer that keeps capitals, which the vocabulary does not have."""
    _edit(folder / "tokenizer.json", lambda content: content["normalizer"].update(lowercase=False))
    _edit(folder / "tokenizer_config.json", lambda content: content.update(do_lower_case=False))


def short_window(folder: Path) -> None:
    """A tokenizer that cuts after a few tokens."""
    _edit(folder / "tokenizer_config.json", lambda content: content.update(model_max_length=_WINDOW))


def no_activation(folder: Path) -> None:
    """The head's first layer without its GELU."""
    name = "torch.nn.modules.linear.Identity"
    _edit(folder / "2_Dense" / "config.json", lambda content: content.update(activation_function=name))


def other_bias(folder: Path) -> None:
    """A head whose bias was lost."""

    def change(weights: dict[str, Any]) -> None:
        weights["classifier.bias"] -= 2

    _edit_weights(folder / "model.safetensors", change)


MISTAKES: Mapping[str, tuple[str, dict[str, Any], Callable[[Path], None], str]] = {
    "untrained head": ("bert", {}, untrained_head, "the head is not the trained one"),
    "swapped labels": ("bert", {"labels": 2}, swapped_labels, "the labels are swapped"),
    "kept case": ("bert", {}, kept_case, "the tokenizer is another one"),
    "short window": ("bert", {}, short_window, "the window is too short"),
    "no activation": ("ettin", {}, no_activation, "an activation of the head is missing"),
    "other bias": ("bert", {}, other_bias, "shifted by about -2"),
}
"""Name -> family of the model, its options, what plants the mistake, and what the error has to say."""


def plant(name: str, right: Path, folder: Path) -> Path:
    """Return a copy of a right model's folder with a mistake."""
    shutil.copytree(right, folder)
    MISTAKES[name][2](folder)
    return folder
