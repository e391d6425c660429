"""Memory of large calls and of repeated loads, each in its own process, so that peaks can be read and reset."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import tiny_checkpoints

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="resident memory and its peak are read from Linux's /proc"
)

MEMORY = """
import gc, sys
from pathlib import Path
from rag_rerank.backends.onnx import OnnxReranker

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field + ":")).split()[1]) / 1024

reranker = OnnxReranker(model=sys.argv[1], workers=2)
text = "a warm lake is deep and a crane rests on it in autumn"
"""

LARGE_CALL = """
texts = [" ".join([text] * 8) + f" {number}" for number in range(int(sys.argv[2]))]
reranker.score("how deep?", texts[:200])
gc.collect()
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
scores = reranker.score("how deep?", texts)
print(memory("VmHWM") - before, scores.usage.tokens)
"""

CYCLES = """
texts = [" ".join([text] * count) for count in range(1, 20)]
for cycle in range(50):
    with reranker:
        reranker.rerank("how deep?", texts)
    if cycle in (19, 49):
        gc.collect()
        print(memory("VmRSS"), memory("Threads") * 1024)
"""


def run(code: str, *arguments: str) -> list[list[float]]:
    """Run code in a fresh process, and return the numbers that it prints, by line."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MEMORY + code, str(tiny_checkpoints.onnx_export("bert")), *arguments]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [[float(number) for number in line.split()] for line in output.splitlines()]


def test_a_large_call_takes_a_few_bytes_a_token_beside_a_fixed_part() -> None:
    """Ids and types are 5 bytes a token; lists of them, and encodings that are all kept, were over 150."""
    ((peak, tokens),) = run(LARGE_CALL, "8000")
    assert tokens > 750_000
    assert peak < 40 + tokens * 20 / 2**20


def test_loading_and_closing_again_and_again_leaks_nothing() -> None:
    """Of thirty cycles, each would leave a third of a MiB or more if it kept the session or the tokenizer."""
    (early, threads), (late, threads_late) = run(CYCLES)
    assert late - early < 8
    assert threads_late <= threads
