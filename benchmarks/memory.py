"""Memory of the onnx backend: peak over the loaded model for large calls, and whether loads and closes leak.

    python benchmarks/memory.py                  # a random checkpoint of MiniLM-L6's shape, made here (needs torch)
    python benchmarks/memory.py --model FOLDER   # a folder of yours with model.onnx

Linux only: resident memory is read from /proc, its peak after writing 5 to /proc/self/clear_refs, which resets it.
Each large call is made in a process of its own. Resident memory counts the pages of the weights that are mapped from
disk, as soon as they are touched; so one small call is made before the peak is reset.
"""

from __future__ import annotations

import argparse
import gc
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import rag_rerank
from rag_rerank.backends.onnx import OnnxReranker

CALLS = ((1_000, 512), (10_000, 100))
"""Candidates, and tokens of the input that each makes."""

QUERY = "how deep is the lake in the south"
MIB = 1024


def memory(field: str) -> int:
    """Return a field of /proc/self/status in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def words(tokens: int, seed: int) -> str:
    """Return a text that makes an input of so many tokens, of common words that are one token each."""
    chance = random.Random(seed)
    pool = ("the", "water", "is", "warm", "and", "deep", "in", "old", "lake", "near", "town", "where", "people")
    room = tokens - len(QUERY.split()) - 3
    return " ".join(chance.choices(pool, k=room))


def large_call(reranker: OnnxReranker, count: int, tokens: int) -> None:
    texts = [words(tokens, seed) for seed in range(count)]
    reranker.score(QUERY, texts[:1])
    gc.collect()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    scores = reranker.score(QUERY, texts)
    peak, after = memory("VmHWM"), memory("VmRSS")
    size = sum(map(len, texts)) / MIB
    print(
        f"{count:,} candidates, {scores.usage.tokens / count:.0f} tokens each ({size:,.0f} KiB of text): loaded "
        f"{before / MIB:.0f} MiB, peak {(peak - before) / MIB:+.0f} MiB over that, after the call "
        f"{(after - before) / MIB:+.0f} MiB; {scores.usage.seconds:.0f} s of work",
        flush=True,
    )


def soak(reranker: OnnxReranker, cycles: int) -> None:
    texts = [words(10 + seed % 90, seed) for seed in range(20)]
    for cycle in range(cycles + 1):
        if cycle % 20 == 0:
            gc.collect()
            threads = memory("Threads")
            print(f"cycle {cycle}: {memory('VmRSS') / MIB:.1f} MiB, {threads} threads", flush=True)
        with reranker:
            reranker.rerank(QUERY, texts)


def random_model(folder: Path) -> Path:
    """Export a checkpoint of MiniLM-L6's shape with random weights, and the tokenizer that the package has."""
    import shutil

    from transformers import BertConfig, BertForSequenceClassification

    from rag_rerank.export import export

    starter = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    BertForSequenceClassification(BertConfig(vocab_size=30522, num_labels=1, **shape)).save_pretrained(folder / "made")
    shutil.copy(starter / "tokenizer.json", folder / "made")
    (folder / "made" / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer", "pad_token": "[PAD]", "model_max_length": 512}'
    )
    return export(str(folder / "made"), folder / "onnx").path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder with model.onnx")
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32")
    parser.add_argument("--cycles", type=int, default=200, help="of load, rerank, close")
    parser.add_argument("--call", nargs=2, type=int, metavar=("CANDIDATES", "TOKENS"), help="only one such call")
    parser.add_argument("--soak", action="store_true", help="only the cycles")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", rag_rerank.TruncationWarning)
    with tempfile.TemporaryDirectory() as temporary:
        model = arguments.model or random_model(Path(temporary))
        options = ["--model", str(model), "--precision", arguments.precision]
        reranker = OnnxReranker(model=str(model), precision=arguments.precision)
        if arguments.call:
            return large_call(reranker, *arguments.call)
        if arguments.soak:
            return soak(reranker, arguments.cycles)
        with reranker:
            reranker.warm_up()  # makes the graph
        for count, tokens in CALLS:
            subprocess.run([sys.executable, __file__, *options, "--call", str(count), str(tokens)], check=True)
        subprocess.run([sys.executable, __file__, *options, "--soak", "--cycles", str(arguments.cycles)], check=True)
    return None


if __name__ == "__main__":
    main()
