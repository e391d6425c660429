"""A calibration map: it rises, its values are checked, and its file gives it back unchanged."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.calibration_maps import STEPS, map_for

from rag_rerank import CalibrationMap, ConfigError
from rag_rerank.testing import ScriptedReranker

FINITE = st.floats(allow_nan=False, allow_infinity=False)
RERANKER = ScriptedReranker(answers_on="sigmoid")


@st.composite
def maps(draw: st.DrawFn) -> CalibrationMap:
    if draw(st.booleans()):
        slope = draw(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
        return map_for(RERANKER, method="platt", slope=slope, intercept=draw(FINITE))
    wide = st.floats(min_value=-8e307, max_value=8e307)
    scores = sorted(draw(st.sets(wide, min_size=2, max_size=6)))
    levels = sorted(draw(st.lists(st.floats(0, 1), min_size=len(scores), max_size=len(scores))))
    if levels[0] == levels[-1]:
        levels[0], levels[-1] = 0.0, 1.0
    return map_for(RERANKER, method="isotonic", scores=tuple(scores), probabilities=tuple(levels))


@given(maps(), FINITE, FINITE)
def test_a_higher_score_never_has_a_lower_probability(
    calibration_map: CalibrationMap, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert 0 <= calibration_map.probability(low) <= calibration_map.probability(high) <= 1


@given(maps(), FINITE)
def test_not_even_between_neighbouring_floats(calibration_map: CalibrationMap, score: float) -> None:
    assert calibration_map.probability(math.nextafter(score, -math.inf)) <= calibration_map.probability(score)
    for knot in calibration_map.scores:
        assert calibration_map.probability(math.nextafter(knot, -math.inf)) <= calibration_map.probability(knot)


def test_a_sigmoid_is_platts() -> None:
    calibration_map = map_for(RERANKER, method="platt", slope=2.0, intercept=-1.0)
    assert calibration_map.probability(0.5) == 0.5
    assert calibration_map.probability(1.0) == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-15)
    assert (calibration_map.probability(-1e300), calibration_map.probability(1e300)) == (0.0, 1.0)


def test_steps_are_joined_by_lines_and_level_beyond_the_ends() -> None:
    calibration_map = map_for(RERANKER, **STEPS)
    points = {-9.0: 0.1, -2.0: 0.1, -1.0: 0.1, 0.0: 0.1, 0.5: 0.3, 1.0: 0.5, 2.5: 0.7, 4.0: 0.9, 99.0: 0.9}
    assert {raw: pytest.approx(calibration_map.probability(raw)) for raw in points} == points


@given(calibration_map=maps())
def test_it_comes_back_from_json_as_it_was(calibration_map: CalibrationMap) -> None:
    assert CalibrationMap.from_dict(json.loads(json.dumps(calibration_map.to_dict()))) == calibration_map


def test_it_comes_back_from_its_file_and_replaces_an_older_one(tmp_path: Path) -> None:
    file = tmp_path / "map.json"
    for calibration_map in (map_for(RERANKER), map_for(RERANKER, **STEPS)):
        calibration_map.save(file)
        assert CalibrationMap.load(file) == calibration_map
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*nowhere.map\.json"):
        map_for(RERANKER).save(tmp_path / "nowhere" / "map.json")
    assert list(tmp_path.iterdir()) == []


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.pop(key)


def with_values(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.update(values)


def provenance(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["fitted"].update(values)


DAMAGED = [
    (with_values(schema="rag_rerank.calibration/9"), "schema: no calibration map of this release"),
    (without("schema"), "schema: no calibration map"),
    (without("method"), "method is missing"),
    (with_values(slop=1), "unknown key 'slop'; did you mean 'slope'"),
    (with_values(method="spline"), "method: unknown method 'spline'; known: isotonic, platt"),
    (with_values(method=["isotonic"]), "method: unknown method"),
    (with_values(scores=[0, 1], probabilities=[0, 2]), "probabilities: must rise .* 0..1"),
    (with_values(scores=[0, 1], probabilities=[0.5, 0.4]), "probabilities: must rise"),
    (with_values(scores=[0, 1], probabilities=[0.5, 0.5]), "probabilities: must rise"),
    (with_values(scores=[0, 0], probabilities=[0.5, 0.6]), "scores: each must be larger"),
    (with_values(scores=[-1.7e308, 1.7e308], probabilities=[0.5, 0.6]), "scores: each must be larger .* finite range"),
    (with_values(scores=[0, 1, 2]), "scores: needs at least two scores and as many probabilities, got 3 and 4"),
    (with_values(scores=[0, 1, 2, True]), r"scores\[3\]: expected a finite number, got True"),
    (with_values(scores=[0, 1, 2, "1e999"]), r"scores\[3\]: expected a finite number, got inf"),
    (with_values(scores="0 1"), "scores: expected a list of numbers, got str"),
    (with_values(slope=1.0), "slope: method 'isotonic' has scores"),
    (with_values(fitted=None), "fitted: expected an object, got NoneType"),
    (with_values(fitted={}), "fitted: after, before, data, .* is missing"),
    (provenance(after=None), "fitted.after: expected an object"),
    (provenance(after={"ece": 0.1, "brier": 0.1}), "fitted.after: log_loss is missing"),
    (
        provenance(after={"ece": 1.1, "brier": 0.1, "log_loss": 1}),
        "fitted.after.ece: expected a number in 0..1, got 1.1",
    ),
    (provenance(scale="sigmoids"), "fitted.scale: unknown scale 'sigmoids'; did you mean 'sigmoid'"),
    (provenance(prior="half"), "fitted.prior: expected a finite number, got 'half'"),
    (provenance(pairs=1.5), "fitted.pairs: must be a whole number of at least 1, got 1.5"),
    (provenance(relevant=1), "fitted.relevant: expected a list of grades"),
    (provenance(relevant=[0]), r"fitted.relevant\[0\]: must be a whole number"),
    (provenance(identity=7), "fitted.identity: expected a text, got int"),
    (provenance(model=7), "fitted.model: expected a text, got int"),
    (provenance(unjudged="guessed"), "fitted.unjudged: unknown unjudged 'guessed'; known: left out, not relevant"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGED, ids=[message[:40] for _, message in DAMAGED])
def test_a_damaged_file_is_refused_by_its_name_and_key(
    damage: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    data = json.loads(json.dumps(map_for(RERANKER, **STEPS).to_dict()))
    damage(data)
    file = tmp_path / "map.json"
    file.write_text(json.dumps(data).replace('"1e999"', "1e999"))  # which Python reads as infinity
    with pytest.raises(ConfigError, match=rf"map\.json: {message}"):
        CalibrationMap.load(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[1]", "schema: no calibration map of this release .* 'list'"),
        (b'{"schema": NaN}', "not valid JSON: NaN is not JSON"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_no_map_at_all_is_refused_by_its_name(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "map.json"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"map\.json: {message}"):
        CalibrationMap.load(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.json: cannot read the calibration map: No such file"):
        CalibrationMap.load(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"method": "platt", "slope": 0.0, "intercept": 0.0}, "^slope: must be more than 0"),
        ({"method": "platt", "slope": -1.0, "intercept": 0.0}, "^slope: must be more than 0"),
        ({"method": "platt", "slope": math.nan, "intercept": 0.0}, "^slope: expected a finite number"),
        ({"method": "platt", "slope": 1.0}, "^intercept: expected a finite number, got None"),
        ({**STEPS, "method": "platt", "slope": 1.0, "intercept": 0.0}, "^scores: method 'platt' has a slope"),
    ],
)
def test_a_sigmoid_that_does_not_rise_is_refused(shape: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        map_for(RERANKER, **shape)


def test_a_map_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^fitted: expected a Provenance, got dict"):
        CalibrationMap(method="platt", slope=1.0, intercept=0.0, fitted={})  # type: ignore[arg-type]
