"""Recording in one process: every call once and whole, and no call waits for it."""

import asyncio
import errno
import json
import logging
import os
import random
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import rag_rerank
from rag_rerank import Candidate, ConfigError, InputError, RateLimited, tagged
from rag_rerank.execution import observers
from rag_rerank.records import Counts, Record, files, read, recorder
from rag_rerank.records.file import RecordFile
from rag_rerank.records.record import digest
from rag_rerank.testing import ScriptedReranker

SCRIPTED = ScriptedReranker(by_text={"b": 2.0, "a": 1.0})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "traces.jsonl"


def tags(records: list[Record], name: str) -> list[Any]:
    return sorted(record.tags[name] for record in records)


def test_a_record_has_the_call_and_its_outcome(file: Path) -> None:
    candidates = [Candidate("x", "a", score=0.5), Candidate("y", "b"), Candidate("z", " ")]
    with rag_rerank.recording(file) as traces:
        ranking = SCRIPTED.rerank("q", candidates, top_k=1)
    (record,) = read(file)
    assert [hit.id for hit in ranking] == ["y"]
    assert (record.reranker, record.top_k, record.scale, record.error) == ("scripted", 1, "unbounded", None)
    assert (record.query, record.query_sha256) == (None, digest("q"))
    assert record.time.endswith("+00:00") and record.seconds >= 0
    assert [(e.id, e.rank, e.first_rank, e.first_score, e.dropped) for e in record.candidates] == [
        ("y", 1, 2, None, None),
        ("x", 2, 1, 0.5, "below top_k"),
        ("z", 3, 3, None, "blank text"),
    ]
    assert [visit.raw_score for visit in record.candidates[0].visits] == [2.0]
    assert traces.counts == Counts(recorded=1)


def test_without_a_recorder_no_code_of_records_runs(file: Path) -> None:
    with rag_rerank.recording(file):
        SCRIPTED.rerank("q", ["a"])
    entered: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        entered.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        SCRIPTED.rerank("q", ["a"])
    finally:
        sys.setprofile(None)
    assert any("observers" in name for name in entered)
    assert not any(Path(name).parts[-3:-1] == ("rag_rerank", "records") for name in entered)
    assert len(list(read(file))) == 1


def test_thirty_two_threads_lose_and_mix_nothing(file: Path) -> None:
    def work(thread: int) -> None:
        for i in range(30):
            with tagged(thread=thread, i=i):
                SCRIPTED.rerank(f"q{thread}-{i}", ["a", "b", f"t{thread}"])

    with rag_rerank.recording(file) as traces, ThreadPoolExecutor(32) as pool:
        list(pool.map(work, range(32)))
    records = list(read(file))
    assert traces.counts == Counts(recorded=32 * 30)
    assert len({record.id for record in records}) == 32 * 30
    for record in records:
        assert record.query_sha256 == digest(f"q{record.tags['thread']}-{record.tags['i']}")
    assert len({(record.tags["thread"], record.tags["i"]) for record in records}) == 32 * 30


