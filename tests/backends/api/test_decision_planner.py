"""The planner of requests to decision models: within every limit, in the fewest requests, about equally full."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_rerank.backends.api.decisions.planner import RequestBudget, cut_text, plan_requests
from rag_rerank.backends.api.decisions.providers import join_url
from rag_rerank.backends.api.pricing import text_tokens


def budget_of(most_texts: int, state: int, request: int) -> RequestBudget:
    return RequestBudget(
        most_texts=most_texts,
        state_tokens=state,
        request_tokens=request,
        fixed_tokens=10,
        question_tokens=7,
        wrapper_tokens=2,
    )


def fits(tokens: list[int], budget: RequestBudget) -> bool:
    """Whether a request is within each limit, counted anew."""
    state = budget.fixed_tokens + sum(count + budget.wrapper_tokens for count in tokens)
    longest, questions = budget.question_tokens, len(tokens) * budget.question_tokens
    within = state + longest <= budget.state_tokens and state + questions <= budget.request_tokens
    return within and len(tokens) <= budget.most_texts


def fewest(tokens: list[int], budget: RequestBudget) -> int:
    """The fewest requests, by trying every way to divide the texts in their order."""
    for cuts in range(len(tokens)):
        for places in combinations(range(1, len(tokens)), cuts):
            ends = [0, *places, len(tokens)]
            if all(fits(tokens[a:b], budget) for a, b in pairwise(ends)):
                return cuts + 1
    raise AssertionError


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=9), st.integers(1, 5), st.integers(80, 200), st.integers(80, 260)
)
def test_the_fewest_requests_within_all_limits(tokens: list[int], most: int, state: int, request: int) -> None:
    budget = budget_of(most, state, request)
    tokens = [min(count, budget.text_tokens) for count in tokens]
    parts = plan_requests(tokens, budget)
    assert [i for part in parts for i in part] == list(range(len(tokens)))
    assert all(fits(tokens[part.start : part.stop], budget) for part in parts)
    assert len(parts) == fewest(tokens, budget)


def test_texts_of_one_length_are_spread_evenly() -> None:
    assert [len(part) for part in plan_requests([5] * 130, budget_of(64, 10**6, 10**6))] == [44, 44, 42]
    assert [len(part) for part in plan_requests([5] * 64, budget_of(64, 10**6, 10**6))] == [64]
    assert [len(part) for part in plan_requests([5] * 65, budget_of(64, 10**6, 10**6))] == [33, 32]


@given(st.text(min_size=1), st.integers(1, 40))
def test_a_cut_is_a_beginning_within_the_tokens(text: str, tokens: int) -> None:
    text = text.encode(errors="replace").decode()
    cut = cut_text(text, tokens)
    assert text.startswith(cut) and text_tokens(cut) <= tokens
    assert cut


def test_a_cut_ends_between_words() -> None:
    assert cut_text("warm basking spot", 3) == "warm basking"
    assert cut_text("warm basking spot", 4) == "warm basking"
    assert cut_text("Donaudampfschifffahrt", 2) == "Donaudam"


@pytest.mark.parametrize(
    ("base_url", "path", "url"),
    [
        ("https://h", "/v1/systemone", "https://h/v1/systemone"),
        ("https://h/v1", "/v1/systemone", "https://h/v1/systemone"),
        ("https://h/x/v1", "/v1/systemone", "https://h/x/v1/systemone"),
        ("https://h/api", "/api/alpha/decisions", "https://h/api/alpha/decisions"),
        ("https://h/api/alpha", "/api/alpha/decisions", "https://h/api/alpha/decisions"),
        ("https://h/v12", "/v1/systemone", "https://h/v12/v1/systemone"),
        ("https://v1", "/v1/systemone", "https://v1/v1/systemone"),
    ],
)
def test_what_base_url_and_path_share_counts_once(base_url: str, path: str, url: str) -> None:
    assert join_url(base_url, path) == url
