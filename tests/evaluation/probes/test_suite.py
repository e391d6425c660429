"""Rules that the contrasts keep."""

import hashlib
import json
import re
from collections import Counter
from itertools import combinations
from statistics import mean

import pytest

from rag_rerank.errors import InputError
from rag_rerank.evaluation.probes import VERSION, Contrast, probe, suite
from rag_rerank.evaluation.probes.suite import FILE

SHA_256 = {1: "bee763838488b00c89e5b943f00bf8a95eca39f22cdf4721a01f641b407eec8e"}
"""Version of the suite -> hash of its file. A changed suite is a new version, so a published row never changes."""

HEADER, *LINES = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
KINDS = tuple(dict.fromkeys(contrast.kind for contrast in suite()))


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def alike(one: str, other: str) -> float:
    """Return the Jaccard index of two texts' words."""
    first, second = set(words(one)), set(words(other))
    return len(first & second) / (len(first | second) or 1)


def longer(contrast: Contrast) -> bool:
    return len(words(contrast.better)) > mean(len(words(text)) for text in contrast.worse)


def test_a_changed_file_is_a_new_version() -> None:
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == SHA_256[VERSION]
    assert HEADER["version"] == VERSION


def test_the_file_and_its_readme_say_that_it_is_never_for_training() -> None:
    readme = FILE.with_name("README.md").read_text(encoding="utf-8")
    assert HEADER["canary"] in readme
    assert "never train" in HEADER["canary"] and "Never train" in readme
    assert re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", HEADER["canary"])


def test_every_line_has_the_fields_of_a_contrast_and_no_other() -> None:
    for line in LINES:
        assert list(line) in (
            ["id", "kind", "query", "better", "worse", "why"],
            ["id", "kind", "query", "better", "worse", "ordered", "why"],
        )
        assert line.get("ordered", True) is True
        contrast = Contrast.from_dict(line)
        assert Contrast.from_dict(json.loads(json.dumps(contrast.to_dict()))) == contrast


def test_there_are_at_least_fourteen_kinds_of_fifteen() -> None:
    counts = Counter(contrast.kind for contrast in suite())
    assert len(counts) >= 14
    assert min(counts.values()) >= 15


def test_ids_are_the_kind_and_a_running_number() -> None:
    numbers = {kind: iter(range(1, 1000)) for kind in KINDS}
    assert [contrast.id for contrast in suite()] == [f"{c.kind}-{next(numbers[c.kind]):02}" for c in suite()]


def test_texts_are_clean_and_neither_blank_nor_long() -> None:
    for contrast in suite():
        assert 1 <= len(contrast.worse) <= 3
        for text in (contrast.query, *contrast.passages, contrast.why):
            assert text == text.strip() and words(text), contrast.id
            assert all(sign.isprintable() or sign == "\n" for sign in text), contrast.id
            assert "  " not in text or contrast.kind == "code", contrast.id
        assert len(words(contrast.query)) <= 14, contrast.id
        assert all(len(words(text)) <= 80 for text in contrast.passages), contrast.id


def test_no_text_stands_twice() -> None:
    for texts in ([c.query for c in suite()], [text for c in suite() for text in c.passages]):
        assert [text for text, count in Counter(texts).items() if count > 1] == []


def test_no_two_contrasts_are_nearly_the_same() -> None:
    for one, other in combinations(suite(), 2):
        close = [(a, b) for a in one.passages for b in other.passages if alike(a, b) > 0.5]
        assert not close, f"{one.id}, {other.id}: {close}"


@pytest.mark.parametrize("kind", KINDS)
def test_the_better_passage_is_neither_the_longer_nor_the_shorter_one(kind: str) -> None:
    assert 5 <= sum(map(longer, suite([kind]))) <= 10


def test_over_all_kinds_length_says_nothing() -> None:
    assert 0.4 < mean(map(longer, suite())) < 0.6
    better = mean(len(words(contrast.better)) for contrast in suite())
    worse = mean(len(words(text)) for contrast in suite() for text in contrast.worse)
    assert 0.9 < better / worse < 1.1


def test_shared_words_help_no_more_than_guessing() -> None:
    report = probe("lexical")
    assert report.all.rate < report.all.chance
    for row in report.kinds:
        assert row.passed <= 10, f"{row.kind} is solved by shared words"
        assert row.passed >= 3 or row.kind == "paraphrase", f"{row.kind} is solved by avoiding shared words"


def test_kinds_are_picked_in_the_order_of_the_file() -> None:
    assert {contrast.kind for contrast in suite(["numbers", "negation"])} == {"negation", "numbers"}
    assert suite(["numbers", "negation"])[0].kind == "negation"


@pytest.mark.parametrize(
    ("kinds", "message"), [(["nmbers"], "did you mean 'numbers'"), ([], "at least one"), ("numbers", "in a list")]
)
def test_a_kind_that_there_is_not_is_reported(kinds: "list[str] | str", message: str) -> None:
    with pytest.raises(InputError, match=message):
        suite(kinds)


def test_only_an_ordered_contrast_asks_for_the_order_of_the_worse_ones() -> None:
    free = Contrast(id="x-01", kind="x", query="q", better="a", worse=("b", "c"), why="y")
    chain = Contrast(id="x-02", kind="x", query="q", better="a", worse=("b", "c"), ordered=True, why="y")
    assert (free.pairs, free.chance) == (((0, 1), (0, 2)), 1 / 3)
    assert (chain.pairs, chain.chance) == (((0, 1), (0, 2), (1, 2)), 1 / 6)
