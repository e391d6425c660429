"""The speed benchmark: this library and its peers, measured in turn in one run on one machine.

`python -m benchmarks.speed` lists its commands; `benchmarks/README.md` explains how it measures.
"""
