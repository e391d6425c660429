"""Train a small encoder to give the token vectors of a large one.

    python benchmarks/embedded/teach.py ENCODER PAIRS.jsonl.gz ... OUT --minutes 35

ENCODER is all-MiniLM-L6-v2. The student keeps its embeddings, which are not trained, and two of its six layers, the
first and the last. Of their feed-forward it keeps half of the neurons, those with the largest product of the norms of
their input and output weights. It reads the passages (128 tokens) and queries (64) of the pairs, and learns the
teacher's last vector of every token: cosine of the tokens, cosine of their means, and the cosines of the means among
each other (weights 1, 2, 5). The learning rate falls to zero over ``--minutes``, so another machine does other steps.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cosine_similarity, normalize

LAYERS = (0, 5)
WIDE = 768
RATE = 8e-4
BATCH_TOKENS = 3072
WINDOWS = {"positive": 128, "query": 64}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("pairs", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=35)
    parser.add_argument("--passages", type=int, default=9000, help="of each file, at most")
    options = parser.parse_args()
    from transformers import AutoModel, AutoTokenizer

    torch.manual_seed(0)
    rng = random.Random(0)
    teacher = AutoModel.from_pretrained(options.encoder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.encoder, local_files_only=True)
    student = student_of(teacher)
    texts = [t for file in options.pairs for t in read(file, tokenizer, options.passages, rng)]
    rng.shuffle(texts)
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    start, step = time.monotonic(), 0
    while (time_share := (time.monotonic() - start) / (60 * options.minutes)) < 1:
        for batch in batches(texts, rng):
            time_share = (time.monotonic() - start) / (60 * options.minutes)
            if time_share >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / 100) * (1 - time_share)
            loss = difference(teacher, student, batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            if step % 100 == 0:
                print(f"step {step}, {time_share:.0%} of the time, loss {loss.item():.4f}", flush=True)
    student.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


def student_of(teacher: Any) -> Any:
    """Return the student: frozen embeddings, and two reduced layers."""
    from transformers import BertModel

    config = type(teacher.config)(
        **{
            **teacher.config.to_dict(),
            "num_hidden_layers": len(LAYERS),
            "intermediate_size": WIDE,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
    )
    student = BertModel(config, add_pooling_layer=False)
    student.embeddings.load_state_dict(teacher.embeddings.state_dict())
    for learner, number in zip(student.encoder.layer, LAYERS, strict=True):
        layer = teacher.encoder.layer[number]
        inner, outer = layer.intermediate.dense, layer.output.dense
        widest = (inner.weight.norm(dim=1) * outer.weight.norm(dim=0)).topk(WIDE).indices
        learner.attention.load_state_dict(layer.attention.state_dict())
        learner.output.LayerNorm.load_state_dict(layer.output.LayerNorm.state_dict())
        learner.intermediate.dense.load_state_dict({"weight": inner.weight[widest], "bias": inner.bias[widest]})
        learner.output.dense.load_state_dict({"weight": outer.weight[:, widest], "bias": outer.bias})
    student.embeddings.requires_grad_(False)
    return student


def read(file: Path, tokenizer: Any, passages: int, rng: random.Random) -> Iterator[list[int]]:
    """Yield the token ids of the different texts of a file."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rng.shuffle(rows)
    for key, window in WINDOWS.items():
        for text in dict.fromkeys(row[key] for row in rows[:passages]):
            yield tokenizer(text, truncation=True, max_length=window)["input_ids"]


def batches(texts: list[list[int]], rng: random.Random) -> Iterator[list[list[int]]]:
    """Yield batches of similar length, in random order within each 4,096 texts."""
    for start in range(0, len(texts), 4096):
        some: list[list[list[int]]] = [[]]
        for text in sorted(texts[start : start + 4096], key=len):
            if some[-1] and len(text) * (len(some[-1]) + 1) > BATCH_TOKENS:
                some.append([])
            some[-1].append(text)
        rng.shuffle(some)
        yield from some


def difference(teacher: Any, student: Any, texts: list[list[int]]) -> torch.Tensor:
    """Return the loss of one batch."""
    width = max(map(len, texts))
    ids = torch.tensor([text + [0] * (width - len(text)) for text in texts])
    mask = torch.tensor([[1.0] * len(text) + [0.0] * (width - len(text)) for text in texts])
    with torch.no_grad():
        targets = teacher(input_ids=ids, attention_mask=mask).last_hidden_state
    vectors = student(input_ids=ids, attention_mask=mask).last_hidden_state
    tokens = ((1 - cosine_similarity(vectors, targets, dim=-1)) * mask).sum() / mask.sum()
    means = [normalize((tensor * mask[..., None]).sum(1), dim=-1) for tensor in (vectors, targets)]
    apart = (1 - (means[0] * means[1]).sum(-1)).mean()
    among = ((means[0] @ means[0].T - means[1] @ means[1].T) ** 2).mean()
    loss: torch.Tensor = tokens + 2 * apart + 5 * among
    return loss


if __name__ == "__main__":
    main()
