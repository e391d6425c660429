"""Template: metadata in the scored text, while hits and places stay those of the candidate's own text."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import rag_rerank
from rag_rerank import (
    Cached,
    Candidate,
    Cascade,
    ConfigError,
    RelevantSpans,
    Reranker,
    Stage,
    Template,
    Windows,
    build,
    load,
    pack,
    to_config,
)
from rag_rerank.testing import ScriptedReranker

TOKENIZER = str(Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1" / "tokenizer.json")
K2 = Candidate("k2", "It is 8,611 m high. It is in Asia.", 0.5, {"title": "K2", "tags": ["peak", "snow"], "year": 2024})


def texts_read(template: Any, *candidates: Candidate) -> list[str]:
    scripted = ScriptedReranker()
    Template(reranker=scripted, text=template).rerank("q", candidates)
    return list(scripted.calls[0][1])


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (["title"], f"K2\n{K2.text}"),
        ("{title} ({year}): {text}", f"K2 (2024): {K2.text}"),
        ("{text}\nTags: {tags}", f"{K2.text}\nTags: peak, snow"),
        ("{author}\n{title} {text}", f"K2 {K2.text}"),
        ("{title}", "K2"),
    ],
)
def test_the_reranker_reads_what_the_template_makes(template: Any, text: str) -> None:
    assert texts_read(template, K2) == [text]


def test_what_is_missing_is_left_out_and_counted() -> None:
    scripted = ScriptedReranker()
    none = Candidate("none", "No title.", metadata={"title": None})
    ranking = Template(reranker=scripted, text="{title} {year} {text}").rerank("q", [K2, none, Candidate("c", "None.")])
    assert scripted.calls[0][1] == (f"K2 2024 {K2.text}", "No title.", "None.")
    assert ranking.trace.notes == (
        "metadata 'title': missing in 2 of 3 candidates, and left out there",
        "metadata 'year': missing in 2 of 3 candidates, and left out there",
    )


def test_hits_are_the_callers_candidates_and_packing_counts_their_own_text() -> None:
    ranking = Template(reranker=ScriptedReranker(), text=["title"]).rerank("q", [K2])
    assert ranking[0].candidate is K2
    assert pack(ranking, max_tokens=100, tokenizer=TOKENIZER).text == K2.text


def test_a_blank_text_is_not_scored_whatever_its_title() -> None:
    scripted = ScriptedReranker()
    ranking = Template(reranker=scripted, text=["title"]).rerank(
        "q", [K2, Candidate("b", " ", metadata={"title": "K2"})]
    )
    assert [(hit.id, hit.unscored) for hit in ranking] == [("k2", None), ("b", "blank text")]
    assert len(scripted.calls[0][1]) == 1


@pytest.mark.parametrize("template", ["{title}\n{text}", "{title}: {text}", "{text} {title}"])
def test_spans_are_places_in_the_own_text(template: str) -> None:
    """The spans of the text alone are the reference for places; scores differ, because the title was read with it."""
    inside = Template(reranker=build("spans", reranker="embedded"), text=template).rerank("How high is K2?", [K2])
    spans = inside[0].spans
    assert spans
    assert all(0 <= span.start < span.end <= len(K2.text) for span in spans)
    parts = [K2.text[span.start : span.end].strip() for span in spans]
    assert parts == ["It is 8,611 m high.", "It is in Asia."]


def test_sentences_that_are_scored_as_texts_are_read_with_the_title() -> None:
    scripted = ScriptedReranker(answers_on="sigmoid")
    template = Template(reranker=scripted, text="{title}: {text}")
    ranking = RelevantSpans(reranker=template).rerank("q", [K2])
    assert scripted.calls[1][1] == ("K2: It is 8,611 m high.", "K2: It is in Asia.")
    assert [(s.start, s.end) for s in ranking[0].spans or ()] == [(0, 19), (20, 34)]


def test_each_window_is_read_with_the_title_and_is_a_place_in_the_own_text() -> None:
    long = Candidate("long", " ".join(f"word{i} lake" for i in range(30)), metadata={"title": "Garda"})
    scripted = ScriptedReranker()
    template = Template(reranker=scripted, text="{title}: {text}")
    ranking = Windows(reranker=template, tokens=40, overlap=4, tokenizer=TOKENIZER).rerank("q", [long])
    read = scripted.calls[0][1]
    assert len(read) > 1 and all(text.startswith("Garda: ") for text in read)
    start, end = ranking[0].window or (0, 0)
    assert f"Garda: {long.text[start:end]}" in read
    assert ranking[0].text == long.text


def test_windows_inside_keep_places_in_the_own_text() -> None:
    text = "lake " * 30 + "peak " * 30
    best = {}
    inner = ScriptedReranker(by_text=best)
    windows = Windows(reranker=inner, tokens=20, overlap=0, tokenizer=TOKENIZER)
    template = Template(reranker=windows, text="{title} {text}")
    candidate = Candidate("c", text, metadata={"title": "one two three"})
    template.rerank("q", [candidate])
    parts = inner.calls[0][1]
    for number, part in enumerate(parts):
        best.clear()
        best[part] = 1.0
        start, end = template.rerank("q", [candidate])[0].window or (0, 0)
        assert text[start:end] == (part.removeprefix("one two three ") if number == 0 else part)
    assert "".join(parts) == f"one two three {text}"


def test_windows_around_need_a_tokenizer() -> None:
    template = Template(reranker=build("embedded"), text=["title"])
    with pytest.raises(ConfigError, match="name a tokenizer"):
        Windows(reranker=template)


def test_a_cache_inside_keeps_the_scores_of_the_texts_that_were_read() -> None:
    cached = Cached(reranker=ScriptedReranker())
    with_title, alone = Template(reranker=cached, text=["title"]), Template(reranker=cached, text="{year} {text}")
    assert with_title.rerank("q", [K2]).usage.cached == 0
    assert with_title.rerank("q", [K2]).usage.cached == 1
    assert alone.rerank("q", [K2]).usage.cached == 0
    with pytest.raises(ConfigError, match="cache its members instead"):
        Cached(reranker=with_title)  # type: ignore[arg-type]


def test_each_stage_of_a_cascade_reads_what_its_own_template_says() -> None:
    first, second = ScriptedReranker(), ScriptedReranker()
    stages = (Stage(reranker=first), Stage(reranker=Template(reranker=second, text=["title"])))
    asyncio.run(Cascade(stages=stages).arerank("q", [K2]))
    assert (first.calls[0][1], second.calls[0][1]) == ((K2.text,), (f"K2\n{K2.text}",))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("no field", "text: the template 'no field' has no field"),
        ("{title", "text: ill-formed template line"),
        ("{title!r} {text}", "text: the field {title!r} of the template is no metadata key"),
        ("{title:>9} {text}", "text: the field {title:>9} of the template is no metadata key"),
        ("{0} {text}", "text: the field {0} of the template is no metadata key"),
        ([], "text: expected a template or a list of metadata keys"),
        ([""], "text: expected a template or a list of metadata keys"),
        ("{text}", "text: the template reads no metadata"),
        (["text"], "text: the template reads no metadata"),
        (7, "text: expected a template or a list of metadata keys"),
    ],
    ids=str,
)
def test_templates_that_are_not_allowed(template: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Template(reranker=ScriptedReranker(), text=template)
    assert str(error.value).startswith(message)


def test_a_config_builds_it_and_the_template_is_part_of_the_identity(tmp_path: Path) -> None:
    file = tmp_path / "rerank.yaml"
    file.write_text('type: template\nreranker: lexical\ntext: "{title}\\n{text}"\n', encoding="utf-8")
    reranker = load(file)
    assert reranker == Template(reranker=build("lexical"), text="{title}\n{text}")
    by_keys: Reranker = build({"type": "template", "reranker": "lexical", "text": ["title"]})
    assert build(to_config(by_keys)) == by_keys
    other = build({"type": "template", "reranker": "lexical", "text": ["date"]})
    assert len({reranker.identity, by_keys.identity, other.identity}) == 3
