"""Tiny checkpoints of the real architectures, as Hugging Face folders: random, fixed seed, written in a moment.

Each function writes one folder with the files that the published models have (``config.json``, ``model.safetensors``,
``tokenizer.json``, ``tokenizer_config.json`` ...). Heads are scaled so that logits spread over a few units on
`PAIRS`, so that a tolerance of 1e-4 means something.
"""

from __future__ import annotations

import atexit
import json
import math
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

LINES = (
    "The crane migrates along the coast in autumn and rests on the shallow lakes.",
    "A bearded dragon needs a warm basking spot of about forty degrees, and shade at noon.",
    "How should a bearded dragon be kept warm at night in the winter?",
    "Water boils at a lower temperature on a mountain because the air pressure is lower there.",
    "K2 is 8,611 m high and stands in the Karakoram; Lake Garda is 346 m deep.",
    "The library opens at 9:30 on weekdays, closes at 18:00, and stays closed on the 1st of May.",
    "yes",
    "no",
    "Yes",
    "No",
    "query: which lake is the deepest one?\ndocument: the lake in the south is 1,642 m deep.",
    "She wrote the letter twice; the second one was never sent, and nobody asked for the first.",
    "Преподаватель объяснил правило ещё раз, и все поняли его.",
    "温度は重要です。夜は暖かくしてください。",
    "La température de l'eau dépend de la saison; l'été, elle monte à vingt degrés.",
    "Relevance is judged for each passage and each query: relevant, or not relevant?",
    "Keep the terrarium warm, dry and bright. Feed it twice a day, and never in the dark.",
    "A grain of sand weighs 0.01 g, a spoon of salt 15 g, a bag of flour 1 kg.",
)
"""Our own sentences, from which the vocabularies are made."""

QUERIES = ("how should a bearded dragon be kept warm?", "which lake is the deepest?")

DOCUMENTS = (
    LINES[0],
    LINES[1],
    "yes",
    "  two  spaces,\ta tab,\nand a new line ",
    "Преподаватель объяснил правило ещё раз.",
    "温度は重要です。🙂 ok",
    "cafe\u0301 is décomposé; ﬁne ligature",
    " ".join(LINES[:6]),
    "K2? 8,611 m!!! (e.g. 3.14 ... -5)",
    "unknownwordthatisverylong zzz qqq",
)

PAIRS = tuple((query, document) for query in QUERIES for document in DOCUMENTS)

Save = Callable[..., Path]


class Tokenizer(NamedTuple):
    """A ``tokenizers.Tokenizer`` and its ``tokenizer_config.json``."""

    core: Any
    settings: dict[str, Any]


def bert(folder: Path, **options: Any) -> Path:
    """MiniLM's kind: BertForSequenceClassification, WordPiece, ``[CLS] q [SEP] d [SEP]`` with two segments."""
    from transformers import BertConfig, BertForSequenceClassification

    vocabulary = _word_pieces(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
    config = BertConfig(
        vocab_size=len(vocabulary), max_position_embeddings=options.pop("positions", 512), **_size(options)
    )
    return _save(BertForSequenceClassification, config, folder, _bert_tokenizer(vocabulary), **options)


def late_interaction(folder: Path, **options: Any) -> Path:
    """Ours: query and text read separately, ``[CLS] q [SEP] [CLS] d [SEP]``, and the weight of each word piece.

    With ``prompts``, ``[Q1] [Q2]`` go before the query, and ``[T]`` before the text.
    """
    from rag_rerank.backends.local.torch_models.late_interaction import architecture, register

    register()
    query, text = (("[Q1]", "[Q2]"), ("[T]",)) if options.pop("prompts", False) else ((), ())
    vocabulary = _word_pieces(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *query, *text))
    core = _bert_tokenizer(vocabulary).core
    _specials(core, *query, *text)
    before = " ".join(("[CLS]", *query)), " ".join(f"{token}:1" for token in ("[CLS]", *text))
    pair = f"{before[0]} $A [SEP] {before[1]} $B:1 [SEP]:1"
    _pairs_as(core, "[CLS] $A [SEP]", pair, "[CLS]", "[SEP]", *query, *text)
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": inputs, **_BRACKETS}
    config_class, model_class = architecture()
    config = config_class(
        special_ids=tuple(vocabulary[token] for token in ("[CLS]", "[SEP]", *query, *text)),
        query_prompt="".join(query),
        text_prompt="".join(text),
        vocab_size=len(vocabulary),
        max_position_embeddings=options.pop("positions", 512),
        **_size(options),
    )
    return _save(model_class, config, folder, Tokenizer(core, settings), **options)


