"""Calibrated: the order stays, scores become probabilities, and no map is used for another reranker."""

import asyncio
import json
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny_checkpoints
from support.calibration_maps import STEPS, fitted_on, map_for

from rag_rerank import (
    BackendUnavailable,
    Cached,
    Calibrated,
    CalibrationWarning,
    Candidate,
    Cascade,
    ConfigError,
    Deadline,
    Ensemble,
    Fallback,
    Ranking,
    Reranker,
    Scale,
    Stage,
    Windows,
    build,
    pack,
    to_config,
)
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.testing import ScriptedReranker

FINITE = st.floats(allow_nan=False, allow_infinity=False)
DOWN = ScriptedReranker(name="down", answers_on="sigmoid", error=BackendUnavailable("gone"))


def scripted(*scores: float, scale: Scale = "sigmoid", name: str | None = None) -> ScriptedReranker:
    """Return a reranker with these scores of the texts "0", "1", "2" ..."""
    return ScriptedReranker(by_text={str(i): score for i, score in enumerate(scores)}, answers_on=scale, name=name)


def texts(reranker: ScriptedReranker) -> list[Candidate]:
    return [Candidate(f"d{text}", text) for text in reranker.by_text]


def facts(ranking: Ranking) -> list[tuple[str, int, float | None, str | None]]:
    return [(hit.id, hit.rank, hit.raw_score, hit.unscored) for hit in ranking]


@pytest.mark.parametrize("shape", [{"method": "platt", "slope": 0.3, "intercept": 2.0}, STEPS], ids=["platt", "steps"])
@given(scores=st.lists(FINITE, min_size=1, max_size=12))
def test_the_ranking_is_unchanged_with_all_its_ties(shape: dict[str, Any], scores: list[float]) -> None:
    inner = scripted(*scores)
    calibration_map = map_for(inner, **shape)
    candidates = [*texts(inner), Candidate("blank", " ")]
    plain, mapped = (
        inner.rerank("q", candidates),
        Calibrated(reranker=inner, map=calibration_map).rerank("q", candidates),
    )
    assert facts(mapped) == facts(plain)
    assert mapped.scale == "calibrated"
    assert [h.score for h in mapped][:-1] == [
        calibration_map.probability(h.raw_score) for h in plain if h.raw_score is not None
    ]
    assert mapped[-1].score is None


def test_probabilities_that_are_equal_do_not_become_ties() -> None:
    inner = scripted(-1.5, -0.5, -1.0)
    ranking = Calibrated(reranker=inner, map=map_for(inner, **STEPS)).rerank("q", texts(inner))
    assert [(hit.id, hit.score) for hit in ranking] == [("d1", 0.1), ("d2", 0.1), ("d0", 0.1)]


def test_async_gives_the_same() -> None:
    inner = scripted(1.0, 3.0, 2.0)
    calibrated = Calibrated(reranker=inner, map=map_for(inner))
    there = asyncio.run(calibrated.arerank("q", texts(inner)))
    assert [(hit.id, hit.score) for hit in there] == [(h.id, h.score) for h in calibrated.rerank("q", texts(inner))]


def test_a_map_is_read_from_its_file_at_first_use_and_not_before(tmp_path: Path) -> None:
    file = tmp_path / "map.json"
    inner = LexicalReranker()
    calibrated = Calibrated(reranker=inner, map=str(file))
    with pytest.raises(ConfigError, match=r"map\.json: cannot read"):
        calibrated.warm_up()
    with pytest.raises(ConfigError, match=r"map\.json: cannot read"):
        calibrated.rerank("warm", ["a warm place"])
    map_for(inner).save(file)
    (hit,) = calibrated.rerank("warm", ["a warm place"])
    assert hit.raw_score is not None
    assert hit.score == map_for(inner).probability(hit.raw_score)


def test_a_config_holds_a_path_or_the_map_itself(tmp_path: Path) -> None:
    inner = LexicalReranker(k1=1.2)
    calibration_map = map_for(inner, **STEPS)
    calibration_map.save(tmp_path / "map.json")
    for value in (calibration_map, str(tmp_path / "map.json")):
        calibrated = Calibrated(reranker=inner, map=value)
        twin = build(json.loads(json.dumps(to_config(calibrated))))
        assert twin == calibrated == pickle.loads(pickle.dumps(calibrated))
        assert hash(twin) == hash(calibrated)
        assert twin.rerank("warm", ["warm"])[0].score == calibrated.rerank("warm", ["warm"])[0].score
    assert Calibrated(reranker=inner, map=tmp_path / "map.json").map == str(tmp_path / "map.json")  # type: ignore[arg-type]


