"""Tiny random cross-encoders of the architectures that transformers can load as sequence classifiers.

Each is a folder as transformers writes it, with the tokenizer that belongs to the architecture, and with token types
that matter where the architecture has any, as after pre-training.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from support.tiny_checkpoints import (
    _bert_tokenizer,
    _roberta_tokenizer,
    _unigrams,
    _word_pieces,
    _xlm_tokenizer,
)

__all__ = ["ARCHITECTURES", "architecture", "generic_tokenizer"]

_BRACKETS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_POSITIONS = 64


class Architecture(NamedTuple):
    """How to make a checkpoint.

    Args:
        model_type: ``model_type`` of its config.
        tokenizer: Makes its tokenizer.
        config: What its config has besides the sizes.
    """

    model_type: str
    tokenizer: Callable[[], Any]
    config: Mapping[str, Any] = {}


def generic_tokenizer(first: tuple[str, ...] = _BRACKETS, **settings: Any) -> Any:
    """Return a tokenizer without a class of its own, with BERT's template."""
    from transformers import PreTrainedTokenizerFast

    names = {f"{token[1:-1].lower()}_token": token for token in first}
    return PreTrainedTokenizerFast(tokenizer_object=_bert_tokenizer(_word_pieces(first)).core, **names, **settings)


def _byte_pairs() -> Any:
    from transformers import PreTrainedTokenizerFast

    made = _roberta_tokenizer()
    names = {name: token for name, token in made.settings.items() if name.endswith("_token")}
    return PreTrainedTokenizerFast(tokenizer_object=made.core, **names)


