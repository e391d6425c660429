"""Markdown tables of raw measurements. Every table has a line for each system, also for an unavailable one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median, quantiles
from textwrap import shorten
from typing import Any

from benchmarks.speed.limit import difference, overlap, spearman
from benchmarks.speed.systems import SYSTEMS

BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
MIB = 2**20
_REASON = 80
"""Characters of a reason in a table; the raw measurements have all of it."""

Raw = Mapping[str, Any]
Measurements = Sequence[Mapping[str, Any]]


def page(raws: Mapping[str, Raw]) -> str:
    """Return all tables of all rows that were measured."""
    parts = _runs(raws)
    for row, table in TABLES.items():
        parts += [table(raw) + _quick(raw) for raw in raws.values() if raw["row"] == row]
    return "\n\n".join(parts) + "\n"


def between_markers(text: str, tables: str) -> str:
    """Replace the text between the markers by the tables."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{tables}{END}{after}"


def select(raw: Raw, what: str, **values: Any) -> Measurements:
    """Return the measurements of one kind with these values."""
    criteria = {"what": what, **values}
    return [m for m in raw["measurements"] if all(m.get(key) == value for key, value in criteria.items())]


def ratios(raw: Raw, system: str, **values: Any) -> list[float]:
    """Return the time of a system as a multiple of ours, case by case."""
    ours = {m["case"]: m["wall"] for m in select(raw, "rerank", system="ours", **values)}
    theirs = select(raw, "rerank", system=system, **values)
    return [m["wall"] / ours[m["case"]] for m in theirs if m["case"] in ours]


def title(raw: Raw, system: str) -> str:
    """Return the title of a system, with its batch size where that was tuned."""
    tuned = select(raw, "tuning", system=system)
    return f"{SYSTEMS[system].title} ({tuned[0]['best']})" if tuned else SYSTEMS[system].title


def _main(raw: Raw) -> str:
    parts = []
    for skew in dict.fromkeys(m["skew"] for m in select(raw, "rerank")):
        gemm = select(raw, "gemm", skew=skew)
        rate = max(m["gflops"] for m in gemm)
        limits = [m["flops"] / rate / 1e9 for m in gemm]
        rows = []
        for name in _requested_systems(raw):
            measured = select(raw, "rerank", system=name, skew=skew)
            if not measured:
                rows.append([title(raw, name), _absent(raw, name)])
                continue
            walls = [m["wall"] for m in measured]
            rows.append(
                [
                    title(raw, name),
                    _spread(walls),
                    f"{median(m['cpu'] for m in measured):.2f}",
                    _spread(ratios(raw, name, skew=skew)),
                    f"{median(walls) / median(limits):.2f}",
                    _padding(select(raw, "slots", system=name, skew=skew)),
                    *_agreement(raw, measured, with_reference=skew == _first_skew(raw)),
                    _mib(select(raw, "memory", system=name), "peak") if skew == _first_skew(raw) else "",
                    f"{median(m['cpu'] / m['wall'] for m in measured):.1f}",
                ]
            )
        loads = [m["load"] for m in select(raw, "rerank", skew=skew)]
        parts.append(
            f"**100 candidates, {raw['checkpoint']}, skew {skew}**, {len(gemm)} queries. Limit: {median(limits):.2f} s "
            f"at {rate:.0f} GFLOP/s. Load average {min(loads):.1f} to {max(loads):.1f}.\n\n"
            + _table(
                "system|wall s|CPU s|times our wall|x limit|slots per token"
                "|max abs diff|Spearman|top-10|peak MiB|CPU/wall",
                rows,
            )
        )
    return "\n\n".join(parts)


def _first_skew(raw: Raw) -> float:
    """Return the skew that came first: memory and agreement were measured with it."""
    return float(select(raw, "rerank")[0]["skew"])


def _scale(raw: Raw) -> str:
    sizes = list(dict.fromkeys(m["candidates"] for m in select(raw, "rerank")))
    names = list(dict.fromkeys(m["system"] for m in select(raw, "rerank")))
    rows = []
    for name in names:
        cells = [title(raw, name)]
        for size in sizes:
            walls = [m["wall"] for m in select(raw, "rerank", system=name, candidates=size)]
            paired = ratios(raw, name, candidates=size)
            cells.append(f"{median(walls):.2f} ({median(paired):.2f})" if paired else _absent(raw, name))
        rows.append(cells)
    counts = [len(select(raw, "rerank", system=names[0], candidates=size)) for size in sizes]
    heads = [f"{size} (n={count})" for size, count in zip(sizes, counts, strict=True)]
    return f"**Candidates, {raw['checkpoint']}**: wall s (times ours).\n\n" + _table("system|" + "|".join(heads), rows)


def _callers(raw: Raw) -> str:
    rows = []
    for m in sorted(select(raw, "callers"), key=lambda m: m["callers"]):
        cuts = quantiles(m["latencies"], n=20, method="inclusive") if len(m["latencies"]) > 1 else []
        rows.append(
            [
                f"{SYSTEMS[m['system']].title}{', asyncio' if m['asynchronous'] else ''}",
                f"{m['callers']}",
                f"{len(m['latencies']) / m['wall']:.2f}",
                f"{cuts[9]:.2f}" if cuts else "",
                f"{cuts[18]:.2f}" if cuts else "",
                f"{len(m['failed'])}: {m['failed'][0]}" if m["failed"] else "0",
            ]
        )
    rows += [[SYSTEMS[name].title, _absent(raw, name)] for name in ("ours", "st", "st-onnx", "fastembed")
             if not select(raw, "callers", system=name)]  # fmt: skip
    heads = "system|callers|calls a second|p50 s|p95 s|failed"
    return f"**Callers of 20 candidates each, {raw['checkpoint']}**\n\n" + _table(heads, rows)


