"""The page of a recording, in a browser: overview, filters, and one candidate by mouse and by keyboard."""

from __future__ import annotations

from typing import Any

import pytest
from support.pages import samples
from support.pages.browser import Look

from rag_rerank.pages.page import trace_page

LIST = "#calls .list li > button"
PAIR = "#calls .pair"


@pytest.fixture(scope="module")
def recording() -> str:
    return trace_page([samples.record(i) for i in range(60)])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_logs_nothing_loads_nothing_and_fits_its_width(look: Look, recording: str, width: int, scheme: str) -> None:
    def open_a_pair(page: Any) -> None:
        page.locator(LIST).nth(2).click()
        page.locator("#calls .detail .link", has_text="doc-").first.click()

    look(recording, open_a_pair, width=width, scheme=scheme)


def test_the_overview_says_what_the_recording_holds(look: Look, recording: str) -> None:
    words = look(recording, lambda page: page.locator("#page").inner_text())
    for fact in ("60 recorded calls", "Latency p95", "Texts cut", "By reranker", "onnx:starter"):
        assert fact in words


def test_calls_are_filtered_by_words_and_by_outcome(look: Look, recording: str) -> None:
    def counts(page: Any) -> list[int]:
        values = []
        for label in ("only degraded", "only failed"):
            page.get_by_label(label).check()
            values.append(page.locator(LIST).count())
            page.get_by_label(label).uncheck()
        for text in ("(17)", "TENANT=ACME", "no such words"):
            page.get_by_label("Query, id, reranker or tag").fill(text)
            values.append(page.locator(LIST).count())
        assert "No call fits these filters." in page.locator("#calls .list").inner_text()
        return values

    assert look(recording, counts) == [20, 12, 1, 30, 0]


def test_many_calls_are_shown_in_pages(look: Look, recording: str) -> None:
    def turn(page: Any) -> list[Any]:
        pager = page.locator("#calls .list .pager")
        before = [page.locator(LIST).count(), pager.locator("[role=status]").inner_text()]
        pager.get_by_role("button", name="Next").click()
        return [*before, page.locator(LIST).count(), pager.locator("[role=status]").inner_text()]

    assert look(recording, turn) == [40, "1–40 of 60", 20, "41–60 of 60"]


def test_a_pair_is_opened_from_the_table_by_mouse(look: Look, recording: str) -> None:
    def pair(page: Any) -> str:
        page.locator(LIST).nth(1).click()
        page.locator("#calls .detail .link", has_text="doc-").nth(1).click()
        text = page.locator(f"{PAIR} .text").inner_text()
        assert page.locator(f"{PAIR} mark").inner_text() == text[4:18]
        return page.locator(PAIR).inner_text()

    words = look(recording, pair)
    for fact in (
        "Candidate doc-",
        "Raw score",
        "onnx:starter",
        "140 of 140 tokens",
        "The score comes from the marked window",
    ):
        assert fact in words


def test_a_pair_is_opened_from_the_chart_by_keyboard(look: Look, recording: str) -> None:
    def pair(page: Any) -> str:
        page.locator(LIST).first.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        assert page.locator(LIST).nth(1).get_attribute("aria-current") == "true"
        page.locator("#calls svg .mark[tabindex='0']").first.focus()
        page.keyboard.press("ArrowRight")
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert page.locator("#tip").is_visible()
        assert label.split(",")[0] in page.locator("#tip").inner_text()
        page.keyboard.press("Enter")
        assert f"Candidate {label.split(',')[0]}" in page.locator(PAIR).inner_text()
        page.keyboard.press("Escape")
        assert page.locator("#tip").is_hidden()

    look(recording, pair)


def test_a_window_is_marked_by_characters_and_not_by_units_of_utf_16(look: Look) -> None:
    record = samples.record(1)
    record["candidates"][0] |= {"text": "😀😀 here 😀", "window": [3, 7]}

    def open_candidate(page: Any) -> str:
        page.locator("#calls .detail .link", has_text="doc-").first.click()
        return page.locator(f"{PAIR} mark").inner_text()

    assert look(trace_page([record]), open_candidate) == "here"


def test_what_was_not_recorded_is_said(look: Look) -> None:
    def words(page: Any) -> str:
        page.locator("#calls .detail .link", has_text="doc-").first.click()
        return page.locator("#page").inner_text()

    values = look(trace_page([samples.record(1, query=None)]), words)
    assert "Query not recorded" in values
    assert "The text was not recorded." in values


