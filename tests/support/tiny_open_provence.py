"""A tiny OpenProvence checkpoint: random, with the files, the names of weights and the config of published ones.

It is written without the library: the layout is that of ``save_pretrained`` in hotchpotch/open_provence at 9635cbc,
and ``base_model_config`` has the keys that ``ModernBertConfig.to_dict()`` of transformers 4.57.1 writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.tiny_checkpoints import PAIRS, _modernbert_tokenizer, _write_tokenizer

STANDALONE = "modeling_open_provence_standalone.OpenProvence"


def open_provence(folder: Path, *, seed: int = 0, max_length: int = 128, **changes: Any) -> Path:
    """Write the checkpoint into a folder.

    Args:
        folder: Where to write.
        seed: Of the random weights.
        max_length: The window.
        changes: Keys of config.json.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import ModernBertForSequenceClassification, PreTrainedTokenizerFast

    tokenizer = _modernbert_tokenizer()
    base = base_config(tokenizer.core)
    torch.manual_seed(seed)
    model = ModernBertForSequenceClassification(config_of_transformers(base)).eval()
    head = torch.nn.Linear(base["hidden_size"], 2)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer.core, pad_token="[PAD]")
    inputs = fast(*map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        norm = model.model.final_norm
        norm.weight.copy_(torch.linspace(0.2, 3.0, len(norm.weight)).flip(0))  # so that it matters where the head reads
        model.classifier.weight.mul_(2 / model(**inputs).logits.std())
        head.weight.normal_(std=0.3)
        head.bias.copy_(torch.tensor([0.4, -0.3]))
    weights = {f"ranking_model.{name}": tensor for name, tensor in model.state_dict().items()}
    weights |= {f"pruning_head.classifier.{name}": tensor for name, tensor in head.state_dict().items()}
    _write_tokenizer(tokenizer, folder, 512)
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    config = {
        "architectures": ["OpenProvenceForSequenceClassification"],
        "auto_map": {
            "AutoConfig": f"{STANDALONE}Config",
            "AutoModel": f"{STANDALONE}ForSequenceClassification",
            "AutoModelForSequenceClassification": f"{STANDALONE}ForSequenceClassification",
            "AutoModelForTokenClassification": f"{STANDALONE}ForTokenClassification",
        },
        "base_model_config": base,
        "base_model_name_or_path": "hotchpotch/japanese-reranker-base-v2",
        "default_threadshold": None,
        "encoder_architecture": "modernbert",
        "hidden_size": base["hidden_size"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "max_length": max_length,
        "mode": "reranking_pruning",
        "model_type": "open_provence",
        "num_pruning_labels": 2,
        "pruning_config": {
            "classifier_dropout": 0.1,
            "hidden_size": base["hidden_size"],
            "num_labels": 2,
            "sentence_pooling": "mean",
            "use_weighted_pooling": False,
        },
        "tokenizer_name_or_path": None,
        "transformers_version": "4.57.1",
        "vocab_size": base["vocab_size"],
    }
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    code = f"open({str(folder.parent / 'ran')!r}, 'w').close()"
    (folder / "modeling_open_provence_standalone.py").write_text(code)
    return folder


def base_config(core: Any) -> dict[str, Any]:
    """Return ``base_model_config``: flat RoPE bases, and global attention in every third layer."""
    return {
        "architectures": ["ModernBertForSequenceClassification"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": core.token_to_id("[CLS]"),
        "classifier_activation": "gelu",
        "classifier_bias": False,
        "classifier_dropout": 0.0,
        "classifier_pooling": "mean",
        "cls_token_id": core.token_to_id("[CLS]"),
        "decoder_bias": True,
        "deterministic_flash_attn": False,
        "dtype": "bfloat16",
        "embedding_dropout": 0.0,
        "eos_token_id": core.token_to_id("[SEP]"),
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 500.0,
        "hidden_activation": "gelu",
        "hidden_size": 32,
        "initializer_cutoff_factor": 2.0,
        "initializer_range": 0.3,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-05,
        "local_attention": 16,
        "local_rope_theta": 50.0,
        "max_position_embeddings": 512,
        "mlp_bias": False,
        "mlp_dropout": 0.0,
        "model_type": "modernbert",
        "norm_bias": False,
        "norm_eps": 1e-05,
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
        "pad_token_id": core.token_to_id("[PAD]"),
        "position_embedding_type": "absolute",
        "repad_logits_with_grad": False,
        "sep_token_id": core.token_to_id("[SEP]"),
        "sparse_pred_ignore_index": -100,
        "sparse_prediction": False,
        "transformers_version": "4.57.1",
        "vocab_size": core.get_vocab_size(),
    }


def config_of_transformers(base: dict[str, Any]) -> Any:
    """Return the config by the names of transformers 5, so that a reading of the old names is checked."""
    from transformers import ModernBertConfig

    old = {"global_rope_theta", "local_rope_theta", "global_attn_every_n_layers", "dtype", "model_type"}
    return ModernBertConfig(
        **{key: value for key, value in base.items() if key not in old},
        num_labels=1,
        layer_types=["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": base["global_rope_theta"]},
            "sliding_attention": {"rope_type": "default", "rope_theta": base["local_rope_theta"]},
        },
    )
