"""``rag-rerank doctor``: what it prints, and its exit codes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rag_rerank.cli import app
from rag_rerank.diagnostics.health import report
from rag_rerank.diagnostics.health.finding import Finding
from rag_rerank.diagnostics.health.report import HealthReport

FINDINGS = {
    "ok": Finding("python", "ok", "rag-rerank", "0.1.0 on Python 3.13"),
    "warning": Finding("threads", "warning", "OMP_NUM_THREADS", "it starts 64 threads on 2 cores", "set it to 2"),
    "problem": Finding("key", "problem", "cohere", "it needs a key", "set CO_API_KEY", "how-to/providers/"),
}


def run(levels: list[str], *options: str, patch: pytest.MonkeyPatch) -> tuple[int, str]:
    shown = HealthReport({"A heading": tuple(FINDINGS[level] for level in levels)})
    patch.setattr(report, "examine", lambda spec, subject: shown)
    result = CliRunner().invoke(app, ["doctor", *options], catch_exceptions=False)
    return result.exit_code, result.stdout


@pytest.mark.parametrize(
    ("levels", "code", "strict_code"),
    [(["ok"], 0, 0), (["ok", "warning"], 0, 1), (["warning", "problem"], 1, 1), ([], 0, 0)],
)
def test_the_exit_code_says_whether_something_is_wrong(
    levels: list[str], code: int, strict_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(levels, patch=monkeypatch)[0] == code
    assert run(levels, "--strict", patch=monkeypatch)[0] == strict_code
    assert run(levels, "--json", patch=monkeypatch)[0] == code


def test_each_finding_has_its_place_its_advice_and_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    _, output = run(["ok", "problem"], patch=monkeypatch)
    assert output.splitlines() == [
        "A heading",
        "  ok      rag-rerank: 0.1.0 on Python 3.13",
        "  problem cohere: it needs a key",
        "          To do: set CO_API_KEY",
        "          More: https://rag-rerank.readthedocs.io/en/stable/how-to/providers/",
        "",
        "1 problem, 0 warnings, 1 ok",
    ]


def test_the_json_object_has_its_schema_and_each_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads(run(["warning"], "--json", patch=monkeypatch)[1])
    assert (content["schema"], content["healthy"], content["problems"], content["warnings"]) == (1, True, 0, 1)
    (finding,) = content["findings"]
    assert (finding["section"], finding["check"], finding["advice"]) == ("A heading", "threads", "set it to 2")


def test_the_bundle_has_the_versions_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "report.json"
    _, output = run(["ok"], "--bundle", str(file), patch=monkeypatch)
    assert output.endswith(f"{file}: written\n")
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["versions"]["numpy"] and content["config"] is None
    assert CliRunner().invoke(app, ["doctor", "--bundle", str(tmp_path / "no" / "x.json")]).exit_code == 2
