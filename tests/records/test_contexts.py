"""What was packed from a ranking is joined to the record of its call, and never to another."""

import asyncio
import copy
import gzip
import json
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import rag_rerank
from rag_rerank import Candidate, Cascade, Packing, Ranking, Recorded, Shadow, Stage, pack
from rag_rerank.evaluation import read as read_judged
from rag_rerank.execution import observers
from rag_rerank.records import ContextRecord, Record, files, read, schema
from rag_rerank.testing import ScriptedReranker

LONG = "K2 is 8,611 metres high. It was first climbed in 1954."
SCORES = {LONG: 9.0, "Lake Garda": 8.0, "Garda is deep.": 7.0, "So is Como.": 6.0, "Last": 5.0}
SCRIPTED = ScriptedReranker(by_text=SCORES)
CANDIDATES = [
    Candidate(f"c{i}", text, metadata={"doc": "secret source", "chunk": i}) for i, text in enumerate([*SCORES, " "])
]


def words(text: str) -> int:
    return len(text.split())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "traces.jsonl"


def outcomes(record: Record) -> dict[str, str | None]:
    return {entry.id: record.outcome(entry) for entry in record.candidates}


def test_a_record_says_what_became_of_every_candidate(file: Path) -> None:
    with rag_rerank.recording(file) as traces:
        ranking = SCRIPTED.rerank("q", CANDIDATES, top_k=5)
        pack(ranking, max_tokens=6, tokenizer=words)
    (record,) = read(file)
    assert outcomes(record) == {
        "c0": "piece 1 of 2, trimmed to characters 0 to 24",
        "c1": "dropped by max_tokens: the context would be over 6 tokens with it",
        "c2": "dropped by max_tokens: the context would be over 6 tokens with it",
        "c3": "dropped by max_tokens: the context would be over 6 tokens with it",
        "c4": "piece 2 of 2",
        "c5": "below top_k",
    }
    (context,) = record.contexts
    assert (context.call, context.tokens, context.tokens_estimated) == (record.id, 6, False)
    assert "was trimmed to characters" in context.notes[0]
    assert traces.counts.recorded == 1


def test_merged_hits_and_duplicates_are_told(file: Path) -> None:
    pairs = enumerate([("one", 0), ("two", 1), ("two", 11), ("three", 12)])
    candidates = [Candidate(f"c{i}", text, metadata={"doc": "a", "chunk": at}) for i, (text, at) in pairs]
    with rag_rerank.recording(file):
        ranking = ScriptedReranker(default=1.0).rerank("q", candidates)
        pack(ranking, duplicates="exact", merge="chunks", source="doc", position="chunk", per_source=2)
    (record,) = read(file)
    assert outcomes(record) == {
        "c0": "piece 1 of 1, merged with c1",
        "c1": "piece 1 of 1, merged with c0",
        "c2": "dropped by duplicates: the same text as candidate 'c1'",
        "c3": "dropped by per_source: 2 hits of its source are kept",
    }


def test_each_context_is_joined_to_its_own_call_whoever_packs_it_and_when(file: Path) -> None:
    def call(number: int) -> None:
        ranking = SCRIPTED.rerank(f"q{number}", [Candidate(f"{number}-{i}", text) for i, text in enumerate(SCORES)])
        pack(ranking, top_k=1 + number % 4)

    with rag_rerank.recording(file, texts=True):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(call, range(60)))
        late = SCRIPTED.rerank("q99", ["a", "b"])
    pack(late, top_k=1)  # after the block, and in another thread
    thread = threading.Thread(target=lambda: pack(late, top_k=2))
    thread.start()
    thread.join()
    with rag_rerank.recording(file) as traces:
        traces.flush()
    records = {record.query: record for record in read(file)}
    for number in range(60):
        (context,) = records[f"q{number}"].contexts
        assert len(context.pieces) == 1 + number % 4
        assert all(id.startswith(f"{number}-") for piece in context.pieces for id in piece["ids"])


async def test_contexts_of_async_calls_are_recorded(file: Path) -> None:
    with rag_rerank.recording(file):
        rankings = await asyncio.gather(*(SCRIPTED.arerank("q", CANDIDATES) for _ in range(5)))
        for ranking in rankings:
            await asyncio.to_thread(pack, ranking, top_k=1)
    assert [len(record.contexts) for record in read(file)] == [1] * 5


