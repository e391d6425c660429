"""The folder of a trained model: every backend loads it, they agree, and it appears whole or not at all."""

from __future__ import annotations

import errno
import json
import shutil
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support import tiny_checkpoints
from support.tiny_checkpoints import DOCUMENTS, LINES, QUERIES

import rag_rerank.export
import rag_rerank.export.compact_weights
import rag_rerank.export.onnx_folder
import rag_rerank.training.model_folder
from rag_rerank import Calibrated, CalibrationWarning, Candidate, ConfigError, ModelLoadError, Reranker, build
from rag_rerank.backends.local.samples import TOLERANCE
from rag_rerank.backends.local.torch_models.checkpoint import quiet
from rag_rerank.evaluation import Judged, JudgedQuery
from rag_rerank.export import export
from rag_rerank.training.model_card.card import Card
from rag_rerank.training.model_folder import TrainedModel, complete

CARD = Card(name="our-reranker", licence="Apache-2.0", languages=("en",))
RUN = {"seed": 7, "steps": [{"loss": 0.5}]}
WINDOW = 100


@cache
def saved(family: str) -> Path:
    """Return a checkpoint as sentence-transformers saves one, with what a trainer leaves beside it."""
    from sentence_transformers import CrossEncoder

    source = tiny_checkpoints.checkpoint(family)
    folder = source.with_name(f"{family}-saved")
    with quiet():
        CrossEncoder(str(source), device="cpu", max_length=WINDOW).save_pretrained(str(folder))
    (folder / "trainer_state.json").write_text('{"best_model_checkpoint": "/home/jo/checkpoint-3"}')
    (folder / "training.json").write_text('{"run": "another"}')
    (folder / "optimizer.pt").write_bytes(b"state")
    (folder / "checkpoint-1").mkdir()
    (folder / "checkpoint-1" / "config.json").write_text("{}")
    return folder


@cache
def judged(family: str, queries: int = 24) -> Judged:
    """Return judged queries of which the model knows something: the better half by its score, with some mistakes."""
    chance = Random(0)
    words = [word for line in LINES for word in line.split()]
    texts = [[" ".join(chance.choices(words, k=9)) for _ in range(10)] for _ in range(queries)]
    questions = [" ".join(chance.choices(words, k=4)) for _ in range(queries)]
    with build(f"torch:{saved(family)}") as reranker:
        scores = [reranker.score(query, rows).values for query, rows in zip(questions, texts, strict=True)]
    middle = sorted(score for row in scores for score in row)[5 * queries]
    return Judged(
        name="held out",
        fingerprint="0" * 64,
        queries=tuple(
            JudgedQuery(
                id=f"q{q}",
                text=questions[q],
                candidates=tuple(Candidate(f"q{q}d{i}", text) for i, text in enumerate(texts[q])),
                grades={f"q{q}d{i}": int((score > middle) != (chance.random() < 0.2)) for i, score in enumerate(row)},
            )
            for q, row in enumerate(scores)
        ),
    )


@pytest.fixture(scope="module", params=["bert", "ettin"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def result(family: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainedModel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rag_rerank.export.compact_weights, "_SMALLEST", 1)
        out = tmp_path_factory.mktemp(family) / "models" / "mine"
        yield complete(saved(family), out, calibration=judged(family), card=CARD, run=RUN)


def logits(reranker: str) -> list[float]:
    with build(reranker, on_unreadable="score") as loaded:
        return [value for query in QUERIES for value in loaded.score(query, DOCUMENTS).values]


def files(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_the_folder_contains_all_forms_and_no_files_of_the_trainer(result: TrainedModel, family: str) -> None:
    small = ("config.json", "tokenizer.json", "tokenizer_config.json", "rag_rerank.json", "calibration.json")
    modules = ("1_Pooling/", "2_Dense/", "3_LayerNorm/", "4_Dense/") if family == "ettin" else ()
    assert files(result.path) == {
        *small,
        *(f"int8/{name}" for name in (*small, "model.onnx")),
        *("onnx/model.onnx", "model.safetensors", "README.md", "training.json"),
        *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
        *(f"{module}config.json" for module in modules),
        *(f"{module}model.safetensors" for module in modules[1:]),
    }
    assert list(result.path.parent.iterdir()) == [result.path]
    assert json.loads((result.path / "training.json").read_text()) == RUN


def test_the_weights_are_the_checkpoints(result: TrainedModel, family: str) -> None:
    for file in saved(family).rglob("*.safetensors"):
        assert (result.path / file.relative_to(saved(family))).read_bytes() == file.read_bytes()


def test_every_backend_loads_it_and_they_agree(result: TrainedModel) -> None:
    expected = logits(f"torch:{result.path}")
    assert max(expected) - min(expected) > 2
    assert logits(f"onnx:{result.path}") == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE)
    rounded = logits(f"onnx:{result.path}/int8")
    assert rounded == pytest.approx(expected, abs=0.5)
    assert rounded != pytest.approx(expected, abs=TOLERANCE)


def test_it_scores_as_the_checkpoint_did(result: TrainedModel, family: str) -> None:
    assert logits(f"torch:{result.path}") == pytest.approx(logits(f"torch:{saved(family)}"), abs=1e-6)


def test_sentence_transformers_gives_the_same_logits(result: TrainedModel) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    with quiet():
        model = CrossEncoder(str(result.path), device="cpu")
    short = [document for document in DOCUMENTS if len(document) < 200]
    pairs = [(query, document) for query in QUERIES for document in short]
    predictions = model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False).tolist()
    with build(f"onnx:{result.path}", on_unreadable="score") as loaded:
        expected = [value for query in QUERIES for value in loaded.score(query, short).values]
    assert predictions == pytest.approx(expected, abs=TOLERANCE, rel=TOLERANCE)


def test_the_int8_form_is_what_an_export_in_int8_makes(
    result: TrainedModel, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rag_rerank.export.compact_weights, "_SMALLEST", 1)
    report = export(str(saved(family)), tmp_path / "int8", weights="int8")
    assert files(tmp_path / "int8") | {"calibration.json"} == files(result.path / "int8")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "int8" / name).read_bytes() == (result.path / "int8" / name).read_bytes()
    assert logits(f"onnx:{tmp_path / 'int8'}") == logits(f"onnx:{result.path}/int8")
    assert result.card.measured is not None
    assert result.card.measured.differences["int8"] == report.max_difference
    origin = json.loads((result.path / "int8" / "rag_rerank.json").read_text())
    assert (origin["source"], origin["licence"], origin["weights"]) == ("our-reranker", "Apache-2.0", "int8")


