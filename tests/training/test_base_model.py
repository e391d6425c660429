"""The models that a training can start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.training.runs import QUICK
from support.training.toy_language import checkpoint, examples

from rag_rerank import build
from rag_rerank.errors import ModelLoadError
from rag_rerank.training.distillation.student import plan_student
from rag_rerank.training.model_card.card import Card
from rag_rerank.training.train import train

TEXTS = ["ladmo limmo numsu", "delka lunka bimka", "gimti torsu"]


def test_a_model_of_late_interaction_is_trained_on_and_all_its_forms_agree(tmp_path: Path) -> None:
    base, settings = checkpoint(tmp_path / "base", late=True), replace(QUICK, learning_rate=1e-2)
    run = train(examples(32), tmp_path / "out", base=str(base), card=Card(name="x"), settings=settings)
    assert run.new_weights == ()
    scores = []
    for name in (f"torch:{base}", *(f"{kind}:{tmp_path / 'out'}" for kind in ("torch", "onnx"))):
        with build(name) as model:
            scores.append({hit.id: hit.raw_score for hit in model.rerank("babka", TEXTS)})
    assert scores[2] == pytest.approx(scores[1], abs=1e-4)
    assert scores[1] != pytest.approx(scores[0], abs=1e-3)


def test_a_model_of_late_interaction_can_be_a_student_as_it_is(tmp_path: Path) -> None:
    student = plan_student(str(checkpoint(tmp_path / "base", late=True)))
    assert not student.is_new and student.parameters > 0


def test_the_packaged_model_is_refused_with_a_way_to_one_that_can_be_trained(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"ships as ONNX only, so name a checkpoint .* minilm"):
        train(examples(4), tmp_path / "out", base="embedded", card=Card(name="x"), settings=QUICK)
