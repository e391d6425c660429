"""The parts of the speed benchmark work: lengths, arithmetic, messages to a process, tables. No peer is needed."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest

from benchmarks.speed import environments, limit, rows, tables, texts
from benchmarks.speed.process import Process, SystemFailed
from benchmarks.speed.session import Session
from benchmarks.speed.systems import SYSTEMS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Session]:
    """A quick run of the fake system under every name but one, which cannot be loaded."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{Path(__file__).parent}")
    monkeypatch.setattr(environments, "python", lambda bench, name: Path(sys.executable))
    monkeypatch.setattr(environments, "missing", lambda bench, name: None)
    monkeypatch.setattr(environments, "size", lambda *names: {"bytes": 2**20, "distributions": 3, "largest": "numpy"})
    monkeypatch.setattr(Session, "gemm", lambda session: 100.0)
    fakes = {name: replace(system, loader="fake_system:load", prepare=None) for name, system in SYSTEMS.items()}
    fakes["flashrank"] = replace(fakes["flashrank"], loader="fake_system:absent")
    for name, fake in fakes.items():
        monkeypatch.setitem(SYSTEMS, name, fake)
    monkeypatch.setattr(rows, "REFERENCE", fakes["st"])
    started = Session(tmp_path, tmp_path / "minilm-l6", 1, quick=True, only=("ours", "st", "st-best", "flashrank"))
    yield started
    started.close()


