"""Trimmed results of tools: nothing is lost unsaid, whatever the text is, and the budget holds."""

from __future__ import annotations

import json
import re
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_rerank import ContextWarning, recording
from rag_rerank.hosts import ResultTrimmer, result_query
from rag_rerank.hosts.result_parts import split_result
from rag_rerank.testing import ScriptedReranker
from rag_rerank.text.tokenizers import EstimatedTokens

MARK = re.compile(r"\[… ([\d,]+) tokens left out\]")

TEXTS = st.one_of(
    st.text(max_size=400),
    st.lists(
        st.sampled_from(["A word or two. ", "字" * 9 + "。", "\n\n", "- item\n", "x" * 60, "| a | b |\n", "é́", "\r\n"])
    ).map("".join),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=60) | st.just("A sentence. " * 9),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=12,
).flatmap(lambda value: st.sampled_from([json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False)]))


def words(text: str) -> int:
    return len(text.split())


def make_trimmer(scores: dict[str, float] | None = None, **options: Any) -> ResultTrimmer:
    reranker = ScriptedReranker(by_text=scores or {})
    return ResultTrimmer(
        reranker, **{"max_tokens": 50, "tokenizer": words, "instruction": None, "on_failure": "raise", **options}
    )


@settings(max_examples=40, deadline=None)
@given(TEXTS | JSON, st.integers(3, 40))
def test_parts_and_frame_cover_the_text_without_gaps(text: str, size: int) -> None:
    split = split_result(text, size, EstimatedTokens())
    spans = sorted([*split.parts, *(span for span, _ in split.frame)])
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(end == start for (_, end), (start, _) in pairwise(spans))


@pytest.mark.parametrize(
    ("text", "size", "parts"),
    [
        ('[{"a": 1}, {"b": 2}]', 10, ['{"a": 1}, ', '{"b": 2}']),
        ('{"rows": [[1, 2], [3, 4]]}', 10, ["[1, 2], ", "[3, 4]"]),
        ('{"text": "One two. Three four.\\nFive."}', 4, ["One two. ", "Three four.\\n", "Five."]),
        ("One two. Three four.\n\nFive six.", 4, ["One two. ", "Three four.\n\n", "Five six."]),
        ("[1, 2] and more, which is no JSON", 40, ["[1, 2] and more, which is no JSON"]),
    ],
)
def test_json_is_split_at_its_entries_and_text_at_its_sentences(text: str, size: int, parts: list[str]) -> None:
    split = split_result(text, size, EstimatedTokens())
    assert [text[start:end] for start, end in split.parts] == parts


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXTS | JSON, min_size=1, max_size=6))
def test_what_is_left_is_within_the_budget_and_of_the_original_in_its_order(texts: list[str]) -> None:
    trimmer = make_trimmer(tokenizer=None, max_tokens=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ContextWarning)
        result = trimmer.trim("tool", "1", "query", texts)
    assert len(result.texts) == len(texts)
    count = EstimatedTokens().count
    assert result.tokens == sum(count(text) for text in result.texts if text)
    assert result.tokens <= 60
    for original, text in zip(texts, result.texts, strict=True):
        place = 0
        for kept in re.split(r"\s*\[… [\d,]+ tokens left out\]\s*", text or ""):
            place = original.find(kept, place)
            assert place >= 0
            place += len(kept)


def test_the_best_parts_are_kept_and_each_gap_says_how_much_it_was() -> None:
    paragraphs = [f"{name} one two three four five six seven eight nine ten eleven twelve." for name in "ABCDEFGH"]
    result = make_trimmer({f"{paragraphs[i]}\n\n": 1.0 for i in (2, 3, 5)}, max_tokens=58).trim(
        "tool", "1", "query", ["\n\n".join(paragraphs)]
    )
    (text,) = result.texts
    assert text is not None
    assert MARK.sub("#", text).split("\n") == ["#", paragraphs[2], "", paragraphs[3], "#", paragraphs[5], "#"]
    assert [int(number) for number in MARK.findall(text)] == [26, 13, 26]
    assert result.to_dict() == {
        "tool": "tool",
        "call_id": "1",
        "tokens_before": 104,
        "tokens": words(text),
        "parts_kept": 3,
        "parts_left_out": 5,
        "degraded": [],
    }


def test_texts_that_are_left_out_one_after_the_other_share_a_mark() -> None:
    texts = [f"{name} " + "word " * 19 for name in "ABCDE"]
    result = make_trimmer({text: 1.0 for text in texts if text[0] == "C"}).trim("tool", None, "query", texts)
    assert result.texts == ("[… 40 tokens left out]", None, texts[2], "[… 40 tokens left out]", None)


def test_json_keeps_the_brackets_and_keys_around_what_is_kept() -> None:
    rows = [{"id": n, "text": f"row {n} " + "word " * 8 + "end"} for n in range(8)]
    text = json.dumps({"total": 8, "rows": rows})
    trimmer = make_trimmer({f"{json.dumps(rows[4])}, ": 1.0})
    (left,) = trimmer.trim("tool", None, "query", [text]).texts
    assert left is not None
    before, after = left.split(json.dumps(rows[4]))
    assert before.startswith('{"total": 8, "rows": [{"id": 0, ') and before.endswith("}, [… 42 tokens left out] ")
    assert after == ", [… 42 tokens left out] ]}"


def test_recorders_see_the_ranking_and_one_context(tmp_path: Path) -> None:
    with recording(tmp_path / "records.jsonl"):
        result = make_trimmer().trim("tool", None, "query", ["word " * 200])
    assert result.context is not None
    lines = (tmp_path / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["schema"] for line in lines] == ["rag_rerank.record/1", "rag_rerank.context/1"]


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ({}, "What is it?"),
        ({"q": "K2", "limit": 5, "exact": True, "after": None}, "What is it?\nK2 5"),
        ({"filter": {"names": ["Ann", "Bo", "Ann"]}, "text": "x" * 201}, "What is it?\nAnn Bo"),
        ({"q": "What is it?"}, "What is it?"),
    ],
)
def test_short_texts_among_the_arguments_are_part_of_the_query(arguments: dict[str, Any], query: str) -> None:
    assert result_query("What is it?", arguments) == query
