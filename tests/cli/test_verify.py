"""``rag-rerank verify``, and the verification of ``pull``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.api.rerank_server import RerankServer
from support.api.scripted_replies import Answer

from rag_rerank.backends.local.verification import record
from rag_rerank.cli import app


@pytest.fixture(autouse=True)
def assets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("assets")
    monkeypatch.setattr(record, "cache_folder", lambda name: folder / name)
    yield folder


def run(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=answer)


def config(place: Path, node: Any) -> str:
    file = place / "rerank.json"
    file.write_text(json.dumps(node))
    return str(file)


def test_a_model_that_gives_its_scores_is_verified() -> None:
    result = run("verify", "embedded")
    assert result.exit_code == 0, result.stderr
    first, heading, *rows = result.stdout.splitlines()
    assert ":embedded (late-minilm-v1): verified; 17 of 17 values agree, within 0.0" in first
    assert heading.split() == ["#", "query", "text", "published", "here", "allowed", "from"]
    assert len(rows) == 18 and rows[-1].startswith("[1] https://")
    assert all(len(line) <= 120 for line in result.stdout.splitlines())


def test_json_has_all_numbers() -> None:
    result = run("verify", "embedded", "--json")
    content = json.loads(result.stdout)
    assert (result.exit_code, content["schema"]) == (0, 1)
    (model,) = content["models"]
    assert model["status"] == "verified" and model["causes"] == [] and model["wrong_orders"] == []
    assert len(model["scores"]) == 17
    for row in model["scores"]:
        low, high = row["range"]
        assert row["agrees"] is True and low <= row["here"] <= high
        assert abs(row["here"] - row["published"]) == pytest.approx(row["difference"])


def test_a_disagreement_is_an_error_with_both_numbers(tmp_path: Path) -> None:
    rows = [{"query": "How tall is K2?", "texts": ["8,611 m", "yes"], "values": [3.25, -9.5], "kind": "logit"}]
    file = tmp_path / "scores.json"
    file.write_text(json.dumps({"scores": rows}))
    result = run("verify", "embedded", "--scores", str(file))
    assert result.exit_code == 1
    assert "DIFFERS" in result.stdout
    error = next(line for line in result.stderr.splitlines() if line.startswith("Error: "))
    assert "published 3.25, here " in error and "published -9.5, here " in error and "Likely: " in error
    assert result.stderr.splitlines()[-1].endswith("how-to/verify/")
    assert json.loads(run("verify", "embedded", "--scores", str(file), "--json").stdout)["models"][0]["causes"]


def test_each_model_of_a_config_is_verified_once(tmp_path: Path) -> None:
    node = {"type": "fallback", "members": ["embedded", {"type": "cascade", "stages": [{"reranker": "lexical"}]}]}
    node["members"].append({"type": "windows", "reranker": "embedded"})  # type: ignore[attr-defined]
    result = run("verify", config(tmp_path, node))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("verified; ") == 1


def test_a_model_that_cannot_be_loaded_does_not_hide_the_others(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    node = {"type": "fallback", "members": ["embedded", {"type": "onnx", "model": str(empty)}]}
    result = run("verify", config(tmp_path, node))
    assert result.exit_code == 1
    assert "verified; " in result.stdout and "FAILED, ModelLoadError" in result.stdout
    assert "Error: " in result.stderr
    statuses = [row["status"] for row in json.loads(run("verify", config(tmp_path, node), "--json").stdout)["models"]]
    assert statuses == ["verified", "failed"]
    assert run("verify", f"onnx:{empty}").exit_code == 2


def test_what_runs_no_model_has_nothing_to_verify(tmp_path: Path) -> None:
    result = run("verify", "lexical")
    assert result.exit_code == 2 and "runs no model" in result.stderr
    node = {"type": "fallback", "members": ["embedded", {"type": "onnx", "model": "embedded"}, "minilm"]}
    result = run("verify", config(tmp_path, node), "--scores", config(tmp_path, {"scores": []}))
    assert result.exit_code == 2


def test_a_provider_is_asked_only_after_the_estimate_and_a_yes(
    tmp_path: Path, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CO_API_KEY", "Zq81mVtB4xHsW9nLr2Yd")
    price = {"per_thousand_search_units": 2.0}
    file = config(tmp_path, {"type": "cohere", "base_url": rerank_server.url, "price": price})
    refused = run("verify", file, answer="n\n")
    assert refused.exit_code == 1 and rerank_server.received == []
    assert "would score 9 texts in a few requests, which may be billed: about $0.006" in refused.stderr
    asked = run("verify", file, "--yes")
    assert asked.exit_code == 0, asked.stderr
    assert len(rerank_server.received) == 3
    assert "no published score is known; asked plain questions, 6 of 6 orders are right" in asked.stdout


def test_a_provider_that_answers_in_another_order_differs(
    tmp_path: Path, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CO_API_KEY", "Zq81mVtB4xHsW9nLr2Yd")

    def turned(request: Any) -> Answer:
        count = len(request.body["documents"])
        rows = [{"index": i, "relevance_score": i / count} for i in range(count)]
        return Answer(200, body={"results": rows, "meta": {"billed_units": {"search_units": 1}}})

    rerank_server.rule = turned
    result = run("verify", config(tmp_path, {"type": "cohere", "base_url": rerank_server.url}), "--yes")
    assert result.exit_code == 1
    assert "must score more than text" in result.stdout and "Likely: " in result.stderr


def test_a_server_of_ones_own_without_a_key_is_asked_at_once(tmp_path: Path, rerank_server: RerankServer) -> None:
    file = config(tmp_path, {"type": "http", "dialect": "tei", "base_url": rerank_server.base("tei")})
    result = run("verify", file)
    assert result.exit_code == 0, result.stderr
    assert "billed" not in result.stderr


def test_pull_verifies_what_it_pulled() -> None:
    result = run("pull", "embedded")
    assert result.exit_code == 0
    assert "verified; 17 of 17 values agree" in result.stderr
    assert "verified" not in run("pull", "embedded", "--no-verify").stderr
