"""What `tune` concludes from times and scores; a fake bench gives both, so that no test depends on the machine."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from support.fake_bench import FakeBench, best_at

import rag_rerank.diagnostics.tune
from rag_rerank import ConfigError, InputError, ModelLoadError, build
from rag_rerank.diagnostics.bench import LoadedBench, Timing, interleave
from rag_rerank.diagnostics.sample_texts import SampleQuestion, questions, skewed_question
from rag_rerank.diagnostics.tune import Report, Setting, tune

TEXTS = tuple("word " * n for n in range(1, 41))


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rag_rerank.diagnostics.tune, "cores", lambda: 4)


def tuned(bench: FakeBench, reranker: Any = "onnx:embedded", **options: Any) -> Report:
    return tune(build(reranker), "a query", TEXTS, bench=bench, **options)


def test_the_fastest_layout_and_budget_are_chosen() -> None:
    report = tuned(FakeBench(best_at(2, 256)))
    assert report.present.setting == Setting(4, 1, 512)
    assert report.chosen.setting == Setting(2, 2, 256)
    assert report.changes == {"workers": 2, "threads": 2, "batch_tokens": 256}
    assert report.tuned == build({"type": "onnx:embedded", "workers": 2, "threads": 2, "batch_tokens": 256})
    assert report.gain == pytest.approx(4)
    assert report.chosen.exact


def test_layouts_fill_the_cores_and_budgets_are_tried_at_the_best_of_them_only() -> None:
    report = tuned(FakeBench(best_at(4, 1024)))
    assert [row.setting for row in report.layouts] == [(1, 4, 512), (2, 2, 512), (4, 1, 512)]
    assert [row.setting for row in report.budgets] == [(1, 4, budget) for budget in (128, 256, 512, 1024, 2048)]


@pytest.mark.parametrize(("threads", "budget", "changes"), [(1, 128, {"batch_tokens": 128}), (1, 512, {})])
def test_only_what_changes_is_set(threads: int, budget: int, changes: dict[str, int]) -> None:
    report = tuned(FakeBench(best_at(threads, budget)))
    assert report.changes == changes
    assert report.tuned == build({"type": "onnx:embedded", **changes})


def test_a_gain_within_the_spread_changes_nothing() -> None:
    report = tuned(FakeBench(best_at(2, 256, gain=1.05), noise=(1.0, 1.3, 0.8, 1.1, 0.9, 1.25, 0.75)))
    assert report.changes == {}
    assert report.tuned == report.reranker
    assert report.gain == 1


def test_a_setting_that_wins_by_chance_must_win_against_the_present_one_again() -> None:
    last = False

    def cost(reranker: Any) -> float:
        nonlocal last
        last = last or reranker.precision == "int8"  # which runs in the last comparison only
        return 0.0005 if reranker.batch_tokens == 256 and not last else 0.001

    report = tuned(FakeBench(cost))
    fastest = min(report.budgets, key=lambda row: row.timing.median)
    assert fastest.setting.batch_tokens == 256 and fastest.timing.median < report.present.timing.median
    assert report.changes == {}


def test_a_faster_setting_that_moves_scores_is_not_chosen() -> None:
    def scores(reranker: Any, texts: Sequence[str]) -> list[float]:
        return [len(text) + (0.1 if reranker.threads == 2 else 0.0) for text in texts]

    report = tuned(FakeBench(best_at(2, 512), scores=scores))
    assert report.changes == {}
    (moving,) = (row for row in report.layouts if not row.exact)
    assert moving.setting.threads == 2 and moving.timing.faster_than(report.present.timing)


def test_int8_is_shown_and_never_chosen() -> None:
    def scores(reranker: Any, texts: Sequence[str]) -> list[float]:
        return [-len(text) if reranker.precision == "int8" else len(text) for text in texts]

    report = tuned(FakeBench(lambda r: 0.0001 if r.precision == "int8" else 0.001, scores=scores))
    assert report.int8 is not None
    assert report.chosen.timing.median / report.int8[0].median == pytest.approx(10)
    assert report.int8[1].tau == -1
    assert (report.changes, report.tuned) == ({}, report.reranker)


@pytest.mark.parametrize("field", [{"precision": "int8"}, {"optimize": False}])
def test_int8_is_not_measured_where_it_is_there_already_or_cannot_be(field: dict[str, Any]) -> None:
    bench = FakeBench(best_at(1, 512))
    assert tuned(bench, {"type": "onnx:embedded", **field}).int8 is None
    assert {(r.precision, r.optimize) for r, _ in bench.ran} == {  # type: ignore[attr-defined]
        (field.get("precision", "fp32"), field.get("optimize", True))
    }


def test_a_model_that_cannot_be_had_in_int8_is_tuned_all_the_same() -> None:
    class Fp32Only(FakeBench):
        def engine(self, reranker: Any) -> Any:
            if reranker.precision == "int8":
                raise ModelLoadError("it has no fp32 product with a constant matrix")
            return super().engine(reranker)

    report = tuned(Fp32Only(best_at(2, 256)))
    assert report.changes == {"workers": 2, "threads": 2, "batch_tokens": 256}
    assert report.int8 is None


def test_of_torch_the_budget_alone_is_tuned() -> None:
    report = tuned(FakeBench(best_at(1, 4096)), "torch:minilm")
    assert report.layouts == ()
    assert report.changes == {"batch_tokens": 4096}
    assert report.present.setting == Setting(None, None, 512)


def test_what_does_not_compute_on_a_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = FakeBench(best_at(1, 512))
    with pytest.raises(ConfigError, match="computes on CUDAExecutionProvider"):
        tuned(bench, {"type": "onnx:embedded", "providers": ["CUDAExecutionProvider"]})
    monkeypatch.setattr(bench, "engine", lambda r: SimpleNamespace(batch_tokens=512, device="cuda"))
    with pytest.raises(ConfigError, match="torch:minilm computes on cuda"):
        tuned(bench, "torch:minilm")


def test_a_slow_model_is_measured_on_fewer_texts_of_all_lengths() -> None:
    bench = FakeBench(best_at(1, 512))
    assert tuned(bench, seconds=1000).texts == len(TEXTS)
    bench = FakeBench(lambda _: 10.0)
    report = tuned(bench, seconds=1)
    texts = bench.ran[-1][1].texts
    assert report.texts == len(texts) == 16
    assert [len(t) for t in texts] == sorted(len(t) for t in texts)  # in the order in which they were given
    assert len(texts[0]) < 25 and len(texts[-1]) > 175


def test_more_time_gives_more_rounds_within_bounds() -> None:
    rounds = {s: len(tuned(FakeBench(best_at(1, 512)), seconds=s).present.timing.seconds) for s in (0.1, 1, 1000)}
    assert rounds[0.1] == 5 < rounds[1] < 15 == rounds[1000]


def test_neither_the_overflow_rule_nor_the_name_is_touched_and_texts_are_cut_while_measuring() -> None:
    bench = FakeBench(best_at(2, 512))
    report = tuned(bench, {"type": "onnx:embedded", "on_overflow": "error", "name": "mine"})
    assert (report.tuned.on_overflow, report.tuned.name) == ("error", "mine")
    assert {reranker.on_overflow for reranker, _ in bench.ran} == {"truncate"}


def test_no_more_copies_are_loaded_than_meet_in_one_comparison() -> None:
    bench = FakeBench(best_at(2, 256))
    tuned(bench)
    assert bench.most_loaded == 3


def test_texts_are_measured_as_a_reranker_reads_them() -> None:
    bench = FakeBench(best_at(2, 256))
    tune(build("onnx:embedded"), "a \ud800", ["b \udfff", "\u200b", "c"], bench=bench)
    assert {question for _, question in bench.ran} == {SampleQuestion("a \ufffd", ("b \ufffd", "c"))}


def test_progress_rises_and_ends_at_one_at_most() -> None:
    shares: list[float] = []
    tuned(FakeBench(best_at(1, 512)), seconds=1, progress=shares.append)
    assert shares == sorted(shares) and 0 < shares[0] < shares[-1] <= 1


def test_the_report_is_plain_data() -> None:
    report_dict = json.loads(json.dumps(tuned(FakeBench(best_at(2, 256))).to_dict()))
    assert report_dict["changes"] == {"workers": 2, "threads": 2, "batch_tokens": 256}
    assert report_dict["chosen"]["seconds"]["rounds"] == 15
    assert {"gain", "tau", "top_10", "moved", "spread"} <= set(report_dict["int8"])


@pytest.mark.parametrize(
    ("query", "texts", "seconds"), [(" ", ["a"], 1), ("a", [], 1), ("a", [" ", "\u200b"], 1), ("a", ["b"], 0)]
)
def test_nothing_to_measure_is_an_error(query: str, texts: list[str], seconds: float) -> None:
    with pytest.raises(InputError):
        tune(build("onnx:embedded"), query, texts, seconds=seconds)


def test_rounds_are_interleaved_and_every_other_one_runs_backwards() -> None:
    ran: list[str] = []

    def run(name: str) -> Callable[[], float]:
        return lambda: ran.append(name) or float(len(ran))  # type: ignore[func-returns-value]

    timings = interleave([run("a"), run("b"), run("c")], 3)
    assert "".join(ran) == "abccbaabc"
    assert timings[0].seconds == (1.0, 6.0, 7.0)


def test_spread_is_the_middle_half_and_decides_what_is_faster() -> None:
    calm, wild = Timing((1.0, 1.0, 1.1, 1.2, 9.0)), Timing((0.5, 0.7, 0.9, 1.5, 2.0))
    assert (calm.median, calm.spread) == (1.1, pytest.approx(0.2))
    assert not wild.faster_than(calm)
    assert Timing((0.8, 0.8, 0.8)).faster_than(calm)
    assert Timing((3.0,)).spread == 0


def test_the_models_themselves_are_run_and_give_the_scores_that_they_give_elsewhere() -> None:
    question = SampleQuestion(questions()[0].query, ("yes", "no", *skewed_question().texts[:2]))
    reranker: Any = build({"type": "onnx:embedded", "name": "mine"})
    report = tune(reranker, *question, seconds=0.01)
    assert report.texts == 4
    assert all(row.exact for row in (*report.layouts, *report.budgets, report.chosen))
    assert report.int8 is not None and report.int8[1].tau > 0.5
    assert reranker.stats is None  # nothing was loaded into the caller's own
    with LoadedBench() as bench:
        small, large = replace(reranker, batch_tokens=128), replace(reranker, batch_tokens=2048)
        assert bench.engine(small) is bench.engine(large)
        assert bench.engine(small) is not bench.engine(replace(reranker, workers=1))
        assert bench.run(small, question)[1] == list(reranker.score(*question).values)


def test_kept_vectors_do_not_make_a_setting_look_fast() -> None:
    bench = FakeBench(best_at(2, 256))
    report = tuned(bench, {"type": "embedded", "precision": "int4"})
    assert {(reranker.store, reranker.precision) for reranker, _ in bench.ran} == {(None, "fp32")}  # type: ignore[attr-defined]
    assert report.tuned == build({"type": "embedded", "precision": "int4", **report.changes})
    assert report.changes and report.int8 is None
    question = SampleQuestion(questions()[0].query, ("yes", "no", *skewed_question().texts[:2]))
    with LoadedBench() as real:
        late: Any = build({"type": "embedded", "store": None})
        assert real.run(replace(late, batch_tokens=128), question)[1] == list(late.score(*question).values)


def test_the_packaged_text_is_real_and_skewed() -> None:
    assert [len(question.texts) for question in questions()] == [40] * 6
    assert len({text for question in questions() for text in question.texts}) > 200
    lengths = sorted(len(text.split()) for text in skewed_question().texts)
    assert len(lengths) == 100 and lengths[0] < 25 and 80 <= lengths[50] <= 90 and lengths[-1] > 300
    assert skewed_question() == skewed_question()
