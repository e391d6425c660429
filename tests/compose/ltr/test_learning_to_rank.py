"""The composite: its scores are LightGBM's, its model file is read strictly, and the model belongs to its rerankers."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from support.ltr_models import WITHOUT_TEXTS, model_of, write_model

from rag_rerank import (
    AuthenticationError,
    BackendUnavailable,
    Cached,
    Candidate,
    ConfigError,
    Fallback,
    LearningToRank,
    MissingExtraError,
    ModelLoadError,
    Ranking,
    build,
    load,
    recording,
    to_config,
)
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.compose import LtrModel
from rag_rerank.errors import LtrWarning
from rag_rerank.records import read
from rag_rerank.testing import ScriptedReranker

TEXTS = ("warm", "cold", "dry", "wet")
FIRST = ScriptedReranker(name="first", by_text={"warm": 0.9, "cold": 0.1, "dry": 0.4, "wet": 0.4})
SECOND = ScriptedReranker(name="second", by_text={"warm": 0.2, "cold": 0.8, "dry": 0.5, "wet": 0.1})


def ltr(tmp_path: Path, *rerankers: Any, trained: Any = None, **options: Any) -> LearningToRank:
    path = write_model(tmp_path, trained or rerankers, **options)
    return LearningToRank(model=path, rerankers=tuple(rerankers))


def test_scores_are_those_of_lightgbm_and_the_parts_sum_to_them(tmp_path: Path) -> None:
    reranker = ltr(tmp_path, FIRST, SECOND, without=WITHOUT_TEXTS)
    ranking = reranker.rerank("q", TEXTS)
    rows = [  # score, gap and rank of both, by hand
        [0.9, 0.0, 1, 0.2, 0.2 - 0.8, 3],
        [0.1, 0.1 - 0.9, 4, 0.8, 0.0, 1],
        [0.4, 0.4 - 0.9, 2, 0.5, 0.5 - 0.8, 2],
        [0.4, 0.4 - 0.9, 2, 0.1, 0.1 - 0.8, 4],
    ]
    trees = json.loads(Path(reranker.model).read_text())["trees"]
    expected = lightgbm.Booster(model_str=trees).predict(np.array(rows))
    assert {hit.id: hit.raw_score for hit in ranking} == {str(i): float(v) for i, v in enumerate(expected)}
    assert ranking.scale == "unbounded" and all(type(hit.raw_score) is float for hit in ranking)
    for hit in ranking:
        parts = ranking.trace.contributions[hit.id]
        assert set(parts) == {*(f"{r}.{f}" for r in ("first", "second") for f in ("score", "gap", "rank")), "base"}
        assert math.isclose(sum(parts.values()), hit.raw_score or 0.0, abs_tol=1e-9)
    assert Ranking.from_dict(json.loads(json.dumps(ranking.to_dict()))) == ranking


def test_a_recorded_call_has_the_parts(tmp_path: Path) -> None:
    from rag_rerank.cli.trace import explain_candidate

    with recording(str(tmp_path / "calls.jsonl")):
        ranking = ltr(tmp_path, FIRST, without=WITHOUT_TEXTS).rerank("q", TEXTS)
    (record,) = read(str(tmp_path / "calls.jsonl"))
    assert record.trace.contributions == ranking.trace.contributions
    lines = [line for line in explain_candidate(record, "0") if line.startswith("part")]
    assert len(lines) == 4 and any("first.score" in line for line in lines)


def test_blank_texts_are_not_scored_and_no_candidates_are_no_call(tmp_path: Path) -> None:
    reranker = ltr(tmp_path)
    assert [hit.unscored for hit in reranker.rerank("q", ["", "a"])] == [None, "blank text"]
    assert len(reranker.rerank("q", [])) == 0


def test_a_reranker_that_is_down_is_missing_and_others_decide(tmp_path: Path) -> None:
    down = ScriptedReranker(name="second", error=BackendUnavailable("gone"))
    reranker = ltr(tmp_path, FIRST, down, trained=(FIRST, SECOND), without=WITHOUT_TEXTS)
    with pytest.warns(LtrWarning, match="second with other files or settings"):
        ranking = reranker.rerank("q", TEXTS)
    assert ranking.degraded == ("ranked without second (BackendUnavailable)",) and ranking.substituted
    booster = model_of((FIRST, SECOND), without=WITHOUT_TEXTS).booster
    rows = np.array([[0.9, 0.0, 1, *[math.nan] * 3], [0.1, 0.1 - 0.9, 4, *[math.nan] * 3]])
    by_id = {hit.id: hit.raw_score for hit in ranking}
    assert [by_id["0"], by_id["1"]] == [float(v) for v in booster.predict(rows)]


def test_another_rerankers_answer_is_missing(tmp_path: Path) -> None:
    down = ScriptedReranker(name="down", error=BackendUnavailable("gone"))
    inside = Fallback(name="inside", members=(down, FIRST))
    ranking = ltr(tmp_path, inside, SECOND, without=WITHOUT_TEXTS).rerank("q", TEXTS)
    assert "ranked without inside (another reranker answered)" in ranking.degraded


def test_a_permanent_error_is_raised(tmp_path: Path) -> None:
    wrong = ScriptedReranker(name="wrong", error=AuthenticationError("key"))
    with pytest.raises(AuthenticationError):
        ltr(tmp_path, FIRST, wrong).rerank("q", TEXTS)


def test_the_model_belongs_to_its_rerankers(tmp_path: Path) -> None:
    path = write_model(tmp_path, (FIRST,))
    other = ScriptedReranker(name="first", by_text={"warm": 0.5})
    reranker = LearningToRank(model=path, rerankers=(other,))
    with pytest.warns(LtrWarning, match="the model was trained with first on 2026-11-21"):
        ranking = reranker.rerank("q", TEXTS)
    assert any("the order may be off" in note for note in ranking.trace.notes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reranker.rerank("q", TEXTS)  # told once
        LearningToRank(model=path, rerankers=(FIRST,)).rerank("q", TEXTS)
    with pytest.raises(ConfigError, match="trained with first, and here is no reranker"):
        LearningToRank(model=path).rerank("q", TEXTS)
    on_sigmoid = ScriptedReranker(name="first", answers_on="sigmoid")
    with pytest.raises(ConfigError, match=r"rerankers\[0\]: the model was trained with first, whose scores are"):
        LearningToRank(model=path, rerankers=(on_sigmoid,)).rerank("q", TEXTS)


def test_the_moment_is_fixed_and_told(tmp_path: Path) -> None:
    path = write_model(tmp_path, date="day")
    candidates = [Candidate("a", "x", metadata={"day": "2026-11-30"}), Candidate("b", "x")]
    ranking = LearningToRank(model=path, now="2026-12-01").rerank("q", candidates)
    assert "age_days counts to 2026-12-01T00:00:00+00:00" in ranking.trace.notes
    assert any("age_days counts to 2" in note for note in LearningToRank(model=path).rerank("q", ["x"]).trace.notes)
    with pytest.raises(ConfigError, match="now: expected a date"):
        LearningToRank(model=path, now="soon")


def test_identity_goes_by_trees_features_and_rerankers(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    one, copy = write_model(tmp_path, (FIRST,)), write_model(tmp_path / "copy", (FIRST,))
    identity = LearningToRank(model=one, rerankers=(FIRST,)).identity
    assert identity == LearningToRank(model=copy, rerankers=(FIRST,)).identity
    assert identity != LearningToRank(model=one, rerankers=(SECOND,)).identity
    assert identity != LearningToRank(model=one, rerankers=(FIRST,), now="2026-12-01").identity
    other = write_model(tmp_path, (FIRST,), without=("words",))
    assert identity != LearningToRank(model=other, rerankers=(FIRST,)).identity


def test_a_path_in_a_config_file_starts_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path, (LexicalReranker(),))
    (tmp_path / "ltr.yaml").write_text("type: ltr\nmodel: ltr.json\nrerankers: [lexical]\n")
    reranker = load(tmp_path / "ltr.yaml")
    monkeypatch.chdir("/")
    assert reranker.rerank("warm", TEXTS)[0].text == reranker.rerank("warm", TEXTS)[0].text
    assert build(to_config(reranker)) == reranker


def test_it_cannot_be_cached(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Cached(reranker=ltr(tmp_path, LexicalReranker()))  # type: ignore[arg-type]


def test_a_model_file_makes_the_round_trip(tmp_path: Path) -> None:
    model = model_of((FIRST,), date="day", source="site", sources=("a", "b"), columns=("n",), without=("words",))
    model.save(tmp_path / "m.json")
    assert LtrModel.load(tmp_path / "m.json") == model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "rag_rerank.ltr/9"}, "no ltr model of this release"),
        ({"features_version": 99}, "version 99 of the features"),
        ({"trees": "tree\n"}, "the trees are not those that were written"),
        ({"names": ["bm25"]}, "the names are not those of the features"),
        ({"more": 1}, "unknown key 'more'"),
        ({"fitted": {}}, "fitted"),
        ({"rerankers": [{"label": "x", "scale": "sigmoid", "identity": "0"}]}, "the rerankers are not those"),
    ],
    ids=("schema", "version", "trees", "names", "unknown", "missing", "rerankers"),
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = Path(write_model(tmp_path))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelLoadError, match=rf"ltr\.json: .*{message}"):
        LearningToRank(model=str(path)).rerank("q", TEXTS)


def test_no_file_no_json_and_no_trees_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="cannot read the ltr model"):
        LtrModel.load(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(ModelLoadError, match=r"text\.json: not valid JSON"):
        LtrModel.load(tmp_path / "text.json")
    with pytest.raises(ModelLoadError, match="LightGBM cannot read the trees"):
        _ = model_of(trees_for=lambda columns: "no trees").booster
    other = model_of(without=("words",)).trees
    with pytest.raises(ModelLoadError, match="the trees have 7 columns, and there are 8 features"):
        _ = model_of(trees_for=lambda columns: other).booster


def test_without_lightgbm_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    with pytest.raises(MissingExtraError, match=r'pip install "rag-rerank\[ltr\]"'):
        LearningToRank(model=path).rerank("q", TEXTS)
