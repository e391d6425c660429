"""Which rerankers pass which contrasts, and what the report says."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest

from rag_rerank import Cascade, Coverage, Ensemble, PointwiseReranker, Scale, Scores, Stage, TransientError
from rag_rerank.evaluation.probes import KindResult, ProbeReport, probe, suite
from rag_rerank.testing import ScriptedReranker

KINDS = ["negation", "numbers"]
ORACLE = ScriptedReranker(by_text={text: -float(i) for c in suite() for i, text in enumerate(c.passages)})
ANTI_ORACLE = ScriptedReranker(by_text={text: float(i) for c in suite() for i, text in enumerate(c.passages)})
CONSTANT = ScriptedReranker()


def test_an_oracle_passes_everything() -> None:
    report = probe(ORACLE)
    assert [(row.passed, row.total) for row in report.kinds] == [(15, 15)] * 19
    assert report.missed == ()
    assert report.all.rate == 1


@pytest.mark.parametrize(
    "reranker",
    [ANTI_ORACLE, CONSTANT, Ensemble(members=(ORACLE, ANTI_ORACLE))],
    ids=["anti-oracle", "constant", "two that contradict each other"],
)
def test_a_wrong_or_constant_reranker_passes_nothing(reranker: ScriptedReranker) -> None:
    report = probe(reranker)
    assert report.all.passed == 0
    assert len(report.missed) == report.all.total == len(suite())


def test_a_tie_differs_from_a_wrong_order() -> None:
    assert {row.margin for row in probe(CONSTANT).missed} == {0.0}
    assert all(row.margin is not None and row.margin < 0 for row in probe(ANTI_ORACLE).missed)


def test_passages_go_in_worst_first_and_each_contrast_is_one_call() -> None:
    reranker = ScriptedReranker()
    probe(reranker, kinds=KINDS)
    assert reranker.calls == [(c.query, tuple(reversed(c.passages))) for c in suite(KINDS)]


def test_one_mistake_is_counted_in_its_kind_and_shown_with_its_scores() -> None:
    wrong = suite(["numbers"])[4]
    assert len(wrong.worse) == 2
    by_text = {**ORACLE.by_text, wrong.worse[1]: 1.5}
    report = probe(ScriptedReranker(by_text=by_text), kinds=KINDS)
    assert [(row.kind, row.passed, row.total) for row in report.kinds] == [("negation", 15, 15), ("numbers", 14, 15)]
    (missed,) = report.missed
    assert (missed.contrast, missed.scores, missed.margin) == (wrong, (0.0, -1.0, 1.5), -1.5)


def test_the_worse_passages_of_an_ordered_contrast_must_stand_in_order() -> None:
    chain = suite(["word-sense"])[0]
    assert chain.query == "python pet care" and chain.ordered
    near, far = chain.worse
    swapped = {**ORACLE.by_text, near: -2.0, far: -1.0}
    (missed,) = probe(ScriptedReranker(by_text=swapped), kinds=["word-sense"]).missed
    assert missed.contrast == chain


def test_a_passage_without_a_score_may_stand_below_but_two_of_them_are_a_tie() -> None:
    def best_only(first: ScriptedReranker) -> Cascade:
        return Cascade(stages=(Stage(reranker=first), Stage(reranker=ORACLE, depth=1)))

    assert probe(best_only(ORACLE), kinds=KINDS).missed == ()
    missed = probe(best_only(CONSTANT), kinds=KINDS).missed
    assert len(missed) == 30
    assert {row.margin for row in missed} == {None}
    assert all(row.scores[0] is None for row in missed)


@dataclass(frozen=True, kw_only=True)
class Nearsighted(PointwiseReranker):
    """Reads the first five words of a text."""

    kind: ClassVar[str] = "nearsighted"

    @property
    def scale(self) -> Scale:
        return "unbounded"

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        lengths = [len(text.split()) for text in texts]
        return Scores([0.0] * len(texts), "unbounded", coverage=[Coverage(n, min(n, 5)) for n in lengths])


@pytest.mark.filterwarnings("ignore::rag_rerank.TruncationWarning")
def test_passages_that_were_cut_are_counted() -> None:
    cut = sum(len(text.split()) > 5 for c in suite(KINDS) for text in c.passages)
    assert probe(Nearsighted(), kinds=KINDS).truncated == cut > 0
    assert probe(CONSTANT, kinds=KINDS).truncated is None
    assert probe("lexical", kinds=KINDS).truncated == 0


def test_a_member_that_is_missing_is_reported() -> None:
    broken = ScriptedReranker(error=TransientError("down"))
    assert probe(Ensemble(members=(ORACLE, broken)), kinds=KINDS).degraded == 30
    assert probe(ORACLE, kinds=KINDS).degraded == 0


def test_an_error_of_the_reranker_comes_out() -> None:
    with pytest.raises(TransientError, match="down"):
        probe(ScriptedReranker(error=TransientError("down")))


def test_progress_rises_to_one() -> None:
    shares: list[float] = []
    probe(ORACLE, kinds=KINDS, progress=shares.append)
    assert shares == sorted(shares) and len(shares) == 30 and shares[-1] == 1


def test_a_report_survives_json() -> None:
    report = probe("lexical", kinds=KINDS)
    data = json.loads(json.dumps(report.to_dict()))
    assert ProbeReport.from_dict(data) == report
    assert data["schema"] == "rag_rerank.probes/1"
    assert data["suite"] == 1
    assert data["all"]["total"] == 30
    assert (data["name"], data["label"], data["scale"]) == ("lexical", "lexical", "unbounded")


@pytest.mark.parametrize(
    ("passed", "low", "high"),
    [(0, 0.0, 0.2039), (8, 0.3012, 0.7519), (12, 0.5481, 0.9295), (15, 0.7961, 1.0)],
)
def test_intervals_are_wilsons(passed: int, low: float, high: float) -> None:
    interval = KindResult(kind="x", passed=passed, total=15, chance=0.5).interval
    assert interval == pytest.approx((low, high), abs=5e-5)
    z, rate = 1.959964, passed / 15
    for end in interval:  # each end is a rate from which the observed one is z standard errors away
        if 1e-6 < end < 1 - 1e-6:
            assert abs(rate - end) / math.sqrt(end * (1 - end) / 15) == pytest.approx(z, abs=1e-4)
