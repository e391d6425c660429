"""Tiny learned sparse checkpoints in the layouts of the published ones: random, fixed seed, written in a moment.

``splade`` is that of ``naver/splade-v3`` as sentence-transformers publishes it, ``naver`` that of the first SPLADE
checkpoints (a masked language model and no list of modules), ``inference-free`` that of OpenSearch's ``doc-v2`` and
``doc-v3`` (a router: a table of weights for queries, a model for texts), and ``idf`` that of a table alone.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from support.tiny_checkpoints import (
    Tokenizer,
    _bert_tokenizer,
    _modernbert_config,
    _modernbert_tokenizer,
    _size,
    _word_pieces,
    _write_tokenizer,
)

__all__ = ["CHECKPOINTS", "sparse"]

_LEGACY = {
    "sentence_transformers.base.modules.transformer.Transformer": (
        "sentence_transformers.sparse_encoder.models.MLMTransformer"
    ),
    "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling": (
        "sentence_transformers.sparse_encoder.models.SpladePooling"
    ),
    "sentence_transformers.sparse_encoder.modules.sparse_static_embedding.SparseStaticEmbedding": (
        "sentence_transformers.sparse_encoder.models.SparseStaticEmbedding"
    ),
    "sentence_transformers.base.modules.router.Router": "sentence_transformers.models.Router",
}
"""Names of modules as version 6 writes them -> as published checkpoints have them."""


def naver(folder: Path, *, family: str = "bert", more_rows: int = 3, window: int = 48) -> Path:
    """A masked language model with its tokenizer, and nothing that says what it is for."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM, ModernBertForMaskedLM

    torch.manual_seed(0)
    tokenizer: Tokenizer
    if family == "modernbert":
        tokenizer = _modernbert_tokenizer()
        model: Any = ModernBertForMaskedLM(_modernbert_config(tokenizer, {}))
    else:
        vocabulary = _word_pieces(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
        tokenizer = _bert_tokenizer(vocabulary)
        size = _size({})
        if family == "distilbert":
            dimensions = {"dim": size["hidden_size"], "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
            model = DistilBertForMaskedLM(DistilBertConfig(vocab_size=len(vocabulary), **dimensions))
        else:  # more rows than tokens, as where a matrix is filled up to a multiple of eight
            model = BertForMaskedLM(
                BertConfig(vocab_size=len(vocabulary) + more_rows, max_position_embeddings=512, **size)
            )
    norms = {"bert": "cls.predictions.transform.LayerNorm", "distilbert": "vocab_layer_norm", "modernbert": "head.norm"}
    with torch.no_grad():  # logits of a few units, a third of them above zero
        model.get_submodule(norms[family]).weight.mul_(12.0)
        model.get_output_embeddings().bias.fill_(-0.5)
    _write_tokenizer(tokenizer, folder, window)
    model.save_pretrained(folder)
    return folder


def splade(
    folder: Path,
    *,
    family: str = "bert",
    pooling: str = "max",
    activation: str = "relu",
    legacy: bool = False,
    **settings: Any,
) -> Path:
    """What sentence-transformers writes of a SPLADE model: a transformer with its head, and the pooling of logits."""
    from sentence_transformers import SparseEncoder

    with _parts(folder, family, pooling, activation) as modules:
        model = SparseEncoder(modules=modules, device="cpu", **settings)
        model.save_pretrained(str(folder), create_model_card=False)
    if legacy:
        _rename_modules(folder)
    return folder


def inference_free(
    folder: Path, *, from_json: bool = False, legacy: bool = False, router: bool = True, **settings: Any
) -> Path:
    """A table of weights for queries, and a model for texts; without ``router``, the table for both."""
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

    with _parts(folder, "bert", "max", "log1p_relu", more_rows=0) as (transformer, pooling):
        size = len(transformer.tokenizer.get_vocab())
        weights = torch.rand(size, generator=torch.Generator().manual_seed(3)) * 8
        table = SparseStaticEmbedding(transformer.tokenizer, weights, frozen=True)
        modules = [Router.for_query_document([table], [transformer, pooling])] if router else [table]
        model = SparseEncoder(modules=modules, device="cpu", **settings)
        model.save_pretrained(str(folder), create_model_card=False)
    if from_json:  # idf.json beside the model, and its path in the config of the table
        tokens = {token: float(weights[id]) for token, id in transformer.tokenizer.get_vocab().items()}
        _write(folder / "idf.json", tokens)
        place = folder / "query_0_SparseStaticEmbedding"
        (place / "model.safetensors").unlink()
        _write(place / "config.json", {"path": str(folder / "idf.json"), "frozen": True})
    if legacy:
        _rename_modules(folder)
    return folder


def idf(folder: Path) -> Path:
    """A table and a tokenizer alone."""
    vocabulary = _word_pieces(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
    folder.mkdir(parents=True)
    _bert_tokenizer(vocabulary).core.save(str(folder / "tokenizer.json"))
    _write(folder / "idf.json", {token: 0.5 + id % 7 for token, id in vocabulary.items()} | {"notoken": 3.0})
    return folder


CHECKPOINTS: Mapping[str, Callable[[Path], Path]] = {
    "splade": splade,
    "splade-distil": lambda folder: splade(
        folder, family="distilbert", legacy=True, prompts={"query": "query: ", "document": "passage: "}
    ),
    "splade-modern": lambda folder: splade(folder, family="modernbert", max_active_dims=12),
    "splade-sum": lambda folder: splade(folder, pooling="sum", similarity_fn_name="cosine"),
    "splade-euclidean": lambda folder: splade(folder, similarity_fn_name="euclidean"),
    "splade-manhattan": lambda folder: splade(folder, similarity_fn_name="manhattan"),
    "naver": naver,
    "naver-long": lambda folder: naver(folder, window=512),
    "inference-free": inference_free,
    "opensearch-doc": lambda folder: inference_free(folder, from_json=True, legacy=True),
    "static": lambda folder: inference_free(folder, router=False),
}
"""Name -> what writes such a checkpoint, which sentence-transformers reads too."""


@cache
def sparse(name: str) -> Path:
    """Return the folder of a checkpoint of `CHECKPOINTS`, or ``idf``, written once a run; do not change it."""
    import torch

    torch.set_num_threads(1)
    parent = Path(tempfile.mkdtemp(prefix="sparse-"))
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    return idf(parent / name) if name == "idf" else CHECKPOINTS[name](parent / name)


class _parts:
    """The modules of a model, loaded from a masked language model that is written for them and removed again."""

    def __init__(self, folder: Path, family: str, pooling: str, activation: str, more_rows: int = 3) -> None:
        self.source = folder.with_name(f"{folder.name}-source")
        self.family, self.pooling, self.activation, self.more_rows = family, pooling, activation, more_rows

    def __enter__(self) -> list[Any]:
        from sentence_transformers.base.modules import Transformer
        from sentence_transformers.sparse_encoder.modules import SpladePooling

        naver(self.source, family=self.family, more_rows=self.more_rows)
        transformer = Transformer(str(self.source), transformer_task="fill-mask")
        return [transformer, SpladePooling(self.pooling, self.activation)]

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.source)


def _rename_modules(folder: Path) -> None:
    for file in (folder / "modules.json", folder / "router_config.json"):
        if file.is_file():
            text = file.read_text()
            for name, legacy in _LEGACY.items():
                text = text.replace(f'"{name}"', f'"{legacy}"')
            file.write_text(text)


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2))
