"""Tiny late-interaction checkpoints in the formats of the published ones: random, fixed seed, written in a moment.

Stanford's format is that of ``colbert-ir/colbertv2.0`` and ``answerdotai/answerai-colbert-small-v1``, PyLate's that of
``lightonai/GTE-ModernColBERT-v1`` and ``mixedbread-ai/mxbai-edge-colbert-v0-17m`` (two layers over the encoder), and
that of sentence-transformers 6 is written by the library itself.
"""

from __future__ import annotations

import atexit
import json
import shutil
import string
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

__all__ = ["CHECKPOINTS", "colbert"]


def stanford(folder: Path, *, width: int = 16, attends: bool = False, text_length: int = 40) -> Path:
    """BERT with the projection among its weights, ``HF_ColBERT`` in its config, and ``artifact.metadata``."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertModel

    config, tokenizer = _bert()
    torch.manual_seed(0)
    encoder = BertModel(config, add_pooling_layer=False)
    weights = {f"bert.{name}": tensor for name, tensor in encoder.state_dict().items()}
    weights["linear.weight"] = torch.randn(width, config.hidden_size)
    _write_tokenizer(tokenizer, folder, config.max_position_embeddings)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write(folder / "config.json", {**config.to_dict(), "architectures": ["HF_ColBERT"]})
    metadata = {"query_maxlen": 12, "doc_maxlen": text_length, "attend_to_mask_tokens": attends, "dim": width}
    _write(folder / "artifact.metadata", metadata)
    return folder


def pylate(folder: Path, *, family: str = "modernbert", layers: int = 1, **settings: Any) -> Path:
    """What PyLate writes: two modules, and markers, lengths and the skip list among the settings of the whole model."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import AddedToken

    encoder, tokenizer = _encoder(family)
    tokenizer.core.add_tokens([AddedToken("[Q] ", normalized=True), AddedToken("[D] ", normalized=True)])
    _write_tokenizer(tokenizer, folder, 512)
    encoder.resize_token_embeddings(tokenizer.core.get_vocab_size())
    encoder.save_pretrained(folder)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    width = encoder.config.hidden_size
    for number in range(1, layers + 1):
        place, out = folder / f"{number}_Dense", 48 if number < layers else 16
        place.mkdir()
        save_file({"linear.weight": torch.randn(out, width) / width**0.5}, place / "model.safetensors")
        _write(
            place / "config.json",
            {
                "in_features": width,
                "out_features": out,
                "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity",
            },
        )
        modules.append({"idx": number, "name": str(number), "path": place.name, "type": "pylate.models.Dense.Dense"})
        width = out
    _write(folder / "modules.json", modules)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 40, "do_lower_case": False})
    own = {
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "MaxSim",
        "query_prefix": "[Q] ",
        "document_prefix": "[D] ",
        "query_length": 12,
        "document_length": 40,
        "attend_to_expansion_tokens": False,
        "skiplist_words": list(string.punctuation),
    }
    _write(folder / "config_sentence_transformers.json", {**own, **settings})
    return folder


def native(folder: Path, *, family: str = "modernbert", **settings: Any) -> Path:
    """What sentence-transformers 6 writes itself: a `MultiVectorEncoder` of four modules."""
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    encoder, tokenizer = _encoder(family)
    source = folder.with_name(f"{folder.name}-encoder")
    _write_tokenizer(tokenizer, source, 512)
    encoder.save_pretrained(source)
    lengths = {"query_length": 24, "document_length": 40, "query_expansion": settings.pop("expansion", None)}
    width = encoder.config.hidden_size
    model = MultiVectorEncoder(
        modules=[
            Transformer(str(source), transformer_task="feature-extraction", **lengths),
            Dense(width, width, activation_function=torch.nn.Tanh(), use_residual=True, **_TOKENS),
            Dense(width, 16, bias=False, activation_function=torch.nn.Identity(), **_TOKENS),
            MultiVectorMask(skiplist_words=settings.pop("skipped", None), skiplist_tasks=settings.pop("tasks", None)),
            Normalize(module_input_name="token_embeddings"),
        ],
        prompts={"query": "query: ", "document": "passage: "},
        device="cpu",
        **settings,
    )
    model.save_pretrained(str(folder), create_model_card=False)
    shutil.rmtree(source)
    return folder


_TOKENS = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}

CHECKPOINTS: Mapping[str, Callable[[Path], Path]] = {
    "colbertv2": stanford,
    "answerai-small": lambda folder: stanford(folder, width=12, attends=True, text_length=60),
    "gte-modern": pylate,
    "mxbai-edge": lambda folder: pylate(folder, layers=2, query_length=20, attend_to_expansion_tokens=True),
    "pylate-bert": lambda folder: pylate(folder, family="bert", do_query_expansion=False, skiplist_words=["the", "."]),
    "lateon": native,
    "native-bert": lambda folder: native(
        folder,
        family="bert",
        expansion={"strategy": "min", "length": 14, "attend": False},
        skipped=[".", ",", "?", "nosuchword"],
        tasks=["query", "document"],
        similarity_fn_name="meanmaxsim",
    ),
}
"""Name -> what writes such a checkpoint."""


@cache
def colbert(name: str) -> Path:
    """Return the folder of a checkpoint of `CHECKPOINTS`, written once a run; do not change it."""
    import torch

    torch.set_num_threads(1)
    parent = Path(tempfile.mkdtemp(prefix="colbert-"))
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    return CHECKPOINTS[name](parent / name)


def _encoder(family: str) -> tuple[Any, Tokenizer]:
    import torch
    from transformers import BertModel, ModernBertModel

    torch.manual_seed(0)
    if family == "bert":
        config, tokenizer = _bert()
        return BertModel(config, add_pooling_layer=False), tokenizer
    tokenizer = _modernbert_tokenizer()
    return ModernBertModel(_modernbert_config(tokenizer, {})), tokenizer


def _bert() -> tuple[Any, Tokenizer]:
    from transformers import BertConfig

    first = ("[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation)
    vocabulary = _word_pieces(first)
    config = BertConfig(vocab_size=len(vocabulary) + 2, max_position_embeddings=512, **_size({}))
    return config, _bert_tokenizer(vocabulary)


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2))
