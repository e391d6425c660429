"""Without ``benchmarks/``, as in the source distribution, there is nothing to test here."""

from pathlib import Path

collect_ignore = [] if (Path(__file__).parents[2] / "benchmarks").is_dir() else ["test_speed.py"]
