"""The speed benchmark: this library and its peers, asked in turn in one run on one machine.

`python -m benchmarks.speed` says what it can do; `benchmarks/README.md` says how it measures.
"""
