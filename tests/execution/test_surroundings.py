"""Odd surroundings of a process: no home, closed streams, a deleted current directory, and the interpreter's end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rag_rerank
from rag_rerank import ConfigError
from rag_rerank._files import absolute_path, expand_user
from rag_rerank.records import reader
from rag_rerank.text.tokenizers import tokens

SECONDS = 60.0
ROOT = Path(rag_rerank.__file__).parents[1]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script in a process of its own, with a cache of its own; it must end by itself."""

    def run_script(script: str, **options: object) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HF_HOME": str(tmp_path / "hf"),
            "PYTHONWARNINGS": "ignore",
        }
        command = [sys.executable, "-c", f"import rag_rerank\n{script}"]
        arguments = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True, **options}
        return subprocess.run(command, timeout=SECONDS, **arguments)

    return run_script


READY = 'r = rag_rerank.build({"type": "onnx", "model": "embedded", "optimize": False})\n'
AT_END = """
class Last:
    def __del__(self):
        try:
            r.rerank("q", ["a", "b"], timeout=TIMEOUT)
        except rag_rerank.RerankError as error:
            print(type(error).__name__, error)
last = Last()
"""


@pytest.mark.parametrize("timeout", ["None", "5"])
@pytest.mark.parametrize("loaded", [True, False])
def test_a_call_in_the_last_destructor_is_refused(run: Run, loaded: bool, timeout: str) -> None:
    first = 'r.rerank("q", ["a"])\n' if loaded else ""
    ended = run(READY + first + AT_END.replace("TIMEOUT", timeout))
    assert ended.returncode == 0 and ended.stderr == ""
    assert ended.stdout.startswith("RerankError the interpreter ends and its modules are gone")


AT_EXIT = """
import asyncio, atexit
spec = {"type": "onnx", "model": "embedded", "optimize": False}
rerankers = [
    rag_rerank.build(node)
    for node in (spec, {"type": "windows", "reranker": spec}, {"type": "cached", "reranker": spec},
                 {"type": "ensemble", "members": [spec, "lexical"]})
]
def late():
    for r in rerankers:
        print(len(r.rerank("q", ["a", "b"])), len(r.rerank("q", ["a", "b"], timeout=30)))
        print(len(asyncio.run(r.arerank("q", ["a", "b"]))), len(asyncio.run(r.arerank("q", ["a", "b"], timeout=30))))
atexit.register(late)
"""


def test_calls_in_functions_of_atexit_are_answered(run: Run) -> None:
    ended = run(AT_EXIT)
    assert (ended.returncode, ended.stderr, ended.stdout.split()) == (0, "", ["2"] * 16)


DAEMONS = """
import threading
def ask():
    while True:
        r.rerank("how warm?", ["it is warm "] * 3)
        answered.set()
answered = threading.Event()
for _ in range(4): threading.Thread(target=ask, daemon=True).start()
answered.wait()
print("main ends")
"""


def test_daemon_threads_that_go_on_calling_do_not_keep_the_process(run: Run) -> None:
    ended = run(READY + DAEMONS)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "main ends\n", "")


STREAMS = """
import sys
for stream in (sys.stdin, sys.stdout, sys.stderr):
    CLOSE
r = rag_rerank.build({"type": "fallback", "members": ["onnx:someone/absent",
                                                         {"type": "onnx", "model": "embedded", "optimize": False}]})
ranking = r.rerank("q", ["a"])
open("answer", "w").write(ranking.trace.step)
"""


@pytest.mark.parametrize("close", ["stream.close()", "sys.stdin = sys.stdout = sys.stderr = None"])
def test_closed_streams_change_nothing(run: Run, close: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(STREAMS.replace("CLOSE", close)).returncode == 0
    assert (tmp_path / "answer").read_text() == "fallback"


def test_rank_says_that_standard_input_is_closed() -> None:
    command = [sys.executable, "-m", "rag_rerank", "rank", "-r", "lexical", "-q", "a", "-"]
    script = f"import os, sys; os.close(0); os.execv(sys.executable, {command!r})"
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 2 and "standard input is closed" in ended.stderr and "Traceback" not in ended.stderr


GONE = """
import os
os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
print(len(rag_rerank.build("embedded").rerank("q", ["a"])))
for spec in ("x.yaml", {"type": "recorded", "reranker": "lexical", "file": "x.jsonl"},
             {"type": "cached", "reranker": "embedded", "path": "x.db"}, "onnx:./x"):
    try:
        rag_rerank.build(spec).rerank("q", ["a"])
    except rag_rerank.RerankError as error:
        print("typed")
"""


def test_a_deleted_current_directory_is_a_typed_error_where_it_matters(run: Run) -> None:
    ended = run(GONE)
    assert (ended.returncode, ended.stdout.split()) == (0, ["1", "typed", "typed", "typed", "typed"]), ended.stderr


NO_HOME = """
import os, pwd
os.environ.pop("HOME", None)
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
ranking = rag_rerank.build("embedded").rerank("q", ["a"])
print(*ranking.trace.notes)
for spec in ("minilm", {"type": "recorded", "reranker": "lexical", "file": "~/x.jsonl"},
             {"type": "cached", "reranker": "embedded", "path": "~/x.db"}, "onnx:~/m"):
    try:
        rag_rerank.build(spec).rerank("q", ["a"])
    except rag_rerank.RerankError as error:
        print(type(error).__name__, "no home directory" in str(error), os.path.exists("~"))
"""


@pytest.mark.skipif(os.name != "posix", reason="there users are known by number")
def test_a_user_without_a_home_is_served_or_told(run: Run, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    ended = run(NO_HOME, env={**environment, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"})
    lines = ended.stdout.splitlines()
    assert ended.returncode == 0 and "no home directory for the cache; set HF_HOME" in lines[0], ended.stderr
    assert [line.split()[1:] for line in lines[1:]] == [["True", "False"]] * 4
    assert not (tmp_path / "~").exists()


def test_every_path_with_a_tilde_is_expanded_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_user("~/x") == tmp_path / "x" and expand_user("x") == Path("x")
    assert expand_user("~nobody-here/x") == Path("~nobody-here/x")
    (tmp_path / "c.yaml").write_text("type: lexical")
    assert rag_rerank.load("~/c.yaml").kind == "lexical"
    monkeypatch.setattr(os.path, "expanduser", lambda path: os.fspath(path))
    for use in (
        lambda: expand_user("~"),
        lambda: absolute_path("~/x"),
        lambda: rag_rerank.load("~/c.yaml"),
        lambda: list(reader.read("~/x.jsonl")),
        lambda: reader.files("~/x.jsonl"),
        lambda: tokens("~/tokenizer.json"),
    ):
        with pytest.raises(ConfigError, match="no home directory"):
            use()
