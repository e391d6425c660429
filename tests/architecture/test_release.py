"""The check of a release passes on this tree, and finds each fault that is planted in a copy of it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from email.parser import Parser
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MODEL = "rag_rerank/models/late-minilm-v1"
ADAPTER = "integrations/langchain-rag-rerank/pyproject.toml"
COPIED = ["pyproject.toml", "rag_rerank/_version.py", "CITATION.cff", "CHANGELOG.md", ".ci/constraints.txt"]
NOW = re.findall(r'^__version__ = "(.+)"', (ROOT / "rag_rerank/_version.py").read_text(encoding="utf-8"), re.MULTILINE)[
    0
]
METADATA = f"""Metadata-Version: 2.4
Name: rag-rerank
Version: {NOW}
Summary: Reranking
Keywords: rag
Requires-Python: >=3.10
License-Expression: Apache-2.0
License-File: LICENSE
Project-URL: Documentation, https://example.org/
Project-URL: Changelog, https://example.org/changelog"""


@pytest.fixture(scope="module")
def check() -> Iterator[SimpleNamespace]:
    """Return the modules of the release check."""
    pytest.importorskip("tomllib", reason="needs Python 3.11")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / ".ci")
        from release import archives, distributions, tree

        yield SimpleNamespace(archives=archives, tree=tree, distributions=distributions)
    for name in [name for name in sys.modules if name.partition(".")[0] == "release"]:
        del sys.modules[name]


@pytest.fixture
def copy(check: SimpleNamespace, tmp_path: Path) -> Any:
    """Return the release of a copy of what the check of the tree reads, with a tiny model."""
    root = tmp_path / "copy"
    for file in [*COPIED, *(str(path.relative_to(ROOT)) for path in ROOT.glob("integrations/*/pyproject.toml"))]:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, root / file)
    (root / MODEL).mkdir(parents=True)
    (root / MODEL / "model.onnx").write_bytes(b"graph")
    row = {"id": Path(MODEL).name, "packaged": True, "sha256": {"model.onnx": sha256(b"graph").hexdigest()}}
    (root / check.tree.CATALOGUE).parent.mkdir(parents=True)
    (root / check.tree.CATALOGUE).write_text(json.dumps({"models": [row]}))
    return check.distributions.Release(root, tmp_path / "scratch")


@pytest.mark.parametrize("item", ["versions", "urls", "citation", "checksums", "lock"])
def test_this_tree_passes(check: SimpleNamespace, tmp_path: Path, item: str) -> None:
    getattr(check.tree, f"check_{item}")(check.distributions.Release(ROOT, tmp_path))


def replaced(file: str, pattern: str, text: str) -> Callable[[Path], None]:
    """Return what replaces the first match of a pattern in a file of a tree."""

    def change(root: Path) -> None:
        content = (root / file).read_text(encoding="utf-8")
        changed = re.sub(pattern, text, content, count=1, flags=re.MULTILINE)
        assert changed != content
        (root / file).write_text(changed, encoding="utf-8")

    return change


def added(file: str, text: str) -> Callable[[Path], None]:
    """Return what writes text to the end of a file of a tree."""

    def change(root: Path) -> None:
        with (root / file).open("a", encoding="utf-8") as target:
            target.write(text)

    return change


