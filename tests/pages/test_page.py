"""Pages as text: data cannot leave their block, and what is left out is reported."""

from __future__ import annotations

import copy
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from typing import Any

import pytest
from support.pages import samples

from rag_rerank.pages.page import evaluation_page, trace_page

PARTS = ("style.css", "charts.js", "trace.js", "evaluation.js")


def part(name: str) -> str:
    return files("rag_rerank.pages").joinpath(name).read_text(encoding="utf-8")


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def data(page: str) -> Any:
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert block is not None
    return json.loads(block[1], parse_constant=refuse)


@pytest.mark.parametrize("words", samples.HOSTILE)
def test_words_cannot_leave_the_data_block_and_come_back_as_they_were(words: str) -> None:
    record = samples.record(1) | {"query": words, "tags": {words: words}, "error": words}
    page = trace_page([record])
    assert page.lower().count("</script") == trace_page([]).lower().count("</script")
    assert data(page)["calls"] == [record]


def test_an_evaluation_comes_back_as_it_was() -> None:
    evaluation = samples.evaluation()
    assert data(evaluation_page(evaluation))["evaluation"] == json.loads(json.dumps(evaluation))


def test_numbers_that_are_not_finite_become_unknown_and_are_counted() -> None:
    record = samples.record() | {"seconds": float("nan"), "tags": {"a": float("inf"), "b": [-float("inf")]}}
    page_data = data(trace_page([record]))
    assert page_data["calls"][0]["seconds"] is None
    assert page_data["calls"][0]["tags"] == {"a": None, "b": [None]}
    assert page_data["not_finite"] == 3


def test_what_json_cannot_hold_is_named_by_its_type() -> None:
    evaluation = samples.evaluation() | {"version": object()}
    assert data(evaluation_page(evaluation))["evaluation"]["version"] == "<object>"


def test_the_policy_allows_the_parts_of_the_page_by_their_hash_and_nothing_else() -> None:
    for page in (trace_page([]), evaluation_page(samples.evaluation())):
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
        assert policy is not None
        inline = [
            *re.findall(r"<style>(.*?)</style>", page, re.DOTALL),
            *re.findall(r"<script>(.*?)</script>", page, re.DOTALL),
        ]
        hashes = [f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in inline]
        style, *scripts = hashes
        assert policy[1] == (
            f"default-src 'none'; style-src {style}; script-src {' '.join(scripts)}; "
            "base-uri 'none'; form-action 'none'"
        )


@pytest.mark.parametrize("name", PARTS)
def test_the_parts_never_write_html_and_name_no_address(name: str) -> None:
    text = part(name).replace("http://www.w3.org/2000/svg", "")
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
        "XMLHttp",
    ):
        assert word not in text
    assert "//" not in re.sub(r"(^|\s)//", "", text)
    assert "url(" not in text
    assert "@import" not in text


def test_style_and_scripts_of_a_page_weigh_less_than_60_kB() -> None:
    for own in ("trace.js", "evaluation.js"):
        assert sum(len(part(name).encode()) for name in ("style.css", "charts.js", own)) < 60_000


def test_a_long_recording_keeps_its_last_calls_and_counts_all() -> None:
    page_data = data(trace_page((samples.record(i) for i in range(25)), calls=10))
    assert [call["id"] for call in page_data["calls"]] == [f"{i:032x}" for i in range(15, 25)]
    assert page_data["overview"]["calls"] == 25


def test_large_calls_are_left_out_until_the_rest_fits() -> None:
    calls = [samples.record(i) for i in range(8)]
    one = len(json.dumps(calls[0], separators=(",", ":")))
    assert 2 <= len(data(trace_page(calls, size=4 * one))["calls"]) <= 4
    assert [call["id"] for call in data(trace_page(calls, size=1))["calls"]] == [calls[-1]["id"]]


def test_records_are_read_once_and_left_as_they_are() -> None:
    records = [samples.record(i) for i in range(4)]
    before = copy.deepcopy(records)

    def once() -> Iterator[dict[str, Any]]:
        yield from records

    assert len(data(trace_page(once()))["calls"]) == 4
    assert records == before


def test_the_overview_counts_by_reranker_and_knows_what_is_not_known() -> None:
    records = [samples.record(i) | {"seconds": i / 10} for i in range(1, 21)]
    for record in records[:5]:
        record["usage"] = {**record["usage"], "tokens": None, "cost": 0.5, "estimated": ["cost"]}
    page_data = data(trace_page(records))["overview"]
    assert (page_data["p50"], page_data["p95"]) == (1.0, 1.9)
    assert page_data["tokens"] == sum(1200 + i for i in range(6, 21))
    assert (page_data["tokens_known"], page_data["cost"], page_data["cost_known"]) == (15, 2.5, 5)
    assert page_data["estimated"] == ["cost"]
    assert (page_data["errors"], page_data["degraded"]) == (4, 7)
    assert (page_data["covered"], page_data["cut"]) == (240, 40)
    assert (page_data["first"], page_data["last"]) == (records[0]["time"], records[-1]["time"])
    assert [(row["reranker"], row["calls"]) for row in page_data["rerankers"]] == [
        ("onnx:starter", 10),
        ("cascade", 10),
    ]


def test_no_record_gives_a_page_too() -> None:
    assert data(trace_page([])) == {
        "overview": {
            **dict.fromkeys(("calls", "errors", "degraded", "tokens_known", "cost_known", "covered", "cut"), 0),
            **dict.fromkeys(("p50", "p95", "tokens", "cost", "first", "last"), None),
            "estimated": [],
            "rerankers": [],
        },
        "not_finite": 0,
        "calls": [],
    }
