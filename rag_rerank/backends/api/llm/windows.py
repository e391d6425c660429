"""The windows that a listwise ranking slides over a list, from its end to its beginning."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["count_windows", "slide"]


def slide(count: int, window: int, stride: int) -> Iterator[range]:
    """Yield the windows of one pass over ``count`` places, the last one first.

    Each overlaps the one after it by ``window - stride`` places, so that the best of a window are carried towards the
    beginning, as in RankGPT (Sun et al., arXiv 2304.09542). The first place is always in the last window: a window
    that would begin before it is cut.
    """
    end = count
    while count > 1:
        start = max(0, end - window)
        yield range(start, end)
        if start == 0:
            return
        end -= stride


def count_windows(count: int, window: int, stride: int) -> int:
    """Return how many windows one pass over ``count`` places has."""
    if count < 2:
        return 0
    return 1 if count <= window else 1 + -(-(count - window) // stride)
