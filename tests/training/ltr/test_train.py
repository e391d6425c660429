"""Training on data whose truth is known: it finds the order, keeps its constraints, and refuses what is too little."""

import itertools
import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from rag_rerank import Candidate, ConfigError, InputError, LearningToRank
from rag_rerank.compose import LtrModel
from rag_rerank.errors import LtrWarning
from rag_rerank.evaluation import Judged, JudgedQuery
from rag_rerank.testing import ScriptedReranker
from rag_rerank.training.ltr.queries import fold_numbers, join_collections
from rag_rerank.training.ltr.settings import LtrSettings
from rag_rerank.training.ltr.train import LtrTraining, train_ltr

NOW = "2026-12-01"


def collection(queries: int = 240, seed: int = 0, texts: int = 20, name: str = "made") -> Judged:
    """Return queries whose best text is clicked much and young; neither is enough alone, and the order is random."""
    random = Random(seed)
    made = []
    for number in range(queries):
        candidates, worth = [], {}
        for i in range(texts):
            clicks, age, id = random.uniform(0, 10), random.uniform(0, 300), f"{number}-{i}"
            day = np.datetime64(NOW) - np.timedelta64(int(age), "D")
            metadata = {"clicks": None if i == 3 else clicks, "day": str(day), "site": random.choice(["a", "b"])}
            candidates.append(Candidate(id, f"text {id}", score=random.random(), metadata=metadata))
            worth[id] = (0 if i == 3 else clicks / 10) - age / 300 + (0.3 if metadata["site"] == "a" else 0)
        best = sorted(worth, key=lambda id: -worth[id])[:4]
        grades = {id: 2 if i < 2 else 1 for i, id in enumerate(best)}
        made.append(
            JudgedQuery(id=f"q{number}", text=f"question {seed} {number}", candidates=tuple(candidates), grades=grades)
        )
    return Judged(name=name, queries=tuple(made))


def train(judged: Any, **options: Any) -> LtrTraining:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LtrWarning)
        return train_ltr(judged, **{"date": "day", "columns": ("clicks",), "source": "site", "now": NOW, **options})


@pytest.fixture(scope="module")
def trained() -> LtrTraining:
    return train(collection(160))


def test_it_recovers_a_known_order_and_beats_each_single_feature(trained: LtrTraining) -> None:
    assert trained.ndcg["ltr"].mean > 0.85 > trained.ndcg["first stage"].mean + 0.3
    assert trained.verdict.rerank and trained.first_stage.difference.low > 0.3
    assert len(trained.single) == len(trained.model.features.names) - 1  # a category orders nothing
    assert all(comparison.difference.low > 0.02 and comparison.p_adjusted < 0.05 for comparison in trained.single)
    assert set(list(trained.importance)[:3]) == {"metadata.clicks", "age_days", "source"}
    assert not any("simpler choice" in note for note in trained.notes)


def test_figures_are_those_of_new_queries(trained: LtrTraining, tmp_path: Path) -> None:
    from rag_rerank.evaluation import evaluate

    trained.model.save(tmp_path / "ltr.json")
    reranker = LearningToRank(model=str(tmp_path / "ltr.json"), now=NOW)
    new = evaluate(collection(120, seed=1), {"ltr": reranker}, samples=1000)
    assert abs(new.systems[1].measures["nDCG@10"].mean - trained.ndcg["ltr"].mean) < 0.03


def test_constraints_hold_on_a_grid(trained: LtrTraining) -> None:
    model, random = trained.model, np.random.default_rng(0)
    base = random.uniform(0, 20, (30, len(model.features.names)))
    for column, name in enumerate(model.features.names):
        direction = model.monotone[name]
        if not direction:
            continue
        grid = np.linspace(-5, 400, 60)
        for row in base:
            rows = np.tile(row, (len(grid) + 1, 1))
            rows[:-1, column], rows[-1, column] = grid, math.nan
            *scores, missing = model.scores(rows.tolist())
            assert all(direction * (b - a) >= -1e-9 for a, b in itertools.pairwise(scores)), name
            assert missing <= max(scores) + 1e-9


def test_a_constraint_can_be_changed_or_lifted() -> None:
    judged = collection(60)
    old_is_good = train(judged, settings=LtrSettings(monotone={"age_days": 1}, rounds=100))
    assert old_is_good.model.monotone["age_days"] == 1
    assert old_is_good.ndcg["ltr"].mean < train(judged, settings=LtrSettings(rounds=100)).ndcg["ltr"].mean - 0.05


