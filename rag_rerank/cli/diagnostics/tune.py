"""``rag-rerank tune``: measure the settings of local models here, and write the best into a config."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from rag_rerank.backends.auto import AutoReranker
from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.base import Reranker
from rag_rerank.cli.candidates import read_question
from rag_rerank.cli.config_edit import (
    Place,
    check_new_config,
    config_text,
    edit,
    find_parts,
    place_text,
    with_replaced,
    write_config,
)
from rag_rerank.cli.options import PATH, json_option, print_note, reranker_argument, texts_options
from rag_rerank.cli.output import bar, example, table
from rag_rerank.config import build, to_config
from rag_rerank.diagnostics.sample_texts import SampleQuestion, skewed_question
from rag_rerank.diagnostics.tune import Report, TunedSetting
from rag_rerank.diagnostics.tune import tune as measure
from rag_rerank.errors import ConfigError

__all__ = ["tune"]

SCHEMA = 1
"""Version of the JSON object; it grows when a field changes its meaning or is removed."""


@click.command(
    short_help="Find the fastest settings of local models on this machine.",
    epilog=example("tune embedded", "tune rerank.yaml --write"),
)
@reranker_argument
@click.option("-o", "--out", type=PATH, metavar="OUT", help="Write the tuned config to this new file.")
@click.option("--write", is_flag=True, help="Change the config file RERANKER in place; YAML comments stay.")
@texts_options
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    default=60,
    show_default=True,
    help="About how long to measure each model, without loading.",
)
@json_option
def tune(
    spec: str, out: Path | None, write: bool, texts: str | None, query: str | None, seconds: float, as_json: bool
) -> None:
    """Find the fastest settings of the local models in RERANKER on this machine.

    Measures "workers" and "threads" (onnx) and "batch_tokens" (onnx, and torch on a CPU), one call at a time. A setting
    is changed only if another one is faster by more than the noise and gives the same scores. The effect of precision:
    int8 is printed, but int8 is never chosen.

    Without --out or --write, the tuned config is printed. Close other programs while this runs.
    """
    file = Path(spec)
    if write and (out is not None or file.suffix not in (".yaml", ".yml", ".json")):
        raise ConfigError("--write changes a config file in place: name a .yaml or .json file, and no --out")
    root = build(spec)
    if not write:
        check_new_config(root, spec, out, instead=", or change a config itself with --write")
    question = read_question(texts, query) or skewed_question()
    tuned, reports = _tune_models(root, question, seconds)
    if write:
        changes = {place: report.changes for place, report in reports.items() if report.changes}
        if changes:
            write_config(file, edit(file, changes), tuned)
    elif out is not None:
        write_config(out, config_text(tuned, out), tuned)
    if as_json:
        models = [{"place": place_text(place), **report.to_dict()} for place, report in reports.items()]
        click.echo(json.dumps({"schema": SCHEMA, "models": models, "config": None if write else to_config(tuned)}))
        return
    click.echo("\n\n".join(_page(place, report) for place, report in reports.items()))
    click.echo()
    click.echo(_outcome(file if write else out, tuned, is_new=not write or tuned != root))


def _tune_models(root: Reranker, question: SampleQuestion, seconds: float) -> tuple[Reranker, Mapping[Place, Report]]:
    """Tune each local model (equal ones once), and print a note for each one that cannot be tuned.

    Raises:
        ConfigError: There is no local model, or none can be tuned.
    """
    by_model: dict[LocalReranker, Report] = {}
    reports: dict[Place, Report] = {}
    last_error: ConfigError | None = None
    for place, part in find_parts(root, LocalReranker):  # type: ignore[type-abstract]
        reranker = part.backend if isinstance(part, AutoReranker) else part
        if reranker not in by_model:
            try:
                with bar(f"measuring {reranker.label}") as progress:
                    by_model[reranker] = measure(reranker, *question, seconds=seconds, progress=progress)
            except ConfigError as error:
                last_error = error
                print_note(str(error))
                continue
        reports[place] = by_model[reranker]
        if reports[place].changes:
            root = with_replaced(root, place, reports[place].tuned)
    if not reports:
        raise last_error or ConfigError("it runs no local model, so there is nothing to tune; name one, such as minilm")
    return root, reports


def _outcome(file: Path | None, tuned: Reranker, *, is_new: bool) -> str:
    if file is None:
        return config_text(tuned).rstrip("\n")
    return f"{file}: {'written' if is_new else 'nothing to change'}"


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
        before, after = report.present.timing, report.chosen.timing
        values = ", ".join(f"{name}: {value}" for name, value in report.changes.items())
        yield (
            f"choice  {values}: {report.gain:.2f}x as fast ({after.median * 1000:,.1f} ms against "
            f"{before.median * 1000:,.1f} ms, spread {max(before.spread, after.spread) * 1000:,.1f} ms)"
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
