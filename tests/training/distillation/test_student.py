"""Students by shape: the layers that they keep, their size, and their random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import tiny_checkpoints

from rag_rerank import build
from rag_rerank.errors import ConfigError, ModelLoadError
from rag_rerank.training.distillation.student import Student, plan_student, spread_layers


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoints.bert(tmp_path_factory.mktemp("base") / "bert")


def stored(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    weights: dict[str, Any] = load_file(folder / "model.safetensors")
    return weights


@pytest.mark.parametrize(
    ("available", "count", "layers"),
    [
        (12, 6, (0, 2, 4, 7, 9, 11)),
        (12, 4, (0, 4, 7, 11)),
        (6, 3, (0, 3, 5)),
        (6, 2, (0, 5)),
        (6, 1, (0,)),
        (6, 6, (0, 1, 2, 3, 4, 5)),
    ],
)
def test_layers_are_kept_evenly_from_the_first_to_the_last(available: int, count: int, layers: tuple[int, ...]) -> None:
    assert spread_layers(available, count) == layers


def test_a_student_of_all_layers_is_the_base_again(base: Path, tmp_path: Path) -> None:
    whole = plan_student("2x32", base=base)
    assert whole.layers == (0, 1) and not whole.random
    checkpoint = whole.write(tmp_path / "student")
    pairs = (tiny_checkpoints.QUERIES[0], list(tiny_checkpoints.DOCUMENTS))
    with build(f"torch:{base}") as one, build(f"torch:{checkpoint}") as other:
        before = [(hit.id, hit.raw_score) for hit in one.rerank(*pairs)]
        assert [(hit.id, hit.raw_score) for hit in other.rerank(*pairs)] == before


def test_a_shallow_student_has_the_layer_it_names_and_loads(base: Path, tmp_path: Path) -> None:
    student = plan_student("1x32", base=base)
    checkpoint = student.write(tmp_path / "student")
    own, theirs = stored(checkpoint), stored(base)
    assert not any("layer.1." in name for name in own)
    for name, weight in own.items():
        assert (weight == theirs[name]).all(), name
    assert student.parameters == sum(weight.numel() for weight in own.values())
    with build(f"torch:{checkpoint}") as model:
        assert len(model.rerank("warm", ["a dragon", "a lake"])) == 2


def test_a_student_of_another_width_is_random_says_so_and_is_the_same_for_the_same_seed(
    base: Path, tmp_path: Path
) -> None:
    student = plan_student("2x64", base=base)
    assert student.random and "weights are random" in str(student)
    one, again, other = (stored(student.write(tmp_path / str(i), seed=seed)) for i, seed in enumerate((1, 1, 2)))
    assert all((one[name] == again[name]).all() for name in one)
    assert any((one[name] != other[name]).any() for name in one)
    assert json.loads((tmp_path / "0" / "config.json").read_text())["num_attention_heads"] == 1
    with build(f"torch:{tmp_path / '0'}") as model:
        assert len(model.rerank("warm", ["a dragon"])) == 1


def test_a_base_without_a_head_gets_one(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    bare = tmp_path / "bare"
    bare.mkdir()
    for file in base.iterdir():
        (bare / file.name).write_bytes(file.read_bytes())
    weights = {name.removeprefix("bert."): weight for name, weight in stored(base).items() if name.startswith("bert.")}
    save_file(weights, bare / "model.safetensors", metadata={"format": "pt"})
    checkpoint = stored(plan_student("1x32", base=bare).write(tmp_path / "student"))
    name = "bert.encoder.layer.0.output.dense.weight"
    assert (checkpoint[name] == stored(base)[name]).all()
    assert checkpoint["classifier.weight"].shape == (1, 32)


def test_the_size_is_known_before_anything_is_written(base: Path) -> None:
    student = plan_student("1x32", base=base)
    fp32, int8 = student.megabytes
    assert fp32 == pytest.approx(4 * student.parameters / 1e6)
    assert fp32 / 4 < int8 < fp32 / 3
    assert "MB in int8" in str(student) and "layers 0 of" in str(student)


def test_a_folder_is_used_as_it_is(base: Path, tmp_path: Path) -> None:
    student = plan_student(str(base))
    assert (student.is_new, student.write(tmp_path / "student")) == (False, base)
    assert not (tmp_path / "student").exists()


def test_an_impossible_student_is_refused_with_the_reason(base: Path, tmp_path: Path) -> None:
    gte = tiny_checkpoints.modernbert(tmp_path / "gte")
    for shape, folder, kind, words in (
        ("3x32", base, ConfigError, "student: .* has 2 layers"),
        ("3x100", base, ConfigError, "student: the width must be a multiple of 64"),
        ("3x384", None, ConfigError, "base: 3x384 is made from a base model"),
        ("tiny", None, ConfigError, "student: 'tiny' is neither a folder nor a shape"),
        ("1x32", tmp_path, ModelLoadError, "is not a checkpoint"),
        ("1x32", gte, ConfigError, "base: .*'modernbert'"),
    ):
        with pytest.raises(kind, match=words):
            plan_student(shape, base=folder)


def test_damaged_or_missing_weights_are_refused_when_the_student_is_written(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    student: Student = plan_student("1x32", base=base)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_bytes((base / "config.json").read_bytes())
    (damaged / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match="cannot be read"):
        plan_student("1x32", base=damaged).write(tmp_path / "a")
    weights = stored(base)
    del weights["bert.encoder.layer.0.output.dense.weight"]
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match="lacks weights"):
        plan_student("1x32", base=damaged).write(tmp_path / "b")
    assert student.layers == (0,)