def xlm_roberta(folder: Path, **options: Any) -> Path:
    """BGE's kind: XLMRobertaForSequenceClassification, Unigram, ``<s> q </s></s> d </s>``, positions from 2."""
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    pieces = _unigrams(("<s>", "<pad>", "</s>", "<unk>"), ("<mask>",))
    config = XLMRobertaConfig(
        vocab_size=len(pieces),
        max_position_embeddings=options.pop("positions", 512) + 2,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        layer_norm_eps=1e-5,
        **_size(options),
    )
    return _save(XLMRobertaForSequenceClassification, config, folder, _xlm_tokenizer(pieces), **options)


def roberta(folder: Path, **options: Any) -> Path:
    """Jina v1's and older bge's kind: RobertaForSequenceClassification, byte-level BPE, ``<s> q </s></s> d </s>``."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    tokenizer = _roberta_tokenizer()
    config = RobertaConfig(
        vocab_size=tokenizer.core.get_vocab_size(),
        max_position_embeddings=options.pop("positions", 512) + 2,
        type_vocab_size=1,
        pad_token_id=tokenizer.core.token_to_id("<pad>"),
        bos_token_id=tokenizer.core.token_to_id("<s>"),
        eos_token_id=tokenizer.core.token_to_id("</s>"),
        **_size(options),
    )
    return _save(RobertaForSequenceClassification, config, folder, tokenizer, **options)


def deberta(folder: Path, **options: Any) -> Path:
    """Mxbai v1's kind: DebertaV2ForSequenceClassification with disentangled positions in buckets, Unigram."""
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    pieces = _unigrams(("[PAD]", "[CLS]", "[SEP]", "[UNK]"), ("[MASK]",))
    size = _size(options)
    config = DebertaV2Config(
        vocab_size=len(pieces) + 3,
        max_position_embeddings=options.pop("positions", 512),
        type_vocab_size=0,
        relative_attention=True,
        max_relative_positions=-1,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
        pooler_hidden_size=size["hidden_size"],
        pooler_hidden_act="gelu",
        pooler_dropout=0,
        pad_token_id=0,
        layer_norm_eps=1e-7,
        **size,
    )
    return _save(DebertaV2ForSequenceClassification, config, folder, _deberta_tokenizer(pieces), **options)


def modernbert(folder: Path, **options: Any) -> Path:
    """Gte's kind: ModernBertForSequenceClassification, byte-level BPE, ``[CLS] q [SEP] d [SEP]``, no segments."""
    from transformers import ModernBertForSequenceClassification

    tokenizer = _modernbert_tokenizer()
    config = _modernbert_config(tokenizer, options, classifier_pooling="mean", classifier_activation="gelu")
    return _save(ModernBertForSequenceClassification, config, folder, tokenizer, **options)


def ettin(folder: Path, *, head: bool = True, dtype: str = "float32", seed: int = 0, **options: Any) -> Path:
    """Ettin's kind: a ModernBERT encoder with sentence-transformers modules: CLS, Dense, GELU, LayerNorm, Dense."""
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
    from transformers import ModernBertModel

    tokenizer = _modernbert_tokenizer()
    config = _modernbert_config(tokenizer, options)
    assert not options, f"ettin has no {list(options)}"
    torch.manual_seed(seed)
    encoder = folder / "encoder"
    _write_tokenizer(tokenizer, encoder, config.max_position_embeddings)
    ModernBertModel(config).save_pretrained(encoder)
    size = config.hidden_size
    model = CrossEncoder(
        modules=[
            Transformer(str(encoder), transformer_task="feature-extraction"),
            Pooling(size, "cls"),
            Dense(size, size, bias=False, activation_function=torch.nn.GELU()),
            LayerNorm(size),
            Dense(size, 1, activation_function=torch.nn.Identity(), module_output_name="scores"),
        ],
        device="cpu",
        activation_fn=torch.nn.Identity(),
    ).eval()
    with torch.no_grad():
        logits = torch.from_numpy(model.predict(list(PAIRS), show_progress_bar=False))
        model[-1].linear.weight *= 3 / logits.std()
        logits = torch.from_numpy(model.predict(list(PAIRS), show_progress_bar=False))
        model[-1].linear.bias -= logits.mean()
    model.to(getattr(torch, dtype)).save_pretrained(str(folder), create_model_card=False)
    for file in sorted(encoder.iterdir()):
        file.unlink()
    encoder.rmdir()
    if not head:
        (folder / "4_Dense" / "model.safetensors").unlink()
    return folder


