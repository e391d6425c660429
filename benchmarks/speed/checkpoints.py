"""Checkpoints of real shapes with random weights, each one folder laid out like a model's repository on the hub.

    python -m benchmarks.speed.checkpoints FOLDER minilm-l6

A folder holds safetensors, ``onnx/model.onnx`` as ``rag_rerank.export`` makes it from them, and the tokenizer of the
packaged model (BERT's uncased vocabulary), so that every system reads the same weights and the same ids. The weights
are drawn wider than usual and the head is scaled so that logits spread over a few units: with the usual ones all
inputs get almost the same score, and their order would compare rounding errors.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.speed.texts import TOKENIZER, WINDOW, cases

SEED = 0
SPREAD = 2.0
"""Standard deviation of the logits of the first case that is never measured."""

SHAPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "minilm-l6": ("Bert", {"hidden": 384, "layers": 6, "heads": 12, "inner": 1536}),
    "minilm-l12": ("Bert", {"hidden": 384, "layers": 12, "heads": 12, "inner": 1536}),
    "tinybert-l2": ("Bert", {"hidden": 128, "layers": 2, "heads": 2, "inner": 512}),
    "bge-base": ("XLMRoberta", {"hidden": 768, "layers": 12, "heads": 12, "inner": 3072}),
    "mxbai-xsmall": ("DebertaV2", {"hidden": 384, "layers": 12, "heads": 6, "inner": 1536}),
}
"""Name -> family and shape: ms-marco-MiniLM-L6 and L12, ms-marco-TinyBERT-L2, bge-reranker-base, mxbai-rerank-xsmall.

The last two models have other vocabularies, which are not here; these read BERT's ids in an embedding of their size.
"""

_PARTICULARS: Mapping[str, Mapping[str, Any]] = {
    "Bert": {"vocab_size": 30522, "max_position_embeddings": WINDOW},
    "XLMRoberta": {"vocab_size": 250002, "max_position_embeddings": WINDOW + 2, "type_vocab_size": 1},
    "DebertaV2": {
        "vocab_size": 128100,
        "max_position_embeddings": WINDOW,
        "type_vocab_size": 0,
        "relative_attention": True,
        "max_relative_positions": -1,
        "position_buckets": 256,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "pooler_hidden_act": "gelu",
        "pooler_dropout": 0,
    },
}


def make(parent: Path, name: str) -> Path:
    """Return the folder of a checkpoint below ``parent``, made if it is not there yet."""
    folder = parent / name
    if not folder.is_dir():
        draft = parent / f".{name}"
        shutil.rmtree(draft, ignore_errors=True)
        _write(draft, *SHAPES[name])
        draft.rename(folder)
    return folder


def _write(folder: Path, family: str, shape: Mapping[str, Any]) -> None:
    import torch
    import transformers

    from rag_rerank.export import export

    particulars = dict(_PARTICULARS[family])
    if family == "DebertaV2":
        particulars["pooler_hidden_size"] = shape["hidden"]
    config = getattr(transformers, f"{family}Config")(
        hidden_size=shape["hidden"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        intermediate_size=shape["inner"],
        initializer_range=shape["hidden"] ** -0.5,
        num_labels=1,
        pad_token_id=0,
        **particulars,
    )
    torch.manual_seed(SEED)
    model = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    tokenizer = _tokenizer(segments=family == "Bert")
    _spread(model, tokenizer)
    model.save_pretrained(folder)
    _write_tokenizer(folder, tokenizer, segments=family == "Bert")
    export(str(folder), folder / "exported")
    (folder / "onnx").mkdir()
    for file in sorted((folder / "exported").glob("model.onnx*")):
        file.rename(folder / "onnx" / file.name)
    shutil.rmtree(folder / "exported")


def _tokenizer(*, segments: bool) -> Any:
    from tokenizers import Tokenizer

    spec = json.loads(TOKENIZER.read_text(encoding="utf-8"))
    spec["truncation"] = spec["padding"] = None
    if not segments:
        for part in spec["post_processor"]["pair"]:
            next(iter(part.values()))["type_id"] = 0
    return Tokenizer.from_str(json.dumps(spec))


def _write_tokenizer(folder: Path, tokenizer: Any, *, segments: bool) -> None:
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk", "mask")}
    kind = (
        {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
        if segments
        else {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "attention_mask"],
        }
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    for file, content in (
        ("tokenizer_config.json", {**kind, "model_max_length": WINDOW, **special}),
        ("special_tokens_map.json", special),
    ):
        (folder / file).write_text(json.dumps(content, indent=2), encoding="utf-8")
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def _spread(model: Any, tokenizer: Any) -> None:
    """Scale the head so that logits have a standard deviation of `SPREAD` around 0 on a case that is not measured."""
    import torch

    (case,) = cases(1, 32, first=900)
    rows = tokenizer.encode_batch([(case.query, text) for text in case.texts])

    def logits() -> Any:
        return torch.cat([model(input_ids=torch.tensor([row.ids]), **_types(row)).logits[:, 0] for row in rows])

    def _types(row: Any) -> dict[str, Any]:
        return {"token_type_ids": torch.tensor([row.type_ids])} if model.config.type_vocab_size == 2 else {}

    head = model.classifier.out_proj if hasattr(model.classifier, "out_proj") else model.classifier
    with torch.no_grad():
        head.weight *= SPREAD / logits().std()
        head.bias -= logits().mean()


if __name__ == "__main__":
    print(make(Path(sys.argv[1]), sys.argv[2]))
