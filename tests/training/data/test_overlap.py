"""The fast search for common words finds the same as a plain one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_rerank.text.words import split_words
from rag_rerank.training.data import overlap
from rag_rerank.training.data.overlap import Words, find_contained, find_shared_runs

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join), max_size=8)


def plain(text: str, width: int) -> set[tuple[str, ...]]:
    words = split_words(text)
    return {tuple(words[at : at + width]) for at in range(len(words) - width + 1)}


@settings(max_examples=150)
@given(TEXTS, TEXTS, st.integers(1, 4), st.sampled_from([0.1, 0.5, 0.8, 1.0]), st.sampled_from([1, 7, 10**6]))
def test_pairs_are_all_those_and_only_those_that_counting_finds(
    ours: list[str], theirs: list[str], width: int, share: float, block: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "_BLOCK", block)
        numbers: dict[str, int] = {}
        one, other = Words(ours, numbers), Words(theirs, numbers)
        small, large = one.shingles(width), other.shingles(width)
        result = [
            pair for p in find_contained(small, large, share) for pair in zip(p.small, p.large, p.share, strict=True)
        ]
    expected = []
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            both, all_ = plain(a, width) & plain(b, width), plain(a, width)
            if all_ and len(both) / len(all_) >= share - 1e-9:
                expected.append((i, j, len(both) / len(all_)))
    assert sorted((int(i), int(j)) for i, j, _ in result) == [(i, j) for i, j, _ in expected]
    assert [round(float(s), 9) for _, _, s in sorted(result, key=lambda f: (f[0], f[1]))] == [
        round(s, 9) for _, _, s in expected
    ]


@given(TEXTS, TEXTS, st.integers(1, 4))
def test_each_text_that_shares_a_run_is_found_with_one_that_shares_it(
    ours: list[str], theirs: list[str], width: int
) -> None:
    numbers: dict[str, int] = {}
    one, other = Words(ours, numbers), Words(theirs, numbers)
    result = dict(
        zip(*(side.tolist() for side in find_shared_runs(one.shingles(width), other.shingles(width))), strict=True)
    )
    assert set(result) == {i for i, a in enumerate(ours) if any(plain(a, width) & plain(b, width) for b in theirs)}
    assert all(plain(ours[i], width) & plain(theirs[j], width) for i, j in result.items())


def test_words_have_no_case_and_no_punctuation_and_unspaced_scripts_fall_into_characters() -> None:
    assert split_words("The (Ball-)Python!") == ["the", "ball", "python"]
    assert split_words("蛇を飼う") == ["蛇", "を", "飼", "う"]