def qwen2(folder: Path, *, tied: bool = True, **options: Any) -> Path:
    """Mxbai v2's kind: Qwen2ForCausalLM, byte-level BPE with the ChatML tokens; ``"1"`` and ``"0"`` are one token."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = _qwen_tokenizer(())
    config = Qwen2Config(**_causal(tokenizer, options), tie_word_embeddings=tied)
    return _save(Qwen2ForCausalLM, config, folder, tokenizer, **options)


def qwen3(folder: Path, *, tied: bool = True, **options: Any) -> Path:
    """Qwen3-Reranker's kind: Qwen3ForCausalLM; ``"yes"`` and ``"no"`` are one token, and so are the think tags."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _qwen_tokenizer(("<think>", "</think>"))
    config = Qwen3Config(**_causal(tokenizer, options), head_dim=16, tie_word_embeddings=tied)
    return _save(Qwen3ForCausalLM, config, folder, tokenizer, **options)


def gemma(folder: Path, **options: Any) -> Path:
    """BGE-gemma's kind: GemmaForCausalLM, BPE with byte fallback and ``<bos>``; ``"Yes"`` is one token."""
    from transformers import GemmaConfig, GemmaForCausalLM

    tokenizer = _gemma_tokenizer()
    config = GemmaConfig(**_causal(tokenizer, options), head_dim=16, pad_token_id=0, eos_token_id=1, bos_token_id=2)
    return _save(GemmaForCausalLM, config, folder, tokenizer, **options)


ENCODERS: Mapping[str, Save] = {
    "bert": bert,
    "late-interaction": late_interaction,
    "xlm-roberta": xlm_roberta,
    "roberta": roberta,
    "deberta": deberta,
    "modernbert": modernbert,
    "ettin": ettin,
}
CAUSAL: Mapping[str, Save] = {"mxbai-v2": qwen2, "qwen3": qwen3, "bge-gemma": gemma}


@cache
def checkpoint(family: str, **options: Any) -> Path:
    """Return the folder of a checkpoint of `ENCODERS` or `CAUSAL`, written once a run; do not change it."""
    import torch

    torch.set_num_threads(1)  # waking threads takes longer than these models do
    parent = Path(tempfile.mkdtemp(prefix="checkpoint-"))
    atexit.register(shutil.rmtree, parent, ignore_errors=True)
    return {**ENCODERS, **CAUSAL}[family](parent / family, **options)


@cache
def onnx_export(family: str, weights: Literal["fp32", "int8"] = "fp32", **options: Any) -> Path:
    """Return the folder of an ONNX export of `ENCODERS`, written once a run; in int8 small matrices too."""
    import rag_rerank.export.compact_weights
    from rag_rerank.export import export

    source = checkpoint(family, **options)
    folder = Path(tempfile.mkdtemp(dir=source.parent)) / "exported"
    smallest = rag_rerank.export.compact_weights._SMALLEST
    rag_rerank.export.compact_weights._SMALLEST = 1
    try:
        export(str(source), folder, weights=weights)
    finally:
        rag_rerank.export.compact_weights._SMALLEST = smallest
    return folder


def _size(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "initializer_range": 0.3,
        "num_labels": options.pop("labels", 1),
    }


def _causal(tokenizer: Tokenizer, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": tokenizer.core.get_vocab_size() + 5,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "initializer_range": 0.3,
        "max_position_embeddings": options.pop("positions", 2048),
    }


def _modernbert_config(tokenizer: Tokenizer, options: dict[str, Any], **more: Any) -> Any:
    from transformers import ModernBertConfig

    ids = {name: tokenizer.core.token_to_id(f"[{name.upper()}]") for name in ("pad", "cls", "sep")}
    return ModernBertConfig(
        vocab_size=tokenizer.core.get_vocab_size(),
        max_position_embeddings=options.pop("positions", 512),
        **_size(options) | {"num_hidden_layers": 4},
        local_attention=16,
        global_attn_every_n_layers=3,
        pad_token_id=ids["pad"],
        cls_token_id=ids["cls"],
        sep_token_id=ids["sep"],
        bos_token_id=ids["cls"],
        eos_token_id=ids["sep"],
        **more,
    )


