"""``rag-rerank calibrate``: files, output and errors."""

import json
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from rag_rerank import AnswerabilityMap, Answerable, Calibrated, CalibrationMap, build, load
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.cli import app

WORDS = ("warm", "dragon", "lake", "deep", "letter", "sand", "night", "shade")


def judged(queries: int, *, seed: int = 3, graded: bool = True) -> Iterable[dict[str, Any]]:
    """Queries whose candidates are relevant more often if they share more words with the query."""
    chance = random.Random(seed)
    for q in range(queries):
        query = chance.sample(WORDS, 3)
        candidates, relevant = [], {}
        for d in range(10):
            shared = chance.randrange(4)
            text = " ".join([*query[:shared], *(f"x{chance.randrange(99)}" for _ in range(5))])
            candidates.append({"id": f"d{d}", "text": text})
            relevant[f"d{d}"] = 2 * int(chance.random() < (0.05, 0.2, 0.6, 0.9)[shared])
        judgments = relevant if graded else [id for id, grade in relevant.items() if grade]
        yield {"id": f"q{q}", "query": " ".join(query), "candidates": candidates, "relevant": judgments}


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write_lines(tmp_path / "judged.jsonl", judged(60))


def write_lines(file: Path, rows: Iterable[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def calibrate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["calibrate", *arguments], catch_exceptions=False)


def test_it_writes_a_map_and_says_how_good_it_is_and_what_to_put_into_a_config(data: str, tmp_path: Path) -> None:
    out = tmp_path / "map.json"
    result = calibrate(data, "--config", "lexical", "-o", str(out))
    assert result.exit_code == 0
    score_map = CalibrationMap.load(out)
    assert (score_map.fitted.queries, score_map.fitted.pairs, score_map.fitted.data) == (60, 600, "judged")
    report, snippet = result.stdout.split(f"\n{out}: written\n\n")
    assert f"judged: 60 queries, 600 candidates, {score_map.fitted.prior:.1%} relevant" in report
    assert f"calibrated, out of fold  {score_map.fitted.after.ece:.4f}" in report
    assert "scores as they are" not in report  # BM25 is no 0 to 1
    (half,) = (line.split() for line in report.splitlines() if line.strip().startswith("0.5 "))
    assert score_map.probability(float(half[1])) == pytest.approx(0.5, abs=1e-3)
    assert build(yaml.safe_load(snippet)) == Calibrated(reranker=LexicalReranker(), map=str(out))


def test_write_makes_a_config_that_ranks_with_probabilities(data: str, tmp_path: Path) -> None:
    out, config = tmp_path / "map.json", tmp_path / "new.yaml"
    result = calibrate(data, "--config", "lexical", "-o", str(out), "--write-config", str(config))
    assert result.stdout.endswith(f"{config}: written\n")
    ranking = build(str(config)).rerank("warm dragon", ["a warm dragon", "a lake"])
    assert ranking.scale == "calibrated"
    assert ranking[0].score is not None and 0 < ranking[0].score < 1


def test_a_calibrated_config_is_fitted_anew(data: str, tmp_path: Path) -> None:
    out, config = tmp_path / "map.json", tmp_path / "new.json"
    calibrate(data, "--config", "lexical", "-o", str(out), "--write-config", str(config), "--max-queries", "30")
    before = CalibrationMap.load(out)
    assert calibrate(data, "--config", str(config), "-o", str(out)).exit_code == 0
    after = CalibrationMap.load(out)
    assert (before.fitted.queries, after.fitted.queries) == (30, 60)


def test_several_sources_are_fitted_together(data: str, tmp_path: Path) -> None:
    other = write_lines(tmp_path / "other.jsonl", judged(20, seed=4))
    out = tmp_path / "map.json"
    assert calibrate(data, other, "--config", "lexical", "-o", str(out)).exit_code == 0
    assert CalibrationMap.load(out).fitted.data == "judged + other"
    result = calibrate(data, other, "--config", "lexical", "-o", str(out), "--qrels", "x")
    assert result.exit_code == 2 and "belong to one SOURCE" in result.stderr


def test_unjudged_candidates_count_only_with_the_option(tmp_path: Path) -> None:
    data = write_lines(tmp_path / "known.jsonl", judged(60, graded=False))
    out = tmp_path / "map.json"
    result = calibrate(data, "--config", "lexical", "-o", str(out))
    assert (result.exit_code, out.exists()) == (2, False)
    assert 'choose "not relevant" as the value of unjudged' in result.stderr
    arguments = ("--unjudged", "not relevant", "--method", "isotonic", "--relevant", "1", "--depth", "8")
    assert calibrate(data, "--config", "lexical", "-o", str(out), *arguments).exit_code == 0
    score_map = CalibrationMap.load(out)
    assert (score_map.method, score_map.fitted.pairs, score_map.fitted.unjudged) == ("isotonic", 480, "not relevant")


def test_little_data_is_a_note_on_stderr(data: str, tmp_path: Path) -> None:
    result = calibrate(data, "--config", "lexical", "-o", str(tmp_path / "map.json"), "--max-queries", "10")
    assert result.exit_code == 0
    assert "Warning: fitted on" in result.stderr and "less than 100 of each" in result.stderr


def test_an_existing_config_is_not_overwritten_and_nothing_is_scored_for_it(data: str, tmp_path: Path) -> None:
    config = tmp_path / "there.yaml"
    config.write_text("lexical\n")
    result = calibrate(data, "--config", "lexical", "-o", str(tmp_path / "map.json"), "--write-config", str(config))
    assert result.exit_code == 2 and "exists already" in result.stderr
    assert not (tmp_path / "map.json").exists()
    assert config.read_text() == "lexical\n"


@pytest.mark.parametrize("place", ["missing/map.json", "."])
def test_a_map_that_cannot_be_written_is_refused_before_anything_is_scored(
    data: str, tmp_path: Path, place: str
) -> None:
    result = calibrate(data, "--config", "lexical", "-o", str(tmp_path / place))
    assert result.exit_code == 2 and "cannot write" in result.stderr and "scoring" not in result.stderr


def test_a_missing_package_is_an_error_before_anything_is_scored(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    monkeypatch.setattr(LexicalReranker, "score", lambda *_: pytest.fail("it was scored"))
    out = str(tmp_path / "map.json")
    result = calibrate(data, "--config", "lexical", "-o", out)
    assert result.exit_code == 2 and 'pip install "rag-rerank[eval]"' in result.stderr
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    assert calibrate(data, "--config", "lexical", "-o", out, "--method", "platt").exit_code == 0


def test_a_map_that_does_not_fit_any_more_warns_when_ranking(data: str, tmp_path: Path) -> None:
    out, config, texts = tmp_path / "map.json", tmp_path / "new.yaml", tmp_path / "texts.txt"
    calibrate(data, "--config", "lexical", "-o", str(out), "--write-config", str(config))
    config.write_text(config.read_text().replace("type: lexical", "type: lexical\n  k1: 2.0"))
    texts.write_text("a warm dragon\n")
    result = CliRunner().invoke(app, ["rank", "-r", str(config), "-q", "warm", str(texts)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "Warning: calibrated(lexical): the map was fitted on lexical" in result.stderr
    assert "a probability of relevance, fitted on judgments" in result.stdout


def test_answerable_writes_a_map_with_a_threshold_and_a_config(data: str, tmp_path: Path) -> None:
    out, config = tmp_path / "answerable.json", tmp_path / "answerable.yaml"
    options = ("--answerable", "--false-accept", "0.2", "-o", str(out), "--write-config", str(config))
    result = calibrate(data, "-c", "lexical", "--relevant", "2", *options)
    assert result.exit_code == 0
    score_map = AnswerabilityMap.load(out)
    limit = score_map.false_accepts
    assert limit is not None and limit.rate == 0.2 and limit.lists - score_map.fitted.queries in (0, 1)
    assert "accepts at most 20% of lists without an answer" in result.stdout
    assert f"{score_map.auroc:.4f}" in result.stdout
    reranker = load(config)
    assert reranker == Answerable(reranker=LexicalReranker(), map=str(out))
    assert CliRunner().invoke(app, ["config", "check", str(config)]).exit_code == 0
    again = calibrate(data, "-c", str(config), "--answerable", "-o", str(out))
    assert again.exit_code == 0 and AnswerabilityMap.load(out).false_accepts is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--false-accept", "0.1"), "--false-accept goes with --answerable"),
        (("--answerable", "--method", "platt"), "leave --method out"),
    ],
    ids=["rate", "method"],
)
def test_options_of_the_other_kind_of_map_are_refused(
    options: tuple[str, ...], message: str, data: str, tmp_path: Path
) -> None:
    result = calibrate(data, "-c", "lexical", "-o", str(tmp_path / "map.json"), *options)
    assert result.exit_code != 0 and message in result.output
