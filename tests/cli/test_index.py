"""``rag-rerank index`` fills a store that ``rag-rerank rank`` then uses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rag_rerank.cli import app

pytest.importorskip("lmdb", reason="needs the extra store")

CONFIG = "type: late_interaction\nmodel: embedded\nprecision: int8\nstore: {path: vectors}\n"
ROWS = [
    {"id": "k2", "text": "K2 is 8,611 m high."},
    {"id": "garda", "text": "Lake Garda is 346 m deep."},
    {"id": "blank", "text": " "},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rerank.yaml").write_text(CONFIG)
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


def run(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["index", "-c", "rerank.yaml", *args])
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


def report(*args: str) -> dict[str, object]:
    (index,) = json.loads(run("--json", *args))["indexes"]
    return index  # type: ignore[no-any-return]


def test_a_corpus_is_encoded_once(folder: Path) -> None:
    first = report("corpus.jsonl")
    assert (first["texts"], first["new"], first["in_store"], first["blank"]) == (3, 2, 0, 1)
    again = report("corpus.jsonl")
    assert (again["new"], again["in_store"]) == (0, 2)
    assert report("--stats")["store"] == again["store"] == first["store"]
    assert "texts in the store" in run("--stats")


def test_rank_reads_what_was_indexed(folder: Path) -> None:
    run("corpus.jsonl")
    command = ["rank", "-c", "rerank.yaml", "--query", "how high is K2?", "--trace", "corpus.jsonl"]
    result = CliRunner().invoke(app, command)
    assert "2 of 2 texts" in result.output


def test_ids_are_deleted(folder: Path) -> None:
    run("corpus.jsonl")
    (folder / "gone.txt").write_text("garda\n\nunknown\n")
    assert report("--delete", "gone.txt")["deleted"] == 1
    assert report("--stats")["store"]["texts"] == 1  # type: ignore[index]


def test_without_work_or_without_a_folder_it_says_what_to_do(folder: Path) -> None:
    assert "name a FILE" in run(code=2)
    (folder / "rerank.yaml").write_text("type: late_interaction\n")
    assert "keeps vectors in memory" in run("corpus.jsonl", code=2)
    (folder / "rerank.yaml").write_text("type: lexical\n")
    assert "keeps no vectors" in run("corpus.jsonl", code=2)
