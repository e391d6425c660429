"""``rag-rerank tune``: measure the settings of local models here, and write the best into a config."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.base import Reranker
from rag_rerank.cli.candidates import own_text
from rag_rerank.cli.config_edit import Place, as_yaml, check_new, edit, find_parts, place_text, put, with_replaced
from rag_rerank.cli.output import bar, table
from rag_rerank.config import build, to_config
from rag_rerank.diagnostics.sample_texts import SampleQuestion, skewed_question
from rag_rerank.diagnostics.tune import Report, TunedSetting
from rag_rerank.diagnostics.tune import tune as measure
from rag_rerank.errors import ConfigError

__all__ = ["tune"]

SCHEMA = 1
"""Version of the JSON object; it grows when a field changes its meaning or goes."""


@click.command(short_help="Measure which settings of local models are fastest here.")
@click.argument("spec", metavar="NAME|FILE")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write a new config file.")
@click.option("--write", is_flag=True, help="Change the config FILE in place; comments and layout of YAML stay.")
@click.option("--texts", metavar="FILE|-", help="Measure on these texts, in the formats of `rank`; needs --query.")
@click.option("-q", "--query", help="The query that goes with --texts.")
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=60, show_default=True, help="About how long, for each model."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def tune(
    spec: str, out: Path | None, write: bool, texts: str | None, query: str | None, seconds: float, as_json: bool
) -> None:
    """Measure which settings of the local models are fastest on this machine.

    For each local model in NAME or FILE: "workers" and "threads" (onnx) and "batch_tokens" (onnx and torch, on a CPU),
    for one call at a time, on texts of your own or on 100 texts of unlike length that ship with the package. The
    present setting stays unless another is faster by more than the spread and gives the same scores. What
    precision: int8 would change is shown, never chosen.

    Without --out or --write, the tuned config is printed. Do it while the machine has nothing else to do.
    """
    file = Path(spec)
    if write and (out is not None or file.suffix not in (".yaml", ".yml", ".json")):
        raise ConfigError("--write changes a config file in place: name a .yaml or .json file, and no --out")
    root = build(spec)
    if not write:
        check_new(root, spec, out, instead=", or change a config itself with --write")
    asked = own_text(texts, query) or skewed_question()
    tuned, reports = _measured(root, asked, seconds)
    if write:
        changes = {place: report.changes for place, report in reports.items() if report.changes}
        if changes:
            put(file, edit(file, changes), tuned)
    elif out is not None:
        put(out, as_yaml(tuned, out), tuned)
    if as_json:
        models = [{"place": place_text(place), **report.to_dict()} for place, report in reports.items()]
        click.echo(json.dumps({"schema": SCHEMA, "models": models, "config": None if write else to_config(tuned)}))
        return
    click.echo("\n\n".join(_page(place, report) for place, report in reports.items()))
    click.echo()
    click.echo(_outcome(file if write else out, tuned, written=not write or tuned != root))


def _measured(root: Reranker, asked: SampleQuestion, seconds: float) -> tuple[Reranker, Mapping[Place, Report]]:
    """Tune each local model; equal ones once. What cannot be tuned is told on stderr, unless nothing can."""
    by_model: dict[LocalReranker, Report] = {}
    reports: dict[Place, Report] = {}
    refused: ConfigError | None = None
    for place, reranker in find_parts(root, LocalReranker):  # type: ignore[type-abstract]
        if reranker not in by_model:
            try:
                with bar(f"measuring {reranker.label}") as progress:
                    by_model[reranker] = measure(reranker, *asked, seconds=seconds, progress=progress)
            except ConfigError as error:
                refused = error
                click.echo(f"Note: {error}", err=True)
                continue
        reports[place] = by_model[reranker]
        root = with_replaced(root, place, by_model[reranker].tuned)
    if not reports:
        raise refused or ConfigError("it runs no local model; there is nothing to tune")
    return root, reports


def _outcome(file: Path | None, tuned: Reranker, *, written: bool) -> str:
    if file is None:
        return as_yaml(tuned, Path("stdout.yaml")).rstrip("\n")
    return f"{file}: {'written' if written else 'nothing to change'}"


def _page(place: Place, report: Report) -> str:
    title = f"{report.reranker.label}{f'  ({place_text(place)})' if place else ''}: {report.texts} texts a call"
    tables = [_table(rows, report) for rows in (report.layouts, report.budgets) if rows]
    return "\n\n".join([title, *tables, "\n".join(_facts(report))])


def _table(rows: Sequence[TunedSetting], report: Report) -> str:
    heading = ("workers", "threads", "batch_tokens", "median", "spread", "")
    cells = [
        (
            *("–" if number is None else str(number) for number in row.setting),
            f"{row.timing.median * 1000:,.1f} ms",
            f"{row.timing.spread * 1000:,.1f} ms",
            _mark(row, report),
        )
        for row in rows
    ]
    return table([heading, *cells], align=">>>>><")


def _mark(row: TunedSetting, report: Report) -> str:
    if not row.exact:
        return f"moves scores by {row.moved:.1g}"
    if row.setting == report.present.setting:
        return "present"
    return "chosen" if row.setting == report.chosen.setting else ""


def _facts(report: Report) -> Iterator[str]:
    if report.changes:
        was, now = report.present.timing, report.chosen.timing
        values = ", ".join(f"{name}: {value}" for name, value in report.changes.items())
        yield (
            f"choice  {values}: {report.gain:.2f}x as fast ({now.median * 1000:,.1f} ms against "
            f"{was.median * 1000:,.1f} ms, spread {max(was.spread, now.spread) * 1000:,.1f} ms)"
        )
        yield f"scores  the same: no logit moved by more than {report.chosen.moved:.1g} (1e-4 is allowed)"
    else:
        yield "choice  no setting is better than the present one by more than the spread"
    if report.int8 is not None:
        timing, agreement = report.int8
        yield (
            f"int8    for information: {report.chosen.timing.median / timing.median:.2f}x as fast; order agrees by "
            f"tau {agreement.tau:.3f}, {agreement.top_10:.0%} of the top 10; logits move by up to "
            f"{agreement.moved:.2g} of {agreement.spread:.2g}"
        )
