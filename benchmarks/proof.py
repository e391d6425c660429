"""Check the statistics of an evaluation on simulated data of which the truth is known.

    python benchmarks/proof.py --seeds 200 --simulations 5000

It prints how often a random reranker is recommended, behind a real and behind a random first stage, alone and among
five; how often an oracle is; how often the 95 % interval of the mean difference in nDCG@10 contains the true one; and
how often p-values are below a level where there is no difference. Seeds are fixed: two runs print the same. The
simulated collections are those of ``tests/support/simulated_collections.py``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.simulated_collections import collection, decide, differences, interval_coverage, oracle, shuffled  # noqa: E402

from rag_rerank.evaluation.data.judged import Judged  # noqa: E402
from rag_rerank.evaluation.statistics import holm, randomisation  # noqa: E402

Rerankers = Callable[[Judged, int], dict[str, Any]]

CASES: dict[str, tuple[float, Rerankers]] = {
    "one random reranker, real first stage": (1.5, lambda judged, seed: {"random": shuffled(judged, seed)}),
    "one random reranker, random first stage": (0.0, lambda judged, seed: {"random": shuffled(judged, seed)}),
    "five random rerankers, random first stage": (
        0.0,
        lambda judged, seed: {f"random {i}": shuffled(judged, 1_000 * i + seed) for i in range(5)},
    ),
    "oracle and random reranker, real first stage": (
        1.5,
        lambda judged, seed: {"random": shuffled(judged, seed), "oracle": oracle(judged)},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--simulations", type=int, default=5_000)
    options = parser.parse_args()

    print(f"| verdict on 50 queries, {options.seeds} seeds | recommended | refused | not decided |\n|---|---|---|---|")
    for name, (quality, rerankers) in CASES.items():
        verdicts = []
        for seed in range(options.seeds):
            judged = collection(seed, quality=quality)
            verdicts.append(decide(judged, rerankers(judged, seed), samples=10_000))
        winners = sorted({one.system for one in verdicts if one.system is not None})
        systems = f" ({', '.join(winners)})" if winners else ""
        answers = [one.rerank for one in verdicts]
        print(
            f"| {name} | {answers.count(True)}{systems} | {answers.count(False)} | {answers.count(None)} |", flush=True
        )

    print(f"\n| 95 % interval, {options.simulations} simulations | zeros | n = 30 | n = 50 | n = 150 |")
    print("|---|---|---|---|---|")
    for kind in ("one relevant", "graded"):
        population = differences(kind)
        shares = (interval_coverage(population, n, options.simulations, samples=10_000) for n in (30, 50, 150))
        zeros = (population == 0).mean()
        print(f"| {kind} | {zeros:.0%} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |", flush=True)

    levels = (0.01, 0.05, 0.1, 0.25, 0.5)
    print(f"\n| p-value at most, no difference | {' | '.join(map(str, levels))} |\n|---|{'---|' * len(levels)}")
    rng = np.random.default_rng(0)
    ties = np.array([-0.63, -0.5, -0.13, 0, 0, 0, 0, 0, 0.13, 0.5, 0.63])
    draws: dict[str, Callable[[], Any]] = {
        "normal, n = 40": lambda: rng.normal(0, 0.2, 40),
        "45 % zeros, n = 40": lambda: rng.choice(ties, 40),
        "45 % zeros, n = 15 (exact)": lambda: rng.choice(ties, 15),
    }
    for name, draw in draws.items():
        p = np.array([randomisation(draw()) for _ in range(options.simulations)])
        print(f"| {name} | " + " | ".join(f"{(p <= level).mean():.3f}" for level in levels) + " |", flush=True)

    many, false = options.simulations // 5, 0
    for _ in range(many):
        common = rng.normal(0, 0.1, 50)
        false += min(holm([randomisation(rng.normal(0, 0.2, 50) - common) for _ in range(10)])) < 0.05
    print(f"\nHolm, ten systems without a difference: one is found in {false / many:.1%} of {many} families")


if __name__ == "__main__":
    main()
