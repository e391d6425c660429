"""Recording in many processes: forked, spawned, killed, and ended without closing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import rag_rerank
from rag_rerank.records import Record, files, read
from rag_rerank.records.record import digest
from rag_rerank.testing import ScriptedReranker

HEAD = """
import os, sys
import rag_rerank
from rag_rerank import tagged
from rag_rerank.execution import background as queue
from rag_rerank.testing import ScriptedReranker

reranker = ScriptedReranker()
file = sys.argv[1]

def calls(who, count):
    for i in range(count):
        with tagged(who=who, i=i):
            reranker.rerank("q", ["a", "b"])
"""

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "traces.jsonl"


def begin(script: str, *arguments: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", HEAD + script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(script: str, *arguments: object) -> bytes:
    with begin(script, *arguments) as process:
        out, error = process.communicate()
    assert process.returncode == 0, error.decode()
    assert error == b""
    return out


def every(file: Path) -> list[Record]:
    return [record for part in files(file) for record in read(part)]


def who(records: list[Record]) -> dict[str, list[int]]:
    calls: dict[str, list[int]] = {}
    for record in records:
        calls.setdefault(record.tags["who"], []).append(record.tags["i"])
    return calls


def test_several_processes_write_and_rotate_one_file(file: Path) -> None:
    script = """
with rag_rerank.recording(file, max_bytes=20_000, keep=100) as traces:
    calls(sys.argv[2], 60)
print(traces.counts.recorded, traces.counts.losses)
"""
    running = [begin(script, file, name) for name in "abcd"]
    ends = [process.communicate() for process in running]
    assert ends == [(b"60 0\n", b"")] * 4
    records = every(file)
    assert who(records) == {name: list(range(60)) for name in "abcd"}
    assert len({record.id for record in records}) == 240
    assert len(files(file)) > 5
    assert all(part.stat().st_size <= 20_000 for part in files(file))


def test_what_waits_at_the_end_of_the_interpreter_is_written(file: Path) -> None:
    run(
        """
queue.start_thread = lambda work: None  # nobody writes while the program runs
traces = rag_rerank.recording(file)
traces.__enter__()
calls("left open", 20)
assert traces.counts.recorded == 0
""",
        file,
    )
    assert who(every(file)) == {"left open": list(range(20))}


@posix
def test_a_forked_child_writes_its_own_calls_and_not_those_that_waited_in_its_parent(file: Path) -> None:
    out = run(
        """
start, queue.start_thread = queue.start_thread, lambda work: None
with rag_rerank.recording(file) as traces:
    calls("parent", 5)  # these wait
    child = os.fork()
    if child == 0:
        calls("child", 7)
        traces.flush()
        assert traces.counts.recorded == 7, traces.counts
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    queue.start_thread = start
    calls("parent again", 3)
print(traces.counts.recorded)
""",
        file,
    )
    assert out == b"8\n"
    assert who(every(file)) == {"child": list(range(7)), "parent": list(range(5)), "parent again": list(range(3))}


@posix
def test_a_child_of_multiprocessing_writes_what_waits_at_its_end(file: Path) -> None:
    run(
        """
import multiprocessing, warnings
warnings.simplefilter("ignore")  # some versions warn of a fork beside threads
queue.start_thread = lambda work: None
with rag_rerank.recording(file):
    calls("parent", 3)  # these wait until the block ends
    children = [multiprocessing.get_context("fork").Process(target=calls, args=(name, 4)) for name in ("x", "y")]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
""",
        file,
    )
    assert who(every(file)) == {"x": list(range(4)), "y": list(range(4)), "parent": list(range(3))}


@posix
def test_a_killed_writer_leaves_a_file_that_can_be_read_and_written_on(file: Path) -> None:
    script = """
with rag_rerank.recording(file) as traces:
    calls("killed", 50)
    traces.flush()
    print("written", flush=True)
    while True:
        calls("on and on", 100)
"""
    with begin(script, file) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    with rag_rerank.recording(file):
        ScriptedReranker().rerank("afterwards", ["a"])
    torn: list[bool] = []
    records = list(read(file, bad=lambda bad: torn.append(bad.torn)))
    assert [r.tags["i"] for r in records if r.tags.get("who") == "killed"] == list(range(50))
    assert records[-1].query_sha256 == digest("afterwards")
    assert torn in ([], [True])


@posix
def test_a_limit_of_the_system_on_the_size_of_files_loses_records_whole(file: Path) -> None:
    out = run(
        """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
with rag_rerank.recording(file) as traces:
    calls("limited", 30)
counts = traces.counts
assert counts.recorded and counts.losses and counts.recorded + counts.losses == 30, counts
print(counts.recorded, counts.last_loss)
""",
        file,
    )
    assert out == f"{len(every(file))} {file}: File too large\n".encode()
