"""The README is short, and the messages and names that it shows are real; its blocks run in test_code_blocks."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from support.doc_pages import DOCS, ROOT, read_blocks

import rag_rerank
from rag_rerank import ConfigError

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = read_blocks(ROOT / "README.md")


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 150


def test_it_shows_each_way_in_with_its_output() -> None:
    for before, after in pairwise(BLOCKS):
        if before.language == "python" and "print(" in before.code:
            assert after.language == "output", f"line {before.line}: no output is shown"
    shown = "".join(block.code for block in BLOCKS if block.language == "python")
    for name in ("rag_rerank.build(", "rag_rerank.load(", "RagRerank(", "RagRerankRetriever(", "rag_rerank.pack("):
        assert name in shown


def test_all_but_the_installation_runs() -> None:
    assert {block.not_run for block in BLOCKS if block.not_run} == {"installs packages"}


def test_the_error_message_in_the_text_is_the_one_that_a_mistake_gives() -> None:
    message = re.search(r"names\s+the\s+place:\s`(.*?)`", README)
    assert message is not None
    config = yaml.safe_load(next(block.code for block in BLOCKS if block.title == "cascade.yaml"))
    member = config["stages"][1]["reranker"]["members"][0]
    member["modle"] = member.pop("model")
    with pytest.raises(ConfigError) as error:
        rag_rerank.build(config)
    assert str(error.value) == message[1]


def test_the_front_page_of_the_site_begins_like_the_readme() -> None:
    front = (DOCS / "index.md").read_text(encoding="utf-8")
    first = README.split("\n\n")[1]
    assert first in front
    assert next(block.code for block in BLOCKS if block.language == "python") in front


def test_every_name_in_the_tables_of_backends_exists() -> None:
    page = (DOCS / "reference" / "backends.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in page.splitlines() if line.startswith("| `") and "`type`" not in line)
    table_names = set(re.findall(r"`([a-z0-9_-]+)`", rows))
    existing = {*rag_rerank.registry.names(), *rag_rerank.registry.aliases()}
    assert table_names - existing == set()
    assert set(rag_rerank.registry.names()) <= table_names


def test_every_alias_in_the_readme_exists() -> None:
    table = README.split("| you have | take | because |")[1].split("\n\n")[0]
    cells = [line.split(" | ")[1] for line in table.splitlines() if line.startswith("| ")]
    names = {name for cell in cells for name in re.findall(r"`([a-z0-9-]+)`", cell)}
    registry = rag_rerank.registry
    assert names <= {*registry.names(), *registry.aliases(), *registry.PRESETS, *registry.providers()}
    assert len(names) > 6


def test_the_images_are_there() -> None:
    for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README):
        assert Path(ROOT / target).is_file()
