"""``rag-rerank probe``: stdout, stderr and exit codes."""

import json
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from rag_rerank.cli import app
from rag_rerank.evaluation.probes import ProbeReport, probe


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["probe", *arguments], catch_exceptions=False)


def test_the_table_has_a_row_a_kind_and_two_columns_a_config(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("type: lexical\nk1: 0\n")
    result = run("-c", "lexical", "--config", str(file), "--kind", "negation", "--kind", "code", "--failures", "0")
    assert result.exit_code == 0
    heading, *rows = result.stdout.split("\n\n")[0].splitlines()
    assert heading.split()[:3] == ["kind", "chance", "lexical"]
    assert "other.yaml" in heading
    assert [row.split()[0] for row in rows] == ["negation", "code", "all"]
    report = probe("lexical", kinds=["negation", "code"])
    counts = [row.passed for row in (*report.kinds, report.all)]
    assert [row.split()[2].partition("/")[0] for row in rows] == [str(count) for count in counts]
    assert "missed" not in result.stdout
    assert "probing lexical" in result.stderr and "probing" not in result.stdout


def test_the_requested_number_of_contrasts_is_printed_for_each_kind() -> None:
    page = run("-c", "lexical", "--kind", "numbers", "--kind", "paraphrase", "--failures", "2").stdout
    blocks = page.split("\n\n")[2:]
    report = probe("lexical", kinds=["numbers", "paraphrase"])
    assert len(blocks) == 4
    first = report.missed[0]
    assert first.contrast.id in blocks[0] and first.contrast.why in blocks[0]
    assert blocks[0].splitlines()[1].endswith(first.contrast.query)
    for text, score, line in zip(first.contrast.passages, first.scores, blocks[0].splitlines()[2:], strict=True):
        assert line.endswith(text) and f"{score:.4g}" in line


def test_one_contrast_is_printed_by_default() -> None:
    assert run("-c", "lexical", "--kind", "paraphrase").stdout.count("lexical missed") == 1


def test_json_holds_everything_that_did_not_pass() -> None:
    result = run("-c", "lexical", "--kind", "scope", "--json")
    output = json.loads(result.stdout)
    assert output["schema"] == 1
    (report,) = (ProbeReport.from_dict(data) for data in output["reports"])
    assert report.missed == probe("lexical", kinds=["scope"]).missed
    assert len(report.missed) > 1


def test_an_unknown_kind_is_one_line_and_exit_code_2() -> None:
    result = run("-c", "lexical", "--kind", "negatoin")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean 'negation'" in result.stderr


def test_it_runs_as_a_program_and_stdout_is_the_json_alone() -> None:
    command = [sys.executable, "-m", "rag_rerank", "probe", "-c", "lexical", "--kind", "typo", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout)["reports"][0]["all"]["total"] == 15
