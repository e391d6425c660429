"""The tables of the reference of records name every key, and those of the page on recording every option."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

import rag_rerank
from rag_rerank import Trace
from rag_rerank.compose.recorded import Recorded
from rag_rerank.records import ContextRecord, Entry, Record, schema

DOCS = Path(__file__).parents[2] / "docs"


def first_column(table: str) -> list[str]:
    return [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize(
    ("heading", "keys"),
    [
        ("key", ["schema", *(f.name for f in fields(Record))]),
        ("key of `contexts[]`", ["schema", *(f.name for f in fields(ContextRecord))]),
        ("key of `candidates[]`", [f.name for f in fields(Entry)]),
        ("key of `visits[]`", list(schema()["$defs"]["visit"]["properties"])),
        ("key of `trace`", [f.name for f in fields(Trace)]),
    ],
)
def test_the_tables_name_every_key_in_its_order(heading: str, keys: list[str]) -> None:
    text = (DOCS / "reference" / "records.md").read_text(encoding="utf-8")
    assert first_column(text.split(f"| {heading} | meaning |")[1].split("\n\n")[0]) == keys


def test_the_table_of_options_names_each_with_its_default() -> None:
    text = (DOCS / "how-to" / "records.md").read_text(encoding="utf-8")
    table = text.split("| option | default | meaning |")[1].split("\n\n")[0]
    assert first_column(table) == list(inspect.signature(rag_rerank.recording).parameters)
    own = {f.name: f.default for f in fields(Recorded) if f.name not in {"reranker", "name"}}
    defaults = dict(re.findall(r"^\| `(\w+)` \| (.*?) +\|", table, re.MULTILINE))
    assert own.keys() == defaults.keys() - {"tags"}
    for name in ("share", "keep"):
        assert float(defaults[name]) == own[name]
    assert defaults["texts"] == str(own["texts"]).lower()
    assert defaults["max_bytes"] == f"{own['max_bytes'] // 2**20} MiB"
