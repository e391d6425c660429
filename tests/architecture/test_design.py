"""docs/design.md speaks of what is there: each function that it names exists, and each folder is in its tree."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "rag_rerank"
PAGE = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
PLACES = sorted(set(re.findall(r"`([\w/]+\.py):([\w.]+)`", PAGE)))


@pytest.mark.parametrize(("file", "name"), PLACES, ids=":".join)
def test_a_function_that_the_page_names_exists(file: str, name: str) -> None:
    body = ast.parse((PACKAGE / file).read_text(encoding="utf-8")).body
    for part in name.split("."):
        definitions = {
            node.name: node for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        }
        assert part in definitions, f"{file} has no {name}"
        body = definitions[part].body


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`((?:\w+/)*\w+\.(?:py|json))`", PAGE))))
def test_a_file_that_the_page_names_exists(file: str) -> None:
    assert (PACKAGE / file).exists()


@pytest.mark.parametrize(
    "folder", sorted({file.parent for file in PACKAGE.rglob("*.py")} - {PACKAGE}), ids=lambda f: f.name
)
def test_each_folder_has_a_line_in_the_tree(folder: Path) -> None:
    tree = PAGE.split("```")[1]
    depth = len(folder.relative_to(PACKAGE).parts)
    assert re.search(rf"^{'  ' * depth}{folder.name}/ ", tree, re.MULTILINE)


def test_the_walks_name_enough_to_follow() -> None:
    assert len(PLACES) > 20
