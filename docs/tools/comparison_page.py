"""The tables and the plot of ``docs/explanation/comparison.md``, made of ``benchmarks/comparison.json``.

``benchmarks/comparison.py`` writes that file. Which system wins at a budget is computed here, from its figures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import diagrams

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "comparison.md"
PLOT = ROOT / "docs" / "images" / "comparison.svg"
RESULT = ROOT / "benchmarks" / "comparison.json"

BM25 = "BM25"
BUDGETS = (2, 5, 10, 20, 50, 100, 500, 2000, 5000)
"""Milliseconds on one core."""

MODES = {"kept": "vectors kept", "uncached": "nothing kept"}


@dataclass(frozen=True)
class Row:
    """One system with its figures and its times.

    Args:
        figures: Its part of the result.
        milliseconds: Mode -> processor milliseconds; nothing where it was not timed.
    """

    figures: Mapping[str, Any]
    milliseconds: Mapping[str, float]

    @property
    def name(self) -> str:
        """The name of the system."""
        return str(self.figures["name"])

    @property
    def is_complete(self) -> bool:
        """Whether it was measured on all collections."""
        return "mean" in self.figures

    @property
    def mean(self) -> float:
        """The mean nDCG@10 over the collections; minus infinity where it was not measured on all."""
        return float(self.figures["mean"][0]) if self.is_complete else -math.inf


def read_rows() -> tuple[list[Row], Mapping[str, Any]]:
    """Return the systems, the best first, and the whole result."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    times = {BM25: dict.fromkeys(MODES, 0.0), **result["cost"]["milliseconds"]}
    rows = [Row(figures, times.get(figures["cost"], {})) for figures in result["quality"]["systems"]]
    return sorted(rows, key=lambda row: -row.mean), result


def summary_table() -> str:
    """Return the table of all systems: quality, change, time."""
    rows, result = read_rows()
    lines = [
        "| system | nDCG@10 | change against BM25 | p | queries helped, hurt | collections better, worse | "
        "against `embedded` | ms, vectors kept | ms, nothing kept |",
        "|---|---|---|---:|---:|---:|---|---:|---:|",
    ]
    for row in rows:
        figures = row.figures
        cells = [_code(row.name)]
        if not row.is_complete:
            measured = f"n/a: {len(figures['means'])} of {len(result['quality']['collections'])} collections measured"
            cells += [measured, "", "", "", ""]
        elif row.name == BM25:
            cells += [_interval(figures["mean"], "{:.3f}"), "", "", "", ""]
        else:
            cells += [
                _interval(figures["mean"], "{:.3f}"),
                _interval(figures["change"], "{:+.3f}"),
                "< 0.001" if figures["p"] < 0.001 else f"{figures['p']:.3f}",
                f"{figures['helped']}, {figures['hurt']}",
                f"{figures['better']}, {figures['worse']}",
            ]
        against = figures.get("against_embedded") if row.name != "embedded" else None
        cells.append("" if against is None else _interval(against, "{:+.3f}"))
        cells += [_time(row.milliseconds.get(mode)) for mode in MODES]
        lines.append(f"| {' | '.join(cells)} |")
    perfect = fmean(of["perfect"] for of in result["quality"]["collections"].values())
    lines.append(f"| *perfect order of the same candidates* | {perfect:.3f} | | | | | | | |")
    return "\n".join(lines) + "\n"


def collections_table() -> str:
    """Return the table of each system on each collection."""
    rows, result = read_rows()
    of = result["quality"]["collections"]
    best = {name: max(row.figures["means"].get(name, 0.0) for row in rows) for name in of}
    lines = [f"| system | {' | '.join(of)} |", f"|---|{'---:|' * len(of)}"]
    lines.append(f"| *queries* | {' | '.join(str(facts['queries']) for facts in of.values())} |")
    for row in rows:
        means = row.figures["means"]
        cells = [f"{means[name]:.3f}" if name in means else "n/a" for name in of]
        cells = [f"**{cell}**" if means.get(name) == best[name] else cell for name, cell in zip(of, cells, strict=True)]
        lines.append(f"| {_code(row.name)} | {' | '.join(cells)} |")
    perfect = (f"{facts['perfect']:.3f}" for facts in of.values())
    lines.append(f"| *perfect order* | {' | '.join(perfect)} |")
    return "\n".join(lines) + "\n"


def bytes_table() -> str:
    """Return the table of bytes."""
    _, result = read_rows()
    lines = ["| reranker | model files, MB | memory of a first call, MB | kept of a text, kB |", "|---|---:|---:|---:|"]
    for name, facts in result["cost"]["bases"].items():
        model = f"{facts['model_mb']:.1f}" if facts["model_mb"] else "none"
        kept = "nothing" if facts["kept_kb"] is None else f"{facts['kept_kb']:.1f}"
        lines.append(f"| {_code(name)} | {model} | {facts['memory_mb']:.0f} | {kept} |")
    return "\n".join(lines) + "\n"


def budget_table() -> str:
    """Return the table of the best system at each budget; of those that agree in three decimals, the fastest."""
    rows, _ = read_rows()
    head = " | ".join(f"{words}: best | nDCG@10 | held out" for words in MODES.values())
    lines = [f"| ms on one core | {head} |", "|---:|---|---:|---:|---|---:|---:|"]
    for budget in BUDGETS:
        cells = [f"{budget:,}"]
        for mode in MODES:
            fitting = [row for row in rows if row.is_complete and row.milliseconds.get(mode, math.inf) <= budget]
            best = min(fitting, key=lambda row, mode=mode: (-round(row.mean, 3), row.milliseconds[mode]))
            cells += [_code(best.name), f"{best.mean:.3f}", f"{held_out(fitting, mode):.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def held_out(rows: Sequence[Row], mode: str) -> float:
    """Return the mean of what is chosen for each collection by the figures of all others: choosing is not free."""
    names = list(rows[0].figures["means"])

    def rank(row: Row, name: str) -> tuple[float, float]:
        of_others = fmean(value for other, value in row.figures["means"].items() if other != name)
        return -round(of_others, 3), row.milliseconds[mode]

    chosen = [min(rows, key=lambda row, name=name: rank(row, name)) for name in names]
    return fmean(row.figures["means"][name] for row, name in zip(chosen, names, strict=True))


def front(rows: Iterable[Row], mode: str, least: float) -> list[Row]:
    """Return the Pareto front: the systems above ``least`` that no faster one equals in quality, the fastest first."""
    best, kept = round(least, 3), []
    for row in sorted((row for row in rows if mode in row.milliseconds), key=lambda row: row.milliseconds[mode]):
        if round(row.mean, 3) > best:
            best = round(row.mean, 3)
            kept.append(row)
    return kept


TABLES: Mapping[str, Callable[[], str]] = {
    "summary": summary_table,
    "budgets": budget_table,
    "bytes": bytes_table,
    "collections": collections_table,
}
"""Name of a table in the comments of the page -> its text."""


def with_tables(page: str) -> str:
    """Return the text of the page with the tables of now.

    Raises:
        ValueError: The page lacks the comments of a table.
    """
    for name, table in TABLES.items():
        before, begin, rest = page.partition(f"<!-- begin of {name} -->")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        if not end:
            raise ValueError(f"{PAGE.name} has no comments around the table {name}")
        page = f"{before}{begin}\n\n{table()}\n{end}{after}"
    return page


PANEL, TOP, HEIGHT, LEFT, GAP = 400, 34, 300, 52, 44
LOW, HIGH = 0.50, 0.75
FASTEST, SLOWEST = 0.5, 20_000.0
CHART_STYLE = """<style>
  .chart .point { fill: var(--line); stroke: none; }
  .chart .best { fill: var(--accent); stroke: none; }
  .chart path.bar { stroke-width: 1; opacity: 0.45; }
  .chart path.best-bar { stroke: var(--accent); stroke-width: 1.6; }
  .chart path.front { stroke: var(--accent); stroke-width: 1.2; opacity: 0.5; }
  .chart path.grid { stroke-width: 0.5; opacity: 0.5; }
  .chart path.first { stroke-dasharray: 5 4; }
</style>"""


def draw_comparison() -> str:
    """Draw quality against time, once with kept vectors and once without."""
    rows, _ = read_rows()
    rows = [row for row in rows if row.name != BM25 and LOW <= row.mean <= HIGH]
    first = next(row.mean for row in read_rows()[0] if row.name == BM25)
    body = [CHART_STYLE, '<g class="chart">']
    longest = 0
    for nth, (mode, caption) in enumerate(MODES.items()):
        left = LEFT + nth * (PANEL + GAP)
        best = front(rows, mode, first)
        body += _frame(left, caption, first)
        points = [(_x(left, row.milliseconds[mode]), _y(row.mean)) for row in best]
        steps = " ".join(f"H{x:.1f} V{y:.1f}" for x, y in points[1:])
        body.append(f'<path class="front" d="M{points[0][0]:.1f},{points[0][1]:.1f} {steps}"/>')
        for row in sorted((row for row in rows if mode in row.milliseconds), key=lambda row: row in best):
            number = f"{best.index(row) + 1}" if row in best else ""
            body += _point(_x(left, row.milliseconds[mode]), row, number, mode)
        for number, row in enumerate(best, start=1):
            text = f"{number}  {row.name}: {row.mean:.3f}, {_time(row.milliseconds[mode])} ms"
            body.append(diagrams.words(left, TOP + HEIGHT + 62 + 19 * (number - 1), text, "soft", "start"))
        longest = max(longest, len(best))
    body.append("</g>")
    return diagrams.svg("comparison", LEFT + 2 * PANEL + GAP + 12, TOP + HEIGHT + 62 + 19 * longest, body)


def _frame(left: float, caption: str, first: float) -> Iterator[str]:
    """Yield the axes of a panel, its grid, and the line of the first stage."""
    yield diagrams.words(left, 18, f"{caption}: mean nDCG@10", "head", "start")
    for tenth in range(round(100 * LOW), round(100 * HIGH) + 1, 5):
        y = _y(tenth / 100)
        yield f'<path class="grid" d="M{left},{y:.1f} H{left + PANEL}"/>'
        yield diagrams.words(left - 6, y + 4, f"{tenth / 100:.2f}", "soft", "end")
    for power in range(5):
        x = _x(left, 10.0**power)
        yield f'<path class="grid" d="M{x:.1f},{TOP} V{TOP + HEIGHT}"/>'
        yield diagrams.words(x, TOP + HEIGHT + 16, f"{10**power:,}", "soft")
    yield diagrams.words(left + PANEL / 2, TOP + HEIGHT + 34, "milliseconds of one core for 100 candidates", "soft")
    yield f'<path class="first" d="M{left},{_y(first):.1f} H{left + PANEL}"/>'
    yield diagrams.words(left + PANEL, _y(first) + 15, "the order of BM25", "soft", "end")


def _point(x: float, row: Row, number: str, mode: str) -> Iterator[str]:
    low, high = (min(HIGH, max(LOW, limit)) for limit in row.figures["mean"][1:])
    yield f'<path class="{"best-bar" if number else "bar"}" d="M{x:.1f},{_y(low):.1f} V{_y(high):.1f}"/>'
    title = f"<title>{row.name}: {row.mean:.3f}, {_time(row.milliseconds[mode])} ms</title>"
    yield (
        f'<circle class="{"best" if number else "point"}" cx="{x:.1f}" cy="{_y(row.mean):.1f}" '
        f'r="{4.5 if number else 3}">{title}</circle>'
    )
    if number:
        side, anchor = (-7, "end") if int(number) % 2 else (7, "start")
        yield diagrams.words(x + side, _y(row.mean) - 5, number, "head", anchor)


def _x(left: float, milliseconds: float) -> float:
    share = math.log(max(FASTEST, milliseconds) / FASTEST) / math.log(SLOWEST / FASTEST)
    return left + PANEL * share


def _y(value: float) -> float:
    return TOP + HEIGHT * (HIGH - value) / (HIGH - LOW)


def _interval(values: Sequence[float], form: str) -> str:
    mean, low, high = (form.format(value) for value in values)
    return f"{mean} [{low}, {high}]"


def _time(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "n/a"
    if milliseconds < 10:
        return f"{milliseconds:.1f}"
    return f"{milliseconds:,.0f}"


def _code(name: str) -> str:
    """Return the name of a type or a model as code."""
    return f"`{name}`" if name in ("lexical", "sparse", "embedded", "embedded-multilingual") else name
