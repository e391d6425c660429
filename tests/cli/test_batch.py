"""``rag-rerank batch``: stdout, stderr and exit codes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.batch_rows import read_rows, sample_rows, write_rows

from rag_rerank.cli import app


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["batch", *arguments], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "in.jsonl", sample_rows(4))
    return tmp_path


def test_a_file_is_reranked_with_progress_on_stderr(folder: Path) -> None:
    result = run("in.jsonl", "out.jsonl", "-r", "lexical", "-k", "2", "--part-rows", "2", "--keep-candidates")
    assert (result.exit_code, result.stderr) == (0, "reranking: 2 of 4 rows\nreranking: 4 of 4 rows\n")
    assert result.stdout.startswith("4 rows, 60 pairs in ") and result.stdout.endswith("out.jsonl\n")
    rows = read_rows(folder / "out.jsonl")
    assert [len(row["hits"]) for row in rows] == [2] * 4
    assert rows[0]["hits"][0]["candidate"] in sample_rows(1)[0]["candidates"]
    again = run("in.jsonl", "out.jsonl", "-r", "lexical")
    assert (again.exit_code, again.stdout) == (2, "") and "exists already" in again.stderr


def test_a_row_that_fails_is_exit_code_1_and_with_stop_on_error_2(folder: Path) -> None:
    write_rows(folder / "in.jsonl", [{"question": " ", "texts": ["a"]}, {"question": "a b", "texts": ["a", "b"]}])
    names = ("-r", "lexical", "--query-column", "question", "--candidates-column", "texts")
    stopped = run("in.jsonl", "out.jsonl", *names, "--stop-on-error")
    assert (stopped.exit_code, stopped.stdout) == (2, "") and "blank" in stopped.stderr
    result = run("in.jsonl", "out.jsonl", *names, "--json")
    assert result.exit_code == 1
    assert "Failed rows: 1 InputError" in result.stderr
    summary = json.loads(result.stdout)
    assert {"schema": 1, "rows": 2, "pairs": 3, "failures": {"InputError": 1}}.items() <= summary.items()
    assert [row["error"] and row["error"]["type"] for row in read_rows(folder / "out.jsonl")] == ["InputError", None]


def test_options_of_ray_need_ray(folder: Path) -> None:
    result = run("in.jsonl", "out.jsonl", "-r", "lexical", "--actors", "2")
    assert result.exit_code == 2 and "--actors needs --ray" in result.stderr
