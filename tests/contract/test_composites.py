"""The contract of rerankers, for composites with deadlines or several members."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.calibration_maps import STEPS, answerability_map_for, map_for
from support.slow_rerankers import Timed

from rag_rerank import (
    Answerable,
    BackendUnavailable,
    Calibrated,
    Deadline,
    Decay,
    Ensemble,
    Fallback,
    Guarded,
    Hedge,
    Recorded,
    RelevantSpans,
    Reranker,
    Template,
)
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.testing import RerankerContract, ScriptedReranker


class TestDeadline(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return Deadline(reranker=LexicalReranker(), seconds=30.0)


class TestDeadlineThatRaises(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return Deadline(reranker=LexicalReranker(), seconds=30.0, on_late="error")


class TestPartialDeadline(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self) -> Reranker:
        scripted = ScriptedReranker(by_text=dict.fromkeys(self.texts[:3], 2.5), answers_on="sigmoid")
        return Deadline(reranker=scripted, seconds=30.0, on_late="partial")


class TestRelevantSpans(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return RelevantSpans(reranker=LexicalReranker(), by=LexicalReranker(b=0.75), top_k=3)


class TestRelevantSpansByTheSameReranker(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return RelevantSpans(reranker=LexicalReranker())


class TestRelevantSpansWhoseScorerIsDown(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self) -> Reranker:
        down = ScriptedReranker(name="down", error=BackendUnavailable("gone"))
        return RelevantSpans(reranker=LexicalReranker(), by=down)


class TestTemplate(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return Template(reranker=LexicalReranker(), text="{n}: {text}")


class TestDecay(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self) -> Reranker:
        by_text = {text: float(i) for i, text in enumerate(self.texts)}
        scripted = ScriptedReranker(by_text=by_text, answers_on="sigmoid")
        return Decay(reranker=scripted, field="date", half_life=30.0, missing="floor")


class TestDecayInAConfig(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        calibrated = Calibrated(reranker=LexicalReranker(), map=map_for(LexicalReranker()))
        return Decay(reranker=calibrated, field="date", half_life=30.0)


class TestGuarded(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self) -> Reranker:
        return Guarded(reranker=ScriptedReranker(by_text={text: float(-i) for i, text in enumerate(self.texts)}))


class TestRecorded(RerankerContract):
    @pytest.fixture
    def reranker(self, tmp_path: Path) -> Iterator[Reranker]:
        with Recorded(reranker=LexicalReranker(), file=str(tmp_path / "traces.jsonl")) as reranker:
            yield reranker


class TestHedge(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self) -> Reranker:
        by_text = {text: float(i) for i, text in enumerate(self.texts)}
        return Hedge(members=(Timed(by_text=by_text), Timed(by_text=by_text)), after=30.0)


class TestHedgeWhoseFirstIsDown(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self) -> Reranker:
        by_text = {text: float(i) for i, text in enumerate(self.texts)}
        down = Timed(name="down", error=BackendUnavailable("gone"))
        return Hedge(members=(down, Timed(by_text=by_text)), after=30.0)


@pytest.mark.parametrize(
    "options",
    [
        {"fusion": "combmnz"},
        {"fusion": "combsum", "normalise": "z-score"},
        {"fusion": "weighted", "weights": (1.0, 2.0), "normalise": "none"},
    ],
    ids=str,
)
class TestEnsembleOfScores(RerankerContract):
    @pytest.fixture
    def reranker(self, options: dict[str, object]) -> Reranker:
        return Ensemble(members=(LexicalReranker(), LexicalReranker(b=0.75)), **options)  # type: ignore[arg-type]


class TestEnsembleOfRanks(RerankerContract):
    """With members that know no ties, because a rank among equals is the order of arrival."""

    in_registry = False

    @pytest.fixture
    def reranker(self) -> Reranker:
        up = {text: float(i) for i, text in enumerate(self.texts)}
        down = {text: -float(i * i) for i, text in enumerate(self.texts)}
        members = (ScriptedReranker(by_text=up), ScriptedReranker(by_text=down))
        return Ensemble(members=members, weights=(2.0, 1.0), k=3.0)


class TestEnsembleWithoutAMember(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self) -> Reranker:
        down = ScriptedReranker(name="down", error=BackendUnavailable("gone"))
        return Ensemble(members=(LexicalReranker(), down), fusion="combsum")


class TestCalibrated(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return Calibrated(reranker=LexicalReranker(), map=map_for(LexicalReranker()))


class TestAnswerable(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return Answerable(reranker=LexicalReranker(), map=answerability_map_for(LexicalReranker()))


class TestCalibratedInSteps(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return Calibrated(reranker=LexicalReranker(), map=map_for(LexicalReranker(), **STEPS))


class TestCalibratedWhoseFirstIsDown(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self) -> Reranker:
        down = ScriptedReranker(name="down", error=BackendUnavailable("gone"))
        inner = Fallback(members=(down, LexicalReranker()))
        return Calibrated(reranker=inner, map=map_for(inner))


class TestAllOfThemInside(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        near = Deadline(reranker=LexicalReranker(b=0.75), seconds=30.0)
        fused = Ensemble(members=(LexicalReranker(), near), fusion="combmnz")
        return Deadline(reranker=Fallback(members=(fused, LexicalReranker())), seconds=60.0)