def test_a_wrong_map_in_a_config_is_named_with_its_place() -> None:
    node = to_config(Calibrated(reranker=LexicalReranker(), map=map_for(LexicalReranker())))
    node["map"]["slope"] = -1.0
    with pytest.raises(ConfigError, match=r"^members\[0\]\.map\.slope: must be more than 0"):
        build({"type": "fallback", "members": [node, "lexical"]})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda r, m: Calibrated(reranker="lexical", map=m), "^reranker: expected a Reranker, got str"),
        (lambda r, m: Calibrated(reranker=r, map=7), "^map: expected a path or a CalibrationMap, got int"),
        (lambda r, m: Calibrated(reranker=Calibrated(reranker=r, map=m), map=m), "^reranker: .* probabilities already"),
        (
            lambda r, m: Calibrated(reranker=LexicalReranker(), map=m),
            "^map: the map was fitted on scripted, whose scores are sigmoid; those of lexical are unbounded. Fit one",
        ),
        (
            lambda r, m: Windows(reranker=Fallback(members=(r, Calibrated(reranker=r, map=m)))),
            "^reranker: a window's probability is not its text's; put Calibrated around Windows",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(make: Callable[[Any, Any], Reranker], message: str) -> None:
    inner = scripted(1.0)
    with pytest.raises(ConfigError, match=message):
        make(inner, map_for(inner))


def test_a_file_fitted_on_another_scale_is_refused_at_first_use(tmp_path: Path) -> None:
    map_for(scripted(1.0)).save(tmp_path / "map.json")
    with pytest.raises(ConfigError, match="whose scores are sigmoid; those of lexical are unbounded"):
        Calibrated(reranker=LexicalReranker(), map=str(tmp_path / "map.json")).rerank("q", ["a"])


def test_an_answer_by_another_reranker_is_not_mapped_and_says_so() -> None:
    inner = Fallback(members=(DOWN, scripted(1.0, 2.0, name="spare")))
    ranking = Calibrated(reranker=inner, map=map_for(inner), name="cal").rerank("q", texts(scripted(1.0, 2.0)))
    assert (ranking.scale, ranking.substituted) == ("sigmoid", True)
    assert ranking[0].score == pytest.approx(0.8808, abs=1e-4)
    assert ranking.degraded[-1] == (
        "not calibrated, since another reranker answered than fallback; scores are on the scale 'sigmoid', not "
        "'calibrated'"
    )
    assert pack(ranking, min_score=0.9, min_score_scale="calibrated").dropped == ()


def test_the_first_member_of_a_fallback_is_mapped() -> None:
    inner = Fallback(members=(scripted(1.0, 2.0), DOWN))
    ranking = Calibrated(reranker=inner, map=map_for(inner)).rerank("q", texts(scripted(1.0, 2.0)))
    assert (ranking.scale, ranking.substituted, ranking.degraded) == ("calibrated", False, ())


def test_a_deadline_that_was_over_gives_no_probabilities() -> None:
    late = Fallback(members=(DOWN,), on_failure="first_stage")
    ranking = Calibrated(reranker=late, map=map_for(late)).rerank("q", ["a", "b"])
    assert [hit.score for hit in ranking] == [None, None]
    assert ranking.substituted


def test_a_threshold_survives_a_swap_of_models_whose_scores_mean_different_things() -> None:
    first = scripted(3.0, -3.0, 2.0, -2.0, 0.2)
    other = scripted(0.9, 0.1, 0.8, 0.2, 0.51, scale="similarity")  # the same opinions in another unit
    maps = (
        map_for(first, method="platt", slope=1.0, intercept=0.0),
        map_for(other, method="platt", slope=7.5, intercept=-3.75),
    )
    members = [Calibrated(reranker=r, map=m) for r, m in zip((first, other), maps, strict=True)]
    down = Calibrated(reranker=DOWN, map=map_for(DOWN))

    def ids_kept(reranker: Reranker) -> list[str]:
        context = pack(reranker.rerank("q", texts(first)), min_score=0.8, min_score_scale="calibrated")
        assert context.notes == ()
        return [hit.id for hit in context]

    assert (
        ids_kept(members[0]) == ids_kept(members[1]) == ids_kept(Fallback(members=(down, members[1]))) == ["d0", "d2"]
    )


def test_raw_scores_stay_so_that_composites_outside_keep_their_units() -> None:
    cheap = scripted(9.0, 8.0, 1.0)
    calibrated = Calibrated(reranker=cheap, map=map_for(cheap))
    assert [hit.raw_score for hit in calibrated.rerank("q", texts(cheap))] == [9.0, 8.0, 1.0]
    mean = Ensemble(members=(calibrated, calibrated), fusion="weighted", weights=(0.5, 0.5), normalise="none")
    assert mean.rerank("q", texts(cheap))[0].score == pytest.approx(map_for(cheap).probability(9.0))
    assert Deadline(reranker=calibrated, seconds=60.0).rerank("q", texts(cheap)).scale == "calibrated"


def test_the_trace_has_the_scores_of_the_reranker_once_and_the_scale_of_both() -> None:
    inner = scripted(1.0, 2.0)
    ranking = Calibrated(reranker=inner, map=map_for(inner)).rerank("q", texts(inner))
    assert (ranking.trace.step, ranking.trace.kind, ranking.trace.scale) == (
        "calibrated(scripted)",
        "calibrated",
        "calibrated",
    )
    assert [(visit.step, visit.raw_score, visit.scale) for visit in ranking.trace.path("d1")] == [
        ("scripted", 2.0, "sigmoid")
    ]


def swapped(folder: Path, *, seed: int) -> Reranker:
    """The same path, with weights of another seed behind it."""
    folder.unlink(missing_ok=True)
    folder.symlink_to(tiny_checkpoints.onnx_export("bert", seed=seed))
    return OnnxReranker(model=str(folder), name="mine")


def test_a_changed_revision_warns_once_and_stands_in_every_trace(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder = tmp_path / "model"
    calibration_map = map_for(swapped(folder, seed=1))
    same = Calibrated(reranker=swapped(folder, seed=1), map=calibration_map)
    assert same.rerank("q", ["a warm spot"]).trace.notes == ()
    with_other_weights = Calibrated(reranker=swapped(folder, seed=2), map=calibration_map)
    with pytest.warns(CalibrationWarning, match=r"fitted on mine.* 2026-11-21.* other files or settings.* calibrate"):
        first = with_other_weights.rerank("q", ["a warm spot"])
    second = with_other_weights.rerank("q", ["a warm spot"])  # a second warning would be an error here
    assert first.scale == second.scale == "calibrated"
    for ranking in (first, second):
        assert len(ranking.trace.notes) == 1 and "may be off" in ranking.trace.notes[0]


def test_the_warning_comes_at_warm_up_and_points_at_the_caller() -> None:
    calibration_map = replace(map_for(LexicalReranker()), fitted=fitted_on(LexicalReranker(k1=2.0), reranker="old"))
    with pytest.warns(
        CalibrationWarning, match="fitted on old on 2026-11-21, and the scores are from lexical;"
    ) as caught:
        Calibrated(reranker=LexicalReranker(), map=calibration_map).warm_up()
    assert [warning.filename for warning in caught] == [__file__]


def test_a_warning_made_an_error_stays_one() -> None:
    calibrated = Calibrated(reranker=LexicalReranker(), map=map_for(LexicalReranker(k1=2.0)))
    for _ in range(2):
        with warnings.catch_warnings(), pytest.raises(CalibrationWarning):
            warnings.simplefilter("error")
            calibrated.rerank("q", ["a"])


def test_a_new_release_of_this_package_does_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = scripted(1.0)
    calibration_map = map_for(inner)
    monkeypatch.setattr("rag_rerank._version.__version__", "99.0")
    Calibrated(reranker=inner, map=calibration_map).warm_up()


def test_what_cannot_change_a_score_does_not_warn() -> None:
    inner = scripted(1.0)
    calibration_map = map_for(inner)
    for same in (replace(inner, name="other"), Cached(reranker=inner)):
        Calibrated(reranker=same, map=calibration_map).warm_up()
    cascade = Cascade(stages=(Stage(reranker=inner, depth=3),))
    other = Cascade(stages=(Stage(reranker=replace(inner, default=1.0), depth=3),))
    Calibrated(reranker=replace(cascade, name="x"), map=map_for(cascade)).warm_up()
    with pytest.warns(CalibrationWarning):
        Calibrated(reranker=other, map=map_for(cascade)).warm_up()