def test_what_no_training_saw_missing_is_not_read_as_zero() -> None:
    names = ("warm", "cold")
    random = Random(1)
    scores = {f"text {i}": random.uniform(-1, 1) for i in range(400)}
    queries = []
    for number in range(40):
        texts = random.sample(sorted(scores), 10)
        best = sorted(texts, key=scores.__getitem__)[-2:]
        queries.append(
            JudgedQuery(
                id=str(number),
                text=f"{names[number % 2]} {number}",
                candidates=tuple(Candidate(t, t) for t in texts),
                grades=dict.fromkeys(best, 1),
            )
        )
    reranker = ScriptedReranker(by_text=scores)
    model = train(
        Judged(name="made", queries=tuple(queries)), rerankers=[reranker], date=None, columns=(), source=None
    ).model
    usual = dict.fromkeys(model.features.names, 5.0)
    labels = {fact: f"{reranker.label}.{fact}" for fact in ("score", "gap", "rank")}

    def score(**facts: float) -> float:
        return model.scores([list({**usual, **{labels[k]: v for k, v in facts.items()}}.values())])[0]

    missing = score(score=math.nan, gap=math.nan, rank=math.nan)
    assert missing <= score(score=-0.9, gap=-1.8, rank=10) + 1e-9
    assert missing < score(score=0.0, gap=0.0, rank=0)


def test_the_same_seed_gives_the_same_model_and_another_does_not() -> None:
    judged = collection(40, texts=10)
    one, again, other = (train(judged, settings=LtrSettings(seed=seed, rounds=40)) for seed in (0, 0, 1))
    assert one.model == again.model and one.ndcg == again.ndcg
    assert one.model.trees != other.model.trees


def test_random_grades_do_not_get_a_yes() -> None:
    judged, random = collection(60), Random(5)
    queries = tuple(
        replace(q, grades=dict.fromkeys(random.sample([c.id for c in q.candidates], 4), 1)) for q in judged.queries
    )
    result = train(replace(judged, queries=queries))
    assert result.verdict.rerank is not True
    assert any("simpler choice" in note for note in result.notes)


def test_few_queries_are_refused_with_the_number_that_is_missing() -> None:
    with pytest.raises(InputError, match=r"18 of 18 queries .* needs 30: judge about 12 more"):
        train(collection(18))
    judged = collection(40)
    blind = tuple(replace(q, grades={"elsewhere": 1}) for q in judged.queries[:20])
    with pytest.raises(InputError, match="20 of 40 queries have a relevant candidate and another one"):
        train(replace(judged, queries=(*blind, *judged.queries[20:])))
    with pytest.warns(LtrWarning, match="trained on 40 queries; with less than 200"):
        train_ltr(judged)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"date": "dat"}, "no candidate has the metadata 'dat'; did you mean 'day'"),
        ({"columns": ("click",)}, "no candidate has the metadata 'click'; did you mean 'clicks'"),
        ({"without": ("age",)}, "there is no feature 'age'"),
        ({"now": "soon"}, "now: expected a date"),
        ({"settings": LtrSettings(monotone={"clicks": 1})}, "monotone: there is no feature 'clicks'"),
        ({"depth": 0}, "depth: must be a whole number"),
    ],
    ids=("date", "column", "without", "now", "monotone", "depth"),
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(collection(30, texts=5), **options)


@pytest.mark.parametrize("setting", ["rounds", "leaves", "folds", "learning_rate", "hold_out"])
def test_wrong_settings_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting):
        LtrSettings(**{setting: 0})


def test_a_reranker_that_fails_on_a_query_ends_the_training() -> None:
    class Half(ScriptedReranker):
        def score(self, query: str, texts: Any) -> Any:
            if query.endswith(" 3"):
                raise InputError("too odd")
            return super().score(query, texts)

    with pytest.raises(ConfigError, match="failed on 1 of 30 queries, such as 'q3': InputError: too odd"):
        train(collection(30, texts=5), rerankers=[Half(default=1.0)])


def test_queries_with_the_same_words_are_in_one_fold() -> None:
    queries = [JudgedQuery(id=str(i), text=f"Question {i % 7}?", candidates=(), grades={"d": 1}) for i in range(70)]
    folds = fold_numbers(queries, 5, 0)
    assert set(folds) == set(range(5))
    assert all(len({folds[i] for i in range(70) if i % 7 == word}) == 1 for word in range(7))


def test_several_collections_are_joined() -> None:
    one, other = collection(3, name="one"), collection(3, seed=2, name="other")
    both = join_collections((one, other))
    assert both.name == "one + other" and len({query.id for query in both.queries}) == 6
    with pytest.raises(InputError, match="differ in the lowest relevant grade"):
        join_collections((one, replace(other, relevant=2)))
    with pytest.raises(InputError, match="no judged queries"):
        join_collections(())


def test_a_report_is_json_and_the_model_makes_the_round_trip(trained: LtrTraining, tmp_path: Path) -> None:
    assert json.loads(json.dumps(trained.to_dict()))["fitted"]["queries"] == 160
    trained.model.save(tmp_path / "m.json")
    read = LtrModel.load(tmp_path / "m.json")
    rows = np.random.default_rng(0).uniform(0, 10, (50, len(read.features.names))).tolist()
    assert read == trained.model and read.scores(rows) == trained.model.scores(rows)
