"""More texts than a provider takes at once: several requests, one ranking, one trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from support.api.providers import KEY, QUERY, VOYAGE, Ask, Provider
from support.api.rerank_server import Action, Answer, Received, RerankServer
from support.api.wire_formats import tokens

from rag_rerank import BadResponse, BillingError, RequestTooLarge
from rag_rerank.backends.api.base import split
from rag_rerank.backends.api.pricing import pair_tokens, text_tokens
from rag_rerank.backends.api.retry import RetryPolicy

TEXTS = tuple(f"text {i}: {'warm ' * (i % 7)}dragon {i * 7919 % 1000}" for i in range(5120))
"""As many as two requests and a half need, of the most patient service."""


def enough(provider: Provider) -> tuple[str, ...]:
    """Texts for two requests and a half."""
    return TEXTS[: provider.most * 5 // 2]


def expected_sizes(provider: Provider) -> list[int]:
    """How many of these texts go in each request: as many as possible; to a decision model, about equally many."""
    if provider.kind != "decisions":
        return [provider.most, provider.most, provider.most // 2]
    even = -(-provider.most * 5 // 6)
    return [even, even, provider.most * 5 // 2 - 2 * even]


def tokens_of(provider: Provider, texts: Sequence[str]) -> int:
    """What the server bills for a request: a decision model reads the query once."""
    if provider.kind == "decisions":
        return sum(len(text.split()) for text in texts) + len(QUERY.split())
    return tokens(QUERY, texts)


def sizes(server: RerankServer) -> list[int]:
    return [len(request.texts) for request in server.received]


def test_texts_beyond_the_limit_go_in_several_requests_and_come_back_in_place(
    provider: Provider, ask: Ask, rerank_server: RerankServer
) -> None:
    texts, counts = enough(provider), expected_sizes(provider)
    ranking = ask(provider.reranker(rerank_server), texts)
    assert sizes(rerank_server) == counts
    assert {hit.id: hit.raw_score for hit in ranking} == {str(i): provider.score(QUERY, t) for i, t in enumerate(texts)}
    assert ranking.usage.requests == 3
    assert ranking.usage.texts == len(texts)
    if provider.path.endswith("/v2/rerank"):
        assert ranking.usage.search_units == 25
    elif provider.dialect == "infinity":
        assert ranking.usage.tokens == sum(pair_tokens(QUERY, texts))
    elif provider.names_tokens:
        assert ranking.usage.tokens == sum(
            tokens_of(provider, texts[i : i + counts[0]]) for i in (0, counts[0], 2 * counts[0])
        )
    assert ranking.trace.notes[-1] == f"{len(texts)} texts went in 3 requests, and the scores were put together"
    assert len(ranking.trace.notes) == (2 if provider.kind == "decisions" else 1)
    ends = ((0, counts[0] - 1), (counts[0], 2 * counts[0] - 1), (2 * counts[0], len(texts) - 1))
    assert [child.step for child in ranking.trace.children] == [
        f"{ranking.trace.step}, texts {first} to {last}" for first, last in ends
    ]
    assert [(child.attempts, child.usage.texts) for child in ranking.trace.children] == [(1, count) for count in counts]


def test_the_limit_itself_is_one_request(provider: Provider, ask: Ask, rerank_server: RerankServer) -> None:
    ranking = ask(provider.reranker(rerank_server), TEXTS[: provider.most])
    assert sizes(rerank_server) == [provider.most]
    assert ranking.trace.children == ()


def test_each_request_has_its_own_attempts(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.then(Answer(503), Answer(), Answer(503), Answer(503), Answer(), Answer(503))
    ranking = ask(provider.reranker(rerank_server), enough(provider))
    first, second, third = expected_sizes(provider)
    assert sizes(rerank_server) == [first] * 2 + [second] * 3 + [third] * 2
    assert [child.attempts for child in ranking.trace.children] == [2, 3, 2]
    assert ranking.trace.attempts == ranking.usage.requests == 7
    assert len(ranking.trace.failures) == 4


def test_a_failure_in_the_middle_tells_what_was_done_and_billed_before(
    provider: Provider, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.then(Answer(), Answer(402))
    with pytest.raises(BillingError) as caught:
        ask(provider.reranker(rerank_server), enough(provider))
    most = expected_sizes(provider)[0]
    assert sizes(rerank_server) == [most, most]
    trace = caught.value.trace
    assert trace is not None
    assert [child.error is None for child in trace.children] == [True, False]
    assert (trace.usage.texts, trace.usage.requests, trace.attempts) == (most, 2, 2)
    is_estimate = provider.dialect == "infinity"
    counted = sum(pair_tokens(QUERY, TEXTS[:most])) if is_estimate else tokens_of(provider, TEXTS[:most])
    if provider.path.endswith("/v2/rerank"):
        assert trace.usage.search_units == 10
    assert trace.usage.tokens == (counted if provider.names_tokens else None)


def test_a_bad_answer_names_the_text_among_all(provider: Provider, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.then(Answer(), Answer(rows=lambda rows: [row for row in rows if row["index"] != 7]))
    first, second, _ = expected_sizes(provider)
    words = f"no score for 1 of {second} texts, the first is text {first + 7}"
    if provider.options.get("wire") == "openai":  # answers are told apart by their places, and so all shift
        words = f"{second - 1} answers to {second} questions"
    if provider.dialect == "deepinfra":  # whose answer is a list of scores alone
        words = f"{second - 1} scores for {second} texts"
    with pytest.raises(BadResponse, match=words):
        ask(provider.reranker(rerank_server), enough(provider))


def at_most(texts: int) -> Callable[[Received], Action]:
    def rule(request: Received) -> Action:
        return Answer(413 if len(request.texts) > texts else 200)

    return rule


def test_a_request_that_is_too_large_is_halved(provider: Provider, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.rule = at_most(3)
    texts = TEXTS[:10]
    ranking = ask(provider.reranker(rerank_server), texts)
    assert sizes(rerank_server) == [10, 5, 2, 3, 5, 2, 3]
    assert {hit.id: hit.raw_score for hit in ranking} == {str(i): provider.score(QUERY, t) for i, t in enumerate(texts)}
    assert ranking.trace.notes[:2] == (
        "10 texts were too large for one request, which was halved",
        "5 texts were too large for one request, which was halved",
    )
    assert (ranking.usage.texts, ranking.usage.requests) == (10, 7)
    assert [child.error is None for child in ranking.trace.children] == [False, False, True, True, False, True, True]


def test_one_text_that_is_too_large_is_an_error(provider: Provider, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.rule = at_most(0)
    with pytest.raises(RequestTooLarge):
        ask(provider.reranker(rerank_server), TEXTS[:8])
    assert sizes(rerank_server) == [8, 4, 2, 1]


def test_voyage_requests_stay_under_half_the_token_limit_by_estimate(ask: Ask, rerank_server: RerankServer) -> None:
    long = "warm dragon " * 2000  # 6000 tokens by estimate
    query_and_text = 6000 + text_tokens(QUERY)
    reranker = VOYAGE.reranker(rerank_server, model="rerank-1")  # 300,000 tokens a request
    ask(reranker, (long,) * 60)
    most = 150_000 // query_and_text
    assert sizes(rerank_server) == [most, most, 60 - 2 * most]


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")  # aiohttp, hidden by default
def test_voyage_counts_no_more_of_a_text_than_the_window_that_is_read(ask: Ask, rerank_server: RerankServer) -> None:
    endless = "warm dragon " * 6000  # 18,000 tokens, of which a window of 8000 is read
    ask(VOYAGE.reranker(rerank_server, model="rerank-1"), (endless,) * 20)
    assert sizes(rerank_server) == [18, 2]
    rerank_server.reset()
    ask(VOYAGE.reranker(rerank_server, model="rerank-1", truncation=False), (endless,) * 20)
    assert sizes(rerank_server) == [8, 8, 4]


def test_voyage_counts_the_query_once_for_each_text(rerank_server: RerankServer) -> None:
    reranker = VOYAGE.make(model="rerank-1", api_key=KEY, retry=RetryPolicy())
    parts = reranker._split("q" * 4 * 5000, ["t" * 4] * 60)
    assert [len(part) for part in parts] == [29, 29, 2]


def test_splitting_keeps_every_position_once_and_in_order() -> None:
    for weights in ([], [5], [5] * 10, [1, 9, 1, 9, 1], [100, 1, 1], [1, 1, 100], [0] * 7):
        for most in (1, 2, 3, 10):
            for heaviest in (0, 1, 5, 10, 1000):
                parts = split(weights, most, heaviest)
                assert [i for part in parts for i in part] == list(range(len(weights)))
                for part in parts:
                    assert len(part) <= most
                    assert len(part) <= 1 or sum(weights[i] for i in part) <= heaviest


def test_tokens_are_estimated_by_bytes() -> None:
    assert text_tokens("") == 0
    assert text_tokens("abcde") == 2
    assert text_tokens("温度は") == 3
