"""The page of an evaluation, in a browser: verdict, plots, slices, queries."""

from __future__ import annotations

from typing import Any

import pytest
from support.pages import samples
from support.pages.browser import Look, wait_for_charts

from rag_rerank.pages.page import evaluation_page

MANY = tuple(f"system {i} " + "x" * 60 for i in range(9))
LIST = "#queries .list li > button"
SECTIONS = ("systems", "tradeoffs", "slices", "depth", "calibration", "failures", "queries", "about")

CONTRAST = """(selectors) => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const value = part / 255;
      return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!colour.endsWith(", 0)")) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return selectors.flatMap((selector) => [...document.querySelectorAll(selector)].map((node) => {
    const words = getComputedStyle(node);
    const pair = [light(node.namespaceURI.endsWith("svg") ? words.fill : words.color), light(ground(node))].sort();
    return [selector, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)];
  }));
}"""


@pytest.fixture(scope="module")
def report() -> str:
    return evaluation_page(samples.evaluation())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_logs_nothing_loads_nothing_and_fits_its_width(look: Look, report: str, width: int, scheme: str) -> None:
    def all_drawn(page: Any) -> None:
        for name in SECTIONS:
            assert page.locator(f"#{name} h2").is_visible()
        for name in ("tradeoffs", "slices", "depth", "calibration", "failures"):
            assert page.locator(f"#{name} svg .mark").count() > 0

    look(report, all_drawn, width=width, scheme=scheme)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_contrast_with_their_background(look: Look, report: str, scheme: str) -> None:
    selectors = [
        "h1",
        "h2",
        "p",
        "li",
        "td",
        "th",
        "small",
        ".link",
        "a",
        ".good",
        ".bad",
        ".badge",
        "svg text",
        "select",
    ]
    values = look(report, lambda page: page.evaluate(CONTRAST, selectors), scheme=scheme)
    assert {selector for selector, _ in values} == set(selectors)
    assert [row for row in values if row[1] < 4.5] == []


def test_the_verdict_stands_on_top_with_its_reasons_and_its_notes(look: Look, report: str) -> None:
    words = look(report, lambda page: page.locator(".verdict").inner_text())
    assert words.startswith("Use starter with depth 50 and top_k 5.")
    assert "No slice falls by more than chance explains." in words
    assert "judged documents that are not in the corpus: 3" in words
    assert "31\u00a0% of the candidates have a judgment" in words
    assert "api: failed on 2 queries" in words


def test_what_went_wrong_and_what_was_not_evaluated_is_said(look: Look) -> None:
    evaluation = samples.evaluation() | {"stopped": {"broken": "no such model"}}
    evaluation["data"]["sources"] = ["qrels.tsv"]
    problem = {"kind": "gave up", "count": 2, "examples": ["q7: 503"]}
    evaluation["systems"][1].update(workers=4, problems=[problem])
    words = look(evaluation_page(evaluation), lambda page: page.inner_text("#page"))
    for fact in (
        "broken was not evaluated: no such model",
        "4 queries at once",
        "starter: gave up",
        "q7: 503",
        "qrels.tsv",
    ):
        assert fact in words


def test_the_lift_by_slice_is_at_top_3_and_follows_the_field(look: Look, report: str) -> None:
    def fields(page: Any) -> list[str]:
        values = [page.locator("#slices figcaption").inner_text()]
        page.get_by_label("Slices by").select_option("product")
        wait_for_charts(page)
        values.append(page.locator("#slices figcaption").inner_text())
        assert page.locator("#slices .mark").count() == 45
        page.get_by_role("button", name="Show all 20 values").click()
        wait_for_charts(page)
        assert page.locator("#slices .mark").count() == 60
        return values

    first, second = look(report, fields, width=400)
    assert first.startswith("nDCG@3 by query class")
    assert second.startswith("nDCG@3 by product")
    assert "The 15 values with most queries." in second


def test_the_difference_and_the_plots_follow_the_measure(look: Look, report: str) -> None:
    def pick(page: Any) -> None:
        page.get_by_label("Difference in").select_option("RR@10")
        assert "differences in RR@10" in page.locator("#systems").inner_text()
        for name in ("tradeoffs", "depth"):
            page.locator(f"#{name} select").select_option("nDCG@3")
            wait_for_charts(page)
            assert "nDCG@3" in page.locator(f"#{name} figcaption").first.inner_text()

    look(report, pick)


def test_a_system_that_another_beats_in_both_is_not_on_the_front(look: Look, report: str) -> None:
    labels = look(
        report,
        lambda page: (
            page.locator("#tradeoffs figure")
            .first.locator(".mark")
            .evaluate_all("(marks) => marks.map((mark) => mark.getAttribute('aria-label'))")
        ),
    )
    assert ["on the front" in label for label in labels if not label.startswith("first stage")] == [True, False, False]


def test_marks_are_reached_with_the_keyboard_and_say_their_figures(look: Look, report: str) -> None:
    def walk(page: Any) -> str:
        page.locator("#depth .mark[tabindex='0']").focus()
        page.keyboard.press("End")
        page.keyboard.press("ArrowLeft")
        assert page.locator("#depth .mark[tabindex='0']").count() == 1
        return page.locator("#tip").inner_text()

    assert "api, depth 75" in look(report, walk)


