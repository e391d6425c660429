"""Mined negatives look relevant, are not known to be, and are the same on every run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.training.examples import example, examples

from rag_rerank import RateLimited
from rag_rerank.compose.fallback import Fallback
from rag_rerank.errors import ConfigError, InputError, ModelLoadError
from rag_rerank.evaluation.data.first_stage import best
from rag_rerank.testing import ScriptedReranker
from rag_rerank.text.words import split_words
from rag_rerank.training.data.examples import Example, Examples
from rag_rerank.training.data.hard_negatives import mine
from rag_rerank.training.data.teacher_scores import score_examples

SNAKES = examples(
    example("warm python", "a python keeps warm under a lamp"),
    example("cold python", "a python that is cold does not eat"),
    example("warm gecko", "a gecko keeps warm on a mat"),
    example("async python", "tasks in python run on a loop"),
)


def mined(result: Examples, at: int = 0) -> list[tuple[str, str]]:
    return [(p.text, p.origin) for p in result.examples[at].passages if p.grade is None]


def counts(result: Examples) -> dict[str, int]:
    return {problem.kind: problem.count for problem in result.problems}


def scripted(scores: Mapping[str, float], **options: Any) -> ScriptedReranker:
    return ScriptedReranker(by_text=scores, **options)


def test_bm25_proposes_what_shares_words_and_keeps_grades_and_order() -> None:
    result = mine(SNAKES, negatives=9)
    assert [e.query for e in result.examples] == [e.query for e in SNAKES.examples]
    assert [e.passages[0] for e in result.examples] == [e.passages[0] for e in SNAKES.examples]
    assert set(mined(result, 2)) == {("a python keeps warm under a lamp", "bm25")}
    assert counts(result) == {"queries with fewer negatives than requested": 4}


TEXT = st.lists(st.sampled_from(["Ball", "ball", "python", "PYTHON", "warm!", "gecko"]), min_size=1, max_size=3).map(
    " ".join
)
STRATEGIES = st.lists(st.sampled_from(["bm25", "random", "model"]), min_size=1, max_size=3, unique=True)


@given(st.lists(st.tuples(TEXT, TEXT, st.sampled_from("ab")), min_size=2, max_size=12), STRATEGIES, st.integers(0, 3))
def test_no_negative_has_the_words_of_a_positive_of_its_query_or_of_another_negative(
    rows: list[tuple[str, str, str]], strategies: list[Any], seed: int
) -> None:
    whole = examples(*(example(query, text, source=source) for query, text, source in rows))
    model = scripted({"ball": 1.0}) if "model" in strategies else None
    try:
        result = mine(whole, strategies=strategies, negatives=3, seed=seed, model=model)
    except InputError:
        return
    positives: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for e in whole.examples:
        positives.setdefault(tuple(split_words(e.query)), set()).update(tuple(split_words(p.text)) for p in e.passages)
    for before, after in zip(whole.examples, result.examples, strict=True):
        assert after.passages[: len(before.passages)] == before.passages
        new = [p for p in after.passages if p.grade is None]
        keys = [tuple(split_words(p.text)) for p in new]
        assert len(new) <= 3
        assert len({*keys}) == len(keys)
        assert not {*keys} & positives[tuple(split_words(before.query))]
        assert {p.origin for p in new} <= {*strategies}
        own = {p.text for e in whole.examples if e.source == before.source for p in e.passages}
        assert {p.text for p in new} <= own
    assert mine(whole, strategies=strategies, negatives=3, seed=seed, model=model) == result


def test_another_seed_draws_others() -> None:
    many = [example(f"python {i}", f"python passage number {i}") for i in range(40)]
    corpora = {"made": {f"d{i}": f"python text {i}" for i in range(40)}}
    one = mine(examples(*many), seed=1, corpora=corpora)
    assert mined(one) != mined(mine(examples(*many), seed=2, corpora=corpora))


def test_strategies_take_turns_and_the_others_continue_when_one_has_no_more() -> None:
    corpora = {"made": {f"d{i}": f"nothing in common {i}" for i in range(10)}}
    result = mine(SNAKES, strategies=("bm25", "random"), negatives=4, corpora=corpora)
    assert [origin for _, origin in mined(result, 2)] == ["bm25", "random", "random", "random"]


def test_a_corpus_that_is_given_is_mined_with_its_ids() -> None:
    whole = examples(example("warm python", "a python keeps warm under a lamp"))
    result = mine(whole, corpora={"made": {"d7": "python in a cold room", "d8": " "}, "another": {"x": "warm python"}})
    assert [(p.id, p.text) for p in result.examples[0].passages[1:]] == [("d7", "python in a cold room")]


def test_the_best_proposals_are_left_out_when_asked() -> None:
    corpora = {"made": {"best": "warm python warm python", "next": "python", "last": "gecko"}}
    whole = examples(example("warm python", "under a lamp"))
    assert [text for text, _ in mined(mine(whole, skip_top=1, corpora=corpora))] == ["python"]


def test_the_current_model_gives_the_negatives_that_it_ranks_highest() -> None:
    corpora = {"made": {f"d{i}": f"python number {i}" for i in range(6)}}
    model = scripted({"python number 4": 9.0, "python number 2": 8.0, "the python positive": 10.0})
    whole = examples(example("python", "the python positive"))
    result = mine(whole, strategies=("model",), negatives=2, model=model, corpora=corpora)
    assert mined(result) == [("python number 4", "model"), ("python number 2", "model")]


def test_a_teacher_drops_what_is_not_below_the_lowest_positive_by_the_margin_and_its_scores_stay() -> None:
    whole = examples(example("python", "the python positive", "a python positive", others=("python in zoos",)))
    corpora = {"made": {"a": "python above", "b": "python at it", "c": "python near", "d": "python below"}}
    teacher = scripted(
        {
            "the python positive": -1.0,
            "a python positive": -3.0,
            "python in zoos": -2.0,
            "python above": 0.0,
            "python at it": -3.0,
            "python near": -3.5,
            "python below": -9.0,
        }
    )
    result = mine(whole, teacher=teacher, corpora=corpora)
    assert {text for text, _ in mined(result)} == {"python near", "python below"}
    assert [p.teacher for p in result.examples[0].passages[:3]] == [-1.0, -3.0, -2.0]
    assert counts(result) == {
        f"mined passages that {teacher.label} does not score below the positives, dropped": 2,
        "queries with fewer negatives than requested": 1,
    }
    strict = mine(whole, teacher=teacher, margin=1.0, corpora=corpora)
    assert {text for text, _ in mined(strict)} == {"python below"}


def test_a_teacher_scores_spare_passages_so_that_enough_remain() -> None:
    whole = examples(example("python", "the python positive"))
    corpora = {"made": {f"d{i}": f"python number {i}" for i in range(20)}}
    scores = {"the python positive": 1.0, **{f"python number {i}": 2.0 * (i % 2) for i in range(20)}}
    for seed in range(5):
        result = mine(whole, negatives=2, teacher=scripted(scores), corpora=corpora, seed=seed)
        negatives = mined(result)
        assert len(negatives) <= 2
        assert all(int(text.split()[-1]) % 2 == 0 for text, _ in negatives)
    teacher = scripted(scores)
    mine(whole, negatives=2, teacher=teacher, corpora=corpora)
    assert [len(texts) for _, texts in teacher.calls] == [5]


def test_scores_of_another_reranker_than_the_teacher_are_not_used() -> None:
    teacher = Fallback(
        members=(scripted({}, error=RateLimited("busy"), answers_on="sigmoid"), scripted({}, default=-9.0))
    )
    with pytest.raises(InputError, match=r"no query has anything to order.*queries that another reranker than"):
        mine(SNAKES, teacher=teacher)


def test_a_teacher_that_fails_ends_the_mining() -> None:
    with pytest.raises(RateLimited, match="busy"):
        mine(SNAKES, teacher=scripted({}, error=RateLimited("busy")))


def test_where_everything_is_relevant_there_is_nothing_to_order() -> None:
    with pytest.raises(InputError, match="no query has anything to order"):
        mine(examples(example("python", "one python", "two python")))


def test_examples_without_a_positive_stay_as_they_are() -> None:
    unjudged = Example(query="python", passages=mine(SNAKES).examples[0].passages[1:], source="made")
    assert unjudged.passages
    assert mine(examples(*SNAKES.examples, unjudged)).examples[-1] == unjudged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategies": ()}, "^strategies: name at least one of bm25, bi-encoder, model, random"),
        ({"strategies": ("bm52",)}, "^strategies: unknown strategies 'bm52'; did you mean 'bm25'"),
        ({"strategies": ("model",)}, "^model: belongs to the strategy 'model'; give both or neither"),
        ({"encoder": "folder"}, "^encoder: belongs to the strategy 'bi-encoder'"),
        ({"negatives": 0}, "^negatives: must be a whole number of at least 1, got 0"),
        ({"depth": True}, "^depth: must be a whole number"),
        ({"skip_top": -1}, "^skip_top: must be a whole number of at least 0"),
        ({"margin": 1.0}, "^margin: needs a teacher"),
        ({"margin": -1.0, "teacher": ScriptedReranker()}, "^margin: must be a number of at least 0"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mine(SNAKES, **options)


def test_progress_reaches_the_end() -> None:
    shares = []
    mine(SNAKES, progress=lambda share, words: shares.append(share))
    assert shares == [0.25, 0.5, 0.75, 1.0]


@given(st.lists(st.integers(-3, 3), max_size=30), st.integers(1, 12))
def test_the_best_values_are_those_of_a_stable_sort(values: list[int], depth: int) -> None:
    import numpy as np

    numbers = np.array(values, dtype=np.float32)
    assert best(numbers, depth).tolist() == np.argsort(-numbers, kind="stable")[:depth].tolist()


def encoder(folder: Path) -> str:
    import numpy as np

    library: Any = pytest.importorskip("sentence_transformers", reason="needs the extra torch")
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = ["[UNK]", "python", "warm", "gecko", "loop"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    weights = np.eye(len(vocabulary), dtype=np.float32)
    weights[0, :] = 0.01
    library.SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)]).save(str(folder))
    return str(folder)


def test_a_bi_encoder_proposes_what_is_nearest_by_the_cosine(tmp_path: Path) -> None:
    result = mine(SNAKES, strategies=("bi-encoder",), negatives=1, depth=2, encoder=encoder(tmp_path / "encoder"))
    assert mined(result, 2) == [("a python keeps warm under a lamp", "bi-encoder")]


def test_a_missing_bi_encoder_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="needs the extra torch")
    with pytest.raises(ModelLoadError, match="cannot load the bi-encoder"):
        mine(SNAKES, strategies=("bi-encoder",), encoder=str(tmp_path / "absent"))


def test_scores_go_on_all_passages_and_replace_earlier_ones() -> None:
    whole = mine(SNAKES, negatives=1)
    teacher = scripted({"a python keeps warm under a lamp": 3.5}, default=-0.25)
    result = score_examples(whole, teacher)
    assert {p.teacher for e in result.examples for p in e.passages} == {3.5, -0.25}
    again = score_examples(result, scripted({}, default=7.0))
    assert {p.teacher for e in again.examples for p in e.passages} == {7.0}
    assert [[p.text for p in e.passages] for e in again.examples] == [
        [p.text for p in e.passages] for e in whole.examples
    ]


def test_passages_that_a_teacher_does_not_score_have_no_score_and_are_counted() -> None:
    teacher = Fallback(
        members=(scripted({}, error=RateLimited("busy"), answers_on="sigmoid"), scripted({}, default=-9.0))
    )
    result = score_examples(SNAKES, teacher)
    assert {p.teacher for e in result.examples for p in e.passages} == {None}
    assert counts(result) == {f"queries that another reranker than {teacher.label} answered": 4}
