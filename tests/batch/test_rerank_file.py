"""Files: the answers of single calls, whatever interrupts the work."""

import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.batch_rows import LEXICAL, read_rows, sample_rows, scored_ids, single_answers, write_rows

from rag_rerank import BackendUnavailable, ConfigError, InputError
from rag_rerank.batch import BatchReranker, rerank_file
from rag_rerank.testing import ScriptedReranker

ROWS = sample_rows(12)
TOP_2 = BatchReranker("lexical", top_k=2)

KILLED = """
import os, signal, sys
from rag_rerank.batch import BatchReranker, rerank_file

def kill(share, words):
    if share > 0.5:
        os.kill(os.getpid(), signal.SIGKILL)

rerank_file(sys.argv[1], sys.argv[2], BatchReranker("lexical", top_k=2), part_rows=2, progress=kill)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in.jsonl", ROWS)


def test_a_killed_run_continues_and_ends_as_if_it_had_not_been(source: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    rerank_file(source, whole, TOP_2, part_rows=2)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(source), str(out)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    parts = tmp_path / "out.jsonl.parts"
    assert not out.exists() and len(list(parts.glob("*.facts.json"))) == 4
    (parts / "00000004.jsonl").write_text('{"id": "half a li')  # killed while it wrote: no facts, so not finished
    summary = rerank_file(source, out, TOP_2, part_rows=2)
    assert (summary.rows, summary.parts, summary.parts_resumed, summary.failures) == (12, 6, 4, {})
    assert summary.pairs == summary.usage.texts == 12 * 15
    assert out.read_bytes() == whole.read_bytes()
    assert not parts.exists()
    rows = read_rows(out)
    assert [(row["id"], row["relevant"]) for row in rows] == [(row["id"], row["relevant"]) for row in ROWS]
    assert scored_ids(row["hits"] for row in rows) == single_answers(ROWS, LEXICAL, 2)


class Interrupted(Exception):
    pass


def interrupt_after(share: float) -> Any:
    def progress(done: float, words: str) -> None:
        if done > share:
            raise Interrupted

    return progress


def test_parts_of_other_rows_or_settings_are_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(Interrupted):
        rerank_file(source, out, TOP_2, part_rows=2, progress=interrupt_after(0.3))
    with pytest.raises(ConfigError, match="top_k was 2, and is 3"):
        rerank_file(source, out, BatchReranker("lexical", top_k=3), part_rows=2)
    with pytest.raises(ConfigError, match="reranker was"):
        rerank_file(source, out, BatchReranker(ScriptedReranker(), top_k=2), part_rows=2)
    with pytest.raises(ConfigError, match="part_rows was 2"):
        rerank_file(source, out, TOP_2)
    write_rows(source, [ROWS[1], ROWS[0], *ROWS[2:]])
    with pytest.raises(ConfigError, match="made of other rows"):
        rerank_file(source, out, TOP_2, part_rows=2)
    write_rows(source, [*ROWS[:10], ROWS[11], ROWS[10]])  # parts of these rows are still to do
    assert rerank_file(source, out, TOP_2, part_rows=2).parts_resumed == 2
    with pytest.raises(ConfigError, match="exists already"):
        rerank_file(source, out, TOP_2)


def test_rows_that_failed_are_tried_again_and_no_others(source: Path, tmp_path: Path) -> None:
    class Moody(ScriptedReranker):
        def score(self, query: str, texts: Any) -> Any:
            answer = super().score(query, texts)
            if query == ROWS[3]["query"] and len(self.calls) <= len(ROWS):
                raise BackendUnavailable("not now")
            return answer

    lines = [json.dumps(row) for row in ROWS]
    source.write_text("\n".join([*lines[:5], "", "{not JSON", "[1]", *lines[5:]]) + "\n")
    reranker, out = Moody(by_text={ROWS[3]["candidates"][7]["text"]: 1.0}), tmp_path / "out.jsonl"
    batch = BatchReranker(reranker, top_k=1)
    summary = rerank_file(source, out, batch, part_rows=4)
    assert (summary.rows, summary.failures) == (14, {"BackendUnavailable": 1, "InputError": 2})
    rows = read_rows(out)
    assert [row.get("id", row.get("line")) for row in rows] == [
        *(row["id"] for row in ROWS[:5]), 7, 8, *(row["id"] for row in ROWS[5:])
    ]  # fmt: skip
    assert (rows[3]["hits"], rows[3]["error"]) == ([], {"type": "BackendUnavailable", "message": "not now"})
    del reranker.calls[len(ROWS) :]
    summary = rerank_file(source, out, batch, part_rows=4)
    assert len(reranker.calls) == len(ROWS) + 1
    assert (summary.failures, summary.parts_resumed) == ({"InputError": 2}, 2)
    assert read_rows(out)[3]["hits"][0]["id"] == ROWS[3]["candidates"][7]["id"]


def test_no_row_is_lost_between_formats(source: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    batch = BatchReranker("lexical", top_k=2, keep_candidates=True)
    packed = tmp_path / "in.jsonl.gz"
    packed.write_bytes(gzip.compress(source.read_bytes()))
    table = pa.Table.from_pylist([{**row, "day": i} for i, row in enumerate(ROWS)])
    table = table.set_column(
        table.schema.get_field_index("day"), "day", table["day"].cast(pa.int32()).cast(pa.date32())
    )
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=5)
    outs = ["a.jsonl", "a.jsonl.gz", "a.parquet"]
    for name in outs:
        rerank_file(packed, tmp_path / name, batch, part_rows=5)
    rerank_file(tmp_path / "in.parquet", tmp_path / "b.parquet", batch, part_rows=5)
    rows = read_rows(tmp_path / "a.jsonl")
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == (tmp_path / "a.jsonl").read_bytes()
    assert scored_ids(row["hits"] for row in rows) == single_answers(ROWS, LEXICAL, 2)
    for name in ("a.parquet", "b.parquet"):
        answered = pq.read_table(tmp_path / name)
        assert answered["id"].to_pylist() == [row["id"] for row in ROWS]
        assert scored_ids(answered["hits"].to_pylist()) == single_answers(ROWS, LEXICAL, 2)
        assert answered["hits"][3].as_py()[0]["candidate"] == rows[3]["hits"][0]["candidate"]
    assert pq.read_schema(tmp_path / "b.parquet").field("day").type == pa.date32()
    with pytest.raises(ConfigError, match=r"write \.parquet"):  # JSON has no dates
        rerank_file(tmp_path / "in.parquet", tmp_path / "b.jsonl", batch)
    assert not (tmp_path / "b.jsonl").exists()


def test_what_cannot_be_read_or_written_is_said_first(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(InputError, match="cannot read"):
        rerank_file(tmp_path / "none.jsonl", out, TOP_2)
    for bad, message in (
        (tmp_path / "out.csv", r"must end in \.jsonl"),
        (tmp_path / "no" / "out.jsonl", "no such folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            rerank_file(source, bad, TOP_2)
    with pytest.raises(ConfigError, match="another process"):
        rerank_file(source, out, TOP_2, part_rows=2, progress=lambda *_: rerank_file(source, out, TOP_2, part_rows=2))
    (tmp_path / "mine.jsonl.parts").mkdir()
    (tmp_path / "mine.jsonl.parts" / "letters.txt").write_text("")
    with pytest.raises(ConfigError, match="no folder of a batch"):
        rerank_file(source, tmp_path / "mine.jsonl", TOP_2)
    empty = write_rows(tmp_path / "empty.jsonl", [])
    assert rerank_file(empty, out.with_name("none.jsonl"), TOP_2).rows == 0
    assert out.with_name("none.jsonl").read_bytes() == b""
