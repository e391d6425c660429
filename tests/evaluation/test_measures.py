"""Measures by query equal those of pytrec_eval, of ir-measures, and of calculation by hand."""

import math
import warnings

import ir_measures
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from rag_rerank import ConfigError, InputError
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.evaluation.measures import MEASURES, TOP_3, check_measures, per_query


def judged(grades: dict[str, dict[str, int]], relevant: int = 1) -> Judged:
    queries = (JudgedQuery(id=id, text=id, candidates=(), grades=by) for id, by in grades.items())
    return Judged(name="by hand", queries=tuple(queries), relevant=relevant)


def test_a_small_example_comes_out_as_calculated_by_hand() -> None:
    values = per_query(judged({"q": {"a": 2, "b": 1, "c": 0, "e": 1}}), {"q": ["x", "b", "c", "a", "y", "z"]})
    gained = 1 / math.log2(3) + 2 / math.log2(5)
    assert values["nDCG@10"]["q"] == pytest.approx(gained / (2 + 1 / math.log2(3) + 1 / math.log2(4)))
    assert values["nDCG@3"]["q"] == pytest.approx(1 / math.log2(3) / (2 + 1 / math.log2(3) + 1 / math.log2(4)))
    assert values["RR@10"]["q"] == 0.5
    assert values["R@10"]["q"] == pytest.approx(2 / 3)
    assert values["P@5"]["q"] == 0.4
    assert values["Success@3"]["q"] == 1.0
    assert tuple(values) == MEASURES and TOP_3 in MEASURES
    assert all(type(value) is float for by in values.values() for value in by.values())


DOCUMENTS = [f"d{i}" for i in range(14)]


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, dict[str, int]], dict[str, list[str]]]:
    """Draw judgments (graded, some negative) and orders in which some documents have no judgment."""
    grades, orders = {}, {}
    for i in range(draw(st.integers(1, 4))):
        grades[f"q{i}"] = draw(st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(-1, 3), min_size=1))
        orders[f"q{i}"] = draw(st.lists(st.sampled_from(DOCUMENTS), unique=True))
    return grades, orders


@pytest.mark.filterwarnings("ignore:.*removed in Python 3.14:DeprecationWarning")  # of the reference
@given(cases(), st.integers(1, 3))
def test_every_value_is_that_of_pytrec_eval_and_of_ir_measures(
    case: tuple[dict[str, dict[str, int]], dict[str, list[str]]], relevant: int
) -> None:
    grades, orders = case
    mine = per_query(judged(grades, relevant), orders, ["nDCG@10", "nDCG@3", "R@5", "P@5", "Success@3", "RR", "RR@10"])
    run = {query: {id: float(100 - i) for i, id in enumerate(order)} for query, order in orders.items() if order}
    names = {"ndcg_cut_10", "ndcg_cut_3", "recall_5", "P_5", "success_3", "recip_rank"}
    theirs = pytrec_eval.RelevanceEvaluator(grades, names, relevance_level=relevant).evaluate(run)
    ours = {
        "nDCG@10": "ndcg_cut_10",
        "nDCG@3": "ndcg_cut_3",
        "R@5": "recall_5",
        "P@5": "P_5",
        "Success@3": "success_3",
        "RR": "recip_rank",
    }
    for query, order in orders.items():
        for name, other in ours.items():
            assert mine[name][query] == pytest.approx(theirs[query][other] if order else 0.0, abs=1e-12)
    for name, cut in {"RR@10": f"RR(rel={relevant})@10", "nDCG@10": "nDCG@10", "P@5": f"P(rel={relevant})@5"}.items():
        for metric in ir_measures.iter_calc([ir_measures.parse_measure(cut)], grades, run):
            assert mine[name][metric.query_id] == pytest.approx(metric.value, abs=1e-12)


def test_the_order_counts_and_not_the_ids_that_would_break_ties() -> None:
    one_relevant = judged({"q": {"m": 1}})
    for place in range(10):
        order = [f"{letter}{place}" for letter in "zyxwvutsr"]
        order.insert(place, "m")
        assert per_query(one_relevant, {"q": order}, ["RR@10"])["RR@10"]["q"] == pytest.approx(1 / (place + 1))


