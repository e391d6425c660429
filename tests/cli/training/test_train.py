"""``rag-rerank train``: from files to a folder, with its output."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.api.rerank_server import RerankServer
from support.training.toy_language import HELD_OUT, STEMS, examples

from rag_rerank import Candidate
from rag_rerank.cli import app
from rag_rerank.config import build
from rag_rerank.training.model_card.card import Card

TINY = ("--max-length=32", "--batch=8", "--epochs=1", "--learning-rate=1e-3", "--device=cpu", "--evaluate-every=5")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    _write(file, [_pair(example) for example in examples(40).examples])
    return file


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    file = tmp_path / "judged.jsonl"
    rows = []
    for i, example in enumerate(examples(12, stems=HELD_OUT, seed=1).examples):
        candidates = [{"id": f"{i}-{j}", "text": passage.text} for j, passage in enumerate(example.passages)]
        relevant = [row["id"] for row, passage in zip(candidates, example.passages, strict=True) if passage.grade]
        rows.append({"id": str(i), "query": example.query, "candidates": candidates, "relevant": relevant})
    _write(file, rows)
    return file


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, words)])


def test_one_command_writes_a_folder_that_every_backend_loads(
    pairs: Path, judged: Path, base: str, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    result = command(pairs, "--base", base, "-o", out, *TINY, "--validation", judged, "--licence=CC0-1.0")
    assert result.exit_code == 0, result.output
    assert re.search(r"data +\d+ queries, 160 pairs", result.stderr)
    assert "CC0-1.0" in result.stderr
    assert re.search(r"the base had 0\.\d{4}, the incoming order 0\.\d{4}", result.stdout)
    assert f"{out}: written" in result.stdout
    texts = [Candidate(id=str(i), text=p.text) for i, p in enumerate(examples(1).examples[0].passages)]
    scores = [
        [hit.raw_score for hit in sorted(build(f"{backend}:{out}{part}").rerank("babka", texts), key=lambda h: h.id)]
        for backend, part in (("torch", ""), ("onnx", ""), ("onnx", "/int8"))
    ]
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)
    assert scores[2] == pytest.approx(scores[0], abs=0.1)
    assert json.loads((out / "training.json").read_text())["validation_queries"] == 12
    assert "rag-rerank train" in (out / "README.md").read_text()


def test_a_share_is_held_out_negatives_are_mined_and_the_record_is_printed(
    base: str, tmp_path: Path, cards: list[Card]
) -> None:
    plain = tmp_path / "plain.jsonl"
    shared = ("belmo", "gimti", "torsu")
    words = [(f"{stem}ka", shared[i % 3]) for i, stem in enumerate(STEMS[:40])]
    _write(plain, [{"query": f"{own} {other}", "positive": f"{own} {other} {own}"} for own, other in words])
    mining = ("--mine", "random", "--negatives", "3", "--hold-out", "0.3", "--json")
    result = command(plain, "--base", base, "-o", tmp_path / "out", *TINY, *mining)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["queries"] < 40
    assert record["validation_queries"] > 0
    assert record["curve"][0]["ndcg"] is not None
    command_words = cards[0].commands[0]
    assert command_words[:3] == ("rag-rerank", "train", str(plain))
    assert command_words[command_words.index("--mine") + 1] == "random"


def test_text_of_an_evaluation_is_left_out_and_reported(
    pairs: Path, base: str, tmp_path: Path, cards: list[Card]
) -> None:
    leaking = tmp_path / "evaluation.jsonl"
    row = _rows(pairs)[0]
    candidates = [{"id": "p", "text": row["positive"]}, {"id": "n", "text": "an other text"}]
    _write(leaking, [{"query": "something else", "candidates": candidates, "relevant": ["p"]}])
    result = command(pairs, "--base", base, "-o", tmp_path / "out", *TINY, "--against-leaks", leaking)
    assert result.exit_code == 0, result.output
    assert "text of evaluation" in result.stderr
    assert cards[0].contamination is not None and cards[0].contamination[0]["documents"]
    assert cards[0].contamination[0]["left out"] == "queries and passages"


def test_ctrl_c_prints_how_to_continue_and_the_same_command_does(
    pairs: Path, base: str, tmp_path: Path, cards: list[Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_rerank.training.trainer import TrainingLoop

    stepped = TrainingLoop.after_step

    def interrupted(self: Any, step: int, *rest: Any) -> None:
        if step == 3:
            raise KeyboardInterrupt
        stepped(self, step, *rest)

    words = (pairs, "--base", base, "-o", tmp_path / "out", *TINY, "--checkpoint-every=2")
    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, "after_step", interrupted)
        stopped = command(*words)
    assert stopped.exit_code == 130
    assert "run the same command again" in stopped.stderr
    assert command(*words).exit_code == 0
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert [session["step"] for session in record["sessions"]] == [0, 2]


def test_a_filter_teacher_is_paid_once_however_often_the_run_is_stopped(
    pairs: Path, base: str, tmp_path: Path, cards: list[Card], rerank_server: RerankServer
) -> None:
    teacher = {"type": "cohere", "model": "rerank-v3.5", "base_url": rerank_server.url, "api_key": "a-key"}
    (tmp_path / "teacher.json").write_text(json.dumps(teacher))
    _write(tmp_path / "few.jsonl", _rows(pairs)[:6])
    words = (tmp_path / "few.jsonl", "--base", base, "-o", tmp_path / "out", *TINY, "--mine=random", "--negatives=2")
    words += ("--filter-teacher", tmp_path / "teacher.json")
    stopped = command(*words, "--freeze=9")
    assert stopped.exit_code == 2 and "freeze" in stopped.stderr
    request_count = len(rerank_server.received)
    assert request_count and command(*words).exit_code == 0
    assert len(rerank_server.received) == request_count
    assert cards[0].teacher is not None and cards[0].teacher.remote and cards[0].teacher.name == "cohere:rerank-v3.5"


def test_what_cannot_start_is_an_error_before_a_teacher_is_called(
    pairs: Path, base: str, tmp_path: Path, rerank_server: RerankServer
) -> None:
    teacher = {"type": "cohere", "model": "rerank-v3.5", "base_url": rerank_server.url, "api_key": "a-key"}
    (tmp_path / "teacher.json").write_text(json.dumps(teacher))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    mining = ("--mine=random", "--filter-teacher", tmp_path / "teacher.json")
    for out, start, words in (("taken", base, "exists already"), ("out", "embedded", "ships as ONNX only")):
        result = command(pairs, "--base", start, "-o", tmp_path / out, *TINY, *mining)
        assert result.exit_code == 2 and words in result.stderr
    assert rerank_server.received == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--learning-rate=0",), "learning_rate: must be"),
        (("--hold-out=0.1", "--validation=x.jsonl"), "not both"),
        (("--filter-teacher=embedded",), "choose a method with --mine"),
        (("--hold-out=2",), "between 0 and 1"),
        (("--loss=margin-mse",), "--filter-teacher"),
        (("--base=./nowhere",), "no such folder"),
        (("--validation=nowhere",), "nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    pairs: Path, base: str, tmp_path: Path, options: Sequence[str], words: str
) -> None:
    result = command(pairs, "--base", base, "-o", tmp_path / "out", *TINY, *options)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.splitlines()[-2:])
    assert not (tmp_path / "out").exists()


def test_a_file_without_anything_relevant_is_refused(base: str, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    result = command(tmp_path / "empty.jsonl", "--base", base, "-o", tmp_path / "out", *TINY)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")


def _pair(example: Any) -> dict[str, Any]:
    good = [passage.text for passage in example.passages if passage.grade]
    bad = [passage.text for passage in example.passages if not passage.grade]
    return {"query": example.query, "positive": good[0], "negatives": bad}


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in file.read_text().splitlines()]


def _write(file: Path, rows: Sequence[Any]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
