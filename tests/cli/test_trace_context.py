"""``rag-rerank trace show``: what was packed from a ranking, and the whole way of one candidate."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import rag_rerank
from rag_rerank import Candidate, Cascade, Stage, pack
from rag_rerank.cli import app
from rag_rerank.testing import ScriptedReranker

LONG = "K2 is 8,611 metres high. It was first climbed in 1954."
FIRST = ScriptedReranker(name="first", by_text={"Garda": 3.0, "Como": 2.0, LONG: 1.0})
SECOND = ScriptedReranker(name="second", by_text={LONG: 5.0, "Garda": 2.0, "Como": 1.0})
CASCADE = Cascade(stages=(Stage(reranker=FIRST), Stage(reranker=SECOND, depth=3)))
CANDIDATES = [Candidate(f"doc-{text[:2]}", text) for text in ("Garda", "Como", LONG, "Iseo is small.")]


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["trace", "show", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "traces.jsonl"
    with rag_rerank.recording(path, texts=True):
        ranking = CASCADE.rerank("how tall?", CANDIDATES, top_k=3)
        pack(ranking, max_tokens=6, tokenizer=lambda text: len(text.split()))
        CASCADE.rerank("never packed", CANDIDATES[:2])
        ScriptedReranker().rerank("plain", ["Garda"])
    return path


def test_the_whole_way_of_a_candidate_is_told(file: Path) -> None:
    lines = run(file, "--id", "doc-K2").stdout.splitlines()
    assert [line for line in lines if line.split()[0] in ("candidate", "entered", "step", "rank", "context")] == [
        "candidate doc-K2",
        "entered   at rank 3 of 4, without a first-stage score",
        "step      first: raw score 1 (unbounded), rank 3",
        "step      second: raw score 5 (unbounded), rank 1",
        "rank      1 of 4, entered at 3; above doc-Ga, which has the raw score 2",
        "context   piece 1 of 2, trimmed to characters 0 to 24",
    ]


def test_a_dropped_candidate_has_its_reason_and_one_below_the_cutoff_too(file: Path) -> None:
    out = run(file, "--id", "doc-Co", "--query", "how").stdout
    assert "context   dropped by max_tokens: the context would be over 6 tokens with it" in out
    out = run(file, "--id", "doc-Is").stdout
    assert "not returned: below top_k (3)" in out
    assert "context" not in out.splitlines()[-1].split()[0]


def test_a_ranking_that_was_never_packed_does_not_say_that_the_llm_got_it(file: Path) -> None:
    out = run(file, "--id", "doc-Ga", "--query", "never").stdout
    assert "context   not recorded: the ranking was returned, and no context was packed from it" in out


def test_the_table_has_what_was_packed(file: Path) -> None:
    out = run(file, "--query", "how").stdout
    assert "packed    2 of 3 hits, in 2 pieces, 6 of 13 tokens, 1 trimmed, 1 dropped by max_tokens" in out
    assert "note      the best hit, candidate 'doc-K2', is over max_tokens=6 by itself" in out
    assert "piece 1 of 2, trimmed to characters 0 to 24" in out
    assert "below top_k" in out


def test_an_id_that_is_a_position_is_said_to_be_one(file: Path) -> None:
    out = run(file, "--id", "0").stdout
    assert "candidate 0 (its position in the input, counted from 0)" in out
    missing = CliRunner().invoke(app, ["trace", "show", str(file), "--id", "doc-17"])
    assert missing.exit_code != 0
    assert "has its position in the input, counted from 0" in missing.output + (missing.stderr or "")


def test_json_has_the_contexts(file: Path) -> None:
    records = [json.loads(line) for line in run(file, "--json").stdout.splitlines()]
    assert [len(record.get("contexts", [])) for record in records] == [1, 0, 0]
    assert records[0]["contexts"][0]["dropped"][0]["id"] == "doc-Co"


def test_the_page_is_made_of_the_joined_records(file: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["trace", "report", str(file), "-o", str(page)], catch_exceptions=False)
    assert result.exit_code == 0
    assert '"reason":"max_tokens"' in page.read_text(encoding="utf-8")