def _cold(raw: Raw) -> str:
    rows = []
    for name in _requested_systems(raw, without=("st-best",)):
        for start in ("first ever", "later"):
            measured = select(raw, "cold", system=name, start=start)
            label = f"{SYSTEMS[name].title}, {start}" if SYSTEMS[name].caches else SYSTEMS[name].title
            if measured:
                cells = [_spread([m["wall"] for m in measured])]
                rows.append(
                    [label, *cells, *(f"{median(m[part] for m in measured):.2f}" for part in ("load", "first"))]
                )
            elif start == "later":
                rows.append([label, _absent(raw, name)])
    heads = "system|start of the process to first score, s|of it import and load|of it the first call"
    return f"**Cold start, {raw['checkpoint']}**\n\n" + _table(heads, rows)


def _memory(raw: Raw) -> str:
    rows = [
        [
            SYSTEMS[m["system"]].title,
            f"{m['candidates']:,} x {m['length']}",
            f"{m['loaded'] / MIB:.0f}",
            f"{m['peak'] / MIB:.0f}",
            f"{(m['peak'] - m['loaded']) / MIB:.0f}",
            f"{m['wall']:.1f}",
        ]
        for m in select(raw, "memory")
    ]
    rows += [[SYSTEMS[name].title, _absent(raw, name)] for name in ("ours", "ours-int8")
             if not select(raw, "memory", system=name)]  # fmt: skip
    heads = "system|candidates x tokens|loaded MiB|peak MiB|peak over loaded MiB|wall s"
    return f"**Memory of large calls, {raw['checkpoint']}**\n\n" + _table(heads, rows)


def _size(raw: Raw) -> str:
    rows = []
    for name in _requested_systems(raw):
        if requirements := " ".join(SYSTEMS[name].requirements):
            measured = select(raw, "size", system=name)
            cells = (
                [f"{measured[0]['bytes'] / MIB:,.0f}", str(measured[0]["distributions"]), measured[0]["largest"]]
                if measured
                else [_absent(raw, name)]
            )
            rows.append([f"{SYSTEMS[name].title} (`{requirements}`)", *cells])
    return "**Installed**\n\n" + _table("system|MiB|distributions|largest", rows)


TABLES = {"main": _main, "scale": _scale, "callers": _callers, "cold": _cold, "memory": _memory, "size": _size}


def _runs(raws: Mapping[str, Raw]) -> list[str]:
    """Return one paragraph for each run that rows came from, and the versions, which are most often the same."""
    runs: dict[str, list[str]] = {}
    environments: dict[str, None] = {}
    for raw in raws.values():
        runs.setdefault(_machine(raw["machine"]), []).append(f"{raw['row']} ({raw['checkpoint']})")
        for name, versions in raw["machine"]["versions"].items():
            environments[f"- {name}: " + ", ".join(f"{package} {v}" for package, v in versions.items())] = None
    return [*(f"{machine} Rows: {', '.join(rows)}." for machine, rows in runs.items()), "\n".join(environments)]


def _machine(machine: Mapping[str, Any]) -> str:
    return (
        f"Measured on {machine['date']} at commit `{machine['commit']}`: {machine['cpu']}, {machine['cores']} cores "
        f"({', '.join(machine['flags'])}), {machine['memory'] / 2**30:.0f} GiB, {machine['system']}, "
        f"Python {machine['python']}; load average {machine['load'][0]:.1f} at the start."
    )


def _quick(raw: Raw) -> str:
    return "\n\n(From a `--quick` run: it shows that the row runs, and is no measurement.)" if raw["quick"] else ""


def _requested_systems(raw: Raw, without: Sequence[str] = ()) -> list[str]:
    absent = raw["unavailable"]
    return [name for name in SYSTEMS if absent.get(name) != "not asked for" and name not in without]


def _absent(raw: Raw, name: str) -> str:
    reason: str = raw["unavailable"].get(name, "not measured")
    return shorten(reason.replace("|", "/"), _REASON)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


def _padding(measured: Measurements) -> str:
    if not measured or not measured[0]["slots"]:
        return "not seen"
    return f"{measured[0]['slots'] / sum(measured[0]['lengths']):.2f}"


def _mib(measured: Measurements, key: str) -> str:
    return f"{measured[0][key] / MIB:.0f}" if measured else ""


def _agreement(raw: Raw, measured: Measurements, *, with_reference: bool) -> list[str]:
    reference = {m["case"]: m["scores"] for m in select(raw, "reference")} if with_reference else {}
    pairs = [(reference[m["case"]], m["scores"]) for m in measured if m["case"] in reference]
    if not pairs:
        return ["", "", ""]
    return [
        f"{max(difference(*pair) for pair in pairs):.1e}",
        f"{min(spearman(*pair) for pair in pairs):.4f}",
        f"{10 * min(overlap(*pair) for pair in pairs):.0f}",
    ]


def _table(heads: str, rows: Iterable[Sequence[str]]) -> str:
    names = heads.split("|")
    lines = [names, ["---"] * len(names), *([*row, *[""] * (len(names) - len(row))] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