def _save(
    architecture: Any,
    config: Any,
    folder: Path,
    tokenizer: Tokenizer,
    *,
    dtype: str = "float32",
    head: bool = True,
    pickled: bool = False,
    shard: str = "1GB",
    seed: int = 0,
) -> Path:
    """Make the model, scale its head on `PAIRS`, and write the folder.

    Args:
        architecture: Model class.
        config: Its config.
        folder: Where to write.
        tokenizer: Its tokenizer.
        dtype: How the weights are stored.
        head: Whether the head's weights are in the file.
        pickled: Write ``pytorch_model.bin`` in place of ``model.safetensors``.
        shard: Size of one weights file, as transformers writes it.
        seed: Of the random weights.
    """
    import torch

    window = config.max_position_embeddings - 2 * (config.model_type in ("roberta", "xlm-roberta"))
    _write_tokenizer(tokenizer, folder, window)
    torch.manual_seed(seed)
    model = architecture(config).eval()
    _spread(model, tokenizer.core)
    model.to(getattr(torch, dtype))
    weights = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if head or not name.startswith(("classifier.", "lm_head."))
    }
    model.save_pretrained(folder, state_dict=weights, max_shard_size=shard)
    if pickled:
        (folder / "model.safetensors").unlink()
        torch.save(weights, folder / "pytorch_model.bin")
    return folder


def _spread(model: Any, tokenizer: Any) -> None:
    """Scale the head so that the logits of `PAIRS` have a standard deviation of 3, around 0 where there is a bias."""
    import torch

    causal = hasattr(model, "lm_head")
    text = [f"A: {q}\nB: {d}" for q, d in PAIRS] if causal else list(PAIRS)
    window = model.config.max_position_embeddings - 2
    encodings = tokenizer.encode_batch(text)
    rows = [encoding.ids[:window] for encoding in encodings]
    with torch.no_grad():
        if causal:
            answers = [tokenizer.token_to_id(word) for word in ("1", "0", "yes", "no", "Yes")]
            logits = torch.stack([model(torch.tensor([row])).logits[0, -1, answers] for row in rows])
            weight = model.model.norm.weight
            spread = (logits - logits.mean(0)).std()
            weight.copy_((1 + weight) * 3 / spread - 1 if model.config.model_type == "gemma" else weight * 3 / spread)
            return

        parts: list[list[Any]] = [[]] * len(rows)
        if hasattr(model, "token_weights"):
            model.token_weights.weight.abs_()  # as weights of word pieces are
            for piece, id in tokenizer.get_vocab().items():
                model.continues[id] = piece.startswith("##")
            parts = [[torch.tensor([encoding.type_ids[:window]])] for encoding in encodings]

        def logits_now() -> Any:
            inputs = zip(rows, parts, strict=True)
            return torch.cat([model(torch.tensor([row]), *part).logits[:, 0] for row, part in inputs])

        head = model.classifier.out_proj if hasattr(model.classifier, "out_proj") else model.classifier
        head.weight *= 3 / logits_now().std()
        head.bias -= logits_now().mean()


