"""The torch backend against sentence-transformers' `CrossEncoder.rank` on one CUDA card.

    python benchmarks/gpu.py > gpu.md

Two shapes with random weights: MiniLM-L6 and bge-reranker-v2-m3 (XLM-RoBERTa large). 100 and 1,000 candidates a query,
lengths lognormal around 134 tokens (sigma 0.55, at most 480), one token a word. `rank` runs at its default (fp32,
batches of 32) and at the best of a sweep in fp32 and in bf16 (batch size; flash attention where it is installed),
chosen on a query that is not measured. All systems answer each query in turn, in alternating order; ratios are paired
by query. Prints a Markdown table and one line of JSON. The weights are random: the agreement of scores is shown, but
says nothing about quality. Needs the extra ``torch``; exits with 2 where there is no CUDA card.

``--device cpu --tiny`` runs the script itself on toy shapes; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Texts = Sequence[str]
SHAPES = {
    "MiniLM-L6": ("bert", 30522, 384, 6, 12, 1536),
    "bge-reranker-v2-m3": ("xlm-roberta", 250002, 1024, 24, 16, 4096),
}
TINY = {name: (kind, 1000, 32, 2, 4, 64) for name, (kind, *_) in SHAPES.items()}
MEGABYTE = 2**20
DEFAULT = "rank, default"


@dataclass
class System:
    """A system that scores candidates, in their order; ``weights`` is the memory after loading, in MB."""

    name: str
    settings: str
    score: Callable[[str, Texts], np.ndarray]
    weights: float = 0.0


class Card:
    """The device: its clock and its memory."""

    def __init__(self, device: str) -> None:
        import torch

        self.device, self.cuda = device, torch.cuda if device == "cuda" else None
        self.name = torch.cuda.get_device_name() if self.cuda else device

    def used_megabytes(self) -> float:
        return self.cuda.memory_allocated() / MEGABYTE if self.cuda else 0.0

    def free(self) -> None:
        if self.cuda:
            gc.collect()
            self.cuda.empty_cache()

    def time_run(self, run: Callable[[], Any]) -> tuple[float, float, Any]:
        """Return seconds, megabytes at the peak above those in use before, and the answer."""
        before = self.used_megabytes()
        if self.cuda:
            self.cuda.synchronize()
            self.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        answer = run()
        if self.cuda:
            self.cuda.synchronize()
        seconds = time.perf_counter() - started
        return seconds, self.cuda.max_memory_allocated() / MEGABYTE - before if self.cuda else 0.0, answer


def checkpoint(folder: Path, shape: tuple[Any, ...]) -> Path:
    """Write a random checkpoint of a shape, with a tokenizer of its vocabulary size that makes one token a word."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    kind, vocabulary, hidden, layers, heads, inner = shape
    bert = kind == "bert"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if bert else ["<s>", "<pad>", "</s>", "<unk>"]
    start, pad, end, unknown = [special[i] for i in ((2, 0, 3, 1) if bert else (0, 1, 2, 3))]
    words = [*special, *(word(i) for i in range(vocabulary - len(special)))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    pair = f"{start} $A {end} $B:1 {end}:1" if bert else f"{start} $A {end} {end} $B {end}"
    ends = [(token, special.index(token)) for token in (start, end)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", pair=pair, special_tokens=ends)
    settings: dict[str, Any] = {"cls_token": start, "sep_token": end, "pad_token": pad, "unk_token": unknown}
    settings["model_input_names"] = ["input_ids", "attention_mask", *(["token_type_ids"] if bert else [])]
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **settings).save_pretrained(
        folder
    )
    config = (transformers.BertConfig if bert else transformers.XLMRobertaConfig)(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=512 if bert else 514,
        type_vocab_size=2 if bert else 1,
        pad_token_id=special.index(pad),
        num_labels=1,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder)
    return folder


def word(number: int) -> str:
    """Return the word of a number: letters only, so that it is one token."""
    letters = ""
    while True:
        number, letter = divmod(number, 26)
        letters += chr(ord("a") + letter)
        if not number:
            return letters


def candidates(count: int, vocabulary: int, seed: int) -> tuple[str, list[str]]:
    """Return a query and texts of skewed length."""
    random = np.random.default_rng(seed)
    lengths = np.clip(np.exp(random.normal(np.log(122), 0.55, count)), 8, 468).astype(int)

    def text(length: int) -> str:
        return " ".join(word(int(i)) for i in random.integers(0, vocabulary - 4, length))

    return text(9), [text(length) for length in lengths]


def ours(folder: Path, device: str, dtype: Any) -> System:
    from rag_rerank.backends.torch import TorchReranker

    reranker = TorchReranker(model=str(folder), device=device, dtype=dtype)
    reranker.warm_up()

    def score(query: str, texts: Texts) -> np.ndarray:
        ranking = reranker.rerank(query, texts)
        scores_by_id = {hit.id: hit.raw_score for hit in ranking}
        return np.array([scores_by_id[position] for position in sorted(scores_by_id, key=int)])

    return System(f"rag_rerank {dtype}", "; ".join(reranker.rerank("a", ["b"]).trace.notes) or "float32", score)


def theirs(folder: Path, device: str, dtype: str, attention: str | None, batch: int, name: str) -> System:
    import torch
    from sentence_transformers import CrossEncoder

    options = {"dtype": getattr(torch, dtype)} | ({"attn_implementation": attention} if attention else {})
    model = CrossEncoder(str(folder), device=device, activation_fn=torch.nn.Identity(), model_kwargs=options)

    def score(query: str, texts: Texts) -> np.ndarray:
        hits = model.rank(query, list(texts), batch_size=batch, show_progress_bar=False)
        return np.array([hit["score"] for hit in sorted(hits, key=lambda hit: hit["corpus_id"])], dtype=float)

    return System(name, f"{dtype}, batch {batch}, {attention or 'default attention'}", score)


def best(card: Card, folder: Path, dtype: str, batches: Sequence[int], work: tuple[str, list[str]]) -> System:
    """Return `rank` with the fastest settings for this work."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    flash = card.cuda and dtype == "bfloat16" and is_flash_attn_2_available()
    seconds: dict[tuple[str | None, int], float] = {}
    for attention, batch in itertools.product([None, "flash_attention_2"] if flash else [None], batches):
        try:
            system = theirs(folder, card.device, dtype, attention, batch, "")
            system.score(*work)
            seconds[attention, batch] = min(card.time_run(partial(system.score, *work))[0] for _ in range(2))
        except torch.OutOfMemoryError:
            print(f"rank {dtype} {attention} batch {batch}: no memory", file=sys.stderr)
        system = None  # so that its memory can be freed
        card.free()
    attention, batch = min(seconds, key=lambda settings: seconds[settings])
    return theirs(folder, card.device, dtype, attention, batch, f"rank, best {dtype}")


def load_systems(card: Card, makers: Sequence[Callable[[], System]]) -> Iterator[System]:
    for make in makers:
        card.free()
        before = card.used_megabytes()
        system = make()
        system.weights = card.used_megabytes() - before
        yield system


def measure(card: Card, systems: Sequence[System], count: int, vocabulary: int, queries: int) -> list[dict[str, Any]]:
    """Return a row for each system; ratios and scores refer to `rank` at its default."""
    seconds: dict[str, list[float]] = {s.name: [] for s in systems}
    peak = dict.fromkeys(seconds, 0.0)
    scores: dict[str, np.ndarray] = {}
    for number in range(-1, queries):  # the first is warm-up
        query, texts = candidates(count, vocabulary, seed=number + 1)
        for system in systems if number % 2 else systems[::-1]:
            took, memory, scores[system.name] = card.time_run(partial(system.score, query, texts))
            if number >= 0:
                seconds[system.name].append(took)
                peak[system.name] = max(peak[system.name], memory)
    reference = scores[DEFAULT]
    rows = []
    for s in systems:
        ratios = [theirs / own for theirs, own in zip(seconds[DEFAULT], seconds[s.name], strict=True)]
        rows.append(
            {
                "candidates": count,
                "system": s.name,
                "settings": s.settings,
                "seconds": seconds[s.name],
                "median_s": statistics.median(seconds[s.name]),
                "speedup_over_default": statistics.median(ratios),
                "weights_mb": s.weights,
                "peak_mb_beyond": peak[s.name],
                "max_abs_difference": float(np.abs(scores[s.name] - reference).max()),
                "top10_overlap": len({*np.argsort(-reference)[:10]} & {*np.argsort(-scores[s.name])[:10]}),
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="toy shapes, to try the script")
    parser.add_argument("--queries", type=int, default=10)
    arguments = parser.parse_args()
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no CUDA card here; nothing was measured", file=sys.stderr)
        return 2
    import sentence_transformers
    import transformers

    if arguments.tiny:
        torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    card = Card(arguments.device)
    counts, batches = ((10,), (8,)) if arguments.tiny else ((100, 1000), (16, 32, 64, 128, 256, 512))
    rows = []
    for shape, sizes in (TINY if arguments.tiny else SHAPES).items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = checkpoint(Path(temporary), sizes)
            for count in counts:
                sweep = candidates(count, sizes[1], seed=10_000)
                makers: list[Callable[[], System]] = [
                    partial(ours, folder, card.device, "float32"),
                    partial(theirs, folder, card.device, "float32", None, 32, DEFAULT),
                    partial(best, card, folder, "float32", batches, sweep),
                    partial(ours, folder, card.device, "bfloat16"),
                    partial(best, card, folder, "bfloat16", batches, sweep),
                ]
                systems = list(load_systems(card, makers))
                rows += [{"shape": shape, **row} for row in measure(card, systems, count, sizes[1], arguments.queries)]
                del systems
    versions = {m.__name__: m.__version__ for m in (torch, transformers, sentence_transformers)}
    print(f"{card.name}; {', '.join(f'{name} {version}' for name, version in versions.items())}\n")
    columns = ("shape", "candidates", "system", "settings", "median s [min-max]", "faster than default", "weights MB")
    columns = (*columns, "peak MB beyond", "max score difference", "top-10 kept")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        spread = f"{row['median_s']:.4f} [{min(row['seconds']):.4f}-{max(row['seconds']):.4f}]"
        cells = (row["shape"], row["candidates"], row["system"], row["settings"], spread)
        numbers = f"{row['speedup_over_default']:.2f}x | {row['weights_mb']:.0f} | {row['peak_mb_beyond']:.0f}"
        last = f"{row['max_abs_difference']:.1e} | {row['top10_overlap']}"
        print(f"| {' | '.join(map(str, cells))} | {numbers} | {last} |")
    print("\n" + json.dumps({"card": card.name, "versions": versions, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