def test_queries_are_filtered_and_the_filters_add_up(look: Look) -> None:
    evaluation = samples.evaluation(queries=90)
    outcomes = evaluation["outcomes"]

    def by(outcome: dict[str, Any]) -> float:
        values = outcome["measures"]
        return float(values["starter"]["nDCG@10"] - values["first stage"]["nDCG@10"])

    def counts(page: Any) -> list[int]:
        values = []

        def count() -> None:
            status = page.locator("#queries .list .pager [role=status]").text_content()
            values.append(0 if status == "none" else int(status.split(" of ")[1]))

        count()
        for effect in ("helped", "hurt", "unchanged"):
            page.get_by_label("Effect").select_option(effect)
            count()
        page.get_by_label("Effect").select_option("hurt")
        page.get_by_label("Outcome", exact=True).select_option("tie")
        count()
        page.get_by_label("Outcome", exact=True).select_option("any outcome")
        page.get_by_label("Query, id or slice").fill("query class=lookup")
        count()
        return values

    hurt = [outcome for outcome in outcomes if by(outcome) < 0]
    assert look(evaluation_page(evaluation), counts) == [
        90,
        sum(by(outcome) > 0 for outcome in outcomes),
        len(hurt),
        sum(by(outcome) == 0 for outcome in outcomes),
        sum(outcome["failures"].get("starter") == "tie" for outcome in hurt),
        sum(outcome["slices"]["query class"] == "lookup" for outcome in hurt),
    ]


def test_a_query_shows_where_its_relevant_documents_stand(look: Look, report: str) -> None:
    def choose(page: Any) -> str:
        page.get_by_label("Query, id or slice").fill("number 7 ")
        page.locator(LIST).first.focus()
        page.keyboard.press("Enter")
        return page.locator("#queries .detail").inner_text()

    words = look(report, choose, width=400)
    assert "How do I reset the thing number 7 after an update?" in words
    assert "Ranks of the relevant documents" in words
    assert "doc-7-0" in words


def test_five_thousand_queries_stay_usable(look: Look) -> None:
    def turn(page: Any) -> int:
        page.get_by_label("Order").select_option("largest loss first")
        page.locator("#queries .list").get_by_role("button", name="Next").click()
        return page.evaluate("document.querySelectorAll('*').length")

    assert look(evaluation_page(samples.evaluation(queries=5000)), turn, width=400) < 3000


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("names", [(), ("only",), MANY])
def test_it_holds_any_number_of_systems(look: Look, names: tuple[str, ...], width: int) -> None:
    words = look(
        evaluation_page(samples.evaluation(names=names)), lambda page: page.inner_text("#systems"), width=width
    )
    assert ("nothing to compare" in words) is (not names)


def test_an_evaluation_with_nothing_in_it_says_so(look: Look) -> None:
    evaluation = samples.evaluation(queries=0)
    evaluation |= {"comparisons": [], "slices": [], "outcomes": []}
    evaluation["data"] |= {"problems": [], "ceiling": {}}
    for system in evaluation["systems"]:
        unknown = ("p50", "p95", "tokens", "cost", "truncated", "reliability", "scale", "config")
        system |= dict.fromkeys(unknown) | {"depths": [], "failures": {}, "measures": {}}
    words = look(evaluation_page(evaluation), lambda page: page.inner_text("#page"), width=400)
    for note in (
        "No query was evaluated.",
        "No slice has enough queries to compare.",
        "No depth curve",
        "No system gives scores",
    ):
        assert note in words


@pytest.mark.parametrize(("words", "width"), [*((words, 400) for words in samples.HOSTILE), (samples.UNBROKEN, 1280)])
def test_hostile_words_are_harmless_and_seen(look: Look, words: str, width: int) -> None:
    evaluation = samples.evaluation(names=(words, "other"), queries=12)
    evaluation["data"] |= {
        "name": words,
        "fingerprint": words,
        "problems": [{"kind": words, "count": 2, "examples": [words]}],
    }
    evaluation["verdict"] |= {"words": words, "reasons": [words]}
    evaluation["version"] = evaluation["time"] = words
    for part in evaluation["slices"]:
        part |= {"value": words}
    for outcome in evaluation["outcomes"]:
        outcome |= {"id": words, "text": words * 20, "slices": {words: words}}
        outcome["places"] = [{"id": words, "grade": 1, "ranks": {words: 1}}]
    for system in evaluation["systems"]:
        system |= {"label": words, "config": {words: words}}

    def open_all(page: Any) -> str:
        page.locator(LIST).nth(1).click()
        for details in page.locator("details").all():
            details.locator("summary").click()
        assert page.locator("#page img, #page script").count() == 0
        return page.locator("#page").evaluate("(node) => node.textContent")

    assert words[:5].strip("\u2028\u2029\x00\x07") in look(evaluation_page(evaluation), open_all, width=width)


def test_six_measures_and_what_they_changed_stand_side_by_side_on_a_laptop(look: Look) -> None:
    evaluation = samples.evaluation(names=("cohere:rerank-v3.5", "ms-marco-MiniLM-L6"))
    for system in evaluation["systems"]:
        one = system["measures"]["nDCG@10"]
        system["measures"] = dict.fromkeys(("nDCG@10", "nDCG@3", "RR@10", "R@10", "P@5", "Success@3"), one)
    evaluation["settings"]["measures"] = list(evaluation["systems"][0]["measures"])
    wide = (
        "[...document.querySelectorAll('#systems .scroll')].filter((one) => one.scrollWidth > one.clientWidth).length"
    )
    assert look(evaluation_page(evaluation), lambda page: page.evaluate(wide), width=1280) == 0


def test_slices_that_were_not_compared_are_not_headed_by_an_undefined_measure(look: Look) -> None:
    evaluation = samples.evaluation()
    for part in evaluation["slices"]:
        part["comparisons"] = []
    words = look(evaluation_page(evaluation), lambda page: page.inner_text("#slices"), width=400)
    assert "No slice has enough queries to compare." in words and "undefined" not in words