def test_a_share_is_chosen_before_anything_costs(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with rag_rerank.recording(file, share=0.25) as traces:
        for _ in range(1200):
            SCRIPTED.rerank("q", ["a"])
    assert traces.counts.recorded + traces.counts.skipped == 1200
    assert 200 < traces.counts.recorded < 400  # 300 with a deviation of 15
    assert len(list(read(file))) == traces.counts.recorded

    def too_early(*_: object) -> None:
        raise AssertionError

    with rag_rerank.recording(file, share=1e-12) as traces:
        monkeypatch.setattr(recorder, "uuid4", too_early)
        monkeypatch.setattr(recorder, "now", too_early)
        SCRIPTED.rerank("q", ["a"])
    assert traces.counts == Counts(skipped=1)


def test_sampling_leaves_the_users_random_numbers_alone(file: Path) -> None:
    random.seed(7)
    expected = [random.random() for _ in range(3)]
    random.seed(7)
    with rag_rerank.recording(file, share=0.5):
        numbers = []
        for _ in range(3):
            SCRIPTED.rerank("q", ["a"])
            numbers.append(random.random())
    assert numbers == expected


def test_a_call_that_fails_is_recorded_with_what_was_done(file: Path) -> None:
    failing = ScriptedReranker(name="failing", error=RateLimited("slow down"))
    whole = rag_rerank.Fallback(members=(failing, ScriptedReranker(name="also", error=RateLimited("no"))))
    with rag_rerank.recording(file):
        with pytest.raises(RateLimited):
            failing.rerank("q", ["a", "b"])
        with pytest.raises(rag_rerank.AllFailed):
            whole.rerank("q", ["a", "b"])
    first, second = read(file)
    assert first.error == "RateLimited: slow down" and first.scale is None
    assert [(entry.id, entry.rank, entry.score) for entry in first.candidates] == [("0", None, None), ("1", None, None)]
    assert [child.step for child in second.trace.children] == ["failing", "also"]


def test_the_words_of_a_foreign_error_are_not_recorded(file: Path) -> None:
    with rag_rerank.recording(file), pytest.raises(ZeroDivisionError):
        ScriptedReranker(error=ZeroDivisionError("the text was: a")).rerank("q", ["a"])
    (record,) = read(file)
    assert record.error == "ZeroDivisionError"
    assert b"the text was" not in file.read_bytes()


async def test_a_cancelled_call_is_recorded(file: Path) -> None:
    from support.slow_rerankers import Timed

    with rag_rerank.recording(file):
        task = asyncio.ensure_future(Timed(seconds=1000.0).arerank("q", ["a"]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (record,) = read(file)
    assert record.error == "CancelledError"


PRIVATE = {"query": "zebra crossing?", "text": "the walrus sang", "metadata": "okapi"}


def ask_about_private_things(reranker: rag_rerank.Reranker) -> None:
    reranker.rerank(
        PRIVATE["query"],
        [Candidate("d1", PRIVATE["text"], metadata={"animal": "okapi", "deep": [{"okapi": 1}]}), Candidate("d2", "x")],
    )


RERANKERS = {
    "embedded": "embedded",
    "cascade": {"type": "cascade", "stages": [{"reranker": "lexical"}, {"reranker": "embedded", "depth": 1}]},
    "windows": {"type": "windows", "reranker": "embedded", "tokens": 5, "overlap": 1},
    "cached": {"type": "cached", "reranker": "embedded"},
    "ensemble": {"type": "ensemble", "members": ["lexical", "embedded"]},
}


@pytest.mark.parametrize("name", RERANKERS)
def test_without_leave_neither_query_nor_text_nor_metadata_is_in_the_file(file: Path, name: str) -> None:
    with rag_rerank.recording(file) as traces, rag_rerank.build(RERANKERS[name]) as reranker:
        ask_about_private_things(reranker)
    assert traces.counts.recorded == 1
    content = b"".join(part.read_bytes() for part in file.parent.iterdir())
    assert b"d1" in content
    for word in (b"zebra", b"crossing", b"walrus", b"sang", b"okapi", b"animal"):
        assert word not in content, word


def test_with_leave_query_text_and_metadata_are_in_the_file(file: Path) -> None:
    with rag_rerank.recording(file, texts=True):
        ask_about_private_things(SCRIPTED)
    (record,) = read(file)
    assert record.query == PRIVATE["query"]
    assert record.candidates[0].text == PRIVATE["text"]
    assert record.candidates[0].metadata == {"animal": "okapi", "deep": [{"okapi": 1}]}


def test_metadata_that_is_no_json_is_named_and_loses_nothing_else(file: Path) -> None:
    with rag_rerank.recording(file, texts=True) as traces:
        SCRIPTED.rerank("q", [Candidate("x", "\udc80 a", metadata={"o": object(), "n": float("nan"), "k": 1})])
    (record,) = read(file)
    assert traces.counts.losses == 0
    assert record.candidates[0].metadata == {"o": "<object>", "n": "<float>", "k": 1}
    assert record.candidates[0].text == "\udc80 a"


@pytest.mark.parametrize("texts", [False, True])
def test_no_key_is_in_the_file(file: Path, texts: bool) -> None:
    pytest.importorskip("httpx")
    remote = rag_rerank.build(
        {
            "type": "http",
            "dialect": "tei",
            "base_url": "http://127.0.0.1:9",
            "api_key": "sk-hush-hush",
            "retry": {"attempts": 1},
        }
    )
    with rag_rerank.recording(file, texts=texts), remote, pytest.raises(rag_rerank.TransientError):
        remote.rerank("q", ["a"])
    (record,) = read(file)
    assert record.error is not None and record.error.startswith("BackendUnavailable")
    assert b"hush" not in file.read_bytes()


def test_recordings_nest(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer.jsonl", tmp_path / "inner.jsonl"
    with rag_rerank.recording(outer, tags={"by": "outer", "level": 0}) as whole:
        SCRIPTED.rerank("q", ["a"])
        with rag_rerank.recording(inner, tags={"by": "inner"}), tagged(level=1):
            SCRIPTED.rerank("q", ["a"])
        SCRIPTED.rerank("q", ["a"])
        with rag_rerank.recording(outer, tags={"by": "twice"}):
            SCRIPTED.rerank("q", ["a"])
    assert whole.counts.recorded == 4
    assert tags(list(read(outer)), "by") == ["outer"] * 4 + ["twice"]
    (of_inner,) = read(inner)
    assert of_inner.tags == {"by": "inner", "level": 1}
    assert sorted(r.tags.get("level", 9) for r in read(outer)) == [0, 0, 0, 1, 9]


def test_the_calls_inside_a_composite_are_steps_and_no_records(file: Path) -> None:
    with rag_rerank.recording(file):
        rag_rerank.Fallback(members=(SCRIPTED, SCRIPTED)).rerank("q", ["a"])
    (record,) = read(file)
    assert [node.kind for node in record.trace.walk()] == ["fallback", "scripted"]


async def test_tasks_are_recorded_with_their_own_tags(file: Path) -> None:
    async def work(i: int) -> None:
        with tagged(task=i):
            await SCRIPTED.arerank(f"q{i}", ["a", "b"])

    with rag_rerank.recording(file) as traces:
        await asyncio.gather(*map(work, range(60)))
    records = list(read(file))
    assert traces.counts.recorded == 60
    assert all(record.query_sha256 == digest(f"q{record.tags['task']}") for record in records)
    assert tags(records, "task") == list(range(60))


def test_tags_of_outer_blocks_hold_inside_and_inner_ones_go_before(file: Path) -> None:
    with rag_rerank.recording(file, tags={"a": 0, "b": 0, "c": 0}), tagged(b=1, c=1):
        with tagged(c=2):
            SCRIPTED.rerank("q", ["a"])
        SCRIPTED.rerank("q", ["a"])
    assert [record.tags for record in read(file)] == [{"a": 0, "b": 1, "c": 2}, {"a": 0, "b": 1, "c": 1}]


def test_a_tag_is_something_that_a_record_can_hold(file: Path) -> None:
    for value in (["list"], {"a": 1}, float("nan"), float("inf")):
        with pytest.raises(InputError, match="tag 'x'"), tagged(x=value):  # type: ignore[arg-type]
            raise AssertionError("not reached")
        with pytest.raises(InputError, match="tag 'x'"):
            rag_rerank.recording(file, tags={"x": value})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"share": 0}, "share"),
        ({"share": 1.5}, "share"),
        ({"share": float("nan")}, "share"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"keep": 0}, "keep"),
        ({"file": " "}, "file"),
        ({"file": None}, "file"),
    ],
)
def test_options_that_make_no_sense_are_refused(file: Path, options: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rag_rerank.recording(**{"file": file, **options})
    assert caught.value.path == path


def test_a_file_that_cannot_be_written_raises_when_the_block_begins(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("my notes\n")
    for bad in (tmp_path, other / "traces.jsonl", other):
        with pytest.raises(ConfigError) as caught, rag_rerank.recording(bad):
            raise AssertionError("not reached")
        assert str(bad) in str(caught.value)
        SCRIPTED.rerank("q", ["a"])  # nothing observes it
    assert other.read_text() == "my notes\n"


def test_the_folder_of_the_file_is_made(tmp_path: Path) -> None:
    file = tmp_path / "some" / "where" / "traces.jsonl"
    with rag_rerank.recording(file):
        SCRIPTED.rerank("q", ["a"])
    assert len(list(read(file))) == 1


def test_a_call_without_candidates_is_recorded_as_what_it_was(file: Path) -> None:
    with rag_rerank.recording(file):
        ranking = SCRIPTED.rerank("q", [])
    (record,) = read(file)
    assert (record.candidates, record.error, record.trace) == ((), None, ranking.trace)


def test_a_full_disk_loses_records_whole_is_counted_and_logged_once(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = os.write

    def full(descriptor: int, content: Any) -> int:
        if len(content) > 40:
            return write(descriptor, bytes(content[:40]))
        raise OSError(errno.ENOSPC, "No space left on device")

    with caplog.at_level(logging.WARNING, "rag_rerank"), rag_rerank.recording(file) as traces:
        SCRIPTED.rerank("before", ["a"])
        traces.flush()
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            for _ in range(3):
                assert SCRIPTED.rerank("q", ["a"])[0].text == "a"
            traces.flush()
        SCRIPTED.rerank("after", ["a"])
    assert (traces.counts.recorded, traces.counts.losses) == (2, 3)
    assert traces.counts.last_loss == f"{file}: No space left on device"
    assert [record.query_sha256 for record in read(file)] == [digest("before"), digest("after")]
    assert len(caplog.records) == 1 and str(file) in caplog.text


def test_a_file_that_is_taken_away_meanwhile_begins_anew(file: Path) -> None:
    with rag_rerank.recording(file) as traces:
        SCRIPTED.rerank("q", ["a"])
        traces.flush()
        file.unlink()
        SCRIPTED.rerank("q", ["a"])
    assert traces.counts.recorded == 2
    assert len(list(read(file))) == 1


def test_no_file_passes_its_size_and_the_oldest_goes(file: Path) -> None:
    with rag_rerank.recording(file, max_bytes=5000, keep=2) as traces:
        for i in range(60):
            with tagged(i=i):
                SCRIPTED.rerank("q", ["a", "b"])
    assert traces.counts.recorded == 60
    parts = files(file)
    assert [part.name for part in parts] == ["traces.jsonl.2", "traces.jsonl.1", "traces.jsonl"]
    assert set(file.parent.iterdir()) == {*parts, file.with_name("traces.jsonl.lock")}
    assert all(0 < part.stat().st_size <= 5000 for part in parts)
    order = [record.tags["i"] for part in parts for record in read(part)]
    assert order == list(range(60 - len(order), 60))
    assert len(order) > 3


def test_a_record_that_is_larger_than_a_file_may_be_is_lost(file: Path) -> None:
    with rag_rerank.recording(file, max_bytes=3000) as traces:
        SCRIPTED.rerank("q", [f"{i}" for i in range(100)])
        SCRIPTED.rerank("q", ["a"])
    assert (traces.counts.recorded, traces.counts.losses) == (1, 1)
    assert "larger than max_bytes (3000)" in (traces.counts.last_loss or "")
    assert file.stat().st_size <= 3000


def test_calls_do_not_wait_for_a_writer_that_hangs(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, append = threading.Event(), RecordFile.append

    def hang(self: RecordFile, lines: list[bytes]) -> list[str]:
        go_on.wait()
        return append(self, lines)

    monkeypatch.setattr(RecordFile, "append", hang)
    monkeypatch.setattr(recorder, "_WAITING", 5)
    with rag_rerank.recording(file) as traces:
        for _ in range(100):
            SCRIPTED.rerank("q", ["a"])
        losses = traces.counts.losses
        go_on.set()
    assert 100 - recorder._AT_ONCE - 5 <= losses <= 95
    assert traces.counts.recorded + losses == 100 == len(list(read(file))) + losses
    assert "5 calls were waiting" in (traces.counts.last_loss or "")


def test_a_record_that_cannot_be_made_is_counted(file: Path) -> None:
    class Odd(dict[str, int]):
        def items(self) -> Any:
            raise RuntimeError("the text was: a")

    with rag_rerank.recording(file, texts=True) as traces:
        SCRIPTED.rerank("q", [Candidate("x", "a", metadata=Odd())])
        SCRIPTED.rerank("q", ["a"])
    assert (traces.counts.recorded, traces.counts.losses) == (1, 1)
    assert traces.counts.last_loss == "a record could not be made (RuntimeError)"


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_the_file_is_for_its_owners_eyes_only(file: Path) -> None:
    before = os.umask(0)
    try:
        with rag_rerank.recording(file, max_bytes=3000):
            for _ in range(5):
                SCRIPTED.rerank("q", ["a"])
    finally:
        os.umask(before)
    for part in file.parent.iterdir():
        assert stat.S_IMODE(part.stat().st_mode) == 0o600, part


def test_a_torn_line_is_not_glued_to_the_next_record(file: Path) -> None:
    with rag_rerank.recording(file):
        SCRIPTED.rerank("one", ["a"])
        SCRIPTED.rerank("two", ["a"])
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])  # as if the writer had been killed
    with rag_rerank.recording(file):
        SCRIPTED.rerank("three", ["a"])
    bad_lines: list[Any] = []
    assert [record.query_sha256 for record in read(file, bad=bad_lines.append)] == [digest("one"), digest("three")]
    assert [(bad.where, bad.torn) for bad in bad_lines] == [(f"{file}:2", True)]


def test_every_line_is_json_in_ascii(file: Path) -> None:
    with rag_rerank.recording(file, texts=True):
        SCRIPTED.rerank("温度は\u2028重要?", ["Почему?\n", "\udc80"])
    lines = file.read_bytes().split(b"\n")
    assert lines.pop() == b""
    (line,) = lines
    assert json.loads(line)["query"] == "温度は\u2028重要?"
    assert line.isascii()


@pytest.mark.parametrize("moment", ["began", "ended"])
def test_an_observer_that_raises_is_logged_and_changes_no_call(
    file: Path, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Raising:
        def on_call_start(self, call: object) -> Any:
            if moment == "began":
                raise RuntimeError("mine alone")

            def on_end(*_: object) -> None:
                raise RuntimeError("mine alone")

            return on_end

    watcher = Raising()
    observers.add_observer(watcher)
    try:
        with rag_rerank.recording(file) as traces:
            assert [hit.text for hit in SCRIPTED.rerank("q", ["a", "b"])] == ["b", "a"]
            with pytest.raises(RateLimited, match="slow"):
                ScriptedReranker(error=RateLimited("slow")).rerank("q", ["a"])
    finally:
        observers.remove_observer(watcher)
    assert traces.counts.recorded == 2
    assert [entry.exc_info[1].args for entry in caplog.records if entry.exc_info] == [("mine alone",)] * 2


def test_an_observer_added_during_a_call_does_not_get_its_end() -> None:
    events: list[str] = []

    class Late:
        def on_call_start(self, call: object) -> Any:
            events.append("began")
            return lambda *_: events.append("ended")

    late = Late()

    class Beginning(ScriptedReranker):
        def score(self, query: str, texts: Any) -> Any:
            observers.add_observer(late)
            return super().score(query, texts)

    try:
        Beginning().rerank("q", ["a"])
        assert events == []
        SCRIPTED.rerank("q", ["a"])
        assert events == ["began", "ended"]
    finally:
        observers.remove_observer(late)