def _write_tokenizer(tokenizer: Tokenizer, folder: Path, window: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.core.save(str(folder / "tokenizer.json"))
    settings = {"model_max_length": window, **tokenizer.settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


_BRACKETS = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk", "mask")}


def _words() -> Counter[str]:
    return Counter(word for line in LINES for word in re.findall(r"\w+|[^\w\s]", line))


def _word_pieces(special: tuple[str, ...]) -> dict[str, int]:
    """Return a WordPiece vocabulary: special tokens, characters, their continuations, and every second word."""
    words = sorted({word.lower() for word in _words()})
    letters = sorted({letter for word in words for letter in word} | set("abcdefghijklmnopqrstuvwxyz0123456789"))
    endings = ("##s", "##ed", "##ing", "##er", "##est")
    pieces = (*special, *letters, *(f"##{letter}" for letter in letters), *endings, *words[::2])
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}


def _unigrams(first: tuple[str, ...], last: tuple[str, ...]) -> list[tuple[str, float]]:
    """Return a Unigram vocabulary with log probabilities: words after a space, their beginnings, characters."""
    words = _words()
    total = sum(words.values())
    pieces = {"▁": -3.0}
    for word, count in sorted(words.items()):
        pieces[f"▁{word}"] = math.log(count / total)
        for end in range(2, len(word)):
            pieces.setdefault(word[:end], -9.0 - end / 7)
    letters = sorted({letter for word in words for letter in word} | set("abcdefghijklmnopqrstuvwxyz0123456789"))
    for i, letter in enumerate(letters):
        pieces.setdefault(letter, -10.0 - i / 97)
    return [*((token, 0.0) for token in first), *pieces.items(), *((token, 0.0) for token in last)]


def _specials(tokenizer: Any, *names: str) -> None:
    from tokenizers import AddedToken

    tokenizer.add_special_tokens([AddedToken(n, special=True, lstrip=n in ("<mask>", "[MASK]")) for n in names])


def _pairs_as(tokenizer: Any, single: str, pair: str, *special: str) -> None:
    from tokenizers.processors import TemplateProcessing

    ids = [(token, tokenizer.token_to_id(token)) for token in special]
    tokenizer.post_processor = TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def _bert_tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    _specials(tokenizer, "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    _pairs_as(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", "[CLS]", "[SEP]")
    return Tokenizer(tokenizer, {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **_BRACKETS})


def _xlm_tokenizer(pieces: list[tuple[str, float]]) -> Tokenizer:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    _specials(tokenizer, "<s>", "<pad>", "</s>", "<unk>", "<mask>")
    _pairs_as(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>", "<s>", "</s>")
    ends = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    rest = {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    return Tokenizer(tokenizer, {"tokenizer_class": "XLMRobertaTokenizer", **ends, **rest})


def _deberta_tokenizer(pieces: list[tuple[str, float]]) -> Tokenizer:
    import tokenizers
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "), normalizers.NFC(), normalizers.Strip(left=False)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    _specials(tokenizer, "[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
    _pairs_as(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", "[CLS]", "[SEP]")
    settings = {"tokenizer_class": "DebertaV2Tokenizer", "do_lower_case": False, "split_by_punct": False}
    return Tokenizer(tokenizer, {**settings, **_BRACKETS})


def _byte_level(split: str | None, first: tuple[str, ...] = ()) -> Any:
    """Return a byte-level BPE tokenizer trained on `LINES`, Unicode-normalised by NFC; its ids begin with ``first``."""
    import tokenizers
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), level]) if split else level
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=list(first),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_text(), trainer)
    return tokenizer


def _training_text() -> list[str]:
    """Return the training text, with the answer words often enough to become one token each."""
    return [*LINES, *(["yes", "no", "Yes", "No"] * 50)]


def _modernbert_tokenizer() -> Tokenizer:
    tokenizer = _byte_level(None)
    _specials(tokenizer, "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
    _pairs_as(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", "[CLS]", "[SEP]")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    return Tokenizer(tokenizer, {**settings, **_BRACKETS})


def _roberta_tokenizer() -> Tokenizer:
    tokenizer = _byte_level(None, ("<s>", "<pad>", "</s>", "<unk>"))
    _specials(tokenizer, "<s>", "<pad>", "</s>", "<unk>", "<mask>")
    _pairs_as(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>", "<s>", "</s>")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    roles = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    return Tokenizer(tokenizer, {**settings, **{f"{name}_token": token for name, token in roles.items()}})


def _qwen_tokenizer(tags: tuple[str, ...]) -> Tokenizer:
    from tokenizers import AddedToken

    tokenizer = _byte_level(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    _specials(tokenizer, "<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in tags])
    settings = {"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "add_prefix_space": False}
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None}
    return Tokenizer(tokenizer, {**settings, **ends})


def _gemma_tokenizer() -> Tokenizer:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    level = [f"<0x{byte:02X}>" for byte in range(256)]
    draft = tokenizers.Tokenizer(models.BPE())
    draft.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special + level, initial_alphabet=["\n"], show_progress=False
    )
    draft.train_from_iterator([line for text in _training_text() for line in text.split("\n")], trainer)
    trained = json.loads(draft.to_str())["model"]
    merges = [tuple(merge) for merge in trained["merges"]]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(trained["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    _specials(tokenizer, *special)
    _pairs_as(tokenizer, "<bos> $A", "<bos> $A <bos>:1 $B:1", "<bos>")
    settings = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "add_eos_token": False}
    return Tokenizer(tokenizer, {**settings, **{f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}})
