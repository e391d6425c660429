"""What a request costs: prices as data, ceilings before sending, and a ledger that only counts what was answered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from support.api.providers import COHERE, KEY, QUERY, TEXTS, VOYAGE, Ask, Provider
from support.api.rerank_server import Answer, Drop, Hang, RerankServer, tokens

from rag_rerank import ConfigError, CostExceeded, Fallback, build
from rag_rerank.backends.api import pricing
from rag_rerank.backends.api.pricing import list_price
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.cohere import CohereReranker, Limits, Price
from rag_rerank.backends.voyage import VoyageReranker
from rag_rerank.trace import Usage

UNITS, TOKENS = Price(per_thousand_search_units=2.0), Price(per_million_tokens=50.0)


@pytest.fixture
def provider(sdk: Provider) -> Provider:
    """The services with an SDK: one bills units, one tokens; everything else is the same for all."""
    return sdk


def priced(provider: Provider, server: RerankServer, **options: Any) -> Any:
    limits = {name: options.pop(name) for name in ("cost_per_call", "cost_per_process") if name in options}
    return provider.reranker(server, price=UNITS if provider is COHERE else TOKENS, limits=Limits(**limits), **options)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"per_million_tokens": 1.0, "per_thousand_search_units": 1.0},
        {"per_million_tokens": -1.0},
        {"per_million_tokens": float("nan")},
        {"per_thousand_search_units": float("inf")},
        {"per_thousand_search_units": True},
        {"per_million_output_tokens": 1.0},
        {"per_thousand_search_units": 1.0, "per_million_output_tokens": 1.0},
        {"per_million_tokens": 1.0, "per_million_output_tokens": -1.0},
    ],
)
def test_an_invalid_price_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        Price(**wrong)


def test_every_row_of_the_table_says_where_it_comes_from_and_when() -> None:
    rows = json.loads(Path(pricing.__file__).with_name("prices.json").read_text(encoding="utf-8"))
    assert all(row["as_of"].startswith("20") and row["source"] for row in rows)
    names = [(row["backend"], model) for row in rows for model in row["models"]]
    assert len(names) == len(set(names))
    assert all(list_price(*name) is not None for name in names)
    assert list_price("cohere", "rerank-v3.5") == Price(per_thousand_search_units=2.0)
    assert list_price("cohere", "rerank-v9") is None


def test_the_estimate_counts_long_texts_several_times() -> None:
    assert UNITS.estimate([20] * 100) == 0.002
    assert UNITS.estimate([20] * 101) == 0.004
    assert UNITS.estimate([500] * 100) == 0.002
    assert UNITS.estimate([501] * 100) == 0.004
    assert TOKENS.estimate([600, 400]) == pytest.approx(0.05)


def test_the_worked_example_of_a_hundred_texts() -> None:
    texts = [320] * 100  # 300 tokens each, and a query of 20
    assert UNITS.estimate(texts) == 0.002
    assert Price(per_million_tokens=0.05).estimate(texts) == pytest.approx(0.0016)


def test_usage_has_what_was_billed_at_the_users_price(
    provider: Provider, ask: Ask, rerank_server: RerankServer
) -> None:
    reranker = priced(provider, rerank_server)
    usage = ask(reranker).usage
    expected = 0.002 if provider is COHERE else tokens(QUERY, TEXTS) * 50 / 1e6
    assert usage.cost == pytest.approx(expected)
    assert usage.estimated == ()
    assert reranker.total_cost == pytest.approx(expected)


def test_a_price_of_our_table_makes_the_cost_an_estimate(
    provider: Provider, ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider.make, "_host", lambda self: None)
    assert "cost" in ask(provider.reranker(rerank_server)).usage.estimated


def test_no_price_is_assumed_for_another_server_or_model(
    provider: Provider, ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(provider.reranker(rerank_server)).usage.cost is None
    monkeypatch.setattr(provider.make, "_host", lambda self: None)
    assert ask(provider.reranker(rerank_server, model="unheard-of")).usage.cost is None


def test_a_missing_bill_is_estimated(ask: Ask, rerank_server: RerankServer) -> None:
    rows = [{"index": 0, "relevance_score": 0.5}, {"index": 1, "relevance_score": 0.4}]
    rerank_server.then(Answer(body={"id": "r", "results": rows}), Answer(body={"data": rows}))
    for provider in (COHERE, VOYAGE):
        usage = ask(priced(provider, rerank_server)).usage
        assert usage.cost is not None
        assert usage.cost > 0
        assert "cost" in usage.estimated


def test_a_ceiling_needs_a_price() -> None:
    for kind in (CohereReranker, VoyageReranker):
        kind(limits=Limits(cost_per_call=1.0))
        with pytest.raises(ConfigError, match=r"^limits: a ceiling of cost needs a price") as caught:
            kind(model="unheard-of", limits=Limits(cost_per_process=1.0))
        assert caught.value.path == "limits"
        with pytest.raises(ConfigError, match="give price"):
            kind(base_url="https://example.org", limits=Limits(cost_per_call=1.0))
        kind(base_url="https://example.org", limits=Limits(cost_per_call=1.0), price=TOKENS)
    reranker = build({"type": "cohere", "limits": {"cost_per_call": 1}, "price": {"per_million_tokens": 1}})
    assert isinstance(reranker, CohereReranker)


def test_a_call_over_its_ceiling_sends_nothing(ask: Ask, rerank_server: RerankServer) -> None:
    texts = tuple(f"text {i}" for i in range(1500))  # two requests, 10 and 5 units
    with pytest.raises(CostExceeded) as caught:
        ask(priced(COHERE, rerank_server, cost_per_call=0.029), texts)
    assert rerank_server.received == []
    assert str(caught.value) == (
        "cohere:rerank-v3.5 was not called: this call has spent $0, and by estimate $0.03 more would pass "
        "limits.cost_per_call=0.029; raise it, send fewer texts, or put a local reranker behind it in a fallback"
    )
    ranking = ask(priced(COHERE, rerank_server, cost_per_call=0.03), texts)
    assert ranking.usage.cost == pytest.approx(0.03)
    assert ranking.usage.requests == 2


def test_the_ceiling_of_a_process_counts_all_with_the_key(ask: Ask, rerank_server: RerankServer) -> None:
    reranker = priced(COHERE, rerank_server, cost_per_process=0.006)
    ask(reranker)
    ask(priced(COHERE, rerank_server, model="another"))
    ask(reranker)
    assert reranker.total_cost == pytest.approx(0.006)
    with pytest.raises(CostExceeded, match=r"this process with this key has spent \$0\.006"):
        ask(reranker)
    assert len(rerank_server.received) == 3
    other = priced(COHERE, rerank_server, cost_per_process=0.006, api_key="another")
    assert other.total_cost == 0
    ask(other)


def test_money_set_aside_for_a_request_without_an_answer_is_given_back(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.then(Answer(503), Drop(), Answer(401))
    reranker = priced(provider, rerank_server, cost_per_process=0.005)
    with pytest.raises(Exception, match="401"):
        ask(reranker)
    assert reranker.total_cost == 0
    assert len(ask(reranker)) == 2


def test_a_cancelled_call_gives_back_the_money_set_aside(provider: Provider, rerank_server: RerankServer) -> None:
    rerank_server.then(Hang())
    reranker = priced(provider, rerank_server, cost_per_process=0.003)

    async def story() -> None:
        task = asyncio.create_task(reranker.arerank(QUERY, TEXTS))
        await asyncio.to_thread(rerank_server.request_arrived.wait)
        with pytest.raises(CostExceeded):  # two at once would pass it
            await reranker.arerank(QUERY, TEXTS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(await reranker.arerank(QUERY, TEXTS)) == 2

    asyncio.run(story())


def test_a_retry_that_is_answered_is_counted_once(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.then(Answer(503), Answer(503))
    reranker = priced(provider, rerank_server, retry=RetryPolicy(jitter=0))
    usage = ask(reranker).usage
    assert usage.requests == 3
    assert reranker.total_cost == usage.cost


def test_an_unusable_answer_is_billed_all_the_same(ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.then(Answer(rows=lambda rows: rows[1:]))
    reranker = priced(COHERE, rerank_server)
    with pytest.raises(Exception, match="no score for 1 of 2") as caught:
        ask(reranker)
    assert caught.value.trace.usage.cost == reranker.total_cost == 0.002  # type: ignore[attr-defined]


def test_a_fallback_moves_on_when_the_money_is_spent(ask: Ask, rerank_server: RerankServer) -> None:
    first = priced(COHERE, rerank_server, cost_per_process=0.002)
    reranker = Fallback(members=(first, VOYAGE.reranker(rerank_server)))
    assert ask(reranker).degraded == ()
    assert ask(reranker).degraded == ("voyage:rerank-2.5 answered in place of cohere:rerank-v3.5 (CostExceeded)",)


def test_a_usage_without_figures_has_no_bill() -> None:
    assert UNITS.billed_cost(Usage(tokens=5)) is None
    assert TOKENS.billed_cost(Usage(search_units=5)) is None
    assert UNITS.billed_cost(Usage(search_units=3)) == pytest.approx(0.006)
    assert KEY not in repr(UNITS)