def test_the_maps_belong_to_the_folder_wherever_it_is_put(result: TrainedModel, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(result.path, tmp_path / "elsewhere"))
    query, candidates = QUERIES[0], DOCUMENTS[:4]
    for folder in (result.path, result.path / "int8", copy, copy / "int8"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ranking = build(
                {"type": "calibrated", "reranker": f"onnx:{folder}", "map": str(folder / "calibration.json")}
            ).rerank(query, candidates)
        assert (ranking.scale, ranking.trace.notes) == ("calibrated", ())
        assert 0 < min(hit.score for hit in ranking) < max(hit.score for hit in ranking) < 1


def test_the_code_in_the_card_runs(result: TrainedModel, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(result.path.parent)
    code = (result.path / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert "calibrated" in code
    exec(code.replace("DIR", "./mine"), {})
    (first, *_), *others = (line.split() for line in capsys.readouterr().out.splitlines())
    assert 0 < float(first) < 1
    assert len(others) == 1


def test_a_map_of_another_form_still_warns(result: TrainedModel) -> None:
    for spec in (f"torch:{result.path}", f"onnx:{result.path}/int8"):
        with pytest.warns(CalibrationWarning, match=r"fitted on onnx:our-reranker, model our-reranker, on"):
            Calibrated(reranker=build(spec), map=str(result.path / "calibration.json")).rerank(
                QUERIES[0], DOCUMENTS[:2]
            )


def test_records_beside_a_model_are_no_part_of_it_and_its_tokenizer_is(result: TrainedModel, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(result.path, tmp_path / "copy"))

    def identities() -> list[str]:
        return [build(f"{spec}:{folder}").identity for spec in ("onnx", "torch")]

    before = identities()
    with build(f"onnx:{folder}") as loaded:
        assert isinstance(loaded, Reranker)
        assert loaded.identity == before[0]
        (folder / "calibration.json").write_text("{}")
        (folder / "training.json").unlink()
        loaded.warm_up()
    assert identities() == before
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": WINDOW}))
    assert not set(identities()) & set(before)


def test_the_card_contains_the_measurements_and_no_path(result: TrainedModel, family: str) -> None:
    import safetensors.torch

    readme = (result.path / "README.md").read_text()
    measured = result.card.measured
    assert measured is not None
    assert measured.window == WINDOW
    assert measured.parameters == sum(
        tensor.numel()
        for file in saved(family).rglob("*.safetensors")
        for tensor in safetensors.torch.load_file(file).values()
    )
    assert measured.differences["onnx"] <= TOLERANCE < measured.differences["int8"]
    assert set(measured.bytes) == {name for name in files(result.path) if name.endswith((".onnx", ".safetensors"))}
    assert all(size == (result.path / name).stat().st_size for name, size in measured.bytes.items())
    assert result.calibration is not None
    assert result.card.calibration == result.calibration.fitted
    assert "240 judged candidates of 24 queries (held out)" in readme
    texts = [
        result.path / name for name in ("README.md", "calibration.json", "rag_rerank.json", "int8/rag_rerank.json")
    ]
    for file in texts:
        for place in (str(result.path.parent), str(saved(family).parent), ".rag-rerank-draft"):
            assert place not in file.read_text(), f"{place} in {file.name}"


@pytest.mark.parametrize(
    ("calibration", "why"),
    [(None, "there were no judged queries"), (4, "too little to calibrate on")],
)
def test_without_enough_judgments_the_card_says_why_there_is_no_map(
    tmp_path: Path, calibration: int | None, why: str
) -> None:
    few = calibration and judged("bert", calibration)
    result = complete(saved("bert"), tmp_path / "mine", calibration=few, card=CARD)
    assert result.calibration is None
    assert not {name for name in files(result.path) if "calibration" in name or "training" in name}
    assert f"There is no `calibration.json`: {why}" in (result.path / "README.md").read_text()


def test_a_model_is_loaded_and_traced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    calls = []
    for owner, name in ((torch.onnx, "export"), (rag_rerank.export.onnx_folder, "CrossEncoderModel")):
        real = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *args, real=real, name=name, **options: (calls.append(name), real(*args, **options))[1]
        )
    complete(saved("bert"), tmp_path / "mine", card=CARD)
    assert sorted(calls) == ["CrossEncoderModel", "export"]


def test_weights_too_large_for_one_file_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx
    import torch

    trace = torch.onnx.export

    def scattered(model: object, inputs: object, file: str, **options: object) -> None:
        trace(model, inputs, file, **options)
        onnx.save_model(onnx.load(file), file, save_as_external_data=True, location="w", size_threshold=0)

    monkeypatch.setattr(torch.onnx, "export", scattered)
    result = complete(saved("bert"), tmp_path / "mine", card=CARD)
    assert {file.name for file in (result.path / "onnx").iterdir()} == {"model.onnx", "model.onnx_data"}
    assert result.card.measured is not None
    assert "onnx/model.onnx_data" in result.card.measured.bytes
    assert logits(f"onnx:{result.path}") == pytest.approx(logits(f"torch:{result.path}"), abs=TOLERANCE, rel=TOLERANCE)
    assert [file.name for file in (result.path / "int8").glob("model*")] == ["model.onnx"]


def test_an_existing_folder_and_an_impossible_record_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rag_rerank.training.model_folder, "write_forms", lambda *_, **__: pytest.fail("began to work"))
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(ConfigError, match="exists already"):
        complete(saved("bert"), tmp_path, card=CARD)
    for record in ({"loss": float("nan")}, {"path": Path("x")}):
        with pytest.raises(ConfigError, match=r"^run: the record of the run has no JSON form"):
            complete(saved("bert"), tmp_path / "mine", card=CARD, run=record)
    assert files(tmp_path) == {"kept.txt"}


@pytest.mark.parametrize("where", ["write_forms", "copy_checkpoint", "calibrate", "render"])
def test_a_full_disk_leaves_the_checkpoint_and_nothing_else(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoint = Path(shutil.copytree(saved("bert"), tmp_path / "checkpoint"))
    before = {file: file.read_bytes() for file in checkpoint.rglob("*") if file.is_file()}
    monkeypatch.setattr(rag_rerank.training.model_folder, where, full)
    with pytest.raises(ConfigError, match=r"cannot write .*mine: No space left on device; nothing is left of it"):
        complete(checkpoint, tmp_path / "out" / "mine", calibration=judged("bert"), card=CARD)
    assert list(tmp_path.iterdir()) == [checkpoint]
    assert {file: file.read_bytes() for file in checkpoint.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("kilobytes", [8, 40, 80])
def test_a_write_that_the_system_refuses_is_an_error_wherever_it_happens(kilobytes: int, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    sizes = sorted(file.stat().st_size // 1000 for file in saved("bert").glob("*.*"))
    assert sizes[-1] > 100, "the weights are to be larger than the limits here"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1000, limits[1]))
    try:
        with pytest.raises(ConfigError, match=r"cannot write .*mine: File too large"):
            complete(saved("bert"), tmp_path / "mine", card=CARD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_trained_cross_encoder_is_refused_by_its_path(tmp_path: Path) -> None:
    torn = Path(shutil.copytree(saved("bert"), tmp_path / "torn"))
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    for source, why in (
        (torn, "cannot be loaded"),
        (tiny_checkpoints.checkpoint("bert", head=False), "would be random"),
        (tiny_checkpoints.checkpoint("qwen3"), "only cross-encoders"),
        (tmp_path / "nowhere", "no such folder"),
    ):
        with pytest.raises(ModelLoadError, match=why) as caught:
            complete(source, tmp_path / "mine", card=CARD)
        assert str(source) in str(caught.value)
    assert list(tmp_path.iterdir()) == [torn]
