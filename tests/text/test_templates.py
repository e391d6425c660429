"""Templates: every field that says something is read once, and nothing else ever appears."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_rerank import ConfigError
from rag_rerank.text.templates import TextTemplate


def render(template: Any, metadata: dict[str, Any], content: str = "body") -> tuple[str, int | None]:
    return TextTemplate.parse(template, content="text").render(metadata, content)


words = st.text(st.characters(whitelist_categories=["L", "N"]), min_size=1, max_size=6)


@given(
    values=st.dictionaries(st.sampled_from("abcde"), words | st.none() | st.just(" "), max_size=5),
    lines=st.lists(st.lists(st.sampled_from([*"abcde", "text"]), min_size=1, max_size=3), min_size=1, max_size=4),
    separator=st.sampled_from([" - ", " ", ": ", "|"]),
    content=words,
)
def test_values_come_in_order_and_the_content_begins_where_it_is_said_to(
    values: dict[str, str | None], lines: list[list[str]], separator: str, content: str
) -> None:
    template = "\n".join(separator.join(f"{{{key}}}" for key in line) for line in lines)
    text, start = render(template, values, content)
    known = {key: value for key, value in values.items() if value and value.strip()} | {"text": content}
    expected = [[known[key] for key in line if key in known] for line in lines]
    parts = [line.replace(separator, " ").split() for line in text.split("\n")] if text else []
    assert parts == [line for line in expected if line]
    reads = any("text" in line for line in lines)
    assert (start is not None) == reads
    if start is not None:
        assert text[start:].startswith(content)
        before = [value for line in expected for value in line]
        position = [key for line in lines for key in line if key in known].index("text")
        assert text[:start].replace(separator, " ").split() == before[:position]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (0, "0"),
        (False, "False"),
        (2.5, "2.5"),
        (np.int64(3), "3"),
        (np.float32("nan"), ""),
        (np.array(["a", "b"]), "a, b"),
        (pd.NA, ""),
        (pd.NaT, ""),
        (float("nan"), ""),
        (None, ""),
        ("\u200b", ""),
        (Decimal("1.10"), "1.10"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (["a", None, "", "b"], "a, b"),
        (("a",), "a"),
        ([], ""),
    ],
)
def test_a_value_of_any_type_is_text_and_what_says_nothing_is_left_out(value: Any, text: str) -> None:
    assert render(["key"], {"key": value}) == (f"{text}\nbody" if text else "body", len(text) + 1 if text else 0)


def test_braces_in_values_and_in_the_content_are_no_fields() -> None:
    assert render("{a} {text}", {"a": "{b}", "b": "no"}, "{a} {{b}}") == ("{b} {a} {{b}}", 4)


def test_a_list_takes_keys_literally() -> None:
    assert render(["a b", "{x}", "1", "dc:title"], {"a b": 1, "{x}": 2, "1": 3, "dc:title": 4}) == (
        "1\n2\n3\n4\nbody",
        8,
    )


def test_the_content_shadows_a_metadata_key_of_its_name() -> None:
    assert render(["text"], {"text": "metadata"}) == ("body", 0)


@pytest.mark.parametrize(
    "template", ["", "a", "{", "}", "{a", "{}", "{0}", "{a!s}", "{a:x}", "{a[b]}", "{a{b}}", [], [""]]
)
def test_what_is_no_template_is_refused(template: Any) -> None:
    with pytest.raises(ConfigError):
        TextTemplate.parse(template, content="text")