def test_a_ranking_that_is_cut_or_copied_in_the_process_keeps_its_call_and_a_pickle_does_not(file: Path) -> None:
    with rag_rerank.recording(file):
        ranking = SCRIPTED.rerank("q", CANDIDATES)
        for twin in (ranking.top(2), copy.deepcopy(ranking), copy.copy(ranking)):
            pack(twin, top_k=1)
        pack(pickle.loads(pickle.dumps(ranking)), top_k=1)
        pack(Ranking.from_dict(ranking.to_dict()), top_k=1)
    (record,) = read(file)
    assert len(record.contexts) == 3


def test_the_config_wrapper_records_contexts_too_and_a_member_does_not(file: Path, tmp_path: Path) -> None:
    recorded = Recorded(reranker=SCRIPTED, file=str(file))
    pack(recorded.rerank("q", CANDIDATES), top_k=1)
    recorded.close()
    assert [len(record.contexts) for record in read(file)] == [1]
    inside = Recorded(reranker=SCRIPTED, file=str(tmp_path / "inside.jsonl"))
    cascade = Cascade(stages=(Stage(reranker=inside),))
    pack(cascade.rerank("q", CANDIDATES), top_k=1)
    cascade.close()
    assert [len(record.contexts) for record in read(tmp_path / "inside.jsonl")] == [0]


def test_a_shadow_is_not_told_what_was_packed_from_the_answer(file: Path) -> None:
    with rag_rerank.recording(file):
        shadow = Shadow(reranker=SCRIPTED, other=ScriptedReranker(name="other"), share=1.0)
        pack(shadow.rerank("q", CANDIDATES), top_k=1)
        shadow.close()
    assert sorted(len(record.contexts) for record in read(file)) in ([1], [0, 1])  # a shadow may be dropped by close
    assert all(not record.contexts for record in read(file) if record.reranker == "other")


def test_calls_that_are_left_out_have_no_contexts(file: Path) -> None:
    with rag_rerank.recording(file, share=1e-9):
        pack(SCRIPTED.rerank("q", CANDIDATES), top_k=1)
    assert file.read_bytes() == b""


def test_without_texts_no_text_and_no_metadata_is_in_the_line(file: Path) -> None:
    def fill() -> None:
        ranking = SCRIPTED.rerank("q", CANDIDATES)
        pack(
            ranking, max_tokens=6, tokenizer=words, per_source=1, source="doc", display_text={"c1": "shown to the LLM"}
        )

    with rag_rerank.recording(file):
        fill()
    for secret in (b"K2", b"Garda", b"secret source", b"shown to the LLM"):
        assert secret not in file.read_bytes()
    with rag_rerank.recording(file, texts=True):
        fill()
    *_, record = read(file)
    assert record.contexts[0].pieces[0]["text"] == "K2 is 8,611 metres high."


def test_every_line_and_every_joined_record_keeps_the_schema(file: Path) -> None:
    with rag_rerank.recording(file, texts=True):
        ranking = SCRIPTED.rerank("q", [*CANDIDATES, Candidate("\ud800", "\ud800 x")])
        pack(ranking, max_tokens=50)
        pack(ranking, max_tokens=9, tokenizer=words, trim="sentences", duplicates="exact", per_source=1, source="doc")
    whole = schema()
    validator = jsonschema.Draft202012Validator(whole)
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert [line["schema"] for line in lines] == ["rag_rerank.record/1", *["rag_rerank.context/1"] * 2]
    validator.validate(lines[0])
    for line in lines[1:]:
        jsonschema.Draft202012Validator({**whole["$defs"]["context"], "$defs": whole["$defs"]}).validate(line)
    (record,) = read(file)
    validator.validate(record.to_dict())
    assert Record.from_dict(record.to_dict()) == record
    assert [ContextRecord.from_dict(line) for line in lines[1:]] == list(record.contexts)


def test_records_without_contexts_are_read_and_written_as_before(file: Path) -> None:
    with rag_rerank.recording(file):
        SCRIPTED.rerank("q", CANDIDATES)
    (record,) = read(file)
    (line,) = file.read_bytes().splitlines(keepends=True)
    assert (record.contexts, record.to_line()) == ((), line)
    assert record.outcome(record.candidates[0]) is None


