"""The trace: what people read and what machines keep."""

from rag_rerank import Cascade, Fallback, RateLimited, Stage, Trace
from rag_rerank.testing import ScriptedReranker


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


def test_a_path_tells_every_place_of_a_candidate() -> None:
    first = ScriptedReranker(name="first", by_text={"a": 3.0, "b": 2.0})
    second = ScriptedReranker(name="second", by_text={"a": 1.0, "b": 5.0})
    ranking = Cascade(stages=(Stage(reranker=first), Stage(reranker=second, depth=2))).rerank("q", ["a", "b", "c", ""])
    assert ranking.trace.path("0") == (("first", 1, 3.0, None), ("second", 2, 1.0, None))
    assert ranking.trace.path("2") == (("first", 3, 0.0, None),)
    assert ranking.trace.path("3") == (("first", None, None, "blank text"),)
    assert ranking.trace.path("nobody") == ()


def test_a_trace_survives_its_dictionary() -> None:
    trace = ScriptedReranker().rerank("q", ["a", " "]).trace
    assert Trace.from_dict(trace.to_dict()) == trace
