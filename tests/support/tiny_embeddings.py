"""Tiny embedding models as sentence-transformers saves them: random, fixed seed, written in a moment."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from support.tiny_checkpoints import _write_tokenizer, checkpoint
from support.tiny_colbert import _encoder

__all__ = ["MODELS", "embedding_model"]


def _dense(width: int, out: int, **options: Any) -> Any:
    import torch
    from sentence_transformers.base.modules import Dense

    torch.manual_seed(1)
    return Dense(width, out, **options)


def _save(
    folder: Path,
    *,
    family: str = "bert",
    pooling: str | Sequence[str] = "mean",
    steps: Sequence[str] = (),
    include_prompt: bool = True,
    window: int = 40,
    prompts: Mapping[str, str] | None = None,
    **settings: Any,
) -> Path:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    source = folder.with_name(f"{folder.name}-encoder")
    if family in ("bert", "modernbert"):
        encoder, tokenizer = _encoder(family)
        _write_tokenizer(tokenizer, source, 512)
        encoder.save_pretrained(source)
    else:
        shutil.copytree(checkpoint(family), source)
    transformer = Transformer(str(source), transformer_task="feature-extraction", max_seq_length=window)
    width = transformer.get_embedding_dimension()
    modules = [transformer, Pooling(width, pooling, include_prompt=include_prompt)]
    width = modules[-1].pooling_output_dimension
    for step in steps:
        if step == "normalize":
            modules.append(Normalize())
        elif step == "tanh":
            modules.append(_dense(width, width, use_residual=True))
        else:
            modules.append(_dense(width, 12, bias=False, activation_function=torch.nn.Identity()))
            width = 12
    model = SentenceTransformer(modules=modules, prompts=prompts, device="cpu", **settings)
    model.save_pretrained(str(folder), create_model_card=False)
    shutil.rmtree(source)
    return folder


MODELS: Mapping[str, Callable[[Path], Path]] = {
    "mean": _save,
    "cls": lambda folder: _save(folder, pooling="cls", steps=["normalize"]),
    "max": lambda folder: _save(folder, pooling="max", similarity_fn_name="dot"),
    "root": lambda folder: _save(folder, pooling="mean_sqrt_len_tokens", similarity_fn_name="dot"),
    "weighted": lambda folder: _save(
        folder, pooling="weightedmean", include_prompt=False, prompts={"query": "the lake: ", "document": "deep "}
    ),
    "joined": lambda folder: _save(folder, family="modernbert", pooling=("cls", "mean"), steps=["tanh", "smaller"]),
    "last": lambda folder: _save(
        folder,
        family="qwen3",
        pooling="lasttoken",
        steps=["normalize"],
        prompts={"query": "Instruct: find the lake\nQuery:", "document": ""},
    ),
    "wide": lambda folder: _save(folder, window=512, pooling="cls", prompts={"query": "query: ", "document": "text: "}),
    "wide-last": lambda folder: _save(
        folder,
        family="qwen3",
        window=512,
        pooling="lasttoken",
        prompts={"query": "Instruct: find the lake\nQuery:", "document": ""},
    ),
    "xlm": lambda folder: _save(folder, family="xlm-roberta", include_prompt=False, prompts={"query": "query: "}),
}
"""Name -> what writes such a model."""


@cache
def embedding_model(name: str) -> Path:
    """Return the folder of a model of `MODELS`, written once a run; do not change it."""
    import torch

    torch.set_num_threads(1)
    parent = Path(tempfile.mkdtemp(prefix="embedding-"))
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    return MODELS[name](parent / name)
