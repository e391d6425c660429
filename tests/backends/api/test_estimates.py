"""The estimated cost of a call, before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from support.api.providers import COHERE, KEY, QUERY, TEXTS, VOYAGE, Provider
from support.api.rerank_server import RerankServer

from rag_rerank import AuthenticationError, Cascade, Fallback, Stage, build
from rag_rerank.backends.cohere import CohereReranker, Price
from rag_rerank.testing import ScriptedReranker
from rag_rerank.trace import Usage

UNITS, TOKENS = Price(per_thousand_search_units=2.0), Price(per_million_tokens=50.0)


@pytest.mark.parametrize(("sdk", "price"), [(COHERE, UNITS), (VOYAGE, TOKENS)], ids=["units", "tokens"])
def test_an_estimate_is_that_of_a_ceiling_and_sends_nothing(
    sdk: Provider, price: Price, rerank_server: RerankServer
) -> None:
    usage = sdk.reranker(rerank_server, price=price).estimate(QUERY, [*TEXTS, " "])
    assert (usage.texts, usage.requests) == (len(TEXTS), 1)
    assert usage.cost is not None and usage.tokens is not None
    assert usage.cost == pytest.approx(0.002 if price is UNITS else usage.tokens * 50 / 1e6)
    assert usage.search_units == (1.0 if price is UNITS else None)
    assert {"cost", "tokens"} <= set(usage.estimated)
    assert rerank_server.received == []


def test_a_server_without_a_price_has_no_cost(rerank_server: RerankServer) -> None:
    usage = COHERE.reranker(rerank_server).estimate(QUERY, TEXTS)
    assert usage.requests == 1 and usage.cost is None


def test_an_estimate_needs_a_key() -> None:
    with pytest.raises(AuthenticationError, match="needs an API key"):
        CohereReranker(model="rerank-v3.5").estimate(QUERY, TEXTS)


def test_a_local_reranker_counts_texts_and_costs_nothing() -> None:
    assert build("lexical").estimate(QUERY, TEXTS) == Usage(texts=len(TEXTS))


def test_composites_count_the_calls_that_they_would_make() -> None:
    api: Any = CohereReranker(model="rerank-v3.5", api_key=KEY)
    one = api.estimate(QUERY, TEXTS[:1])
    cheap = ScriptedReranker()
    cascade = Cascade(stages=(Stage(reranker=cheap), Stage(reranker=api, depth=1)))
    assert cascade.estimate(QUERY, TEXTS) == Usage(texts=len(TEXTS)) + one
    assert Fallback(members=(cheap, api)).estimate(QUERY, TEXTS) == Usage(texts=len(TEXTS))
    assert build({"type": "cached", "reranker": api}).estimate(QUERY, TEXTS[:1]) == one
    both = build({"type": "ensemble", "members": [cheap, api]})
    assert both.estimate(QUERY, TEXTS[:1]) == Usage(texts=1) + one
