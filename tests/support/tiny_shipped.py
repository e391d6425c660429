"""Tiny causal rerankers as sentence-transformers saves them: a chat template, and the ids of the answer words."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from support.tiny_checkpoints import PAIRS, _causal, _qwen_tokenizer, _write_tokenizer, checkpoint

__all__ = ["FAMILIES", "FLAT", "STRUCTURED", "Family", "shipped", "with_vision"]

FLAT = """\
{%- set instruction = messages | selectattr("role", "eq", "system") | map(attribute="content") | first \
| default("Given a question, find passages that answer it") -%}
<|im_start|>system
Judge whether the document meets the requirements. Answer "yes" or "no" {in one word}.<|im_end|>
<|im_start|>user
<Instruct>: {{ instruction }}
<Query>: {{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}
<Document>: {{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}<|im_end|>
{%- if add_generation_prompt %}
<|im_start|>assistant
<think>

</think>

{% endif %}"""
"""A template of the kind that Qwen3-Reranker's users write."""

STRUCTURED = """\
<|im_start|>user
Query: {{ (messages | selectattr("role", "eq", "query") | first).content[0].text }}
Document: {{ (messages | selectattr("role", "eq", "document") | first).content[0].text }}<|im_end|>
<|im_start|>assistant
"""
"""A template of a model that reads pictures too, where a message is a list of parts."""


class Family(NamedTuple):
    """How a published family is made, and how its score is read.

    Args:
        make: Writes the language model with its tokenizer into a folder.
        template: The chat template.
        words: The positive answer word and, if it counts, the negative.
    """

    make: Callable[[Path], Path]
    template: str
    words: tuple[str, ...]


def _qwen3(folder: Path) -> Path:
    return Path(shutil.copytree(checkpoint("qwen3"), folder))


def _qwen35(folder: Path) -> Path:
    """Qwen3.5: three layers of gated linear attention, then one of full attention."""
    import torch
    from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

    tokenizer = _qwen_tokenizer(("<think>", "</think>"))
    config = Qwen3_5TextConfig(
        **_causal(tokenizer, {}) | {"num_hidden_layers": 4},
        head_dim=16,
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        tie_word_embeddings=True,
    )
    _write_tokenizer(tokenizer, folder, 2048)
    torch.manual_seed(0)
    model = Qwen3_5ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


FAMILIES: Mapping[str, Family] = {
    "KURE-Reranker-base": Family(_qwen3, FLAT, ("yes", "no")),
    "zerank-2": Family(_qwen3, FLAT, ("Yes",)),
    "LightOn-rerank-PW": Family(_qwen35, FLAT, ("Yes", "No")),
    "structured messages": Family(_qwen3, STRUCTURED, ("Yes", "No")),
}


@cache
def shipped(name: str, **options: Any) -> Path:
    """Return the folder of a checkpoint, written once a run; do not change it.

    Args:
        name: A key of `FAMILIES`.
        options: Arguments of `sentence_transformers.CrossEncoder`, such as ``prompts``.
    """
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.cross_encoder.modules import LogitScore

    torch.set_num_threads(1)  # waking threads takes longer than these models do
    family = FAMILIES[name]
    parent = Path(tempfile.mkdtemp(prefix="shipped-"))
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    folder = family.make(parent / "language-model")
    (folder / "chat_template.jinja").write_text(family.template, encoding="utf-8")
    transformer = Transformer(
        str(folder),
        transformer_task="text-generation",
        processing_kwargs={"chat_template": {"add_generation_prompt": True}},
    )
    ids = [transformer.tokenizer.convert_tokens_to_ids(word) for word in family.words]
    keys = {key: dict(value) if isinstance(value, tuple) else value for key, value in options.items()}
    model = CrossEncoder(modules=[transformer, LogitScore(*ids)], device="cpu", **keys).eval()
    with torch.no_grad():  # logits that are spread over a few units, as those of trained models are
        logits = model.predict(list(PAIRS), activation_fn=torch.nn.Identity(), show_progress_bar=False)
        weight, scale = transformer.model.model.norm.weight, 3 / float(logits.std())
        adds_one = type(transformer.model.model.norm).__name__.startswith("Qwen3_5")  # to its weight
        weight.copy_((1 + weight) * scale - 1 if adds_one else weight * scale)
    model.save_pretrained(str(parent / "reranker"), create_model_card=False)
    return parent / "reranker"


@cache
def with_vision(name: str) -> Path:
    """Return the same kind of checkpoint with a vision part beside the language model, as Qwen3.5 is published."""
    import json

    import torch
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    source = shipped(name)
    folder = source.parent / "with-vision"
    shutil.copytree(source, folder)
    (folder / "model.safetensors").unlink()
    text = json.loads((source / "config.json").read_text(encoding="utf-8"))
    sizes = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    patches = {"patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 16}
    config = Qwen3_5Config(text_config=text, vision_config={**sizes, **patches}, tie_word_embeddings=True)
    torch.manual_seed(0)
    model = Qwen3_5ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.model.language_model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder
