"""The diagrams of the documentation, drawn as SVG.

- ``where.svg``: where rag-rerank stands in a RAG system; drawn by hand.
- ``house.svg``: the folders of the package. The arrows are computed from `MAY_IMPORT` of
  ``tests/architecture/test_layers.py``.
- ``request.svg``: the path of a request, from the first table of that section in ``docs/design.md``.

Colours are variables, so that the drawings follow light and dark, alone as well as inside a page of the site.
"""

from __future__ import annotations

import importlib.util
import re
import textwrap
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"

STYLE = """
  svg.diagram { --ink: #1f2933; --soft: #5b6773; --line: #8a949e; --box: #ffffff; --fill: #eef2f7; --accent: #3949ab;
    font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
  @media (prefers-color-scheme: dark) { svg.diagram { --ink: #e6e9ef; --soft: #aab2bf; --line: #78818f; --box: #262a36;
    --fill: #323849; --accent: #9fa8da; } }
  .diagram rect { fill: var(--box); stroke: var(--line); }
  .diagram rect.group { fill: var(--fill); stroke: none; }
  .diagram rect.main { stroke: var(--accent); stroke-width: 2; }
  .diagram text { fill: var(--ink); }
  .diagram text.soft { fill: var(--soft); font-size: 12px; }
  .diagram text.head { font-weight: 600; }
  .diagram text.code { font: 12px ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
  .diagram path { fill: none; stroke: var(--line); stroke-width: 1.3; }
  .diagram .tip { fill: var(--line); stroke: none; }
""".strip("\n")


@dataclass(frozen=True)
class Box:
    """A box of the house: what it is called, and the rows of `MAY_IMPORT` in it, or the folders that these are in."""

    title: str
    caption: str
    units: tuple[str, ...]


GROUND = (
    *("types", "trace", "text", "errors", "secret", "rank_correlation", "documentation"),
    *("_checks", "_files", "_lazy", "_version"),
)
HOUSE: tuple[tuple[tuple[float, Box], ...], ...] = (
    ((60, Box("cli/", "the command", ("cli", "__main__"))),),
    (
        (13, Box("integrations/", "LlamaIndex, LangChain ...", ("integrations",))),
        (37, Box("pages/", "HTML reports", ("pages",))),
        (61, Box("training/", "a model of your own", ("training",))),
        (78, Box("batch/", "offline", ("batch",))),
        (93, Box("serving/", "over HTTP", ("serving",))),
    ),
    (
        (12, Box("rag_rerank", "the public names", ("__init__",))),
        (35, Box("evaluation/", "does it help?", ("evaluation",))),
        (53.3, Box("testing.py", "the contract tests", ("testing",))),
        (71.4, Box("export/", "to ONNX", ("export",))),
        (90, Box("diagnostics/", "tune, check", ("diagnostics",))),
    ),
    (
        (10, Box("hosts/", "what adapters share", ("hosts",))),
        (30, Box("compose/", "cascade, fallback ...", ("compose",))),
        (50, Box("config, registry", "name to reranker", ("config", "registry"))),
        (70, Box("backends/", "local/, api/, lexical", ("backends",))),
        (90, Box("agreement.py", "compare rerankers", ("agreement",))),
    ),
    (
        (16, Box("records/", "calls as JSON", ("records",))),
        (52, Box("base.py", "Reranker", ("base",))),
        (84, Box("telemetry/", "OpenTelemetry", ("telemetry",))),
    ),
    ((56, Box("execution/", "how a call runs", ("execution",))),),
    ((42, Box("context/", "from a ranking to the prompt", ("context",))),),
    ((42, Box("types, trace, text, errors", "data and ground", GROUND)),),
)
"""The boxes of the house, row by row, each with its middle in percent; arrows lead to boxes further down."""

WAYS = {
    ("integrations/", "hosts/"): 1.2,
    ("training/", "agreement.py"): 80.8,
    ("cli/", "hosts/"): 24.9,
    ("cli/", "diagnostics/"): 75,
    ("serving/", "base.py"): 80.4,
    ("batch/", "backends/"): 80.6,
    ("batch/", "config, registry"): 62.4,
}
"""Where, in percent, an arrow that passes a row of boxes goes through that row."""