@pytest.fixture
def process() -> Iterator[Process]:
    path = {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
    started = Process(sys.executable, "fake_system:load", path)
    yield started
    started.close()


def test_lengths_have_the_percentiles_that_the_page_declares() -> None:
    lengths = sorted(length for case in texts.cases(10, 100) for length in case.lengths)
    at = {share: lengths[round(share * (len(lengths) - 1))] for share in (0.05, 0.5, 0.95)}
    assert at[0.05] == pytest.approx(63, abs=3)
    assert at[0.5] == pytest.approx(134, abs=3)
    assert at[0.95] == pytest.approx(304, abs=8)
    assert fmean(lengths) == pytest.approx(152, abs=4)
    assert max(lengths) <= texts.WINDOW


def test_a_smaller_skew_gives_lengths_nearer_to_the_same_median() -> None:
    wide, narrow = (sorted(texts.cases(1, 100, skew)[0].lengths) for skew in (0.55, 0.25))
    assert median(narrow) == pytest.approx(median(wide), abs=3)
    assert narrow[95] - narrow[5] < (wide[95] - wide[5]) / 1.5


def test_declared_lengths_are_those_of_the_tokenizer() -> None:
    (case,) = texts.cases(1, 50)
    pairs = [(case.query, text) for text in case.texts]
    assert [len(row.ids) for row in texts.tokenizer().encode_batch(pairs)] == list(case.lengths)


def test_the_same_arguments_give_the_same_texts_and_other_numbers_other_ones() -> None:
    first, second = texts.cases(2, 10)
    assert texts.cases(1, 10, first=1) == [second]
    assert not {first.query, *first.texts} & {second.query, *second.texts}


def test_even_cases_fill_the_window_almost() -> None:
    assert all(500 < length <= 512 for length in texts.even(20, 512).lengths)


def test_flops_are_those_counted_by_hand() -> None:
    shape = {"hidden": 2, "inner": 3, "layers": 5, "heads": 1}
    linear = 4 * (2 * 2 * 2) + 2 * (2 * 2 * 3)  # of one token: four projections and two feed-forward products
    attention = 2 * (2 * 7 * 7 * 2)  # of an input of 7 tokens: scores, and their sum over values
    assert limit.flops(shape, [7]) == 5 * (7 * linear + attention)
    assert limit.flops(shape, [7, 7]) == 2 * limit.flops(shape, [7])


def test_padding_costs_flops() -> None:
    shape = {"hidden": 384, "inner": 1536, "layers": 6, "heads": 12}
    assert limit.flops(shape, [100, 300]) < limit.flops(shape, [300, 300])


def test_agreement_tells_equal_reversed_and_swapped_orders_apart() -> None:
    scores = [0.1, 0.5, -2.0, 3.0]
    assert limit.spearman(scores, scores) == pytest.approx(1)
    assert limit.spearman(scores, [-score for score in scores]) == pytest.approx(-1)
    assert 0 < limit.spearman(scores, [0.5, 0.1, -2.0, 3.0]) < 1
    assert limit.overlap(scores, [-score for score in scores], k=1) == 0
    assert limit.overlap(scores, [0.5, 0.1, -2.0, 3.0], k=2) == 0.5
    assert limit.difference(scores, [0.1, 0.5, -2.0, 3.25]) == 0.25


def test_a_process_answers_whatever_its_system_prints(process: Process) -> None:
    assert set(process.ask("load", folder="model", settings={"sign": -1})) == {"wall", "cpu"}
    answer = process.ask("rerank", query="q", texts=["abc", "a"])
    assert answer["scores"] == [-3.0, -1.0]
    assert answer["wall"] >= 0
    assert process.ask("slots", query="q", texts=["abc"]) == {"slots": 24}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_callers_share_the_calls_and_failures_are_counted(process: Process, asynchronous: bool) -> None:
    process.ask("load", folder="model", settings={})
    calls = [("q", ["a"])] * 5 + [("raise", ["a"])]
    answer = process.ask("callers", calls=calls, callers=3, asynchronous=asynchronous)
    assert len(answer["latencies"]) == 5
    assert answer["failed"] == ["RuntimeError: no answer"]


def test_an_error_is_told_and_the_process_lives_on(process: Process) -> None:
    with pytest.raises(SystemFailed, match="ValueError: this model is broken"):
        process.ask("load", folder="broken", settings={})
    process.ask("load", folder="model", settings={})
    assert process.ask("rerank", query="q", texts=["ab"])["scores"] == [2.0]


def test_a_process_that_ends_is_a_failure_of_its_system(process: Process) -> None:
    process.ask("load", folder="model", settings={})
    with pytest.raises(SystemFailed, match="ended with 3"):
        process.ask("rerank", query="crash", texts=[])


@pytest.mark.parametrize("name", rows.ROWS)
def test_a_row_runs_from_its_first_process_to_its_table(session: Session, name: str) -> None:
    measured = raw(name, *rows.ROWS[name][0](session), quick=True, unavailable=session.unavailable)
    json.dumps(measured)
    page = tables.page({name: measured})
    assert "rag-rerank, fp32" in page
    if name in ("main", "cold"):
        absent = [line for line in page.splitlines() if "FlashRank" in line]
        assert absent
        assert all("AttributeError" in line for line in absent)
    if name == "main":
        assert "sentence-transformers, best batch (" in page
        assert "0.0e+00 | 1.0000 | 10 |" in page


def test_a_run_asks_two_rounds_and_then_minds_the_time(tmp_path: Path) -> None:
    session = Session(tmp_path, tmp_path / "minilm-l6", 0)
    assert list(session.within(range(10))) == [0, 1]
    assert list(Session(tmp_path, tmp_path / "minilm-l6", 60).within(range(10))) == list(range(10))


def test_every_system_runs_in_an_environment_that_is_pinned() -> None:
    assert {system.environment for system in SYSTEMS.values()} == set(environments.PINS)
    for pins in environments.PINS.values():
        assert all(pin[0] == "." or "==" in pin or pin.startswith("matplotlib") for pin in pins)


def test_an_environment_that_is_not_there_says_so(tmp_path: Path) -> None:
    assert "not installed" in (environments.missing(tmp_path, "ours") or "")
    note = tmp_path / "env" / "ours" / "installed.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"asked": [], "failed": "no such version"}))
    assert environments.missing(tmp_path, "ours") == "not installed: no such version"
    note.write_text(json.dumps({"asked": [], "failed": None}))
    assert environments.missing(tmp_path, "ours") is None


def raw(row: str, *measurements: dict[str, Any], **more: Any) -> dict[str, Any]:
    machine = {
        "date": "2026-01-02", "commit": "abc", "cpu": "a processor", "flags": ["avx2"], "cores": 2, "memory": 2**34,
        "system": "Linux 6", "python": "3.11.0", "load": [0.5], "versions": {"ours": {"onnxruntime": "1.0"}},
    }  # fmt: skip
    header = {"row": row, "checkpoint": "minilm-l6", "quick": False, "unavailable": {}, "machine": machine}
    return {**header, "measurements": list(measurements), **more}


def reranked(system: str, case: int, wall: float, scores: list[float], **more: Any) -> dict[str, Any]:
    header = {"what": "rerank", "system": system, "case": case, "wall": wall, "cpu": 2 * wall, "load": 1.0}
    return {**header, "scores": scores, **more}


def test_the_main_table_pairs_ratios_by_query_and_names_who_is_absent() -> None:
    page = tables.page(
        {
            "main": raw(
                "main",
                {"what": "gemm", "skew": 0.55, "gflops": 100.0, "flops": 10**11},
                reranked("ours", 0, 2.0, [1.0, 2.0], skew=0.55),
                reranked("st", 0, 3.0, [2.0, 1.0], skew=0.55),
                reranked("ours", 1, 1.0, [1.0, 2.0], skew=0.55),
                reranked("st", 1, 4.0, [1.0, 2.0], skew=0.55),
                {"what": "reference", "case": 0, "scores": [1.0, 2.5]},
                {"what": "slots", "system": "st", "skew": 0.55, "slots": 30, "lengths": [10, 10]},
                {"what": "memory", "system": "st", "now": 2**20, "peak": 5 * 2**20},
                unavailable={"st-openvino": "not installed: no such version"},
            )
        }
    )
    (st,) = [line for line in page.splitlines() if "sentence-transformers, default" in line]
    assert "3.50 [3.00-4.00] | 7.00 | 2.75 [1.50-4.00] | 3.50 | 1.50 | 1.5e+00 | -1.0000 | 10 | 5 | 2.0" in st
    assert "not installed: no such version" in page
    assert "Limit: 1.00 s at 100 GFLOP/s" in page


def test_every_row_has_a_table_and_quick_runs_are_marked() -> None:
    assert set(tables.TABLES) == set(rows.ROWS)
    memory = {"what": "memory", "system": "ours", "candidates": 1000, "length": 512, "loaded": 2**20, "peak": 3 * 2**20}
    page = tables.page({"memory": raw("memory", {**memory, "wall": 1.0}, quick=True)})
    assert "1,000 x 512 | 1 | 3 | 2 | 1.0" in page
    assert "is no measurement" in page


def test_rows_of_two_runs_say_which_run_each_is_of() -> None:
    memory, size = raw("memory"), raw("size")
    size["machine"] = {**size["machine"], "commit": "def"}
    page = tables.page({"memory": memory, "size": size})
    assert "commit `abc`" in page
    assert "Rows: memory (minilm-l6).\n" in page
    assert "commit `def`" in page
    assert page.count("onnxruntime 1.0") == 1


def test_callers_are_told_by_percentiles() -> None:
    measured = {"what": "callers", "system": "ours", "asynchronous": False, "callers": 4, "wall": 10.0, "failed": []}
    page = tables.page({"callers": raw("callers", {**measured, "latencies": [float(i) for i in range(101)]})})
    assert "| rag-rerank, fp32 | 4 | 10.10 | 50.00 | 95.00 | 0 |" in page


def test_tables_go_between_the_markers_and_nothing_else_changes() -> None:
    text = f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n"
    assert tables.between_markers(text, "new\n") == f"before\n{tables.BEGIN}\nnew\n{tables.END}\nafter\n"
    with pytest.raises(ValueError, match="speed: begin"):
        tables.between_markers("no markers", "new\n")
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert tables.between_markers(readme, "new\n") != readme