def test_a_failed_call_says_why_and_has_no_ranks(look: Look) -> None:
    words = look(trace_page([samples.record(4)]), lambda page: page.locator("#calls .browse > .detail").inner_text())
    assert "Failed. ProviderUnavailable: 503" in words
    assert "there are no ranks" in words


def test_what_is_left_out_is_said(look: Look) -> None:
    words = look(
        trace_page([samples.record(i) for i in range(9)], calls=4),
        lambda page: page.locator("header").inner_text(),
    )
    assert "the last 4 calls; 5 earlier ones are left out" in words


def test_an_empty_recording_says_so(look: Look) -> None:
    assert "No call was recorded." in look(trace_page([]), lambda page: page.locator("#page").inner_text(), width=400)


def test_a_hundred_candidates_stay_drawable(look: Look) -> None:
    page = trace_page([samples.record(1, size=200)])
    assert "Lower ranks are drawn closer together" in look(page, lambda p: p.locator("#calls").inner_text(), width=400)


@pytest.mark.parametrize(("words", "width"), [*((words, 400) for words in samples.HOSTILE), (samples.UNBROKEN, 1280)])
def test_hostile_words_are_harmless_and_seen(look: Look, words: str, width: int) -> None:
    record = samples.record(2, query=words, name=words)
    record |= {
        "reranker": words,
        "tags": {words: words},
        "degraded": [words],
        "id": words,
        "version": words,
        "time": words,
    }
    record["trace"] |= {"step": words, "notes": [words], "failures": [words], "error": words, "model": words}
    record["candidates"][0] |= {"text": words * 200, "dropped": words, "metadata": {words: [words]}}

    def open_candidate(page: Any) -> str:
        page.locator("#calls .detail .scroll .link").nth(8).click()
        assert page.locator("#page img, #page script").count() == 0
        return page.locator("#calls").evaluate("(node) => node.textContent")

    first = words.strip("\u2028\u2029\x00\x07")[:12].replace("\ud800", "")
    assert first[:5] in look(trace_page([record]), open_candidate, width=width)


def test_nothing_known_anywhere_is_drawn_as_dashes(look: Look) -> None:
    record = samples.record(1)
    bare = dict.fromkeys(record) | {"schema": record["schema"]}
    sparse = record | {"query": None, "usage": None, "trace": None, "scale": None, "seconds": None, "time": None}
    sparse["candidates"] = [dict.fromkeys(record["candidates"][0]) | {"id": f"d{i}", "first_rank": i} for i in (1, 2)]

    def walk(page: Any) -> None:
        page.locator(LIST).nth(0).click()
        page.locator(LIST).nth(1).click()
        page.get_by_role("button", name="d1").last.click()

    look(trace_page([bare, sparse]), walk, width=400)


def test_a_candidate_says_what_decided_against_its_neighbours_and_shows_its_windows(look: Look) -> None:
    record = samples.record(1)
    a, b, c, *_ = record["candidates"]
    record["candidates"] = [a | {"id": "a", "rank": 1}, b | {"id": "b", "rank": 2}, c | {"id": "c", "rank": 3}]
    a, b, c = record["candidates"]
    a |= {"raw_score": 2.0}
    visit = {"step": "first", "rank": 1, "score": 0.5, "scale": "sigmoid", "unscored": None, "coverage": None}
    b |= {"raw_score": None, "score": None, "visits": [visit | {"raw_score": 1.5, "cached": True}]}
    c |= {"raw_score": None, "score": None, "visits": [visit | {"raw_score": 0.25, "cached": False}]}
    record["trace"]["children"] = [record["trace"] | {"step": "inner", "scores": {"b#2": 1.5, "b#1": 0.5, "bc#1": 9.0}}]

    def open_candidate(page: Any) -> str:
        page.get_by_role("button", name="b", exact=True).last.click()
        return page.locator(".pair").inner_text()

    words = look(trace_page([record]), open_candidate, width=1280)
    assert "2; below a, which has a score; above c by first, with 1.5000 against 0.2500" in words
    assert "from the cache" in words
    assert "Windows" in words and "b#2" in words and "bc#1" not in words