def _of_class(name: str, **settings: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        return getattr(transformers, name)(**settings)

    return make


def _word_piece_class(name: str, first: tuple[str, ...] = _BRACKETS) -> Callable[[], Any]:
    return _of_class(name, vocab=_word_pieces(first))


def _unigram_class(name: str, first: tuple[str, ...], last: tuple[str, ...] = ()) -> Callable[[], Any]:
    return _of_class(name, vocab=_unigrams(first, last))


def _xlm() -> Any:
    from transformers import PreTrainedTokenizerFast

    made = _xlm_tokenizer(_unigrams(("<s>", "<pad>", "</s>", "<unk>"), ("<mask>",)))
    names = {name: token for name, token in made.settings.items() if name.endswith("_token")}
    return PreTrainedTokenizerFast(tokenizer_object=made.core, **names)


_BERT = _word_piece_class("BertTokenizer")
_AFTER_PADDING = {"max_position_embeddings": _POSITIONS + 2, "type_vocab_size": 1, "pad_token_id": 1}
_CAUSAL = {"num_key_value_heads": 2, "head_dim": 8}

ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": Architecture("bert", _BERT),
    "bert, two labels": Architecture("bert", _BERT, {"num_labels": 2}),
    "bert, generic tokenizer": Architecture("bert", generic_tokenizer),
    "bert, types not named": Architecture(
        "bert", lambda: generic_tokenizer(model_input_names=["input_ids", "attention_mask"])
    ),
    "bert, types named": Architecture(
        "bert", lambda: generic_tokenizer(model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    ),
    "bert, reads the end": Architecture("bert", lambda: generic_tokenizer(truncation_side="left")),
    "electra": Architecture("electra", _BERT, {"embedding_size": 16}),
    "ernie": Architecture("ernie", _BERT),
    "distilbert": Architecture("distilbert", _BERT, {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}),
    "megatron-bert": Architecture("megatron-bert", _BERT),
    "squeezebert": Architecture("squeezebert", _BERT, {"embedding_size": 32}),
    "convbert": Architecture("convbert", _BERT, {"embedding_size": 16, "head_ratio": 2, "conv_kernel_size": 3}),
    "mobilebert": Architecture(
        "mobilebert",
        _word_piece_class("MobileBertTokenizer"),
        {"embedding_size": 16, "true_hidden_size": 32, "intra_bottleneck_size": 32, "use_bottleneck": False},
    ),
    "nomic_bert": Architecture("nomic_bert", _BERT),
    "mpnet": Architecture(
        "mpnet",
        _word_piece_class("MPNetTokenizer", ("<s>", "<pad>", "</s>", "[UNK]", "<mask>")),
        {"max_position_embeddings": _POSITIONS + 2, "pad_token_id": 1},
    ),
    "roberta": Architecture("roberta", _byte_pairs, _AFTER_PADDING),
    "roberta-prelayernorm": Architecture("roberta-prelayernorm", _byte_pairs, _AFTER_PADDING),
    "data2vec-text": Architecture("data2vec-text", _byte_pairs, _AFTER_PADDING),
    "ibert": Architecture("ibert", _byte_pairs, _AFTER_PADDING),
    "lilt": Architecture("lilt", _byte_pairs, {**_AFTER_PADDING, "hidden_size": 48}),
    "longformer": Architecture("longformer", _byte_pairs, {**_AFTER_PADDING, "attention_window": 16}),
    "camembert": Architecture("camembert", _xlm, _AFTER_PADDING),
    "xlm-roberta": Architecture("xlm-roberta", _xlm, _AFTER_PADDING),
    "xlm-roberta-xl": Architecture("xlm-roberta-xl", _xlm, _AFTER_PADDING),
    "xmod": Architecture("xmod", _xlm, {**_AFTER_PADDING, "default_language": "en_XX", "languages": ["en_XX"]}),
    "albert": Architecture(
        "albert",
        _unigram_class("AlbertTokenizer", ("<pad>", "<unk>", "[CLS]", "[SEP]"), ("[MASK]",)),
        {"embedding_size": 16},
    ),
    "rembert": Architecture(
        "rembert",
        _unigram_class("RemBertTokenizer", ("<pad>", "[UNK]", "[CLS]", "[SEP]"), ("[MASK]",)),
        {"input_embedding_size": 16, "output_embedding_size": 16},
    ),
    "big_bird": Architecture("big_bird", generic_tokenizer, {"attention_type": "original_full"}),
    "roformer": Architecture("roformer", generic_tokenizer, {"embedding_size": 32}),
    "fnet": Architecture("fnet", _unigram_class("FNetTokenizer", ("<pad>", "<unk>", "[CLS]", "[SEP]"), ("[MASK]",))),
    "funnel": Architecture(
        "funnel",
        _word_piece_class("FunnelTokenizer", ("<pad>", "<unk>", "<cls>", "<sep>", "<mask>", "<s>", "</s>")),
        {"d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64, "block_sizes": [1, 1]},
    ),
    "xlnet": Architecture(
        "xlnet",
        _unigram_class("XLNetTokenizer", ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>")),
        {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
    ),
    "deberta": Architecture(
        "deberta", generic_tokenizer, {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 2}
    ),
    "deberta-v2": Architecture(
        "deberta-v2",
        _unigram_class("DebertaV2Tokenizer", ("[PAD]", "[CLS]", "[SEP]", "[UNK]"), ("[MASK]",)),
        {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "type_vocab_size": 2},
    ),
    "gte": Architecture("gte", _xlm, {"type_vocab_size": 1, "pad_token_id": 1}),
    "modernbert": Architecture(
        "modernbert", generic_tokenizer, {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}
    ),
    "yoso": Architecture("yoso", generic_tokenizer, {"use_expectation": True}),
    "qwen2": Architecture("qwen2", generic_tokenizer, _CAUSAL),
    "qwen3": Architecture("qwen3", generic_tokenizer, {**_CAUSAL, "pad_token_id": 0}),
    "llama": Architecture("llama", generic_tokenizer, _CAUSAL),
    "gemma": Architecture("gemma", generic_tokenizer, {**_CAUSAL, "pad_token_id": 0}),
    "mra": Architecture("mra", generic_tokenizer),
    "nystromformer": Architecture(
        "nystromformer", generic_tokenizer, {"segment_means_seq_len": 64, "num_landmarks": 8}
    ),
}
"""Name -> how it is made."""


@cache
def architecture(name: str) -> Path:
    """Return the folder of a checkpoint, written once a run; do not change it."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.set_num_threads(1)  # waking threads takes longer than these models do
    made = ARCHITECTURES[name]
    folder = Path(tempfile.mkdtemp(prefix="architecture-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer = made.tokenizer()
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": _POSITIONS,
        "num_labels": 1,
    }
    if made.model_type in ("xlnet", "funnel", "distilbert"):
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
            del sizes[key]
    if made.model_type in ("xlnet", "funnel"):
        del sizes["max_position_embeddings"]
    config = AutoConfig.for_model(made.model_type, **{**sizes, **made.config})
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.25)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder
