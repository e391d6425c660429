"""A system for the benchmark's worker that needs no package: the longer the text, the better."""

import os
from collections.abc import Callable
from pathlib import Path

from benchmarks.speed.loaders import Loaded


def load(folder: Path, sign: int = 1, **_: object) -> Loaded:
    print("a line that must not be taken for an answer")
    if folder.name == "broken":
        raise ValueError("this model is broken")

    def score(query: str, texts: list[str]) -> list[float]:
        if query == "crash":
            os._exit(3)
        if query == "raise":
            raise RuntimeError("no answer")
        return [float(sign * len(text)) for text in texts]

    async def ascore(query: str, texts: list[str]) -> list[float]:
        return score(query, texts)

    def watch(slots: list[int]) -> Callable[[], None]:
        slots.append(24)
        return lambda: None

    return Loaded(score, watch, ascore)
