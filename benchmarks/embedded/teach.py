"""Make a small encoder that gives the token vectors of a large one: a table without layers, or with trained ones.

    python benchmarks/embedded/teach.py ENCODER PAIRS.jsonl.gz ... OUT --layers 0 --width 192
    python benchmarks/embedded/teach.py ENCODER PAIRS.jsonl.gz ... OUT --layers 2 --width 256 --minutes 20

ENCODER is all-MiniLM-L6-v2. OUT is a folder that ``assemble.py`` takes as its encoder. The first command makes that of
``embedded-static``. In three steps, the last for layers only:

1. The teacher reads passages and queries of the pairs (up to 96 tokens each) once; its last vectors are kept, rotated
   to their first principal directions, so that they have the student's width.
2. The student's embedding of a word piece is the mean of the piece's vectors. A rare piece is also seen alone, as
   ``[CLS] piece [SEP]``. Without layers, these are its vectors, all of one length. Layers start near the identity.
3. The student learns the teacher's vectors: the cosine of each token, the cosine of the means of texts, the cosines of
   the means among each other, and the largest similarity of a token to each text of the batch (weights 1, 2, 5, 5).

The rates fall to zero over ``--minutes``, so another machine does other steps.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize

RATE, EMBEDDING_RATE = 2e-3, 0.04
"""Of AdamW for the layers, and of Adagrad for the word pieces, each of which most batches do not have."""

LONGEST = 96
BATCH_TOKENS = 3072
COMPARED = 192
"""Tokens of a batch whose similarities to its texts are learned."""

CLS, SEP = 101, 102

ALONE = 2
"""A piece's vector alone counts as much as this many in a text."""

FREQUENT = 20
"""Pieces with at least as many vectors say how those in a text differ from those alone."""

