"""What a call costs whose texts no reranker has seen before: processor and wall time, as a share of the first one's.

    python benchmarks/uncached.py embedded embedded-tiny embedded-static [--candidates 100] [--rounds 9] [--words 95]

Each round asks every reranker once, in turn, about texts of its own: real Wikipedia passages in lengths as a retriever
returns them (median 85 words, 5 to 400), of which no store has any; with ``--words``, all of that many. Times are
medians; a share is the median over the rounds of the share in that round, with the least and the largest beside it. The
first round is not counted. Processor time holds on a busy machine too, wall time only on an idle one.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import cycle, islice
from statistics import median
from time import perf_counter, process_time

from rag_rerank import build
from rag_rerank.diagnostics.sample_texts import questions, skewed_question


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rerankers", nargs="+")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--words", type=int, help="words of each text")
    options = parser.parse_args()
    rerankers = {name: build(name) for name in options.rerankers}
    times = defaultdict[str, list[tuple[float, float]]](list)
    rounds = options.rounds + 1
    passages = skewed_question(options.candidates * rounds).texts
    if options.words:
        words = cycle(" ".join(passages).split())
        passages = tuple(" ".join(islice(words, options.words)) for _ in passages)
    for number, question in enumerate(islice(cycle(questions()), rounds)):
        texts = passages[number * options.candidates : (number + 1) * options.candidates]
        for name, reranker in rerankers.items():
            processor, wall = process_time(), perf_counter()
            reranker.rerank(question.query, texts)
            times[name].append((process_time() - processor, perf_counter() - wall))
    print("| reranker | processor | share | wall | share |\n|---|---:|---|---:|---|")
    first = times[options.rerankers[0]][1:]
    for name, (_, *counted) in times.items():
        cells = []
        for which in (0, 1):
            shares = sorted(mine[which] / base[which] for mine, base in zip(counted, first, strict=True))
            cells.append(f"{1000 * median(pair[which] for pair in counted):.0f} ms")
            cells.append(f"{median(shares):.3f} ({shares[0]:.3f} to {shares[-1]:.3f})")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
