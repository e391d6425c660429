"""Recorded: writes a record of each call of its reranker, at the top and inside composites."""

import asyncio
import pickle
import threading
from pathlib import Path

import pytest

import rag_rerank
from rag_rerank import Cascade, ConfigError, Ensemble, Fallback, RateLimited, Recorded, Stage, tagged
from rag_rerank.records import Counts, read
from rag_rerank.records.file import RecordFile
from rag_rerank.testing import ScriptedReranker

SCRIPTED = ScriptedReranker(by_text={"b": 2.0, "a": 1.0}, answers_on="sigmoid")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "traces.jsonl"


def test_it_answers_like_its_reranker_and_records_its_own_calls_only(file: Path) -> None:
    with Recorded(reranker=SCRIPTED, file=str(file)) as reranker:
        ranking = reranker.rerank("q", ["a", "b", " "], top_k=1)
        SCRIPTED.rerank("not recorded", ["a"])
    plain = SCRIPTED.rerank("q", ["a", "b", " "], top_k=1)
    assert (ranking.hits, ranking.scale, reranker.scale) == (plain.hits, plain.scale, plain.scale)
    assert reranker.label == "recorded(scripted)"
    (record,) = read(file)
    assert (record.reranker, record.top_k, record.scale) == ("recorded(scripted)", 1, "sigmoid")
    assert [entry.id for entry in record.candidates] == ["1", "0", "2"]
    assert reranker.counts == Counts(recorded=1)


def test_inside_a_composite_it_records_the_composites_calls(file: Path) -> None:
    member = Recorded(reranker=SCRIPTED, file=str(file))
    cascade = Cascade(stages=(Stage(reranker=ScriptedReranker(name="first")), Stage(reranker=member, depth=2)))
    with cascade:
        cascade.rerank("q", ["a", "b", "c"], top_k=1)
    (record,) = read(file)
    assert record.reranker == "recorded(scripted)"
    assert record.top_k is None
    assert [entry.id for entry in record.candidates] == ["1", "0"]
    assert [entry.dropped for entry in record.candidates] == [None, None]


def test_a_member_that_fails_is_recorded_though_the_call_succeeds(file: Path) -> None:
    failing = Recorded(reranker=ScriptedReranker(error=RateLimited("slow down")), file=str(file))
    with Fallback(members=(failing, SCRIPTED)) as reranker:
        assert reranker.rerank("q", ["a"]).degraded
    (record,) = read(file)
    assert record.error == "RateLimited: slow down"


def test_tags_reach_members_that_run_side_by_side(file: Path) -> None:
    members = tuple(Recorded(reranker=ScriptedReranker(name=name), file=str(file)) for name in ("x", "y", "z"))
    with Ensemble(members=members) as ensemble, tagged(request=7):
        ensemble.rerank("q", ["a", "b"])
    assert sorted(record.reranker for record in read(file)) == [f"recorded({name})" for name in "xyz"]
    assert [record.tags for record in read(file)] == [{"request": 7}] * 3


async def test_tags_reach_members_that_run_as_tasks(file: Path) -> None:
    members = tuple(Recorded(reranker=ScriptedReranker(name=name), file=str(file)) for name in ("x", "y"))

    async def ask(ensemble: Ensemble, i: int) -> None:
        with tagged(request=i):
            await ensemble.arerank("q", ["a", "b"])

    async with Ensemble(members=members) as ensemble:
        await asyncio.gather(*(ask(ensemble, i) for i in range(20)))
    assert sorted(record.tags["request"] for record in read(file)) == sorted([*range(20)] * 2)


def test_it_and_a_recording_each_write_their_own(file: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    with rag_rerank.recording(whole), Recorded(reranker=SCRIPTED, file=str(file)) as reranker:
        reranker.rerank("q", ["a"])
    (mine,), (theirs,) = read(file), read(whole)
    assert mine.candidates == theirs.candidates and mine.id != theirs.id


def test_its_options_are_applied(file: Path) -> None:
    with Recorded(reranker=SCRIPTED, file=str(file), share=1e-12) as reranker:
        reranker.rerank("q", ["a"])
        assert reranker.counts == Counts(skipped=1)
    assert file.read_bytes() == b""
    with Recorded(reranker=SCRIPTED, file=str(file), texts=True, max_bytes=2500, keep=1) as reranker:
        for _ in range(9):
            reranker.rerank("q", ["a"])
    assert next(read(file)).query == "q"
    assert sorted(part.name for part in file.parent.iterdir()) == [f"{file.name}{end}" for end in ("", ".1", ".lock")]
    assert file.stat().st_size <= 2500


def test_a_file_that_cannot_be_written_raises_at_first_use_and_loses_nothing(tmp_path: Path) -> None:
    reranker = Recorded(reranker=SCRIPTED, file=str(tmp_path))
    for ask in (reranker.warm_up, lambda: reranker.rerank("q", ["a"])):
        with pytest.raises(ConfigError, match="records cannot be written to") as caught:
            ask()
        assert str(tmp_path) in str(caught.value)
    inside = Fallback(members=(reranker, SCRIPTED))
    with pytest.raises(ConfigError, match="records cannot be written to"):
        inside.rerank("q", ["a"])


def test_a_file_of_something_else_stays_as_it_is(file: Path) -> None:
    file.write_text("something else\n")
    with pytest.raises(ConfigError, match="holds something else"), Recorded(reranker=SCRIPTED, file=str(file)) as one:
        one.rerank("q", ["a"])
    assert file.read_text() == "something else\n"
    assert (one.counts.recorded, one.counts.losses) == (0, 1)


async def test_the_event_loop_does_not_wait_for_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    check = RecordFile.check

    def log_thread(self: RecordFile) -> None:
        checked.append(threading.get_ident())
        check(self)

    monkeypatch.setattr(RecordFile, "check", log_thread)
    reranker = Recorded(reranker=SCRIPTED, file=str(file))
    await reranker.arerank("q", ["a"])
    await reranker.aclose()
    assert len(checked) == 1 and checked[0] != threading.get_ident()
    assert len(list(read(file))) == 1


@pytest.mark.parametrize("options", [{"file": ""}, {"share": 0.0}, {"max_bytes": 0}, {"keep": 0}, {"reranker": "x"}])
def test_values_that_make_no_sense_are_refused(file: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        Recorded(**{"reranker": SCRIPTED, "file": str(file), **options})  # type: ignore[arg-type]
    assert caught.value.path == next(iter(options))


def test_closing_and_flushing_what_was_never_used_makes_no_file(file: Path) -> None:
    reranker = Recorded(reranker=SCRIPTED, file=str(file))
    reranker.flush()
    reranker.close()
    asyncio.run(reranker.aclose())
    assert not file.exists()


def test_closing_writes_what_waits_also_where_its_reranker_cannot_be_closed(file: Path) -> None:
    class Stuck(ScriptedReranker):
        def close(self) -> None:
            raise RuntimeError("stuck")

    reranker = Recorded(reranker=Stuck(), file=str(file))
    reranker.rerank("q", ["a"])
    with pytest.raises(RuntimeError, match="stuck"):
        reranker.close()
    assert len(list(read(file))) == 1


def test_a_pickled_one_opens_the_file_for_itself(file: Path) -> None:
    reranker = Recorded(reranker=rag_rerank.build("lexical"), file=str(file))
    reranker.rerank("q", ["a"])
    with pickle.loads(pickle.dumps(reranker)) as other:
        assert other == reranker
        other.rerank("q", ["a"])
        other.flush()
        assert other.counts == Counts(recorded=1)
    reranker.close()
    assert len(list(read(file))) == 2
