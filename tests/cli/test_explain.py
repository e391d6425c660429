"""``rag-rerank explain`` on the terminal, as JSON and as a page."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from rag_rerank import build
from rag_rerank.cli import app

QUERY, TEXT = "how high is K2?", "K2 is 8,611 m high."


def run(*args: str, code: int = 0, stdin: str | bytes | None = None) -> str:
    result = CliRunner().invoke(app, ["explain", *args], input=stdin)
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


def test_it_prints_the_explanation_of_the_default_reranker() -> None:
    output = run("-q", QUERY, TEXT)
    assert output.strip() == str(build("late_interaction:embedded").explain(QUERY, TEXT))  # type: ignore[attr-defined]
    assert run("-q", QUERY, "-", stdin=f"\ufeff{TEXT}") == output


def test_json_has_the_similarities_on_request() -> None:
    (plain,) = json.loads(run("-q", QUERY, "--json", TEXT))["explanations"]
    assert plain["text"] == TEXT and "similarities" not in plain
    (whole,) = json.loads(run("-q", QUERY, "--json", "--similarities", TEXT))["explanations"]
    assert len(whole["similarities"]) == len(whole["query_tokens"])
    assert "--similarities needs --json" in run("-q", QUERY, "--similarities", TEXT, code=2)


def test_each_reranker_in_a_config_is_explained_and_a_page_is_written(tmp_path: Path) -> None:
    config, page = tmp_path / "rerank.yaml", tmp_path / "why.html"
    config.write_text(
        "type: fallback\nmembers:\n- {type: late_interaction, name: first}\n"
        "- {type: late_interaction, precision: int8, name: second}\n- lexical\n"
    )
    output = run("-c", str(config), "-q", QUERY, "--html", str(page), TEXT)
    assert "first: " in output and "second: " in output and "written" in output
    html = page.read_text(encoding="utf-8")
    assert html.count("Why this score") == 2 and "<script" not in html
    stdout = run("-c", str(config), "-q", QUERY, "--html", str(page), "--json", TEXT)
    assert len(json.loads(stdout)["explanations"]) == 2


def test_what_cannot_be_explained_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    assert "use late_interaction:embedded" in run("-r", "lexical", "-q", QUERY, TEXT, code=2)
    assert "blank" in run("-q", QUERY, " ", code=2)
    assert "not UTF-8" in run("-q", QUERY, "-", code=2, stdin=b"\xc3(")
    missing = tmp_path / "none" / "why.html"
    assert "none" in run("-q", QUERY, "--html", str(missing), TEXT, code=2)
