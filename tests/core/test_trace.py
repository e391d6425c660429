"""The trace: its drawing and its dictionary."""

import rag_rerank
from rag_rerank import Cached, Candidate, Cascade, Coverage, Fallback, RateLimited, Stage, Trace
from rag_rerank.backends.local import catalogue
from rag_rerank.execution.calls import PointwiseCall
from rag_rerank.testing import ScriptedReranker
from rag_rerank.trace import StepScore


def test_the_tree_is_drawn_with_its_failures_inside() -> None:
    down = ScriptedReranker(name="down", error=RateLimited("slow down"))
    spare = ScriptedReranker(name="spare")
    whole = Cascade(
        stages=(Stage(reranker=ScriptedReranker(name="first")), Stage(reranker=Fallback(members=(down, spare))))
    )
    lines = whole.rerank("q", ["a", "b", " "]).trace.render().splitlines()
    shape = [
        line.split("  ")[0] if "─" not in line else line.split("─ ")[0] + "─ " + line.split("─ ")[1].split("  ")[0]
        for line in lines
    ]
    assert [line for line in shape if "stage" not in line and line != "│"] == [
        "cascade",
        "├─ first",
        "└─ fallback",
        "   ├─ down",
        "   └─ spare",
    ]
    assert any("failed: RateLimited: slow down" in line for line in lines)
    assert any("1 not scored" in line for line in lines)


def test_a_path_has_every_rank_of_a_candidate() -> None:
    first = ScriptedReranker(name="first", by_text={"a": 3.0, "b": 2.0})
    second = ScriptedReranker(name="second", by_text={"a": 1.0, "b": 5.0})
    ranking = Cascade(stages=(Stage(reranker=first), Stage(reranker=second, depth=2))).rerank("q", ["a", "b", "c", ""])
    assert ranking.trace.path("0") == (
        StepScore("first", 1, 3.0, None, "unbounded"),
        StepScore("second", 2, 1.0, None, "unbounded"),
    )
    assert ranking.trace.path("2") == (StepScore("first", 3, 0.0, None, "unbounded"),)
    assert ranking.trace.path("3") == (StepScore("first", None, None, "blank text", "unbounded"),)
    assert ranking.trace.path("nobody") == ()


def test_a_trace_survives_its_dictionary() -> None:
    trace = ScriptedReranker().rerank("q", ["a", " "]).trace
    assert Trace.from_dict(trace.to_dict()) == trace


def test_a_path_tells_which_scores_came_from_a_cache_and_how_much_was_read() -> None:
    cached = Cached(reranker=rag_rerank.build("embedded"))
    cached.rerank("q", ["a", "b"])
    ranking = cached.rerank("q", ["c", " ", "b", "b", "c"])
    assert sorted(ranking.trace.cached) == ["2", "3", "4"]
    assert {id: visits[0].cached for id, visits in ranking.trace.paths().items()} == {
        "0": False,
        "1": False,
        "2": True,
        "3": True,
        "4": True,
    }
    assert ranking.trace.path("0")[0].coverage == Coverage(1, 1)
    assert Trace.from_dict(ranking.trace.to_dict()) == ranking.trace


def test_a_cache_before_a_cache_tells_what_either_had() -> None:
    inner = Cached(reranker=ScriptedReranker())
    inner.rerank("q", ["a"])
    trace = Cached(reranker=inner).rerank("q", ["b", "a", "a", "c"]).trace
    assert sorted(trace.cached) == ["1", "2"]
    assert trace.usage.cached == 2


def test_a_trace_names_model_revision_and_prompt() -> None:
    causal = rag_rerank.build({"type": "torch", "model": "mxbai"})
    assert causal.template_id == "mxbai-v2"
    assert Cached(reranker=causal).template_id == "mxbai-v2"
    assert rag_rerank.build({"type": "torch", "model": "minilm"}).template_id is None
    row = catalogue.row_of("minilm")
    assert rag_rerank.build("minilm").model_id == f"{row.id}@{row.revision[:12]}"
    trace = PointwiseCall(causal, "q", (Candidate("a", "b"),)).trace()
    assert (trace.kind, trace.template) == ("torch", "mxbai-v2")
    assert trace.model == causal.model_id
