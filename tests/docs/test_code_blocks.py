"""Every code block of the README and of the documentation runs as printed.

A page is one test. Its blocks run in order, in one empty folder with a copy of `docs/samples`:

- ``python``: all in one namespace. One with ``>>>`` is a doctest.
- ``bash``: by ``bash -e``, with this environment's ``rag-rerank`` and ``python`` first on the path.
- ``yaml``: a mapping with a ``type`` is built, and what ``to_config`` makes of it builds an equal reranker.
- ``json`` and ``jsonl`` are parsed.
- ``output``: what the block before it prints. ``...`` stands for any text, and numbers agree to two digits.
- A ``title="FILE"`` of any block writes it to that file first.
- ``<!-- not run: REASON -->`` on the line before a block leaves it out; `support.doc_pages.REASONS` are the reasons.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.doc_pages import PAGES, REASONS, SAMPLES, Block, page_name, read_blocks

import rag_rerank

LANGUAGES = {"", "python", "bash", "yaml", "json", "jsonl", "output", "text", "toml", "dockerfile", "mermaid"}
NUMBER = re.compile(r"-?\d+\.\d+|\d+")


@pytest.fixture
def page_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a page: its samples, and the commands of this environment."""
    folder = tmp_path / "page"
    shutil.copytree(SAMPLES, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.mark.filterwarnings("default")  # what a page's reader would see, too
@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_blocks_of_a_page_run(page: Path, page_folder: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for block in read_blocks(page):
        place = f"{page_name(page)}:{block.line}"
        assert block.language in LANGUAGES, f"{place}: no language {block.language!r}"
        if block.title:
            (page_folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (page_folder / block.title).write_text(block.code, encoding="utf-8")
        if block.not_run:
            assert block.not_run in REASONS, f"{place}: no reason {block.not_run!r}"
        elif block.language == "output":
            check_output(block.code, printed, place)
        else:
            printed = run(block, namespace, place)


def run(block: Block, namespace: dict[str, Any], place: str) -> str:
    """Run a block and return what it prints."""
    match block.language:
        case "python" if ">>> " in block.code:
            test = doctest.DocTestParser().get_doctest(block.code, namespace, place, None, 0)
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
            report = io.StringIO()
            runner.run(test, out=report.write, clear_globs=False)
            namespace.update(test.globs)
            assert not runner.failures, f"{place}:\n{report.getvalue()}"
        case "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile("\n" * block.line + block.code, place, "exec"), namespace)
            return out.getvalue()
        case "bash":
            command = ["bash", "-euo", "pipefail", "-c", block.code]
            process = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
            assert process.returncode == 0, f"{place}: exit code {process.returncode}\n{process.stdout}{process.stderr}"
            return process.stdout
        case "yaml":
            check_config(yaml.safe_load(block.code))
        case "json":
            json.loads(block.code)
        case "jsonl":
            for line in block.code.splitlines():
                json.loads(line)
    return ""


def check_config(content: Any) -> None:
    """Build a config, and build it again from its normal form."""
    if isinstance(content, dict) and isinstance(content.get("type"), str):
        reranker = rag_rerank.build(content)
        assert rag_rerank.build(rag_rerank.to_config(reranker)) == reranker


def check_output(expected: str, printed: str, place: str) -> None:
    """Compare what is shown with what is printed; spaces at the ends of lines do not count."""

    def clean(text: str) -> str:
        return "\n".join(line.rstrip() for line in text.strip().splitlines())

    parts = re.split(r"(\.\.\.|-?\d+\.\d+)", clean(expected))
    pattern = "".join(
        ".*?" if part == "..." else r"(-?\d+\.\d+)" if NUMBER.fullmatch(part) and "." in part else re.escape(part)
        for part in parts
    )
    match = re.fullmatch(pattern, clean(printed), flags=re.DOTALL)
    assert match, f"{place} shows\n{expected}\nbut this is printed:\n{printed}"
    numbers = [float(part) for part in parts if part != "..." and NUMBER.fullmatch(part) and "." in part]
    assert [float(group) for group in match.groups()] == pytest.approx(numbers, abs=0.02), place
