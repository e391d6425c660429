"""The GPU benchmark runs from end to end on toy shapes, and says so where there is no card. It measures no speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_prints_a_table_and_json_whose_systems_agree() -> None:
    done = run("--device", "cpu", "--tiny", "--queries", "1")
    assert done.returncode == 0, done.stderr
    head, *lines = (line for line in done.stdout.splitlines() if line.startswith("|"))
    assert head.startswith("| shape | candidates | system |")
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert len(rows) == len(lines) - 1 == 10
    assert {row["shape"] for row in rows} == {"MiniLM-L6", "bge-reranker-v2-m3"}
    for row in rows:
        assert row["max_abs_difference"] <= (1e-6 if "float32" in row["settings"] else 0.01), row


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so_and_fails() -> None:
    done = run()
    assert done.returncode == 2
    assert (done.stdout, done.stderr) == ("", "torch finds no CUDA card here; nothing was measured\n")