def may_import() -> dict[str, set[str]]:
    """Return the arrows that the tests allow, with those of the adapters."""
    spec = importlib.util.spec_from_file_location("layers", ROOT / "tests" / "architecture" / "test_layers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {**module.MAY_IMPORT, "integrations": {"__init__", "hosts"}}


def home_of(unit: str) -> Box:
    """Return the box of a row of `MAY_IMPORT`."""
    for row in HOUSE:
        for _, box in row:
            if unit in box.units or unit.partition("/")[0] in box.units:
                return box
    raise ValueError(f"no box of HOUSE holds {unit}")


def house_arrows() -> list[tuple[Box, Box]]:
    """Return the arrows between boxes, without those that others imply."""
    boxes = [box for row in HOUSE for _, box in row]
    allowed = may_import()
    home = {unit: home_of(unit) for unit in allowed}
    direct = {
        box: {home[low] for unit in allowed if home[unit] is box for low in allowed[unit]} - {box} for box in boxes
    }

    def below(box: Box) -> set[Box]:
        return direct[box] | {lower for target in direct[box] for lower in below(target)}

    return [
        (box, target)
        for box in boxes
        for target in sorted(direct[box], key=boxes.index)
        if not any(target in below(other) for other in direct[box] - {target})
    ]


def svg(name: str, width: int, height: int, body: list[str]) -> str:
    """Return a drawing."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="diagram" viewBox="0 0 {width} {height}" width="{width}">'
    tip = (
        f'<defs><marker id="tip-{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path class="tip" d="M0,0 L8,4 L0,8 z"/></marker></defs>'
    )
    return "\n".join([head, f"<style>\n{STYLE}\n</style>", tip, *body, "</svg>", ""])


def rect(x: float, y: float, width: float, height: float, kind: str = "") -> str:
    """Return a rectangle with round corners."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"{label(kind)}/>'


def label(kind: str) -> str:
    """Return the attribute of a class."""
    return f' class="{kind}"' if kind else ""


def words(x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> str:
    """Return one line of text; ``x`` is its middle unless ``anchor`` says otherwise."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{label(kind)}>{escape(text, quote=False)}</text>'


def arrow(name: str, path: str, kind: str = "") -> str:
    """Return a line that ends in a tip."""
    return f'<path d="{path}" marker-end="url(#tip-{name})"{label(kind)}/>'


def draw_where() -> str:
    """Draw where rag-rerank stands in a RAG system."""
    body = [rect(222, 8, 436, 212, "group"), words(440, 30, "rag-rerank", "head")]
    stages = (
        (4, 154, "First stage", "BM25, vectors, hybrid", ""),
        (240, 180, "Rerank", "order by relevance", "main"),
        (466, 174, "Pack", "fit a token budget", "main"),
        (742, 144, "LLM", "writes the answer", ""),
    )
    for x, width, title, caption, kind in stages:
        body += [rect(x, 44, width, 54, kind), words(x + width / 2, 66, title, "head")]
        body.append(words(x + width / 2, 86, caption, "soft"))
    for start, end, middle, text in ((158, 240, 190, "50 to 500"), (420, 466, 0, ""), (640, 742, 700, "5 to 10")):
        body.append(arrow("where", f"M{start},71 L{end},71"))
        if text:
            body += [words(middle, 62, text, "soft"), words(middle, 88, "chunks", "soft")]
    places = (
        ("on your machine", "ONNX, PyTorch"),
        ("by a provider", "Cohere, Voyage ..."),
        ("on your server", "TEI, vLLM ..."),
    )
    for i, (title, caption) in enumerate(places):
        x = 231 + 141 * i
        body += [rect(x, 152, 136, 54), words(x + 68, 174, title), words(x + 68, 193, caption, "soft")]
        body.append(arrow("where", f"M330,98 C330,126 {x + 68},122 {x + 68},152"))
    return svg("where", 890, 228, body)


def draw_house() -> str:
    """Draw the folders of the package, and who may import whom."""
    width, height, row_height = 900, 46, 92
    places: dict[Box, tuple[float, float, float]] = {}
    for n, row in enumerate(HOUSE):
        for percent, box in row:
            box_width = 160 if len(row) == 5 else 206
            places[box] = (width * percent / 100 - box_width / 2, 10 + n * row_height, box_width)
    arrows = house_arrows()
    into = {box: [source for source, target in arrows if target == box] for box in places}
    out = {box: [target for source, target in arrows if source == box] for box in places}

    def port(box: Box, other: Box, others: list[Box]) -> float:
        x, _, box_width = places[box]

        def passes(one: Box) -> float:
            way = WAYS.get((box.title, one.title))
            return places[one][0] + places[one][2] / 2 if way is None else width * way / 100

        order = sorted(others, key=passes)
        return x + box_width * (order.index(other) + 1) / (len(order) + 1)

    def curve(x1: float, y1: float, x2: float, y2: float) -> str:
        bend = (y2 - y1) * 0.6
        return f"C{x1:.0f},{y1 + bend:g} {x2:.0f},{y2 - bend:g} {x2:.0f},{y2:g}"

    body: list[str] = []
    for source, target in arrows:
        x1, y1 = port(source, target, out[source]), places[source][1] + height
        x2, y2 = port(target, source, into[target]), places[target][1]
        if y2 <= y1:
            raise ValueError(f"the arrow from {source.title} to {target.title} does not point down")
        path = f"M{x1:.0f},{y1:g} "
        if y2 - y1 > row_height:
            if (source.title, target.title) not in WAYS:
                raise ValueError(f"the arrow from {source.title} to {target.title} passes a row: give it a way in WAYS")
            way = width * WAYS[source.title, target.title] / 100
            top, bottom = y1 + row_height - height, y2 - (row_height - height)
            path += f"{curve(x1, y1, way, top)} L{way:.0f},{bottom:g} {curve(way, bottom, x2, y2)}"
        else:
            path += curve(x1, y1, x2, y2)
        body.append(arrow("house", path))
    for box, (x, y, box_width) in places.items():
        body += [rect(x, y, box_width, height), words(x + box_width / 2, y + 20, box.title, "head")]
        body.append(words(x + box_width / 2, y + 37, box.caption, "soft"))
    return svg("house", width, len(HOUSE) * row_height - (row_height - height) + 20, body)


LANES = ("base.py", "execution/", "the backend", "types.py")
STEP_IN_BACKEND = "PointwiseReranker.score"


def request_steps() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what each step of a request does, and its functions as (file, name)."""
    section = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").split("## The path of a request")[1]
    table = section.split("| step | where |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (\d+\. .*?) \| (.*) \|$", table, re.MULTILINE)
    return [(text, re.findall(r"`([\w/]+\.py):([\w.]+)`", places)) for text, places in rows]


def lane_of(file: str, name: str) -> int:
    """Return the lane of a function."""
    if name == STEP_IN_BACKEND:
        return LANES.index("the backend")
    return LANES.index(file if file in LANES else f"{file.partition('/')[0]}/")


def draw_request() -> str:
    """Draw the path of a request: what each step does, and whose function does it."""
    left, lane_width, gap = 330, 178, 8
    width = left + len(LANES) * (lane_width + gap)
    y, body, rows = 48, [], []
    for text, functions in request_steps():
        lines = textwrap.wrap(re.sub(r"[`*]|\s*\(below\)", "", text).replace("->", "→"), 42)
        by_lane: dict[int, list[str]] = {}
        for file, name in functions:
            by_lane.setdefault(lane_of(file, name), []).append(name)
        height = max(20 * len(lines), 26 * max(map(len, by_lane.values()))) + 20
        rows.append((y, height, lines, by_lane))
        y += height
    total = y + 6
    for i, lane in enumerate(LANES):
        x = left + i * (lane_width + gap)
        body += [rect(x, 8, lane_width, total - 14, "group"), words(x + lane_width / 2, 30, lane, "head")]
    before: tuple[float, float] | None = None
    for top, height, lines, by_lane in rows:
        start = top + height / 2 - 10 * len(lines) + 14
        body += [words(8, start + 20 * i, line, "", "start") for i, line in enumerate(lines)]
        last_x = None
        for lane, names in by_lane.items():
            box_height = 26 * len(names) + 2
            x = left + lane * (lane_width + gap) + 6
            middle, box_y = x + lane_width / 2 - 6, top + (height - box_height) / 2
            if last_x is not None:
                body.append(
                    arrow("request", f"M{last_x + lane_width - 12:g},{top + height / 2:g} L{x:g},{top + height / 2:g}")
                )
            elif before is not None:
                x1, y1 = before
                bend = f"C{x1:g},{y1 + 14:g} {middle:g},{box_y - 14:g} {middle:g},{box_y:g}"
                body.append(arrow("request", f"M{x1:g},{y1:g} {bend}"))
            body.append(rect(x, box_y, lane_width - 12, box_height))
            for i, name in enumerate(names):
                short = name if len(name) <= 22 else name.rpartition(".")[2]
                body.append(words(middle, box_y + 18 + 26 * i, short, "code"))
            before, last_x = (middle, box_y + box_height), x
    return svg("request", width, total, body)


DIAGRAMS: dict[str, Any] = {"where.svg": draw_where, "house.svg": draw_house, "request.svg": draw_request}
