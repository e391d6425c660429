"""``rag-rerank index`` and ``explain``: encode texts ahead, and see which words matched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from rag_rerank._files import check_folder, read_lines, write
from rag_rerank.backends.local.late_interaction.explanation.heat_map import page
from rag_rerank.cli.candidates import Format, read_candidates
from rag_rerank.cli.options import (
    PATH,
    format_option,
    json_option,
    optional_reranker_option,
    reranker_option,
)
from rag_rerank.cli.output import bar, example, table
from rag_rerank.config import build
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.hosts import find_explainers, find_indexes

__all__ = ["explain", "index"]

SCHEMA = 1
"""Version of the JSON object; it grows when a field changes its meaning or is removed."""


@click.command(
    short_help="Encode texts ahead, so that questions over them are answered at once.",
    epilog=example("index -r index.yaml passages.jsonl", "index -r index.yaml --stats"),
)
@reranker_option
@click.option(
    "--delete",
    "ids_file",
    metavar="FILE",
    help="Delete the texts whose ids stand in this file, one per line, before anything is added.",
)
@click.option("--stats", is_flag=True, help="Only print what the index holds.")
@format_option
@json_option
@click.argument("file", metavar="[FILE|-]", required=False)
def index(spec: str, ids_file: str | None, stats: bool, layout: Format, as_json: bool, file: str | None) -> None:
    """Encode texts ahead, so that questions over them are answered at once.

    RERANKER is a config with a reranker of the type late_interaction or sparse whose store is a folder. FILE is read
    as by rag-rerank rank.

    A text that is in the index already is skipped, so a command that was interrupted goes on where it was. A text that
    comes again under the same id with other words replaces the old one.
    """
    if file is None and ids_file is None and not stats:
        raise click.UsageError("name a FILE to add, or --delete FILE, or --stats.")
    reports: list[dict[str, Any]] = []
    candidates = [] if file is None or stats else read_candidates(file, layout)
    ids = [] if ids_file is None or stats else _read_ids(Path(ids_file))
    for part in find_indexes(build(spec)):
        if part.store_folder is None:
            raise ConfigError(
                f"{part.label} keeps vectors in memory, which ends with this command; write store: {{path: FOLDER}}",
                path="store",
            )
        report: dict[str, Any] = {"reranker": part.label, "folder": str(part.store_folder)}
        if ids:
            report["deleted"] = part.delete(ids)
        if candidates:
            with bar(f"indexing with {part.label}") as tell:
                done = part.index(candidates, progress=tell)
            report |= {name: getattr(done, name) for name in ("texts", "new", "in_store", "blank", "unreadable", "cut")}
        store = part.store_stats
        report["store"] = {"texts": store.texts, "bytes": store.bytes, "max_bytes": store.max_bytes}
        reports.append(report)
        part.close()
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "indexes": reports}))
    else:
        click.echo("\n\n".join(_text(report) for report in reports))


@click.command(
    epilog=example(
        "explain -q 'how high is K2?' 'K2 is 8,611 m high.'",
        "explain -q 'how high is K2?' --html why.html \\\n'K2 is 8,611 m high.'",
    )
)
@optional_reranker_option("late_interaction:embedded")
@click.option("-q", "--query", required=True, metavar="TEXT", help="The query.")
@click.option("--html", type=PATH, metavar="OUT", help="Also write the explanation as an HTML page with a heat map.")
@json_option
@click.option("--similarities", is_flag=True, help="With --json: add the similarity of each pair of tokens.")
@click.argument("text", metavar="TEXT|-")
def explain(spec: str, query: str, html: Path | None, as_json: bool, similarities: bool, text: str) -> None:
    """See which words of a text answer which words of a query.

    The reranker is of the type late_interaction or sparse, or has such rerankers in it: each is explained. Of
    late_interaction, each token of the query is shown with the token of TEXT that is most similar to it. Of sparse, the
    terms that query and TEXT share are shown with their weights. - reads TEXT from standard input.
    """
    if similarities and not as_json:
        raise click.UsageError("--similarities needs --json")
    explainers = find_explainers(build(spec))
    if html is not None:
        check_folder(html)
    if text == "-":
        text = _read_text()
    explanations = []
    for explainer in explainers:
        explanations.append(explainer.explain(query, text))
        explainer.close()
    if html is not None:
        body = "".join(explanation._repr_html_() for explanation in explanations)
        write(html, page(f"Explanation of {', '.join(one.label for one in explainers)}", body).encode())
    if as_json:
        parts = [explanation.to_dict(similarities=similarities) for explanation in explanations]
        click.echo(json.dumps({"schema": SCHEMA, "explanations": parts}))
    else:
        click.echo("\n\n".join(map(str, explanations)))
    if html is not None:
        click.echo(f"{html}: written", err=as_json)


def _read_text() -> str:
    """Return the text on standard input."""
    try:
        return b"\n".join(line for _, line in read_lines(None)).decode()
    except UnicodeDecodeError as error:
        raise InputError("standard input is not UTF-8; save it as UTF-8") from error


def _read_ids(file: Path) -> list[str]:
    """Return the ids in a file, one per line; blank lines are skipped."""
    try:
        return [id for _, line in read_lines(file) if (id := line.decode().strip())]
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8; save it as UTF-8") from error


def _text(report: dict[str, Any]) -> str:
    """Return a report as a table."""
    words = {
        "deleted": "ids deleted",
        "texts": "texts read",
        "new": "encoded now",
        "in_store": "in the store before",
        "blank": "blank, never scored",
        "unreadable": "the model cannot read",
        "cut": "longer than the model reads; the rest is cut",
    }
    store = report["store"]
    rows = [
        (f"{report[name]:,}", meaning)
        for name, meaning in words.items()
        if report.get(name) or (name == "new" and name in report)
    ]
    size = store["bytes"] / max(store["texts"], 1)
    rows += [
        (f"{store['texts']:,}", "texts in the store"),
        (f"{store['bytes']:,}", f"bytes, {size:,.0f} a text, {store['max_bytes']:,} at most"),
    ]
    return table([("", f"{report['reranker']}, {report['folder']}"), *rows], align="><")
