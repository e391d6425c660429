"""What texts have in common, counted fast, is what it is when counted plainly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_rerank.training.data import overlap
from rag_rerank.training.data.overlap import Words, containment, shared_runs, words

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join), max_size=8)


def plain(text: str, width: int) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[at : at + width]) for at in range(len(found) - width + 1)}


@settings(max_examples=150)
@given(TEXTS, TEXTS, st.integers(1, 4), st.sampled_from([0.1, 0.5, 0.8, 1.0]), st.sampled_from([1, 7, 10**6]))
def test_pairs_are_all_those_and_only_those_that_counting_finds(
    left: list[str], right: list[str], width: int, share: float, block: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "_BLOCK", block)
        numbers: dict[str, int] = {}
        one, other = Words(left, numbers), Words(right, numbers)
        small, large = one.shingles(width), other.shingles(width)
        found = [pair for p in containment(small, large, share) for pair in zip(p.small, p.large, p.share, strict=True)]
    expected = []
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            both, all_ = plain(a, width) & plain(b, width), plain(a, width)
            if all_ and len(both) / len(all_) >= share - 1e-9:
                expected.append((i, j, len(both) / len(all_)))
    assert sorted((int(i), int(j)) for i, j, _ in found) == [(i, j) for i, j, _ in expected]
    assert [round(float(s), 9) for _, _, s in sorted(found, key=lambda f: (f[0], f[1]))] == [
        round(s, 9) for _, _, s in expected
    ]


@given(TEXTS, TEXTS, st.integers(1, 4))
def test_each_text_that_shares_a_run_is_found_with_one_that_shares_it(
    left: list[str], right: list[str], width: int
) -> None:
    numbers: dict[str, int] = {}
    one, other = Words(left, numbers), Words(right, numbers)
    found = dict(zip(*(side.tolist() for side in shared_runs(one.shingles(width), other.shingles(width))), strict=True))
    assert set(found) == {i for i, a in enumerate(left) if any(plain(a, width) & plain(b, width) for b in right)}
    assert all(plain(left[i], width) & plain(right[j], width) for i, j in found.items())


def test_words_have_no_case_and_no_punctuation_and_unspaced_scripts_fall_into_characters() -> None:
    assert words("The (Ball-)Python!") == ["the", "ball", "python"]
    assert words("蛇を飼う") == ["蛇", "を", "飼", "う"]
