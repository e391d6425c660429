"""Runs the code blocks of a page; `tests/docs/test_code_blocks.py` says how."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.api.rerank_server import RerankServer
from support.doc_pages import REASONS, SAMPLES, Block, page_name, read_blocks
from support.doc_services import has_torch, needs_hub_models, page_environment

PROCESS = Path(__file__).parent / "doc_process.py"
LANGUAGES = {"", "python", "bash", "yaml", "json", "jsonl", "output", "text", "toml", "dockerfile", "mermaid"}
NUMBER = re.compile(r"-?\d+\.\d+|\d+")
SECONDS = 300
"""For one block; it is an error in the page, not a measurement."""


def run_page(
    page: Path,
    tmp_path: Path,
    server: RerankServer,
    hub_cache: Callable[[], Path],
    *,
    also: Collection[str] = (),
    then: str = "",
) -> None:
    """Run a page's blocks in ``tmp_path / "page"``.

    Args:
        page: The page.
        tmp_path: An empty folder.
        server: Answers for all providers and servers.
        hub_cache: Returns the folder of the hub's cache.
        also: Blocks that are not run for these reasons are run nevertheless.
        then: Python code that is run after the last block, in the same namespace.
    """
    blocks = read_blocks(page)
    with_models = needs_hub_models(blocks)
    if with_models and not has_torch():
        pytest.skip("the page runs models of the hub, and the checkpoints in their place are written with torch")
    folder = tmp_path / "page"
    shutil.copytree(SAMPLES, folder, dirs_exist_ok=True)
    environment = page_environment(server, hub_cache() if with_models else tmp_path / "empty")
    printed = ""
    with PageProcess(folder, environment) as process:
        for block in blocks:
            place = f"{page_name(page)}:{block.line}"
            assert block.language in LANGUAGES, f"{place}: no language {block.language!r}"
            if block.title:
                (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.title).write_text(block.code, encoding="utf-8")
            if block.not_run and block.not_run not in also:
                assert block.not_run in REASONS, f"{place}: no reason {block.not_run!r}"
            elif block.language == "output":
                check_output(block.code, printed, place)
            else:
                printed = run(block, process, place)
        if then:
            process.send("code", then, f"{page_name(page)}, afterwards")


class PageProcess(contextlib.AbstractContextManager["PageProcess"]):
    """The Python process of a page, started when a block needs it first; see `support.doc_process`.

    Args:
        folder: Its working folder.
        environment: Its environment.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self._process: subprocess.Popen[str] | None = None

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()  # closes its stdin, so that it ends

    def send(self, kind: str, code: str, place: str, line: int = 0) -> str:
        """Let it run a block, and return what the block prints."""
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None and self._process.stdout is not None
        task = {"kind": kind, "code": code, "place": place, "line": line}
        print(json.dumps(task), file=self._process.stdin, flush=True)
        with time_limit(self._process):
            answer = self._process.stdout.readline()
        assert answer, f"{place}: the process ended, or took more than {SECONDS} s"
        result: dict[str, str] = json.loads(answer)
        assert "failure" not in result, f"{place}:\n{result['failure']}"
        return result["printed"]

    def _start(self) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, str(PROCESS)], cwd=self.folder, env=dict(self.environment), text=True, **pipes
        )


@contextlib.contextmanager
def time_limit(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill a process after `SECONDS`."""
    timer = threading.Timer(SECONDS, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def run(block: Block, process: PageProcess, place: str) -> str:
    """Run a block and return what it prints."""
    match block.language:
        case "python":
            return process.send("doctest" if ">>> " in block.code else "code", block.code, place, block.line)
        case "bash":
            bash = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.code],
                cwd=process.folder,
                env=dict(process.environment),
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=SECONDS,
            )
            assert bash.returncode == 0, f"{place}: exit code {bash.returncode}\n{bash.stdout}{bash.stderr}"
            return bash.stdout
        case "yaml":
            content = yaml.safe_load(block.code)
            if isinstance(content, dict) and isinstance(content.get("type"), str):
                process.send("config", json.dumps(content), place)
        case "json":
            json.loads(block.code)
        case "jsonl":
            for line in block.code.splitlines():
                json.loads(line)
    return ""


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
