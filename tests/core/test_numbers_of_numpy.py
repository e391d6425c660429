"""Scalars of numpy are taken as what they are, and never come out again."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

import rag_rerank
from rag_rerank import (
    Breaker,
    Candidate,
    Cascade,
    ConfigError,
    Deadline,
    Ensemble,
    InputError,
    Limits,
    Packing,
    Price,
    RetryPolicy,
    Stage,
    build,
    pack,
    to_config,
)
from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.execution.observers import tagged
from rag_rerank.testing import ScriptedReranker


class Whole:
    """Anything that says it is a whole number."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def scalars(value: Any) -> Iterator[Any]:
    """Yield everything inside a result."""
    if is_dataclass(value) and not isinstance(value, type):
        for f in fields(value):
            yield from scalars(getattr(value, f.name))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from scalars(key)
            yield from scalars(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from scalars(inner)
    else:
        yield value


def assert_plain(value: Any) -> None:
    assert not [item for item in scalars(value) if type(item).__module__ == "numpy"]


WHOLE = [np.int64(2), np.int8(2), np.uint32(2), np.array(2), Whole(2)]


@pytest.mark.parametrize("two", WHOLE, ids=lambda two: type(two).__name__)
def test_a_cutoff_may_be_any_whole_number(two: Any) -> None:
    ranking = ScriptedReranker().rerank("q", ["a", "b", "c"], top_k=two)
    assert len(ranking) == 2
    assert len(ranking.top(two)) == 2
    assert len(pack(ranking, top_k=two)) == 2


@pytest.mark.parametrize("wrong", [np.float64(2.0), np.True_, np.int64(0), np.array([1, 2]), "2", 2.5, np.str_("2")])
def test_a_cutoff_that_is_no_whole_number_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="top_k must be a whole number"):
        ScriptedReranker().rerank("q", ["a", "b", "c"], top_k=wrong)
    with pytest.raises(ConfigError, match="top_k: must be a whole number"):
        Packing(top_k=wrong)


def test_texts_ids_scores_and_times_of_numpy_come_out_plain() -> None:
    candidates = [Candidate(np.str_("a"), np.str_("K2"), np.float32(0.5)), np.str_("Garda")]
    ranking = ScriptedReranker().rerank(np.str_("q"), candidates, top_k=np.int64(2), timeout=np.float32(60))
    assert_plain(ranking)
    assert_plain(ranking.origin)
    assert {type(hit.text) for hit in ranking} | {type(hit.id) for hit in ranking} | {type(ranking.query)} == {str}
    with pytest.raises(InputError, match="timeout"):
        ScriptedReranker().rerank("q", ["a"], timeout=np.float32("nan"))


async def test_an_async_call_takes_them_too() -> None:
    ranking = await ScriptedReranker().arerank(np.str_("q"), [np.str_("a"), "b"], top_k=np.int16(1))
    assert len(ranking) == 1
    assert_plain(ranking)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cascade(stages=(Stage(reranker=build("lexical"), depth=np.int64(5)),)),
        lambda: Deadline(reranker=build("lexical"), seconds=np.float32(1.5)),
        lambda: Ensemble(members=(build("lexical"), build("embedded")), k=np.int64(60)),
        lambda: Ensemble(members=(build("lexical"), build("embedded")), weights=(np.float32(1), np.int64(2))),
        lambda: build({"type": "lexical", "k1": np.float64(0.9)}),
        lambda: CohereReranker(model="rerank-v3.5", limits=Limits(concurrency=np.int64(3))),
        lambda: CohereReranker(model="rerank-v3.5", retry=RetryPolicy(attempts=np.int64(3), budget=np.float32(5))),
        lambda: CohereReranker(model="rerank-v3.5", breaker=Breaker(failures=np.int8(3))),
        lambda: CohereReranker(model="rerank-v3.5", price=Price(per_thousand_search_units=np.float32(2))),
    ],
)
def test_a_config_holds_plain_numbers(make: Any) -> None:
    reranker = make()
    assert_plain(to_config(reranker))
    json.dumps(to_config(reranker))
    assert b"numpy" not in pickle.dumps(reranker)
    assert reranker.identity


def test_options_of_packing_are_plain() -> None:
    packing = Packing(
        top_k=np.int64(2),
        max_tokens=Whole(50),
        min_score=np.float32(0.5),
        min_score_scale="sigmoid",
        diversity=np.int8(1),
    )
    assert packing.to_dict() == {
        "top_k": 2,
        "max_tokens": 50,
        "min_score": 0.5,
        "min_score_scale": "sigmoid",
        "diversity": 1,
    }
    assert_plain(packing.to_dict())


def test_tags_of_numpy_are_recorded_as_plain_values(tmp_path: Any) -> None:
    from rag_rerank.records import read

    with rag_rerank.recording(tmp_path / "r.jsonl"), tagged(n=np.int64(3), x=np.float32(0.5), t=np.str_("a")):
        ScriptedReranker().rerank("q", ["a"])
    (record,) = read(tmp_path / "r.jsonl")
    assert record.tags == {"n": 3, "x": 0.5, "t": "a"}


@pytest.mark.parametrize("value", ["5", None, [1], b"5"])
def test_a_number_that_is_none_is_a_config_error(value: Any) -> None:
    with pytest.raises(ConfigError, match="seconds must be a number"):
        Deadline(reranker=build("lexical"), seconds=value)


def test_an_id_that_is_a_number_says_how_to_write_it() -> None:
    with pytest.raises(InputError, match=r"candidate id must be a non-empty string, got 7; write str\(7\)"):
        Candidate(7, "K2")  # type: ignore[arg-type]
