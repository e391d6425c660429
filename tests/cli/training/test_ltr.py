"""``rag-rerank ltr train``: from judged queries to a model that the printed config loads."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import rag_rerank
from rag_rerank.cli import app

JUDGED = Path(__file__).parents[3] / "docs" / "samples" / "judged.jsonl"


def test_a_model_is_written_and_the_printed_config_loads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["ltr", "train", str(JUDGED), "-r", "lexical", "-o", "ltr.json"])
    assert result.exit_code == 0, result.output
    assert "data     judged: 40 queries to learn from, 600 candidates" in result.output
    Path("ltr.yaml").write_text(result.output.partition("ltr.json: written")[2])
    ranking = rag_rerank.load("ltr.yaml").rerank("warm", ["warm", "cold"])
    assert ranking.trace.kind == "ltr" and len(ranking.trace.contributions) == 2


def test_the_report_as_json(tmp_path: Path) -> None:
    out = str(tmp_path / "ltr.json")
    result = CliRunner().invoke(
        app, ["ltr", "train", str(JUDGED), "-o", out, "--json", "--monotone", "words=-1", "--without", "first_match"]
    )
    report = json.loads(result.stdout)
    assert report["schema"] == "rag_rerank.ltr_training/1" and "first_match" not in report["features"]
    assert json.loads(Path(out).read_text())["monotone"]["words"] == -1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--monotone", "words"], "write FEATURE=1, FEATURE=0 or FEATURE=-1"),
        (["--max-queries", "10"], "needs 30: judge about 20 more"),
        (["--date", "day"], "no candidate has the metadata 'day'"),
    ],
    ids=("monotone", "few", "date"),
)
def test_errors_are_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["ltr", "train", str(JUDGED), "-o", str(tmp_path / "m.json"), *options])
    assert result.exit_code == 2 and message in result.output and not (tmp_path / "m.json").exists()