def test_a_context_in_a_newer_file_of_the_rotation_is_found(file: Path) -> None:
    with rag_rerank.recording(file, max_bytes=2**20) as traces:
        SCRIPTED.rerank("q0", CANDIDATES[:2])
    size = file.stat().st_size + 200  # room for a record, and not for its context
    file.unlink()
    with rag_rerank.recording(file, max_bytes=size, keep=50) as traces:
        for i in range(6):
            ranking = SCRIPTED.rerank(f"q{i}", CANDIDATES[:2])
            traces.flush()
            pack(ranking, top_k=1)
            traces.flush()
    assert len(files(file)) > 2
    heads = [path.read_bytes()[:31] for path in files(file)]
    assert any(b"context" in head for head in heads)  # a file may begin with a context
    records = [record for path in files(file) for record in read(path)]
    assert [len(record.contexts) for record in records] == [1] * 6
    with rag_rerank.recording(file, max_bytes=size):  # and may be appended to
        SCRIPTED.rerank("more", CANDIDATES[:2])


def test_torn_and_wrong_lines_of_contexts_are_reported_and_orphans_left_out(file: Path) -> None:
    with rag_rerank.recording(file):
        pack(SCRIPTED.rerank("q", CANDIDATES), top_k=1)
    call, context = file.read_bytes().splitlines(keepends=True)
    orphan = json.dumps({**json.loads(context), "call": "nobody"}).encode() + b"\n"
    wrong = b'{"schema": "rag_rerank.context/1", "call": "x"}\n'
    file.write_bytes(orphan + call + wrong + context + context[:60])
    bad: list[Any] = []
    (record,) = read(file, bad=bad.append)
    assert len(record.contexts) == 1
    assert [(line.where.rpartition(":")[2], line.torn) for line in bad] == [("3", False), ("5", True)]
    file.write_bytes(call + context.replace(b"context/1", b"context/9"))
    with pytest.raises(rag_rerank.InputError, match="context/9"):
        list(read(file))


def test_a_compressed_file_and_a_pipe_are_joined_too(file: Path, tmp_path: Path) -> None:
    with rag_rerank.recording(file):
        pack(SCRIPTED.rerank("q", CANDIDATES), top_k=1)
    zipped = tmp_path / "traces.jsonl.gz"
    zipped.write_bytes(gzip.compress(file.read_bytes()))
    assert [len(record.contexts) for record in read(zipped)] == [1]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(file.read_bytes()))
    writer.start()
    assert [len(record.contexts) for record in read(pipe)] == [1]
    writer.join()


def test_records_with_contexts_can_be_judged(file: Path, tmp_path: Path) -> None:
    with rag_rerank.recording(file, texts=True), rag_rerank.tagged(query_id="1"):
        pack(SCRIPTED.rerank("q", CANDIDATES), top_k=1)
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\n1\tc0\t1\n")
    judged = read_judged(file, qrels=qrels)
    assert [(query.id, len(query.candidates)) for query in judged.queries] == [("1", 6)]
    assert [problem.kind for problem in judged.problems] == ["candidates with a blank text, which no reranker scores"]


def test_an_observer_of_contexts_that_raises_changes_no_context(caplog: pytest.LogCaptureFixture) -> None:
    class Watcher:
        def on_call_start(self, call: object) -> Any:
            def on_context(context: object) -> None:
                raise RuntimeError("mine alone")

            return lambda *_: on_context

    watcher = Watcher()
    observers.add_observer(watcher)
    try:
        context = Packing(top_k=1).pack(SCRIPTED.rerank("q", CANDIDATES))
    finally:
        observers.remove_observer(watcher)
    assert len(context) == 1
    assert "an observer of calls raised" in caplog.text


def test_a_context_that_cannot_be_written_is_counted_as_a_loss(file: Path) -> None:
    with rag_rerank.recording(file, texts=True, max_bytes=8_000) as traces:
        ranking = SCRIPTED.rerank("q", CANDIDATES)
        context = pack(ranking, display_text={"c0": "x" * 9_000})
    assert len(context) == 5
    assert (traces.counts.recorded, traces.counts.losses) == (1, 1)
    assert [record.contexts for record in read(file)] == [()]
