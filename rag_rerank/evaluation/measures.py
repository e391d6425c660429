"""Measures of one query at a time, by ir-measures: every judged query counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rag_rerank._lazy import need
from rag_rerank.errors import ConfigError, InputError, did_you_mean
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery

__all__ = ["MEASURES", "TOP_3", "check_measures", "per_query"]

TOP_3 = "nDCG@3"
"""The measure of the *lift at top-3*: its difference from the first stage."""

MEASURES = ("nDCG@10", TOP_3, "RR@10", "R@10", "P@5", "Success@3")
"""The default measures; the verdict is based on the first one."""

_SUPPORTED = ("AP", "P", "R", "RR", "Rprec", "Success", "nDCG")
"""Measures of an order alone, from 0 to 1, larger is better, which pytrec_eval and ir-measures compute."""

_NAME = re.compile(r"(?P<word>[A-Za-z]\w*)(\((?P<options>[^()]*)\))?(@(?P<cutoff>[\d.]+))?")
"""A measure with a grade and a cutoff, as in ``P(rel=2)@5``."""


def check_measures(measures: Iterable[str]) -> tuple[str, ...]:
    """Return the names as ir-measures writes them (``NDCG@10`` is ``nDCG@10``), each once, in their order.

    Raises:
        ConfigError: There is no name, or one that is unknown, unreadable, or not a measure of an order alone.
        MissingExtraError: ir-measures is not installed.
    """
    names = tuple(dict.fromkeys(str(_parse(name)) for name in measures))
    if not names:
        raise ConfigError(f"at least one measure is needed, such as {MEASURES[0]!r}", path="measures")
    return names


def per_query(
    judged: Judged, orders: Mapping[str, Sequence[str]], measures: Sequence[str] = MEASURES
) -> dict[str, dict[str, float]]:
    """Return measure -> query id -> value, for an order of document ids by query.

    A measure with two grades counts ``judged.relevant`` and above as relevant, unless its name says otherwise
    (``P(rel=2)@5``). nDCG has linear gain and log2 discount, as in trec_eval. The order is used as it is; documents
    that are not judged count as not relevant.

    Args:
        judged: The judged queries; each of them gets a value.
        orders: Query id -> document ids, best first. A query that is missing or empty has 0.0 everywhere
            (trec_eval's ``-c``; ir-measures would leave it out of a mean).
        measures: Names that ir-measures can read.

    Raises:
        ConfigError: As in `check_measures`.
        InputError: A document occurs twice in one order.
        MissingExtraError: ir-measures is not installed.
    """
    ir_measures = need("ir_measures", extra="eval")
    by_name = {name: _with_grade(_parse(name), judged.relevant) for name in measures}
    cutoffs = [measure.params.get("cutoff") for measure in by_name.values()]
    deepest = None if None in cutoffs else max(cutoffs, default=0)
    run = {query.id: _scores_of_order(query.id, orders.get(query.id, ()), deepest) for query in judged.queries}
    qrels = {query.id: _grades(query) for query in judged.queries if query.grades and run[query.id]}
    values = {measure: dict.fromkeys(run, 0.0) for measure in by_name.values()}
    if qrels:
        for metric in ir_measures.iter_calc(list(values), qrels, {query: run[query] for query in qrels}):
            values[metric.measure][metric.query_id] = float(metric.value)
    return {name: dict(values[measure]) for name, measure in by_name.items()}


def _grades(query: JudgedQuery) -> dict[str, int]:
    """Return the grades, those below 0 as 0.

    No measure here tells them apart, and pytrec_eval 0.5 reads beyond its memory if a query has no other grade than -2.
    """
    return {document: max(0, grade) for document, grade in query.grades.items()}


def _parse(name: str) -> Any:
    """Return the measure that a name such as ``nDCG@10`` or ``P(rel=2)@5`` stands for.

    The function of ir-measures that reads names uses ``ast.Num``, which Python 3.14 no longer has.
    """
    measures = need("ir_measures", extra="eval").measures.registry
    match = _NAME.fullmatch(str(name))
    if match is None:
        raise ConfigError(f"measure {name!r} cannot be read; write it like {MEASURES[0]!r}", path="measures")
    word = match["word"]
    if word not in measures:
        choices = [f"{word}@{match['cutoff']}" if match["cutoff"] else word for word in _SUPPORTED]
        raise ConfigError(f"unknown measure {name!r}{did_you_mean(name, choices)}", path="measures")
    measure = measures[word]
    options = re.fullmatch(r"(rel=(\d+))?", (match["options"] or "").replace(" ", ""))
    if measure.NAME not in _SUPPORTED or options is None:
        raise ConfigError(
            f"{name!r} is not supported, only {', '.join(_SUPPORTED)}, with a cutoff or 'rel'", path="measures"
        )
    values = {key: value for key, value in (("rel", options[2]), ("cutoff", match["cutoff"])) if value is not None}
    if not {*values} <= {*measure.SUPPORTED_PARAMS}:
        raise ConfigError(f"measure {name!r}: {measure.NAME} takes no {' or '.join(values)}", path="measures")
    if not values.get("cutoff", "1").isdecimal() or not int(values.get("cutoff", 1)):
        raise ConfigError(f"measure {name!r}: the cutoff must be a whole number of at least 1", path="measures")
    return measure(**{key: int(value) for key, value in values.items()})


def _with_grade(measure: Any, relevant: int) -> Any:
    """Return the measure with the lowest relevant grade, if it takes such a grade and its name states none."""
    takes_grade = "rel" in measure.SUPPORTED_PARAMS and "rel" not in measure.params
    return measure(rel=relevant) if takes_grade else measure


def _scores_of_order(query: str, order: Sequence[str], deepest: int | None) -> dict[str, float]:
    """Return falling scores that sort into this order; equal ones would be sorted by id."""
    if len(set(order)) < len(order):
        raise InputError(f"query {query!r}: a document occurs twice in the order")
    return {document: -float(rank) for rank, document in enumerate(order[:deepest])}
