"""``rag-rerank doctor``: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rag_rerank.cli.options import PATH, json_option, optional_reranker_option
from rag_rerank.cli.output import example, one_line
from rag_rerank.documentation import page_url

if TYPE_CHECKING:
    from rag_rerank.diagnostics.health.finding import Finding

__all__ = ["doctor"]

_INDENT = 10
"""Columns of the level of a finding."""


@click.command(
    short_help="Find what is wrong here: packages, models, keys, servers.",
    epilog=example("doctor", "doctor -c rerank.yaml --strict", "doctor -c rerank.yaml --bundle report.json"),
)
@optional_reranker_option("embedded")
@click.option("--live", is_flag=True, help="Send each provider one real request, which may cost money.")
@click.option("--full", is_flag=True, help="Import every installed extra, and hash model files above 1 GiB too.")
@click.option("--strict", is_flag=True, help="Exit with code 1 for warnings too.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    help="How long to wait for each server.",
)
@click.option("--bundle", type=PATH, metavar="OUT", help="Write a JSON file for a bug report, without keys and texts.")
@json_option
def doctor(spec: str, live: bool, full: bool, strict: bool, timeout: float, bundle: Path | None, as_json: bool) -> None:
    """Find what is wrong with this installation, and say what to do about it.

    Checks versions and extras, imports, threads, memory, checksums of model files, caches and stores, the environment,
    keys, servers, the clock, and a ranking of a few texts. Servers of the config get one request without texts and
    without the key, which costs nothing. No key is shown.

    The exit code is 0 if there is no problem, and 1 if there is one; a config that cannot be built is one.
    """
    from rag_rerank._files import check_folder, write
    from rag_rerank.diagnostics.health.finding import Subject
    from rag_rerank.diagnostics.health.report import examine

    if bundle is not None:
        check_folder(bundle)
    report = examine(spec, Subject(None, live=live, full=full, timeout=timeout))
    if bundle is not None:
        write(bundle, (json.dumps(report.to_bundle(), indent=2, ensure_ascii=False) + "\n").encode())
    if as_json:
        click.echo(json.dumps(report.to_dict(), ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(report.sections)))
        counts = [(report.count(level), level) for level in ("problem", "warning", "ok")]
        click.echo(
            "\n" + ", ".join(f"{count} {level}{'s' * (count != 1 and level != 'ok')}" for count, level in counts)
        )
        if bundle is not None:
            click.echo(f"{bundle}: written")
    sys.exit(0 if report.is_healthy(strict=strict) else 1)


def _lines(sections: Mapping[str, Sequence[Finding]]) -> Iterator[str]:
    """Yield a heading for each section, and below it a paragraph for each finding."""
    width = max(60, shutil.get_terminal_size((100, 24)).columns)
    for i, (title, findings) in enumerate(sections.items()):
        yield from ("", title) if i else (title,)
        for finding in findings:
            yield textwrap.fill(
                one_line(f"{finding.where}: {finding.what}"),
                width,
                initial_indent=f"  {finding.level:<{_INDENT - 2}}",
                subsequent_indent=" " * _INDENT,
                break_long_words=False,
                break_on_hyphens=False,
            )
            if finding.level != "ok":
                yield f"{' ' * _INDENT}To do: {one_line(finding.advice)}"  # not wrapped: it may be copied
                yield f"{' ' * _INDENT}More: {page_url(finding.page)}"
