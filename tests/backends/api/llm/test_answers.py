"""How answers are read: strictly, and repaired to a permutation."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_rerank.backends.api.llm.answers import Unusable, read_choice, read_grade, read_ranking, read_yes_no
from rag_rerank.backends.api.llm.completion import Completion


def order(text: str, count: int = 4) -> tuple[int, ...]:
    return read_ranking(Completion(text), count).order


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"ranking": [3, 1, 4, 2]}', (2, 0, 3, 1)),
        ('```json\n{"ranking": [3, 1, 4, 2]}\n```', (2, 0, 3, 1)),
        ('Here it is: {"ranking": ["3", "[1]", 4, 2], "why": "because"} I hope it helps.', (2, 0, 3, 1)),
        ('<think>{"ranking": [1, 2, 3, 4]} or not?</think>{"ranking": [4, 3, 2, 1]}', (3, 2, 1, 0)),
        ('{"ranking": [1, 2, 3, 4]}\n{"ranking": [4, 3, 2, 1]}', (3, 2, 1, 0)),
        ('{"answer": {"ranking": [2, 1, 3, 4]}}', (1, 0, 2, 3)),
        ('{"ranking": [2, {"ranking": [4]}, 3]}', (1, 2, 0, 3)),
        ('{"ranking": [1, 2]} {"why": {}, "ranking": [4, {"ranking": []}]} {"end": 1}', (3, 0, 1, 2)),
        ("[3, 1, 4, 2]", (2, 0, 3, 1)),
        ("[3] > [1] > [4] > [2]", (2, 0, 3, 1)),
        ("3 > 1 > 4 > 2", (2, 0, 3, 1)),
        ('{"ranking": [3, 1', (2, 0, 1, 3)),
        ('{"ranking": [3, 3, 9, 1]}', (2, 0, 1, 3)),
        ('{"ranking": [4]}', (3, 0, 1, 2)),
    ],
)
def test_a_ranking_is_found_and_repaired(text: str, expected: tuple[int, ...]) -> None:
    assert order(text) == expected


def test_repairs_are_counted() -> None:
    permutation = read_ranking(Completion('{"ranking": [3, 3, 99, "x", true, 1.0, 1]}'), 5)
    assert (permutation.order, permutation.duplicates, permutation.foreign, permutation.missing) == (
        (2, 0, 1, 3, 4),
        1,
        4,
        3,
    )
    assert permutation.repairs == 8
    assert read_ranking(Completion('{"ranking": [2, 1]}'), 2).repairs == 0


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "  ",
            "No.",
            "Passage 2 is best.",
            "[2]",
            '{"ranking": []}',
            '{"ranking": [0, 9]}',
            '{"ranking": "2, 1"}',
        ),
        *("{" * 9_000, "[" * 9_000, '{"ranking": ' * 3_000, "1" * 100_000, "1 " + " " * 50_000 + ">"),
    ],
)
def test_without_a_ranking_an_answer_is_unusable(text: str) -> None:
    with pytest.raises(Unusable):
        order(text)


@pytest.mark.parametrize("read", [lambda c: read_ranking(c, 2), read_grade, read_choice, read_yes_no])
def test_a_refusal_is_unusable_whatever_it_says(read: object) -> None:
    with pytest.raises(Unusable, match="declined"):
        read(Completion('{"ranking": [2, 1], "grade": 3, "better": "A"}', refusal=True))  # type: ignore[operator]


@given(st.text(max_size=300), st.integers(1, 8))
def test_whatever_a_model_writes_the_order_is_a_permutation(text: str, count: int) -> None:
    try:
        permutation = read_ranking(Completion(text), count)
    except Unusable:
        return
    assert sorted(permutation.order) == list(range(count))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.sampled_from(["ranking", "x"]), inner, max_size=2),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=12), st.integers(1, 8))
def test_whatever_a_list_holds_nothing_is_invented_and_nothing_lost(items: list[object], count: int) -> None:
    try:
        permutation = read_ranking(Completion(json.dumps({"ranking": items})), count)
    except Unusable:
        return
    assert sorted(permutation.order) == list(range(count))
    assert permutation.duplicates + permutation.foreign + count - permutation.missing == len(items) or not items


@pytest.mark.parametrize(
    ("text", "grade"),
    [('{"grade": 2}', 2), ("3", 3), ("0.", 0), ('I think {"grade": "1"}', 1), ('{"grade": 1} {"grade": 3}', 3)],
)
def test_a_grade_is_read(text: str, grade: int) -> None:
    assert read_grade(Completion(text)) == grade / 3


@pytest.mark.parametrize("text", ["", "high", "4", "-1", '{"grade": 7}', '{"grade": true}', '{"grade": 2.5}', "3 or 2"])
def test_what_is_no_grade_is_unusable(text: str) -> None:
    with pytest.raises(Unusable):
        read_grade(Completion(text))


@pytest.mark.parametrize(
    ("text", "choice"), [('{"better": "B"}', "B"), ("A", "A"), (' "b". ', "B"), ("Passage A", "A"), ("**B**", "B")]
)
def test_a_choice_is_read(text: str, choice: str) -> None:
    assert read_choice(Completion(text)) == choice


@pytest.mark.parametrize("text", ["", "both", "AB", '{"better": "C"}', '{"better": ["A"]}', "A passage of B"])
def test_what_is_no_choice_is_unusable(text: str) -> None:
    with pytest.raises(Unusable):
        read_choice(Completion(text))


def yes(*places: dict[str, float]) -> float | None:
    return read_yes_no(
        Completion("yes", logprobs=tuple({t: math.log(p) for t, p in place.items()} for place in places))
    )


def test_yes_is_scored_among_yes_and_no() -> None:
    assert yes({"yes": 0.6, "no": 0.2, "maybe": 0.2}) == pytest.approx(0.75)
    assert yes({"Yes": 0.3, " yes": 0.3, '"yes"': 0.2, "No": 0.2}) == pytest.approx(0.8)
    assert yes({"\n": 0.9, "**": 0.1}, {"no": 0.9, "yes": 0.1}) == pytest.approx(0.1)
    assert yes() is None


def test_a_word_that_is_not_listed_counts_with_its_bound() -> None:
    assert yes({"yes": 0.7, "Yes": 0.2, "yeah": 0.06}) == pytest.approx(0.9 / 0.94)  # 0.04 are left
    assert yes({"yes": 0.7, "sure": 0.02}) == pytest.approx(0.7 / 0.72)
    sure, surer = yes({"yes": 0.99}), yes({"yes": 0.999})
    assert sure is not None and surer is not None and sure < surer < 1


def test_without_yes_and_no_an_answer_is_unusable() -> None:
    with pytest.raises(Unusable):
        yes({"maybe": 0.9, "well": 0.1})
