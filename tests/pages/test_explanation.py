"""The view of an explanation in a browser: it fits, loads nothing, and shows hostile words as text."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from support.pages import samples
from support.pages.browser import Look

from rag_rerank.backends.late_interaction import LateInteractionReranker

TEXT = "K2 is 8,611 m high. " * 20 + "Lake Garda is 346 m deep."

CONTRAST = """() => {
  const parts = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((one) => one / 255).map((x) => (x <= 0.04 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const canvas = document.createElement("div");
  canvas.style.background = "Canvas";
  document.body.append(canvas);
  const paper = parts(getComputedStyle(canvas).backgroundColor);
  canvas.remove();
  let least = 99;
  for (const node of document.querySelectorAll("span, td")) {
    const [r, g, b, alpha = 1] = parts(getComputedStyle(node).backgroundColor);
    const under = [r, g, b].map((one, i) => alpha * one + (1 - alpha) * paper[i]);
    const [one, two] = [light(under), light(parts(getComputedStyle(node).color).slice(0, 3))].sort((a, b) => b - a);
    least = Math.min(least, (one + 0.05) / (two + 0.05));
  }
  return least;
}"""


@cache
def reranker() -> LateInteractionReranker:
    return LateInteractionReranker(on_unreadable="score")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_and_can_be_read(look: Look, width: int, scheme: str) -> None:
    html = reranker().explain("how high is K2, and how deep is the lake?", TEXT).to_html()

    def read(page: Any) -> tuple[float, str]:
        return page.evaluate(CONTRAST), page.inner_text("body")

    contrast, words = look(html, read, width=width, scheme=scheme)
    assert contrast >= 4.5
    assert "Why this score" in words and "best match" in words and "logit" in words and "40 of" in words


@pytest.mark.parametrize("words", samples.HOSTILE)
def test_hostile_words_are_shown_as_text(look: Look, words: str) -> None:
    explanation = reranker().explain(f"lake {words}", f"Lake Garda {words}")
    text = look(explanation.to_html(), lambda page: page.inner_text("body"))
    visible = "".join(words.split())
    shown = "".join(text.split())
    assert visible in shown or not visible.isprintable() or not visible.isascii()
    assert "<script" not in explanation._repr_html_().lower()


def test_a_long_query_and_text_make_a_small_page(look: Look) -> None:
    html = reranker().explain("which lake is deeper than the other? " * 30, TEXT * 10).to_html()
    look(html, width=400)
    assert len(html) < 500_000
