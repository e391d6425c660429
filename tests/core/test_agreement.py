"""Agreement of two rerankers: measures on known numbers, and the checks built on them, on real graphs."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rag_rerank import InputError, ModelLoadError, build
from rag_rerank.agreement import agreement, compare
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.local.samples import QUERIES, TEXTS
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.diagnostics.check import check
from rag_rerank.diagnostics.sample_texts import SampleQuestion
from rag_rerank.testing import ScriptedReranker


def test_compared_is_a_mean_over_queries_and_the_worst_over_pairs() -> None:
    result = compare([[1.0, 2.0], [100.0, -100.0]], [[1.0, 2.5], [-100.0, 100.0]])
    assert (result.queries, result.pairs, result.tau) == (2, 4, 0.0)
    assert (result.moved, result.relative, result.spread) == (200.0, 2.0, 200.0)
    small = compare([[1000.0, 0.5]], [[1000.01, 0.51]])
    assert small.relative == pytest.approx(0.01) and small.moved == pytest.approx(0.01)
    with pytest.raises(InputError, match="no scored texts"):
        compare([[]], [[]])


def test_agreement_of_two_rerankers_leaves_out_what_has_no_score() -> None:
    first, second = build("lexical"), build({"type": "lexical", "b": 0.0})
    texts = ["K2 is tall", " ", "the lake is deep and the lake is cold and wide", "K2 K2"]
    same, other = (agreement(first, b, [("K2 or the lake", texts)]) for b in (first, second))
    assert (same.pairs, same.tau, same.moved, same.top_10) == (3, 1.0, 0.0, 1.0)
    assert other.moved > 0
    assert json.loads(json.dumps(other.to_dict()))["queries"] == 1


def sample() -> list[SampleQuestion]:
    return [SampleQuestion(query, TEXTS) for query in QUERIES]


def test_the_embedded_models_optimised_graph_gives_its_own_logits_and_int8_the_same_best() -> None:
    result = check(OnnxReranker(model="embedded"), sample())
    assert result.passed and result.written_anew and result.reason == ""
    assert result.model == "late-minilm-v1"
    assert 0 < result.int8.moved < 0.2 * result.int8.spread
    assert result.int8.tau > 0.7
    assert len(result.own_time.seconds) == len(result.fp32_time.seconds) == len(result.int8_time.seconds) == 5


def test_what_plain_embedded_runs_gives_the_logits_of_its_own_graph() -> None:
    result = check(LateInteractionReranker(), sample())
    assert result.passed and result.written_anew
    assert result.optimised.pairs == (len(TEXTS) - 1) * len(QUERIES)  # the last text does not fit beside a query
    assert 0 < result.int8.moved < 0.01 < result.int8.spread
    with pytest.raises(InputError, match="no text fits"):
        check(LateInteractionReranker(), [SampleQuestion("q", ("lake " * 512,))])


@pytest.mark.parametrize(
    ("family", "written_anew"), [("bert", True), ("xlm-roberta", True), ("deberta", False), ("modernbert", False)]
)
def test_each_architecture_gives_the_logits_of_its_own_graph(tmp_path: Path, family: str, written_anew: bool) -> None:
    pytest.importorskip("sentence_transformers", reason="export needs the torch extra")
    from support import tiny_checkpoints

    from rag_rerank.export import export

    folder = export(str(tiny_checkpoints.checkpoint(family)), tmp_path / "exported").path
    texts = [*tiny_checkpoints.DOCUMENTS, *tiny_checkpoints.LINES]
    result = check(
        OnnxReranker(model=str(folder)), [SampleQuestion(query, tuple(texts)) for query in tiny_checkpoints.QUERIES]
    )
    assert result.passed
    assert result.written_anew is written_anew
    assert written_anew or result.reason.startswith("runs its own graph: no faster graph is known")
    assert result.int8.moved > 0 and result.int8.tau > 0.5
    print(f"{family}: {result.to_dict()}")


class FakeBench:
    """Returns logits that differ with the graph, in hardly any time."""

    def __init__(self, shift: float) -> None:
        self.moved = shift
        self.ran: list[tuple[bool, str, str]] = []

    def engine(self, reranker: Any) -> Any:
        return SimpleNamespace(notes=("runs its own graph: it is unknown",))

    def run(self, reranker: Any, question: SampleQuestion) -> tuple[float, Sequence[float]]:
        self.ran.append((reranker.optimize, reranker.precision, question.query))
        shift = self.moved if reranker.optimize and reranker.precision == "fp32" else 0.0
        return 1.0 if reranker.optimize else 2.0, [float(len(text)) / 100 + shift for text in question.texts]

    def keep(self, rerankers: Any) -> None:
        """Keep nothing."""


@pytest.mark.parametrize(("shift", "passes"), [(5e-5, True), (2e-4, False)])
def test_an_optimised_graph_that_differs_beyond_rounding_does_not_pass(shift: float, passes: bool) -> None:
    result = check(OnnxReranker(model="embedded"), [SampleQuestion("q", ("a", "bb", " "))], bench=FakeBench(shift))
    assert result.passed is passes
    assert result.to_dict()["passed"] is passes
    assert (result.written_anew, result.reason) == (False, "runs its own graph: it is unknown")
    assert result.optimised.pairs == 2  # the blank text is left out
    assert result.to_dict()["speed"] == {"optimised": 2.0, "int8": 1.0}


def test_all_graphs_score_all_queries_and_are_timed_on_the_first() -> None:
    bench, shares = FakeBench(0), []
    check(OnnxReranker(model="embedded"), sample(), bench=bench, progress=shares.append)
    graphs = [(False, "fp32"), (True, "fp32"), (True, "int8")]
    assert bench.ran[:6] == [(*graph, query) for graph in graphs for query in QUERIES]
    assert bench.ran[6:12] == [(*graph, QUERIES[0]) for graph in (*graphs, *reversed(graphs))]
    assert shares == sorted(shares) and shares[-1] == 1


def test_texts_are_checked_as_a_reranker_reads_them() -> None:
    bench = FakeBench(0)
    check(OnnxReranker(model="embedded"), [("a \ud800", ["b \udfff", "\u200b"]), ("\u200b", ["c"])], bench=bench)
    assert {query for *_, query in bench.ran} == {"a \ufffd"}


def test_nothing_to_check_and_no_model_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one text"):
        check(OnnxReranker(model="embedded"), [SampleQuestion("q", (" ",))])
    with pytest.raises(ModelLoadError, match="no ONNX file"):
        (tmp_path / "m").mkdir()
        check(OnnxReranker(model=str(tmp_path / "m")), sample())


def test_agreement_works_for_any_reranker() -> None:
    up, down = (ScriptedReranker(by_text=order) for order in ({"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 1.0}))
    assert agreement(up, down, [("q", ["a", "b"])]).tau == -1
