"""A made-up language: a word is a stem and an ending; a passage is relevant if its words end like the query's."""

from __future__ import annotations

import json
import random
from pathlib import Path

from rag_rerank.backends.local.torch_models.late_interaction import architecture
from rag_rerank.training.data.examples import Example, Examples, Passage, Source

ENDINGS = ("ka", "mo", "ti", "su")
STEMS = tuple(a + b for a in "bdfglmnprstvz" for b in ("ab", "el", "im", "or", "un"))
TRAINING, HELD_OUT = STEMS[::2], STEMS[1::2]
"""Stems of the training, and those of the validation."""

SOURCE = Source(name="made-up", licence="CC0-1.0", path="made-up", sha256="0" * 64, queries=0, pairs=0)


def examples(count: int, *, stems: tuple[str, ...] = TRAINING, seed: int = 0, teacher: bool = False) -> Examples:
    """Return queries with four passages in random order, one of them relevant; or with a teacher's scores instead."""
    rng = random.Random(seed)
    items = []
    for _ in range(count):
        ending = rng.choice(ENDINGS)
        endings = [ending, *(end for end in ENDINGS if end != ending)]
        rng.shuffle(endings)
        texts = [" ".join(rng.choice(stems) + end for _ in range(3)) for end in endings]
        passages = tuple(
            Passage(
                text=text,
                id=text,
                grade=None if teacher else float(end == ending),
                teacher=(4.0 if end == ending else -4.0) if teacher else None,
                origin="judged",
            )
            for text, end in zip(texts, endings, strict=True)
        )
        items.append(Example(query=rng.choice(stems) + ending, passages=passages, source=SOURCE.name))
    return Examples(examples=tuple(items), sources=(SOURCE,))


def checkpoint(folder: Path, *, head: bool = True, layers: int = 2, late: bool = False) -> Path:
    """Write a BERT of hidden size 32 with the language's tokenizer and random weights; or one of late interaction."""
    import tokenizers
    import torch
    from tokenizers import decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    vocabulary = {piece: i for i, piece in enumerate((*special, *STEMS, *(f"##{end}" for end in ENDINGS)))}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(special))
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS] $A [SEP] {'[CLS]:1 ' if late else ''}$B:1 [SEP]:1",
        special_tokens=ends,
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special_tokens = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk", "mask")}
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": 64, "do_lower_case": True, **special_tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config_class, model_class = (
        architecture() if late else (BertConfig, BertForSequenceClassification if head else BertModel)
    )
    config = config_class(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=1,
        **({"special_ids": (vocabulary["[CLS]"], vocabulary["[SEP]"])} if late else {}),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model_class(config).save_pretrained(folder)
    return folder
