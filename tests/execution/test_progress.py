"""Progress: a bar on a terminal, nothing elsewhere, and the calls that tell of it."""

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from support.judged_data import Oracle, collection

from rag_rerank import build
from rag_rerank.evaluation import calibrate, evaluate
from rag_rerank.evaluation.probes.probe import probe
from rag_rerank.execution.progress import progress_bar, progress_listener, progress_to


class Stream(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(params=[True, False], ids=["terminal", "no terminal"])
def stderr(request: pytest.FixtureRequest) -> Stream:
    return Stream(terminal=request.param)


def test_a_bar_is_shown_on_a_terminal_alone(stderr: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress_bar("counting") as show:
        show(0.5, "half")
        show(0.2)
        show(1.0, "whole")
    text = stderr.getvalue()
    assert ("counting" in text and "100%" in text) == stderr.isatty()
    assert bool(text) == stderr.isatty()


def test_a_bar_may_be_moved_by_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Stream(terminal=True))
    with progress_bar("counting") as show:
        threads = [threading.Thread(target=show, args=(i / 20,)) for i in range(1, 21)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "100%" in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_a_users_function_is_called_and_nothing_else() -> None:
    seen: list[Any] = []
    with progress_to(lambda share, words=None: seen.append((share, words)), "counting") as tell:
        tell(0.5, "half")
    assert seen == [(0.5, "half")]
    for nothing in (None, False):
        with progress_to(nothing, "counting") as tell:
            tell(0.5)


@pytest.mark.parametrize("work", ["evaluate", "calibrate", "probe"])
@pytest.mark.filterwarnings("ignore::rag_rerank.CalibrationWarning")
def test_the_library_shows_a_bar_if_asked(work: str, stderr: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    if work == "evaluate":
        evaluate(collection(4), [Oracle()], samples=2, progress=True)
    elif work == "calibrate":
        calibrate(Oracle(), collection(30), method="platt", progress=True)
    else:
        probe("lexical", kinds=["code"], progress=True)
    assert ("100%" in stderr.getvalue()) == stderr.isatty()
    assert bool(stderr.getvalue()) == stderr.isatty()


def test_a_local_model_tells_how_many_texts_are_scored() -> None:
    seen: list[tuple[float, str]] = []
    texts = [f"text {'word ' * (i % 7)}" for i in range(40)]
    with build({"type": "onnx:embedded", "batch_tokens": 64}) as reranker:
        with progress_listener(lambda share, words: seen.append((share, words))):
            reranker.rerank("which word?", texts)
        reranker.rerank("which word?", texts)  # nobody listens
    assert seen[0] == (0.0, f"loading {reranker.label}")
    assert max(share for share, _ in seen) == 1.0
    assert f"{reranker.label}: 40 of 40 texts" in [words for _, words in seen]


@pytest.mark.parametrize("terminal", [True, False])
def test_rank_shows_a_bar_on_a_terminal_alone_and_never_on_stdout(tmp_path: Path, terminal: bool) -> None:
    pty = pytest.importorskip("pty")
    file = tmp_path / "texts.txt"
    file.write_text("K2 is high.\nThe sea is deep.\n", encoding="utf-8")
    ours, theirs = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, "-c", "from rag_rerank.cli import main; main()", "rank", "-r", "embedded", "--json"]
    done = subprocess.run(
        [*command, "-q", "how high is K2?", str(file)], stdout=subprocess.PIPE, stderr=theirs, check=True
    )
    os.close(theirs)
    printed = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while part := os.read(ours, 65536):
            printed += part
    os.close(ours)
    assert json.loads(done.stdout)["hits"][0]["candidate"]["text"] == "K2 is high."
    assert (b"ranking 2 texts" in printed and b"100%" in printed) == terminal
    assert bool(printed) == terminal
