"""What agrees with a published number, and the record of a verified model, which never outlives what it is about."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rag_rerank
import rag_rerank.backends.local.settings
from rag_rerank import build
from rag_rerank.backends.local import settings
from rag_rerank.backends.local.verification import record
from rag_rerank.backends.local.verification.reference_scores import published_models, published_scores
from rag_rerank.backends.local.verification.tolerance import Range, allowed_range, as_published, raw_score_of
from rag_rerank.diagnostics.verification import verify

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"


@pytest.fixture(autouse=True)
def assets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The records of each test alone; graphs are those of the session."""
    folder = tmp_path_factory.mktemp("assets")
    monkeypatch.setattr(record, "cache_folder", lambda name: folder / name)
    yield folder


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "embedded"
    shutil.copytree(EMBEDDED, folder)
    return folder


def notes(spec: Any, **options: Any) -> list[str]:
    with build({"type": "onnx", "model": str(spec), **options}) as reranker:
        trace = reranker.rerank("how tall is K2?", ["K2 is 8,611 m high."]).trace
    return [note for note in trace.notes if note.startswith("verified")]


def verified(spec: Any, **options: Any) -> None:
    with build({"type": "onnx", "model": str(spec), **options}) as reranker:
        assert verify(reranker, published_scores("embedded")).status == "verified"


# tolerance


@pytest.mark.parametrize(
    ("value", "kind", "precision", "options", "low", "high"),
    [
        (8.92, "logit", "fp32", {"rounding": 0.005}, 8.91, 8.93),  # half a digit, and 0.005
        (8.607138, "logit", "fp32", {}, 8.602, 8.612),
        (9.6875, "logit", "bf16", {}, 9.082, 10.293),  # a step of 1/16, 0.24, and a 32nd of the logit
        (0.5, "probability", "fp32", {"rounding": 0.1}, -0.4105, 0.4105),
        (0.5, "probability", "fp32", {"rounding": 0.1, "shift": 4.5}, 4.0895, 4.9105),
        (1.0, "probability", "bf16", {"rounding": 5e-6}, 4.454, math.inf),
        (0.0, "probability", "fp32", {"rounding": 0.05}, -math.inf, -2.939),
        (30.0, "maxsim", "fp32", {"rounding": 0.0}, 29.969, 30.031),
        (8.0, "logit", "fp32", {"here": "int8"}, 7.40, 8.60),
        (-8.0, "logit", "fp32", {"relative": 0.1, "rounding": 0.0, "noise": 0.0}, -8.8, -7.2),
    ],
)
def test_a_published_number_is_a_range_of_raw_scores(
    value: float, kind: Any, precision: Any, options: Any, low: float, high: float
) -> None:
    score_range = allowed_range(value, kind, precision, **options)
    assert score_range.low == pytest.approx(low, abs=0.06) and score_range.high == pytest.approx(high, abs=0.06)
    if "rounding" in options:
        assert score_range.low == pytest.approx(low, abs=0.011) and score_range.high == pytest.approx(high, abs=0.011)
    assert score_range.holds(raw_score_of(value, kind, options.get("shift", 0.0)))


def test_a_number_shows_as_it_was_published() -> None:
    for x in (-800.0, -3.0, 0.0, 5.0, 800.0):
        assert as_published(x, "logit") == x
        assert as_published(x, "probability") == pytest.approx(1 / (1 + math.exp(-min(max(x, -700), 700))))
    assert raw_score_of(as_published(2.5, "probability", 4.5), "probability", 4.5) == pytest.approx(2.5)
    assert Range(0, 1).meets(Range(1, 2)) and not Range(0, 1).meets(Range(1.1, 2))
    assert (Range(0, 1).distance(3), Range(0, 1).distance(-1), Range(0, 1).distance(0.5)) == (2, 1, 0)


# the data


def test_each_published_score_names_its_source_and_short_texts() -> None:
    models = published_models()
    assert {"late-minilm-v1", "cross-encoder/ms-marco-MiniLM-L6-v2", "BAAI/bge-reranker-v2-m3"} <= set(models)
    for model in models:
        for row in published_scores(model):
            assert row.source.startswith("https://"), model
            assert all(len(text) <= 160 for text in (row.query, *row.texts)), model
            assert row.kind != "probability" or all(0 <= value <= 1 for value in row.values)
    assert published_scores("minilm") == published_scores("cross-encoder/ms-marco-MiniLM-L-6-v2") != ()
    assert published_scores("someone/unknown") == ()


def test_each_source_has_a_licence_and_each_pair_and_source_is_used() -> None:
    file = Path(record.__file__).with_name("reference_scores.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    assert {row["source"] for row in content["scores"]} == set(content["sources"])
    assert {row["pairs"] for row in content["scores"]} == set(content["pairs"])
    assert all(source["licence"] and source["url"] for source in content["sources"].values())


# the record


def test_the_trace_says_verified_after_a_verification_and_not_before(copy: Path) -> None:
    assert notes(copy) == []
    verified(copy)
    (note,) = notes(copy)
    assert note.startswith("verified: 17 reference scores agree, within 0.0")
    with build(f"onnx:{copy}") as reranker:
        ranking = asyncio.run(reranker.arerank("how tall is K2?", ["K2 is 8,611 m high."]))
    assert note in ranking.trace.notes
    with build(str(copy)) as automatic:
        assert verify(automatic, published_scores("embedded")).status == "verified"
    with build(str(copy)) as automatic:
        trace = automatic.rerank("how tall is K2?", ["K2 is 8,611 m high."]).trace
    assert any(line.startswith("verified: 17 ") for line in trace.notes)


def test_settings_that_decide_nothing_about_loading_keep_it(copy: Path) -> None:
    verified(copy)
    same = {"name": "mine", "batch_tokens": 256, "workers": 1, "on_overflow": "error", "on_unreadable": "score"}
    assert notes(copy, **same) != []


@pytest.mark.parametrize("options", [{"precision": "int8"}, {"max_length": 128}])
def test_another_setting_is_another_model(copy: Path, options: dict[str, Any]) -> None:
    verified(copy)
    assert notes(copy, **options) == []


def test_a_changed_file_is_another_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED, folder)
    verified(folder)
    assert notes(folder) != []
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 500}))
    assert notes(folder) == []


def test_another_release_of_the_package_or_of_a_library_is_another_model(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified(copy)
    with monkeypatch.context() as patch:
        patch.setattr(settings, "__version__", "99")
        assert notes(copy) == []
    with monkeypatch.context() as patch:
        patch.setattr(settings, "library_versions", lambda: {"onnxruntime": "99"})
        assert notes(copy) == []
    assert notes(copy) != []


def test_a_verification_that_fails_takes_the_record_away(copy: Path) -> None:
    from dataclasses import replace

    verified(copy)
    wrong = [replace(row, values=tuple(value + 3 for value in row.values)) for row in published_scores("embedded")]
    with build(f"onnx:{copy}") as reranker:
        assert verify(reranker, wrong).status == "differs"
    assert notes(copy) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "model": "x"}'])
def test_a_record_that_cannot_be_read_is_none(copy: Path, content: str, assets: Path) -> None:
    verified(copy)
    (file,) = (assets / "verified").iterdir()
    file.write_text(content)
    assert notes(copy) == []


def test_a_record_that_cannot_be_written_is_told(copy: Path, assets: Path) -> None:
    (assets / "verified").write_text("a file, where a folder should be")
    with build(f"onnx:{copy}") as reranker:
        outcome = verify(reranker, published_scores("embedded"))
    assert outcome.status == "verified" and outcome.not_recorded != ""
    assert notes(copy) == []
