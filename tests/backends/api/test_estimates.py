"""What a call would cost, told before anything is sent."""

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
def test_an_estimate_is_what_a_ceiling_would_reckon_with_and_sends_nothing(
    sdk: Provider, price: Price, rerank_server: RerankServer
) -> None:
    told = sdk.reranker(rerank_server, price=price).estimate(QUERY, [*TEXTS, " "])
    assert (told.texts, told.requests) == (len(TEXTS), 1)
    assert told.cost is not None and told.tokens is not None
    assert told.cost == pytest.approx(0.002 if price is UNITS else told.tokens * 50 / 1e6)
    assert told.search_units == (1.0 if price is UNITS else None)
    assert {"cost", "tokens"} <= set(told.estimated)
    assert rerank_server.received == []


def test_a_server_without_a_price_has_no_cost(rerank_server: RerankServer) -> None:
    told = COHERE.reranker(rerank_server).estimate(QUERY, TEXTS)
    assert told.requests == 1 and told.cost is None


def test_a_missing_key_is_told_with_the_estimate() -> None:
    with pytest.raises(AuthenticationError, match="needs an API key"):
        CohereReranker(model="rerank-v3.5").estimate(QUERY, TEXTS)


def test_a_local_reranker_costs_texts_and_no_money() -> None:
    assert build("lexical").estimate(QUERY, TEXTS) == Usage(texts=len(TEXTS))


def test_composites_count_what_they_would_ask() -> None:
    api: Any = CohereReranker(model="rerank-v3.5", api_key=KEY)
    one = api.estimate(QUERY, TEXTS[:1])
    cheap = ScriptedReranker()
    cascade = Cascade(stages=(Stage(reranker=cheap), Stage(reranker=api, depth=1)))
    assert cascade.estimate(QUERY, TEXTS) == Usage(texts=len(TEXTS)) + one
    assert Fallback(members=(cheap, api)).estimate(QUERY, TEXTS) == Usage(texts=len(TEXTS))
    assert build({"type": "cached", "reranker": api}).estimate(QUERY, TEXTS[:1]) == one
    both = build({"type": "ensemble", "members": [cheap, api]})
    assert both.estimate(QUERY, TEXTS[:1]) == Usage(texts=1) + one
