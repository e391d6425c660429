"""``rag-rerank trace show``: recorded calls, and the explanation of one candidate."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import rag_rerank
from rag_rerank import Candidate, Cascade, RateLimited, Stage, tagged
from rag_rerank.cli import app
from rag_rerank.records import Record, read
from rag_rerank.testing import ScriptedReranker

FIRST = ScriptedReranker(name="first", by_text={"a": 3.0, "b": 2.0, "c": 1.0})
SECOND = ScriptedReranker(name="second", by_text={"a": 1.0, "b": 5.0, "e": 5.0}, answers_on="sigmoid")
CASCADE = Cascade(stages=(Stage(reranker=FIRST), Stage(reranker=SECOND, depth=3)))
CANDIDATES = [
    Candidate("da", "a", score=0.25),
    Candidate("db", "b"),
    Candidate("dc", "c"),
    Candidate("dd", "d"),
    Candidate("de", " "),
]


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["trace", "show", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four calls: a cascade, one that fails, a tie, and long texts; queries and texts only in the last two."""
    path = tmp_path / "traces.jsonl"
    with rag_rerank.recording(path), tagged(tenant="acme"):
        CASCADE.rerank("how tall is K2?", CANDIDATES, top_k=2)
        with pytest.raises(RateLimited):
            ScriptedReranker(error=RateLimited("slow down")).rerank("and K3?", ["a"])
    with rag_rerank.recording(path, texts=True):
        SECOND.rerank("a tie", ["b", "e"])
    return path


@pytest.fixture
def records(file: Path) -> list[Record]:
    return list(read(file))


def test_a_call_is_printed_with_its_steps_and_its_candidates(file: Path, records: list[Record]) -> None:
    output = run(file, "--record", records[0].id).stdout
    assert f"record    {records[0].id}" in output
    assert f"query     sha256 {records[0].query_sha256}" in output
    assert "tags      tenant=acme" in output
    assert "├─ first" in output and "└─ second" in output
    rows = [line.split() for line in output.splitlines() if re.match(r" *\d", line)]
    assert rows == [
        ["1", "2", "↑1", "0.9933", "–", "db"],
        ["2", "1", "↓1", "0.7311", "–", "da"],
        ["3", "3", "=", "0.5", "–", "dc", "below", "top_k"],
        ["4", "4", "=", "–", "–", "dd", "stopped", "before", "stage", "2", "(depth", "3)"],
        ["5", "5", "=", "–", "–", "de", "blank", "text"],
    ]


@pytest.mark.parametrize(
    ("id", "lines"),
    [
        (
            "db",
            [
                "entered   at rank 2 of 5, without a first-stage score",
                "step      first: raw score 2 (unbounded), rank 2",
                "step      second: raw score 5 (sigmoid), rank 1",
                "score     0.993307, the sigmoid of the raw score 5, given by second",
                "rank      1 of 5, entered at 2; above da, which has the raw score 1",
            ],
        ),
        (
            "da",
            [
                "entered   at rank 1 of 5, first-stage score 0.25",
                "rank      2 of 5, entered at 1; below db, which has the raw score 5; "
                "above dc, which has the raw score 0",
            ],
        ),
        (
            "dc",
            [
                "rank      3 of 5, entered at 3; below da, which has the raw score 1; "
                "above dd, which has no score; not returned: below top_k (2)"
            ],
        ),
        (
            "dd",
            [
                "step      first: raw score 0 (unbounded), rank 4",
                "score     none: stopped before stage 2 (depth 3)",
                "rank      4 of 5, entered at 4; below dc, which has a score; above de, which had no score in first; "
                "not returned: below top_k (2)",
            ],
        ),
        ("de", ["step      first: not scored: blank text", "score     none: blank text"]),
    ],
)
def test_a_candidate_is_explained_in_words(file: Path, id: str, lines: list[str]) -> None:
    output = run(file, "--id", id).stdout.splitlines()
    assert f"candidate {id}" in output
    for line in lines:
        assert line in output


def test_a_tie_and_a_failure_are_explained(file: Path, records: list[Record]) -> None:
    tie = run(file, "--query", "tie", "--id", "1").stdout
    assert "text      e" in tie
    assert "below 0 by the order of arrival, because the raw scores are equal" in tie
    failed = run(file, "--record", records[1].id[:12]).stdout
    assert "failed    RateLimited: slow down" in failed
    way = run(file, "--record", records[1].id, "--id", "0").stdout
    assert "score     none: the call failed" in way and "rank      none: the call failed" in way


def test_windows_and_cached_scores_are_named(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    cached = {"type": "cached", "reranker": "embedded"}
    reranker = rag_rerank.build({"type": "windows", "reranker": cached, "tokens": 6, "overlap": 0})
    texts = ["K2 is 8,611 m high. Lake Garda is 346 m deep.", "K2"]
    reranker.rerank("how tall is K2?", texts)
    with rag_rerank.recording(file):
        reranker.rerank("how tall is K2?", texts)
    output = run(file, "--id", "0").stdout
    assert re.search(
        r"window    0#1 in cached\(late_interaction:embedded\): raw score .*, (\d+) of \1 tokens read, from the cache",
        output,
    )
    assert re.search(r"score     .* given by windows\(.*\); window: characters 0 to \d+", output)
    assert "window    " not in run(file, "--id", "1").stdout


def test_a_query_is_found_by_its_words_or_by_the_hash_of_all_of_them(file: Path, records: list[Record]) -> None:
    def ids_of(*arguments: Any) -> list[str]:
        return re.findall("^record    (.*)$", run(file, *arguments).stdout, flags=re.MULTILINE)

    ids = [record.id for record in records]
    assert ids_of() == ids
    assert ids_of("--query", "how tall is K2?") == ids[:1]
    assert ids_of("--query", "a t") == ids[2:]
    assert ids_of("--last", 2) == ids[1:]
    assert ids_of("--id", "0", "--last", 1) == ids[2:]
    nothing = run(file, "--query", "how tall")
    assert nothing.exit_code == 2
    assert nothing.stderr.startswith(f"Error: {file} holds no record that matches; list all with")


def test_json_gives_the_records_as_they_are(file: Path) -> None:
    lines = file.read_text().splitlines()
    output = run(file, "--json", "--last", 2).stdout.splitlines()
    assert [json.loads(line) for line in output] == [json.loads(line) for line in lines[1:]]


def test_lines_that_are_no_records_are_left_out_with_a_warning(file: Path, records: list[Record]) -> None:
    file.write_text("nonsense\n" + file.read_text()[:-40])
    result = run(file, "--json")
    assert len(result.stdout.splitlines()) == 2
    assert f"Warning: {file}:1: not valid JSON" in result.stderr
    assert f"Warning: {file}:4: a record that was not written to its end; it is left out" in result.stderr


def test_control_characters_of_records_are_not_printed(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    with rag_rerank.recording(file, texts=True), tagged(x="\x07\x9b31mred"):
        ScriptedReranker(name="n\x07\x9b2J").rerank("q\x07", [Candidate("i\x07", "t\x07\x9b0m")])
    for arguments in ((), ("--id", "i\x07")):
        output = run(file, *arguments).stdout
        assert "\x07" not in output and "\x9b" not in output and "\ufffd" in output


def test_a_file_that_is_not_there_ends_with_one_line(tmp_path: Path) -> None:
    result = run(tmp_path / "nowhere.jsonl")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: cannot read ")
