"""The page of a recording shows what went to the LLM."""

from __future__ import annotations

from typing import Any

from support.pages import samples
from support.pages.browser import Look

from rag_rerank.pages.page import trace_page

LIST = "#calls .list li > button"
EVIL = "<img src=x onerror=alert(1)>"


def record() -> dict[str, Any]:
    call = samples.record(0)
    ids = [entry["id"] for entry in call["candidates"]]
    context = {
        "schema": "rag_rerank.context/1",
        "call": call["id"],
        "time": call["time"],
        "version": "0.1.0",
        "tokens": 90,
        "tokens_before": 200,
        "tokens_estimated": True,
        "notes": [EVIL],
        "pieces": [
            {"ids": [ids[0]], "text": None, "tokens": 50, "trimmed": [0, 17]},
            {"ids": [ids[2], ids[1]], "text": None, "tokens": 40, "trimmed": None},
        ],
        "dropped": [{"id": ids[3], "rank": 4, "reason": "max_tokens", "detail": EVIL, "duplicate_of": None}],
    }
    return {**call, "contexts": [context]}


def test_the_call_and_each_candidate_say_what_was_packed(look: Look) -> None:
    def words(page: Any) -> list[str]:
        page.locator(LIST).first.click()
        detail = [page.locator("#calls .detail").first.inner_text()]
        for i in range(5):
            page.locator("#calls .detail .link", has_text="doc-").nth(i).click()
            detail.append(page.locator("#calls .pair").inner_text())
        return detail

    call, trimmed, second, first, dropped, rest = look(trace_page([record()]), words)
    assert "3 of 4 hits in 2 pieces; 90 of 200 tokens (estimated); 1 dropped by max_tokens" in call
    assert "piece 1 of 2, trimmed to characters 0 to 17" in trimmed
    assert "piece 2 of 2, merged with" in second
    assert "piece 2 of 2, merged with" in first
    assert f"dropped by max_tokens: {EVIL}" in dropped
    assert "not among the hits that were packed" in rest
    assert "below top_k" in call


def test_without_a_context_the_page_does_not_say_that_the_llm_got_it(look: Look) -> None:
    def words(page: Any) -> str:
        page.locator(LIST).first.click()
        page.locator("#calls .detail .link", has_text="doc-").first.click()
        text: str = page.locator("#calls .pair").inner_text()
        return text

    text = look(trace_page([samples.record(0)]), words)
    assert "by the reranker" in text
    assert "not recorded: no context was packed from the ranking" in text
