"""Nothing is on both sides, and added data do not move the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.training.examples import example, examples

from rag_rerank.errors import ConfigError, InputError
from rag_rerank.training.data.examples import Example, Examples
from rag_rerank.training.data.split import split

MANY = [example(f"query {i}", f"passage {i}") for i in range(300)]
LINKED = st.lists(
    st.tuples(st.integers(0, 60), st.lists(st.integers(0, 60), min_size=1, max_size=2), st.integers(0, 2)),
    min_size=30,
    max_size=60,
)


def build(rows: list[tuple[int, list[int], int]]) -> Examples:
    return examples(
        *(example(f"query {q}", *(f"Passage {p}!" for p in sorted(set(ps))), source=f"s{s}") for q, ps, s in rows)
    )


def queries(side: Examples) -> set[str]:
    return {e.query for e in side.examples}


def texts(side: Examples) -> set[str]:
    return {p.text for e in side.examples for p in e.passages}


@given(LINKED, st.integers(0, 5))
def test_no_query_and_no_passage_is_on_both_sides_and_none_is_lost(
    rows: list[tuple[int, list[int], int]], seed: int
) -> None:
    whole = build(rows)
    try:
        training, validation = split(whole, share=0.3, seed=seed)
    except InputError:
        return
    assert not queries(training) & queries(validation)
    assert not texts(training) & texts(validation)
    sides = [*training.examples, *validation.examples]
    assert sorted(map(repr, sides)) == sorted(map(repr, whole.examples))


def test_a_chain_of_shared_texts_stays_together_whatever_the_case() -> None:
    chain = [example("one", "A"), example("two", "a.", "b"), example("TWO?", "c"), example("three", "C!")]
    for seed in range(20):
        training, _ = split(examples(*MANY[:40], *chain), share=0.4, seed=seed)
        together = queries(training) & {"one", "two", "TWO?", "three"}
        assert len(together) in (0, 4)


def test_the_same_seed_gives_the_same_sides_and_another_seed_others() -> None:
    whole = examples(*MANY)
    assert split(whole, seed=1) == split(whole, seed=1)
    assert split(whole, seed=1) != split(whole, seed=2)


def test_about_the_share_is_sampled() -> None:
    _, validation = split(examples(*MANY), share=0.2)
    assert 40 <= len(validation.examples) <= 80


def test_added_data_do_not_move_the_rest() -> None:
    _, before = split(examples(*MANY[:200]))
    _, after = split(examples(*MANY, example("query 7", "more of it")))
    assert queries(before) == queries(after) & {e.query for e in MANY[:200]}


def test_of_many_sources_whole_ones_are_sampled() -> None:
    rows = [example(f"query {s} {i}", f"passage {s} {i}", source=f"source {s}") for s in range(60) for i in range(3)]
    training, validation = split(examples(*rows))
    sample = {e.source for e in validation.examples}
    assert sample and not sample & {e.source for e in training.examples}
    assert [source.name for source in validation.sources] == [
        s for s in dict.fromkeys(e.source for e in rows) if s in sample
    ]
    assert len(training.sources) + len(validation.sources) == 60


def test_of_few_sources_both_sides_get_some() -> None:
    rows = [example(f"query {i}", f"passage {i}", source=f"source {i % 3}") for i in range(300)]
    training, validation = split(examples(*rows))
    assert {e.source for e in training.examples} == {e.source for e in validation.examples}


def test_a_source_that_is_too_large_is_not_sampled_whole() -> None:
    large = [example(f"large {i}", f"large passage {i}", source="large") for i in range(900)]
    rows = [example(f"query {s}", f"passage {s}", source=f"source {s}") for s in range(60)]
    _, validation = split(examples(*large, *rows))
    assert 48 <= len(validation.examples) <= 192
    assert {"large"} < {e.source for e in validation.examples}


@pytest.mark.parametrize(
    "rows",
    [[], MANY[:1], [example(f"query {i}", "the one passage") for i in range(50)]],
    ids=["none", "one", "all joined"],
)
def test_what_cannot_be_split_is_refused_with_the_reason(rows: list[Example]) -> None:
    with pytest.raises(InputError, match=r"cannot be split: they make . clusters"):
        split(examples(*rows))


def test_with_one_corpus_for_both_only_queries_are_on_one_side() -> None:
    rows = [example(f"query {i}", "the one passage") for i in range(100)]
    training, validation = split(examples(*rows), share=0.3, shared_corpus=True)
    assert validation.examples and not queries(training) & queries(validation)


@pytest.mark.parametrize("share", [0, 1, -0.5, 2, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"^share: must be between"):
        split(examples(*MANY), share=share)
