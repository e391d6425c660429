"""Measures of one query at a time, by ir-measures: every judged query counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rag_rerank._lazy import need
from rag_rerank.errors import ConfigError, InputError, did_you_mean
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery

__all__ = ["MEASURES", "TOP_3", "check_measures", "per_query"]

TOP_3 = "nDCG@3"
"""The measure of the *lift at top-3*: its difference to the first stage."""

MEASURES = ("nDCG@10", TOP_3, "RR@10", "R@10", "P@5", "Success@3")
"""What is measured by default; the verdict goes by the first one."""

_KNOWN = ("AP", "P", "R", "RR", "Rprec", "Success", "nDCG")
"""Measures of an order alone, in 0..1, larger is better, that pytrec_eval and ir-measures work out by themselves."""


def check_measures(measures: Iterable[str]) -> tuple[str, ...]:
    """Return the names as ir-measures writes them (``NDCG@10`` is ``nDCG@10``), each once, in the order given.

    Raises:
        ConfigError: A name that is unknown, cannot be read, or is no measure of an order alone; or no name at all.
        MissingExtraError: ir-measures is not installed.
    """
    names = tuple(dict.fromkeys(str(_parsed(name)) for name in measures))
    if not names:
        raise ConfigError(f"at least one measure is needed, such as {MEASURES[0]!r}", path="measures")
    return names


def per_query(
    judged: Judged, orders: Mapping[str, Sequence[str]], measures: Sequence[str] = MEASURES
) -> dict[str, dict[str, float]]:
    """Return measure -> query id -> value, for an order of document ids by query.

    A measure that knows only two grades takes ``judged.relevant`` and above as relevant, unless its name says
    otherwise (``P(rel=2)@5``). nDCG has linear gain and log2 discount, as in trec_eval. The order is kept as it
    stands; what is not judged counts as not relevant.

    Args:
        judged: The judged queries; each of them gets a value.
        orders: Query id -> document ids, best first. A query that is missing or empty has 0.0 everywhere
            (trec_eval's ``-c``; ir-measures would leave it out of a mean).
        measures: Names that ir-measures can read.

    Raises:
        ConfigError: As in `check_measures`.
        InputError: A document stands twice in one order.
        MissingExtraError: ir-measures is not installed.
    """
    ir_measures = need("ir_measures", extra="eval")
    wanted = {name: _cut(_parsed(name), judged.relevant) for name in measures}
    cutoffs = [measure.params.get("cutoff") for measure in wanted.values()]
    deepest = None if None in cutoffs else max(cutoffs, default=0)
    run = {query.id: _scored(query.id, orders.get(query.id, ()), deepest) for query in judged.queries}
    qrels = {query.id: _grades(query) for query in judged.queries if query.grades and run[query.id]}
    found = {measure: dict.fromkeys(run, 0.0) for measure in wanted.values()}
    if qrels:
        for metric in ir_measures.iter_calc(list(found), qrels, {query: run[query] for query in qrels}):
            found[metric.measure][metric.query_id] = float(metric.value)
    return {name: dict(found[measure]) for name, measure in wanted.items()}


def _grades(query: JudgedQuery) -> dict[str, int]:
    """Return the grades, those below 0 as 0.

    No measure here tells them apart, and pytrec_eval 0.5 reads beyond its memory where a query has none but -2.
    """
    return {document: max(0, grade) for document, grade in query.grades.items()}


def _parsed(name: str) -> Any:
    ir_measures = need("ir_measures", extra="eval")
    try:
        measure = ir_measures.parse_measure(name)
    except NameError:
        known = ["".join((word, *str(name).partition("@")[1:])) for word in _KNOWN]
        raise ConfigError(f"unknown measure {name!r}{did_you_mean(name, known)}", path="measures") from None
    except (TypeError, ValueError, KeyError, AssertionError):
        raise ConfigError(f"measure {name!r} cannot be read; write it like {MEASURES[0]!r}", path="measures") from None
    if measure.NAME not in _KNOWN or set(measure.params) - {"cutoff", "rel"}:
        raise ConfigError(
            f"{name!r} is not worked out here, only {', '.join(_KNOWN)}, with a cutoff or 'rel'", path="measures"
        )
    cutoff = measure.params.get("cutoff", 1)
    if not isinstance(cutoff, int) or cutoff < 1:
        raise ConfigError(f"measure {name!r}: the cutoff must be a whole number of at least 1", path="measures")
    return measure


def _cut(measure: Any, relevant: int) -> Any:
    """Return the measure with the grade from which on a document is relevant, where it takes one and has none."""
    takes = "rel" in measure.SUPPORTED_PARAMS and "rel" not in measure.params
    return measure(rel=relevant) if takes else measure


def _scored(query: str, order: Sequence[str], deepest: int | None) -> dict[str, float]:
    """Return falling scores, so that whoever sorts them finds the order again; ties would be broken by id."""
    if len(set(order)) < len(order):
        raise InputError(f"query {query!r}: a document stands twice in the order")
    return {document: -float(rank) for rank, document in enumerate(order[:deepest])}
