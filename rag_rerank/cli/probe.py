"""``rag-rerank probe``: show which contrasts between passages rerankers do not recognise."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING

import click

from rag_rerank.cli.options import json_option, rerankers_option
from rag_rerank.cli.output import bar, example, one_line, table
from rag_rerank.errors import TruncationWarning

if TYPE_CHECKING:
    from rag_rerank.evaluation.probes import KindResult, MissedContrast, ProbeReport

__all__ = ["probe"]

SCHEMA = 1
"""Version of the JSON object; it grows when a field changes its meaning or is removed."""

_NAME_WIDTH = 24
"""Maximum length of a config's name above its column."""


@click.command(
    short_help="Show what rerankers miss: negation, numbers, names ...",
    epilog=example("probe -c lexical -c embedded --kind negation", "probe -c minilm --failures 0"),
)
@rerankers_option
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", show_default="all", help="Use only this kind. Repeatable."
)
@click.option(
    "--failures",
    type=click.IntRange(min=0),
    metavar="N",
    default=1,
    show_default=True,
    help="Show at most N missed contrasts for each kind and reranker.",
)
@json_option
def probe(specs: tuple[str, ...], kinds: tuple[str, ...], failures: int, as_json: bool) -> None:
    """Show what rerankers miss, on hand-written contrasts in English.

    A contrast is a query, a passage that answers it, and one or two that do not. It passes if the better passage ranks
    above the worse ones; a tie does not pass. There are 19 kinds, such as negation, numbers and entity, with 15
    contrasts each.

    A rate has a wide 95 % interval, because 15 contrasts are few: a kind shows what a model cannot do, not which of two
    similar models is better. Do not train on the contrasts.
    """
    reports = [_report(spec, kinds) for spec in dict.fromkeys(specs)]
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "reports": [report.to_dict() for report in reports]}))
    else:
        click.echo("\n".join([*_page(reports), *(part for report in reports for part in _failures(report, failures))]))


def _report(spec: str, kinds: Sequence[str]) -> ProbeReport:
    from rag_rerank.evaluation.probes import probe as run_probe

    with warnings.catch_warnings(), bar(f"probing {spec}") as progress:
        warnings.simplefilter("ignore", TruncationWarning)  # the page says how many passages were cut
        return run_probe(spec, kinds=kinds or None, progress=progress)


def _page(reports: Sequence[ProbeReport]) -> Iterator[str]:
    heading = ("kind", "chance", *(part for report in reports for part in (_name_end(report.name), "95 %")))
    rows = [[report.kinds[i] for report in reports] for i in range(len(reports[0].kinds))]
    rows.append([report.all for report in reports])
    yield table([heading, *map(_row, rows)], align="<>" + "><" * len(reports))
    yield ""
    yield f"probes, version {reports[0].suite}; chance is what a random order would pass; a tie does not pass"
    for report in reports:
        if report.truncated:
            yield f"{one_line(report.name)}: {report.truncated} passages were not read to their end"
        if report.degraded:
            yield f"{one_line(report.name)}: {report.degraded} rankings were degraded: not quite what was asked"


def _name_end(name: str) -> str:
    """Return the end of a name: in a path, the file says more than the folders."""
    return name if len(name) <= _NAME_WIDTH else f"…{name[1 - _NAME_WIDTH :]}"


def _row(results: Sequence[KindResult]) -> tuple[str, ...]:
    return (results[0].kind, f"{results[0].chance:.0%}", *(part for result in results for part in _cells(result)))


def _cells(result: KindResult) -> tuple[str, str]:
    low, high = result.interval
    return f"{result.passed}/{result.total} {result.rate:.0%}", f"{low:.0%}-{high:.0%}"


def _failures(report: ProbeReport, count: int) -> Iterator[str]:
    for _, rows in groupby(report.missed, key=lambda row: row.contrast.kind):
        for row in islice(rows, count):
            yield from _block(report, row)


def _block(report: ProbeReport, row: MissedContrast) -> Iterator[str]:
    contrast = row.contrast
    margin = "not all scored" if row.margin is None else "tie" if row.margin == 0 else f"margin {row.margin:.4g}"
    yield f"\n{one_line(report.name)} missed {contrast.id} ({margin}): {one_line(contrast.why)}"
    yield f"  query   {'':>9}  {one_line(contrast.query)}"
    for i, (text, score) in enumerate(zip(contrast.passages, row.scores, strict=True)):
        score_text = "–" if score is None else f"{score:.4g}"
        yield f"  {'worse' if i else 'better':<6}  {score_text:>9}  {one_line(text)}"