def test_every_judged_query_counts_also_without_an_order_or_a_relevant_document() -> None:
    three = judged({"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 0}})
    assert per_query(three, {"a": ["x"], "b": [], "c": ["x"]}, ["nDCG@10"])["nDCG@10"] == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert per_query(three, {}, ["R@10"])["R@10"] == {"a": 0.0, "b": 0.0, "c": 0.0}


def test_grades_far_below_zero_are_not_relevant_and_break_nothing() -> None:
    spam = {f"s{i}": -2 for i in range(10)}
    grades = {"a": {**spam, "x": 1, "y": 3}, "b": spam, "c": {"s0": -2}, "d": {"x": 1}}
    orders = {key: ["s0", "x", "s1", "y"] for key in grades}
    for _ in range(200):  # pytrec_eval, given these grades, crashed every few times
        values = per_query(judged(grades), orders, ["RR@10", "nDCG@10", "P@5"])
    assert values["RR@10"] == {"a": 0.5, "b": 0.0, "c": 0.0, "d": 0.5}
    assert values["P@5"] == pytest.approx({"a": 0.4, "b": 0.0, "c": 0.0, "d": 0.2})


def test_a_measure_of_two_grades_takes_the_collections_cut_unless_it_names_its_own() -> None:
    two = judged({"q": {"a": 1, "b": 2}}, relevant=2)
    values = per_query(two, {"q": ["a", "b"]}, ["RR@10", "RR(rel=1)@10", "P@1"])
    assert (values["RR@10"]["q"], values["RR(rel=1)@10"]["q"], values["P@1"]["q"]) == (0.5, 1.0, 0.0)


def test_an_order_is_looked_at_as_a_whole_where_a_measure_has_no_cutoff() -> None:
    order = [f"n{i}" for i in range(49)] + ["m"]
    assert per_query(judged({"q": {"m": 1}}), {"q": order}, ["RR", "P@5"])["RR"]["q"] == pytest.approx(1 / 50)


def test_names_are_read_as_ir_measures_reads_them() -> None:
    assert check_measures(["NDCG@10", "nDCG@10", "MRR@10", "Recall@5"]) == ("nDCG@10", "RR@10", "R@5")


@pytest.mark.parametrize(
    "name",
    ["AP", "MAP@100", "P(rel=2)@5", "P( rel = 2 )@5", "Precision@3", "Rprec", "RPrec(rel=3)", "Success@1", "R@1000"],
)
def test_a_name_stands_for_the_measure_that_ir_measures_reads(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # ast.Num
        assert check_measures([name]) == (str(ir_measures.parse_measure(name)),)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nDGC@10", "unknown measure 'nDGC@10'; did you mean 'nDCG@10'?"),
        ("qwertz", "unknown measure 'qwertz'; known: AP, P, R, RR, Rprec, Success, nDCG"),
        ("nDCG@ten", "cannot be read"),
        ("P(cut=3)@5", "is not supported"),
        ("", "cannot be read"),
        ("P@1.5", "whole number of at least 1"),
        ("P@0", "whole number of at least 1"),
        ("alpha_nDCG@10", "is not supported"),
        ("NumRet", "is not supported"),
        ("nDCG(dcg='exp-log2')@10", "is not supported"),
        ("nDCG(rel=2)@10", "nDCG takes no rel"),
        ("Rprec@10", "Rprec takes no cutoff"),
        ("P(rel=2)(rel=3)@5", "cannot be read"),
        ("__import__('os')", "cannot be read"),
    ],
)
def test_a_name_that_cannot_be_used_is_a_config_error_that_says_how_to_correct_it(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_measures(["nDCG@10", name])
    assert message in str(caught.value)
    with pytest.raises(ConfigError):
        per_query(judged({"q": {"a": 1}}), {"q": ["a"]}, [name])


def test_no_measure_at_all_and_a_document_twice_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one measure"):
        check_measures([])
    with pytest.raises(InputError, match="'q': a document occurs twice"):
        per_query(judged({"q": {"a": 1}}), {"q": ["a", "b", "a"]})
