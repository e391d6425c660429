"""Reprs of results: short whatever their size, and nothing else about the classes changes."""

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

from rag_rerank import Candidate, Cascade, Hit, Ranking, Scores, Stage, Trace, build, pack
from rag_rerank.evaluation import Judged, JudgedQuery
from rag_rerank.execution.plan import Call, PlanResult
from rag_rerank.records.build import record_of
from rag_rerank.testing import ScriptedReranker

MANY = [
    Candidate(f"doc-{i}", f"text {i} " * 200, metadata={f"key {j}": "v" * 500 for j in range(50)}) for i in range(999)
]


class Unfriendly:
    def __repr__(self) -> str:
        raise RuntimeError("not today")


def rank(texts: Any) -> Ranking:
    first, second = ScriptedReranker(name="first"), ScriptedReranker(name="second")
    return Cascade(stages=(Stage(reranker=first), Stage(reranker=second))).rerank("q" * 9000, texts)


def large_values() -> dict[str, Any]:
    ranking = rank(MANY)
    judged = tuple(JudgedQuery(id=str(i), text="q" * 999, candidates=tuple(MANY), grades={}) for i in range(9))
    trace = Trace(step="s" * 999, notes=("note " * 99,) * 99, children=(ranking.trace,) * 99, failures=("f" * 99,) * 99)
    return {
        "ranking": ranking,
        "hit": ranking[0],
        "candidate": MANY[0],
        "trace": trace,
        "scores": Scores([0.5] * 5000, "sigmoid", unscored=dict.fromkeys(range(500), "x" * 200)),
        "context": pack(ranking, top_k=500),
        "dropped": pack(ranking, top_k=1).dropped[0],
        "judged": Judged(name="n", queries=judged),
        "call": Call(ScriptedReranker(), "q" * 9999, tuple(MANY)),
        "plan result": PlanResult(ranking.hits, ranking.scale),
        "metadata": Candidate("a", "b", metadata={"deep": [[[[["x" * 900] * 900] * 900]]], "array": np.arange(9999)}),
    }


@pytest.mark.parametrize("name", list(large_values()))
def test_a_repr_is_short_whatever_its_size(name: str) -> None:
    value = large_values()[name]
    assert len(repr(value)) < 2500
    assert repr(value).startswith(type(value).__name__ + "(")


def test_a_repr_counts_what_it_leaves_out() -> None:
    text = repr(rank(["a", "b", "c", "d", "e"]))
    assert "… 2 more" in text
    assert "id='0'" in text
    assert "'qqq" in text
    assert "q" * 100 not in text


def test_small_values_are_shown_whole() -> None:
    assert repr(Candidate("a", "K2 is high.", metadata={"n": 1})) == (
        "Candidate(id='a', text='K2 is high.', metadata={'n': 1})"
    )
    assert repr(Candidate("a", "x", metadata={"t": (1,), "l": [], "s": {2}})) == (
        "Candidate(id='a', text='x', metadata={'t': (1,), 'l': [], 's': {2}})"
    )


def test_objects_of_the_caller_cannot_break_a_repr() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert "<Unfriendly>" in repr(Candidate("a", "b", metadata={"bad": Unfriendly()}))
    assert repr(Candidate("a", "b", metadata={"loop": loop}))
    assert "\ud800" not in repr(Candidate("a", "\ud800\x1b[31m"))
    assert "\x1b" not in repr(Candidate("a", "\ud800\x1b[31m"))


def test_values_are_compared_pickled_and_written_as_before() -> None:
    ranking = rank(["b", "a", " "])
    for twin in (pickle.loads(pickle.dumps(ranking)), copy.deepcopy(ranking), Ranking.from_dict(ranking.to_dict())):
        assert twin == ranking
        assert hash(twin) == hash(ranking)
        assert json.dumps(twin.to_dict()) == json.dumps(ranking.to_dict())
    names = {"query", "hits", "scale", "trace", "usage", "degraded", "substituted", "answerable"}
    assert set(ranking.to_dict()) == names
    assert ranking != ranking.top(1)


def test_a_context_prints_as_its_text() -> None:
    context = pack(rank(["K2 is high.", "Lake Garda is deep."]))
    assert str(context) == f"{context}" == context.text == "K2 is high.\n\nLake Garda is deep."
    assert repr(context).startswith("Context(")


def test_a_record_has_a_short_repr() -> None:
    from rag_rerank.execution.protocols import CallStarted

    ranking = rank(MANY)
    call = CallStarted(ScriptedReranker(), "q", tuple(MANY))
    record = record_of(call, ranking, None, id="1", time="", seconds=1.0, texts=True)
    assert len(repr(record)) < 2500
    assert len(repr(call)) < 2500
    assert len(repr(record.candidates[0])) < 2500


def test_a_hit_shows_its_score_and_text() -> None:
    assert repr(Hit(1, 0.123456789, -1.5, Candidate("a", "K2"))) == (
        "Hit(rank=1, score=0.123457, raw_score=-1.5, candidate=Candidate(id='a', text='K2'))"
    )


def test_a_reranker_still_answers_in_a_notebook() -> None:
    assert "embedded" in repr(build("embedded"))
