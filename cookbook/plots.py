"""Charts of the notebooks: one style, few lines a chart, and with each chart a text that says what it shows."""

import base64
import io
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

BLUE, ORANGE, GREEN, SKY, GREY, LIGHT = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#7F7F7F", "#D9D9D9"
"""Colours that readers with any kind of colour vision can tell apart (Okabe and Ito), and two greys."""

matplotlib.rcParams.update(
    {
        "axes.axisbelow": True,
        "axes.edgecolor": GREY,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 9,
        "figure.facecolor": "white",
        "font.size": 9,
        "grid.color": "#E8E8E8",
        "legend.frameon": False,
    }
)


class Picture:
    """A chart as a PNG image.

    Args:
        figure: The chart.
        text: What it shows, in words and figures: for terminals, for readers who hear a page, and for tests.
    """

    def __init__(self, figure: Figure, text: str) -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=160)
        image = Image.open(buffer).convert("RGB").quantize(64, dither=Image.Dither.NONE)  # a quarter of the bytes
        image.save(png := io.BytesIO(), format="png", optimize=True)
        self.png, self.width, self.text = png.getvalue(), image.width // 2, text

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        data = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.text}
        return data, {"image/png": {"alt": self.text, "width": self.width}}


def new_chart(
    title: str, panels: int = 1, *, height: float = 3.0, ratios: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, side by side; the title states what the chart shows."""
    figure = Figure(figsize=(8.5, height), layout="constrained")
    figure.suptitle(textwrap.fill(title, 92), x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    axes = figure.subplots(1, panels, squeeze=False, width_ratios=ratios)[0]
    return figure, list(axes)


def draw_moves(
    axes: Axes, ranks: Mapping[str, Sequence[int]], columns: Sequence[str], highlight: Sequence[str]
) -> None:
    """Draw a line for each passage through its ranks in several orders; those in ``highlight`` are orange."""
    for id, row in ranks.items():
        style = {"color": ORANGE, "lw": 2.5, "zorder": 3} if id in highlight else {"color": "#A6A6A6", "lw": 1}
        axes.plot(range(len(columns)), row, marker="o", ms=5, **style)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_xlim(-0.15, len(columns) - 0.85)
    last = max(max(row) for row in ranks.values())
    axes.set_ylim(last + 0.7, 0.3)
    axes.set_yticks([1, *range(5, last + 1, 5)])
    axes.set_ylabel("rank (1 is best)")


def draw_shares(axes: Axes, rows: Mapping[str, Mapping[str, int]], colours: Mapping[str, str]) -> None:
    """Draw one bar a row, divided into counts; the legend names the parts."""
    for y, counts in enumerate(rows.values()):
        left = 0
        for name, count in counts.items():
            axes.barh(y, count, left=left, color=colours[name], height=0.62, label=name if y == 0 else None)
            if count:
                text_colour = "black" if colours[name] in (LIGHT, SKY) else "white"
                axes.text(left + count / 2, y, str(count), ha="center", va="center", color=text_colour)
            left += count
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, handlelength=1, borderaxespad=0.2)


def draw_intervals(
    axes: Axes, rows: Mapping[str, tuple[float, float, float]], colours: Mapping[str, str] | None = None
) -> None:
    """Draw one point a row, with its interval: name -> (mean, low, high). Differences (some below 0) get their sign."""
    number = "{:+.3f}" if any(low < 0 for _, low, _ in rows.values()) else "{:.3f}"
    for y, (name, (mean, low, high)) in enumerate(rows.items()):
        colour = (colours or {}).get(name, BLUE)
        axes.plot([low, high], [y, y], color=colour, lw=2.5, solid_capstyle="round")
        axes.plot(mean, y, "o", color=colour, ms=7)
        axes.annotate(number.format(mean), (mean, y), (0, 7), textcoords="offset points", ha="center", color=colour)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="x")


def mean_with_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean and its 95 % interval (percentile bootstrap over the values, 10,000 samples)."""
    array = np.asarray(values, dtype=float)
    rng = np.random.default_rng(0)
    means = array[rng.integers(len(array), size=(10_000, len(array)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(array.mean()), float(low), float(high)
