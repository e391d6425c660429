"""What docs/how-to/records.md shows is what comes out, and its tables name every key."""

import doctest
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

import rag_rerank
from rag_rerank import Trace
from rag_rerank.records import ContextRecord, Entry, Record, schema

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "records.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_examples_give_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tried = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8", verbose=False)
    assert tried.attempted > 4
    assert tried.failed == 0


def test_the_config_that_is_shown_builds() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    reranker = rag_rerank.build(yaml.safe_load(block))
    assert rag_rerank.build(rag_rerank.to_config(reranker)) == reranker


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
    table = TEXT.split(f"| {heading} | meaning |")[1].split("\n\n")[0]
    assert [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")] == keys
