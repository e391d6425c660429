"""The two plots: the time of each system as a multiple of ours, and how time grows with the candidates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.systems import SYSTEMS
from benchmarks.speed.tables import ratios, select, title
from benchmarks.speed.texts import SKEW

OURS, PEERS = "#1b6ca8", "#9aa5b1"


def plot(raws: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Write the plot as SVG, with the measured rows of the first checkpoint."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "speed", "font.size": 9})
    from matplotlib import pyplot

    rows = {raw["row"]: raw for raw in reversed(list(raws.values()))}
    draw = {"main": _bars, "scale": _curves}
    present = [row for row in draw if row in rows]
    if not present:
        return
    figure, axes = pyplot.subplots(1, len(present), figsize=(5.5 * len(present), 3.6), squeeze=False)
    for row, axis in zip(present, axes[0], strict=True):
        draw[row](rows[row], axis)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _bars(raw: Mapping[str, Any], axis: Any) -> None:
    ratios_of = {name: ratios(raw, name, skew=SKEW) for name in SYSTEMS}
    names = sorted((name for name in ratios_of if ratios_of[name]), key=lambda name: -median(ratios_of[name]))
    for y, name in enumerate(names):
        middle = median(ratios_of[name])
        spread = [[middle - min(ratios_of[name])], [max(ratios_of[name]) - middle]]
        axis.barh(y, middle, xerr=spread, color=OURS if name.startswith("ours") else PEERS, ecolor="#444", capsize=2)
    axis.set_yticks(range(len(names)), [title(raw, name) for name in names])
    axis.axvline(1, color="#444", linewidth=0.8)
    axis.set_xlabel("times our time (median, range over queries)")
    axis.set_title(f"100 candidates, {raw['checkpoint']}", loc="left")


def _curves(raw: Mapping[str, Any], axis: Any) -> None:
    sizes = sorted({m["candidates"] for m in select(raw, "rerank")})
    for name in dict.fromkeys(m["system"] for m in select(raw, "rerank")):
        walls = {n: [m["wall"] for m in select(raw, "rerank", system=name, candidates=n)] for n in sizes}
        points = [(n, median(walls[n])) for n in sizes if walls[n]]
        axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=title(raw, name))
    axis.set(xscale="log", yscale="log", xlabel="candidates", ylabel="seconds")
    axis.legend(frameon=False, fontsize=7)
    axis.set_title("Growth with the candidates", loc="left")
