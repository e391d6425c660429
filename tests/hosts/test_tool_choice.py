"""The text that stands for a tool, and what a turn is about."""

from __future__ import annotations

from typing import Any

import pytest

from rag_rerank.hosts import tool_text, turn_query
from rag_rerank.hosts.recent_values import RecentValues


@pytest.mark.parametrize(
    ("name", "description", "schema", "text"),
    [
        ("createEvent", " Create it. ", {}, "create Event\nCreate it."),
        ("github__list-issues2", "", {"properties": {}}, "github list issues2"),
        (
            "f",
            "D",
            {"properties": {"user_id": {"description": "Whose"}, "n": {"type": "integer"}}},
            "f\nD\nuser id: Whose; n",
        ),
        ("f", "D", {"properties": {"x": True}}, "f\nD\nx"),
        ("f", "D", {"properties": None}, "f\nD"),
    ],
)
def test_the_text_of_a_tool(name: str, description: str, schema: dict[str, Any], text: str) -> None:
    assert tool_text(name, description, schema).lower() == text.lower()


@pytest.mark.parametrize(
    ("message", "before", "query"),
    [
        ("Yes.", "I found it. Shall I book it?", "Shall I book it?\nYes."),
        ("はい", "見つかりました。予約しますか？", "予約しますか？\nはい"),
        ("Yes.", "It is **booked?**", "It is **booked?**\nYes."),
        ("Thanks.", "Is it raining? No.", "Thanks."),
        ("Hi.", "", "Hi."),
        (" ", "Shall I?", " "),
    ],
)
def test_an_answer_is_read_with_its_question(message: str, before: str, query: str) -> None:
    assert turn_query(message, before) == query


def test_recent_values_forget_what_was_not_used_for_the_longest_time() -> None:
    values = RecentValues[int](2)
    a, b, c = (RecentValues.key([text, "x"]) for text in ("a", "b", "c\ud800"))
    values.put(a, 1)
    values.put(b, 2)
    assert values.get(a) == 1
    values.put(c, 3)
    assert [values.get(key) for key in (a, b, c)] == [1, None, 3]
    assert RecentValues.key(["ab", "c"]) != RecentValues.key(["a", "bc"])