PLACES = 512
"""Positions. Half of the batches begin at a random one, because no text that is read is as long."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("pairs", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--passages", type=int, default=9000, help="of each file, at most; half as many queries")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--inner", type=int, default=1024, help="width of the feed-forward")
    parser.add_argument("--layers", type=int, default=2)
    options = parser.parse_args()
    from transformers import AutoModel, AutoTokenizer

    torch.manual_seed(0)
    rng = random.Random(0)
    teacher = AutoModel.from_pretrained(options.encoder, local_files_only=True).eval().to(torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(options.encoder, local_files_only=True)
    texts = [text for file in options.pairs for text in read(file, tokenizer, options.passages, rng)]
    lessons = lessons_of(teacher, texts, options.width)
    print(f"{len(lessons.spans)} texts, {len(lessons.ids)} tokens", flush=True)
    student = student_of(lessons, options.layers, options.inner) if options.layers else table_of(lessons)
    if options.layers:
        train(student, lessons, 60 * options.minutes, rng)
    student.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


@dataclass(frozen=True)
class Lessons:
    """What the teacher says.

    Args:
        ids: Word pieces of all texts, one after the other.
        vectors: Their unit vectors, in fp16.
        spans: Begin and end of each text.
        pieces: The mean unit vector of each word piece of the vocabulary.
    """

    ids: torch.Tensor
    vectors: torch.Tensor
    spans: list[tuple[int, int]]
    pieces: torch.Tensor


def read(file: Path, tokenizer: Any, passages: int, rng: random.Random) -> Iterator[list[int]]:
    """Yield the token ids of the different texts of a file."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rng.shuffle(rows)
    for key, count in {"positive": passages, "query": passages // 2}.items():
        for text in list(dict.fromkeys(row[key] for row in rows))[:count]:
            yield tokenizer(text, truncation=True, max_length=LONGEST)["input_ids"]


def batches(texts: Sequence[Any], length: Callable[[Any], int]) -> Iterator[list[Any]]:
    """Yield batches of texts of similar length."""
    batch: list[Any] = []
    for text in sorted(texts, key=length):
        if batch and length(text) * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(text)
    yield batch


def padded(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows as one tensor, padded with zeros, and which positions are no padding."""
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), mask


@torch.inference_mode()
def lessons_of(teacher: Any, texts: list[list[int]], width: int) -> Lessons:
    """Let the teacher read the texts and each word piece alone."""
    ids, vectors = [], []
    lengths: list[int] = []
    for batch in batches(texts, len):
        rows, mask = padded([torch.tensor(text) for text in batch])
        ids.append(rows[mask])
        vectors.append(normalize(teacher(rows, mask.long()).last_hidden_state[mask].float(), dim=-1).half())
        lengths += map(len, batch)
    all_ids, all_vectors = torch.cat(ids), torch.cat(vectors)
    ends = list(accumulate(lengths, initial=0))
    sample = all_vectors[torch.randint(len(all_vectors), (20_000,))].float()
    directions = torch.linalg.eigh(sample.T @ sample).eigenvectors.flip(1)[:, :width]
    return Lessons(
        all_ids,
        torch.cat([normalize(part.float() @ directions, dim=-1).half() for part in all_vectors.split(100_000)]),
        list(pairwise(ends)),
        piece_vectors(teacher, all_ids, all_vectors) @ directions,
    )


def piece_vectors(teacher: Any, ids: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Return the mean unit vector of each word piece, in texts and alone."""
    count = teacher.config.vocab_size
    sums, counts = torch.zeros(count, vectors.shape[1]), torch.bincount(ids, minlength=count)[:, None]
    for some, part in zip(ids.split(100_000), vectors.split(100_000), strict=True):
        sums.index_add_(0, some, part.float())
    alone = []
    for pieces in torch.arange(count).split(1024):
        row = torch.stack([torch.full_like(pieces, CLS), pieces, torch.full_like(pieces, SEP)], dim=1)
        alone.append(normalize(teacher(row).last_hidden_state[:, 1].float(), dim=-1))
    lone = torch.cat(alone)
    frequent = counts[:, 0] >= FREQUENT
    lone += (sums[frequent] / counts[frequent]).mean(0) - lone[frequent].mean(0)
    return (sums + ALONE * lone) / (counts + ALONE)


def table_of(lessons: Lessons) -> Any:
    """Return an encoder without layers, which gives each word piece its mean vector, whatever stands beside it.

    The layer norm of a BERT encoder takes the mean of the numbers off. So the vectors keep all but the last of their
    directions, and are turned into the space whose numbers have no mean, where the norm changes their length alone.
    """
    count, width = lessons.pieces.shape
    student = bert(count, width, layers=0, inner=width)
    ones = torch.ones(width, 1)
    without_mean = torch.linalg.qr(torch.cat([ones, torch.eye(width)[:, : width - 1]], dim=1)).Q[:, 1:]
    with torch.no_grad():
        kept = normalize(lessons.pieces[:, : width - 1], dim=-1)
        student.embeddings.word_embeddings.weight.copy_(kept @ without_mean.T)
        student.embeddings.position_embeddings.weight.zero_()
        student.embeddings.token_type_embeddings.weight.zero_()
    return student


def bert(count: int, width: int, layers: int, inner: int) -> Any:
    """Return a BERT encoder of this shape, with weights yet to be set."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=count,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=inner,
        max_position_embeddings=PLACES,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertModel(config, add_pooling_layer=False)


def student_of(lessons: Lessons, layers: int, inner: int) -> Any:
    """Return an encoder that gives each word piece its mean vector, nearly: what its layers add is small at first."""
    count, width = lessons.pieces.shape
    student = bert(count, width, layers, inner)
    student.embeddings.word_embeddings = torch.nn.Embedding(count, width, sparse=True)
    size = math.sqrt(width)
    sample = lessons.vectors[torch.randint(len(lessons.vectors), (50_000,))].float() * size
    deviation, mean = torch.std_mean(sample, dim=0)
    last = student.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        student.embeddings.word_embeddings.weight.copy_((normalize(lessons.pieces, dim=-1) * size - mean) / deviation)
        student.embeddings.position_embeddings.weight.copy_(positions(width))
        student.embeddings.token_type_embeddings.weight.zero_()
        last.weight.copy_(deviation)
        last.bias.copy_(mean)
        for layer in student.encoder.layer:
            attention = layer.attention.self
            for into in (attention.query, attention.key, attention.value, layer.intermediate.dense):
                into.weight.normal_(std=width**-0.5)
            for out in (layer.attention.output.dense, layer.output.dense):
                out.weight.normal_(std=0.02 * out.in_features**-0.5)
    student.embeddings.token_type_embeddings.requires_grad_(False)
    return student


def positions(width: int) -> torch.Tensor:
    """Return small vectors of positions: sines and cosines, turned at random so that no number has them alone."""
    angles = torch.arange(PLACES)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(2000) / width))
    waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
    turned: torch.Tensor = 0.3 * (waves - waves.mean(0)) @ torch.linalg.qr(torch.randn(width, width)).Q
    return turned


def train(student: Any, lessons: Lessons, seconds: float, rng: random.Random) -> None:
    """Train the student for a time."""
    table = student.embeddings.word_embeddings.weight
    layers = [p for p in student.parameters() if p.requires_grad and p is not table]
    optimizers = {
        torch.optim.AdamW(layers, lr=RATE, weight_decay=0.01): RATE,
        torch.optim.Adagrad([table], lr=EMBEDDING_RATE): EMBEDDING_RATE,
    }
    start = time.monotonic()
    for step, batch in enumerate(rounds(lessons.spans, rng)):
        share = (time.monotonic() - start) / seconds if seconds else 1
        if share >= 1:
            return
        for optimizer, rate in optimizers.items():
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (step + 1) / 60) * (1 - share)
        loss = difference(student, lessons, batch, rng)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(layers, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1}, {share:.0%} of the time, loss {loss.item():.4f}", flush=True)


def rounds(spans: list[tuple[int, int]], rng: random.Random) -> Iterator[list[tuple[int, int]]]:
    """Yield batches without end, in random order within each 2,048 texts."""
    while True:
        mixed = rng.sample(spans, len(spans))
        for start in range(0, len(mixed), 2048):
            some = list(batches(mixed[start : start + 2048], lambda span: span[1] - span[0]))
            rng.shuffle(some)
            yield from some


def difference(student: Any, lessons: Lessons, spans: list[tuple[int, int]], rng: random.Random) -> torch.Tensor:
    """Return the loss of one batch."""
    ids, mask = padded([lessons.ids[begin:end] for begin, end in spans])
    targets, _ = padded([lessons.vectors[begin:end].float() for begin, end in spans])
    length = ids.shape[1]
    first = rng.randrange(PLACES - length) if rng.random() < 0.5 else 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        places = torch.arange(first, first + length)[None]
        output = student(input_ids=ids, attention_mask=mask.long(), position_ids=places).last_hidden_state
    vectors = normalize(output.float(), dim=-1)
    tokens = (1 - (vectors * targets).sum(-1))[mask].mean()
    means = [normalize((tensor * mask[..., None]).sum(1), dim=-1) for tensor in (vectors, targets)]
    apart = (1 - (means[0] * means[1]).sum(-1)).mean()
    among = ((means[0] @ means[0].T - means[1] @ means[1].T) ** 2).mean()
    words = mask & (ids != CLS) & (ids != SEP)
    asking = words.flatten().nonzero()[:, 0]
    asking = asking[torch.randperm(len(asking))[:COMPARED]]
    largest = [
        (tensor.flatten(0, 1)[asking] @ tensor.flatten(0, 1).T)
        .unflatten(1, ids.shape)
        .masked_fill(~words[None], -1)
        .amax(-1)
        for tensor in (vectors, targets)
    ]
    found = ((largest[0] - largest[1]) ** 2).mean()
    loss: torch.Tensor = tokens + 2 * apart + 5 * among + 5 * found
    return loss


if __name__ == "__main__":
    main()
