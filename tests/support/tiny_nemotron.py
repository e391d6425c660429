"""A tiny checkpoint of Nemotron's reranker: random, with the names of weights and the config of published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.tiny_checkpoints import PAIRS, Tokenizer, _qwen_tokenizer, _specials, _write_tokenizer

PROMPT = "question:{query} \n \n passage:{text}"


def nemotron(folder: Path, *, seed: int = 0, ends: bool = False, **changes: Any) -> Path:
    """Write the checkpoint into a folder.

    Args:
        folder: Where to write.
        seed: Of the random weights.
        ends: Whether the tokenizer puts a special token behind a string, too.
        changes: Keys of config.json.
    """
    import torch
    from safetensors.torch import save_file
    from tokenizers.processors import TemplateProcessing
    from transformers import LlamaConfig, LlamaModel

    core = _qwen_tokenizer(()).core
    _specials(core, "<|begin_of_text|>", "<|end_of_text|>")
    special = [(name, core.token_to_id(name)) for name in ("<|begin_of_text|>", "<|end_of_text|>")]
    frame = f"<|begin_of_text|> $A{' <|end_of_text|>' if ends else ''}"
    core.post_processor = TemplateProcessing(single=frame, pair=f"{frame} $B:1", special_tokens=special)
    names = {"bos_token": special[0][0], "eos_token": special[1][0], "pad_token": special[1][0]}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "padding_side": "left", **names}
    _write_tokenizer(Tokenizer(core, settings), folder, 2048)
    config = {
        "vocab_size": core.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 64,
        "initializer_range": 0.3,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 256,
            "rope_type": "llama3",
        },
        "bos_token_id": special[0][1],
        "eos_token_id": special[1][1],
    }
    torch.manual_seed(seed)
    model = LlamaModel(LlamaConfig(**config)).eval()
    score = torch.nn.Linear(32, 1, bias=False)
    with torch.no_grad():
        states = [
            model(torch.tensor([core.encode(PROMPT.format(query=q, text=t)).ids])).last_hidden_state[0].mean(dim=0)
            for q, t in PAIRS
        ]
        score.weight.mul_(2 / score(torch.stack(states)).std())
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()} | {"score.weight": score.weight}
    (folder / "config.json").write_text(
        json.dumps(
            {
                **config,
                "architectures": ["LlamaBidirectionalForSequenceClassification"],
                "auto_map": {
                    "AutoConfig": "llama_bidirectional_model.LlamaBidirectionalConfig",
                    "AutoModelForSequenceClassification": (
                        "llama_bidirectional_model.LlamaBidirectionalForSequenceClassification"
                    ),
                },
                "id2label": {"0": "LABEL_0"},
                "label2id": {"LABEL_0": 0},
                "model_type": "llama_bidirec",
                "pooling": "avg",
                "temperature": 0.2,
                **changes,
            }
        )
    )
    save_file(
        {n: tensor.detach().contiguous() for n, tensor in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    (folder / "llama_bidirectional_model.py").write_text(f"open({str(folder.parent / 'ran')!r}, 'w').close()")
    return folder