FAULTS = {
    "an adapter of another version": ("versions", replaced(ADAPTER, r'^version = ".*"', 'version = "0.0.9"'), "0.0.9"),
    "a bound without an end": (
        "versions",
        replaced(ADAPTER, r'"rag-rerank>=.*"', '"rag-rerank>=0.1"'),
        "langchain-rag-rerank needs rag-rerank>=0.1:",
    ),
    "a bound below the version": (
        "versions",
        replaced("pyproject.toml", r"rag-rerank-multilingual>=[^\"]*", "rag-rerank-multilingual<0.1"),
        r"rag-rerank\[multilingual\] needs",
    ),
    "no changelog on the index": (
        "urls",
        replaced(ADAPTER, "^Changelog = .*\n", ""),
        "langchain-rag-rerank has no URL",
    ),
    "a URL without TLS": ("urls", replaced(ADAPTER, 'Changelog = "https', 'Changelog = "http'), "is not https"),
    "a citation of another version": ("citation", replaced("CITATION.cff", "^version: .*", "version: 9.9"), "9.9"),
    "a citation dated before the release": (
        "citation",
        added("CITATION.cff", "date-released: 2020-02-02\n"),
        "2020-02-02",
    ),
    "no section of the version": (
        "changelog",
        replaced("CHANGELOG.md", "^## .*", "## 9.9 - 2020-02-02"),
        "has no section",
    ),
    "entries without a version": (
        "changelog",
        added("CHANGELOG.md", f"\n## {NOW} - 2020-02-02\n"),
        'still has entries under "Unreleased"',
    ),
    "a changed byte of a model": ("checksums", added(f"{MODEL}/model.onnx", "."), "model.onnx"),
    "a file of a model that has no checksum": ("checksums", added(f"{MODEL}/extra.json", "{}"), "extra.json"),
    "a requirement that the lock lacks": (
        "lock",
        replaced("pyproject.toml", r'^cohere = \["', 'cohere = ["no-such-package", "'),
        r"rag-rerank\[cohere\] needs no-such-package",
    ),
    "a requirement above the lock": (
        "lock",
        replaced("pyproject.toml", "pytest>=[0-9.]+", "pytest>=99"),
        r"rag-rerank\[test\] needs pytest>=99",
    ),
    "a lock without an exact version": (
        "lock",
        replaced(".ci/constraints.txt", "^aiohttp==", "aiohttp>="),
        "no exact version",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_of_the_tree_finds(check: SimpleNamespace, copy: Any, fault: str) -> None:
    item, change, words = FAULTS[fault]
    change(copy.root)
    with pytest.raises(check.distributions.NotReady) as caught:
        getattr(check.tree, f"check_{item}")(copy)
    assert re.search(words, "\n".join(caught.value.args))


def test_a_released_section_and_its_date_pass(check: SimpleNamespace, copy: Any) -> None:
    replaced("CHANGELOG.md", "^## Unreleased$", f"## {NOW} - 2020-02-02")(copy.root)
    added("CITATION.cff", "date-released: 2020-02-02\n")(copy.root)
    assert check.tree.check_changelog(copy) == f"{NOW} of 2020-02-02"
    assert "2020-02-02" in check.tree.check_citation(copy)


WHEEL = [
    "rag_rerank/py.typed",
    f"{MODEL}/model.onnx",
    "x.dist-info/LICENSE",
    "x.dist-info/NOTICE",
]


@pytest.mark.parametrize(
    ("names", "problems"),
    [
        (WHEEL, []),
        ([*WHEEL, "tests/test_x.py"], ["has tests/test_x.py"]),
        ([*WHEEL, "rag_rerank/__pycache__/x.pyc"], ["has rag_rerank/__pycache__/x.pyc"]),
        ([*WHEEL[1:], "rag_rerank/x.py"], ["has no py.typed"]),
        ([WHEEL[0], *WHEEL[2:]], [f"has no {MODEL}/model.onnx"]),
        (WHEEL[:-1], ["has no NOTICE"]),
    ],
    ids=["nothing", "tests", "bytecode", "no types", "no weights", "no notice"],
)
def test_the_check_of_a_wheel_finds(check: SimpleNamespace, copy: Any, names: list[str], problems: list[str]) -> None:
    found = check.archives.problems_of_names(copy, copy.distributions[0], names, ".whl")
    assert found[: len(problems)] == problems and bool(found) == bool(problems)


@pytest.mark.parametrize(
    ("line", "description", "problem"),
    [
        ("", "[a](https://example.org/) `[b](c.md)`", None),
        ("", "[a](docs/index.md)", "the link docs/index.md is relative"),
        ("", "![a](docs/images/where.svg)", "the link docs/images/where.svg is relative"),
        ("Project-URL: Changelog", "", "no URL 'Changelog'"),
        ("License-Expression", "", "no License-Expression"),
        ("Version", "", "version None"),
    ],
)
def test_the_check_of_the_metadata_finds(
    check: SimpleNamespace, copy: Any, line: str, description: str, problem: str | None
) -> None:
    text = "\n".join(row for row in METADATA.splitlines() if not (line and row.startswith(line))) + "\n\n" + description
    found = check.archives.problems_of_metadata(copy.distributions[0], Parser().parsestr(text))
    assert (problem in found) if problem else not found
