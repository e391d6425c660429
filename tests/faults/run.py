"""Drive random trees of composites over random faults, and print what was counted.

python tests/faults/run.py --cases 5000            # all laws, some minutes
python tests/faults/run.py --seed 7 --case 1234    # one case again, in full
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from faults.oracle import Violation  # noqa: E402
from faults.proof import Tally, run, smallest  # noqa: E402
from faults.trees import random_case  # noqa: E402
from faults.wire import Wire  # noqa: E402


def main() -> int:
    """Run, and return the number of violations, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int)
    options = parser.parse_args()
    for name in ("CO_API_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(name, None)
    numbers = range(options.cases) if options.case is None else [options.case]
    tally, violations = Tally(), 0
    with Wire() as wire:
        for number in numbers:
            case = random_case(options.seed, number)
            try:
                run(case, wire, tally)
            except Violation as violation:
                violations += 1
                print(f"VIOLATION in --seed {options.seed} --case {number}: {violation}"[:3000])
                case, words = smallest(case, wire)
                print(f"smallest: {json.dumps(case, ensure_ascii=False)}\n  {words}"[:6000], flush=True)
                if violations >= 5:
                    break
    _print(tally, violations)
    return min(violations, 1)


def _print(tally: Tally, violations: int) -> None:
    rows = [("cases", sum(tally.cases.values())), *sorted(tally.cases.items())]
    rows += [("rerankers", sum(tally.rerankers.values())), *sorted(tally.rerankers.items())]
    rows += [("requests served", tally.requests)]
    rows += [("faults injected", sum(tally.faults.values())), *sorted(tally.faults.items())]
    rows += [("calls", sum(tally.outcomes.values())), *sorted(tally.outcomes.items()), ("violations", violations)]
    for name, count in rows:
        print(f"{name:28} {count:>9,}")


if __name__ == "__main__":
    sys.exit(main())
