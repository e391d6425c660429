"""Evaluations from data to figures: they equal those of ir-measures, nothing is scored twice, failures are reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from threading import Event
from typing import Any

import ir_measures
import pytest
from support import judged_data
from support.api.rerank_server import RerankServer
from support.api.scripted_replies import Answer, Received
from support.calibration_maps import map_for
from support.judged_data import Chance, Moody, Oracle, collection
from support.virtual_clock import VirtualClock

import rag_rerank
from rag_rerank import (
    AuthenticationError,
    BackendUnavailable,
    ConfigError,
    InputError,
    InputTooLong,
    Reranker,
    build,
    registry,
)
from rag_rerank.evaluation import Judged, JudgedQuery, evaluate
from rag_rerank.evaluation.report import FIRST_STAGE, Evaluation, System
from rag_rerank.records.reader import read
from rag_rerank.testing import ScriptedReranker

FEW = {"samples": 200}


@pytest.fixture(autouse=True)
def scored_queries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The queries that the rerankers of these tests scored."""
    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, **judged_data.REGISTERED})
    Oracle.asked.clear()
    yield Oracle.asked
    Oracle.asked.clear()


def system(evaluation: Evaluation, name: str) -> System:
    return next(one for one in evaluation.systems if one.name == name)


def changed(judged: Judged, at: int, **changes: Any) -> Judged:
    queries = list(judged.queries)
    queries[at] = replace(queries[at], **changes)
    return replace(judged, queries=tuple(queries))


# figures


def by_hand(judged: Judged, orders: dict[str, list[str]], measure: str) -> float:
    qrels = [ir_measures.Qrel(q.id, d, g) for q in judged.queries for d, g in q.grades.items()]
    run = [ir_measures.ScoredDoc(q, d, -float(i)) for q, order in orders.items() for i, d in enumerate(order)]
    parsed = ir_measures.parse_measure(measure)
    return float(ir_measures.calc_aggregate([parsed], qrels, run)[parsed])


def test_figures_are_those_of_ir_measures() -> None:
    judged, measures = collection(), ("nDCG@10", "RR@10", "R@5", "P@3", "AP")
    evaluation = evaluate(judged, ["lexical", "embedded"], measures=measures, **FEW)
    assert [one.name for one in evaluation.systems] == [FIRST_STAGE, "lexical", "embedded"]
    first = {q.id: [c.id for c in q.candidates] for q in judged.queries}
    lexical = {q.id: [hit.id for hit in build("lexical").rerank(q.text, q.candidates)] for q in judged.queries}
    for measure in measures:
        assert system(evaluation, FIRST_STAGE).measures[measure].mean == pytest.approx(by_hand(judged, first, measure))
        assert system(evaluation, "lexical").measures[measure].mean == pytest.approx(by_hand(judged, lexical, measure))


def test_the_oracle_is_recommended_and_reaches_the_ceiling() -> None:
    evaluation = evaluate(collection(), ["oracle", "chance"], **FEW)
    assert evaluation.verdict.rerank and evaluation.verdict.system == "oracle"
    reached = {name: value.mean for name, value in system(evaluation, "oracle").measures.items()}
    assert reached == pytest.approx(dict(evaluation.data.ceiling))


def test_chance_and_a_contrary_reranker_are_advised_against() -> None:
    assert not evaluate(collection(good=True), ["chance", "contrary"], **FEW).verdict.rerank


def test_what_did_not_enter_follows_in_the_first_stages_order() -> None:
    judged = collection(3, 8)
    evaluation = evaluate(judged, ["contrary"], depth=3, **FEW)
    for query, outcome in zip(judged.queries, evaluation.outcomes, strict=True):
        for place in outcome.places:
            was = place.ranks[FIRST_STAGE]
            assert was is not None
            assert was <= 3 or place.ranks["contrary"] == was
        assert len(query.candidates) == outcome.candidates == 8


def test_every_system_is_compared_with_the_first_stage_and_the_rerankers_with_each_other() -> None:
    evaluation = evaluate(collection(), ["oracle", "chance", "lexical"], measures=["nDCG@10", "RR@10"], **FEW)
    pairs = [(one.system, one.baseline, one.measure) for one in evaluation.comparisons]
    assert pairs == [
        *((name, FIRST_STAGE, m) for m in ("nDCG@10", "RR@10", "nDCG@3") for name in ("oracle", "chance", "lexical")),
        *((b, a, "nDCG@10") for a, b in (("oracle", "chance"), ("oracle", "lexical"), ("chance", "lexical"))),
    ]


def test_the_depth_curve_is_what_evaluations_at_these_depths_give() -> None:
    judged = collection(6, 30)
    (_, chance) = evaluate(judged, ["chance"], **FEW).systems
    assert [point.depth for point in chance.depths] == [5, 10, 20, 30]
    for point in chance.depths:
        (_, again) = evaluate(judged, ["chance"], depth=point.depth, **FEW).systems
        assert again.measures == point.measures
        assert again.depths == tuple(shallower for shallower in chance.depths if shallower.depth <= point.depth)


def test_a_composite_that_looks_at_one_text_at_a_time_has_the_depth_curve_of_what_it_holds(tmp_path: Path) -> None:
    recorded = build({"type": "recorded", "reranker": "chance", "file": str(tmp_path / "traces.jsonl")})
    _, plain, within = evaluate(collection(6, 12), {"plain": "chance", "within": recorded}, **FEW).systems
    assert plain.depths and plain.depths == within.depths


def test_where_scores_depend_on_other_candidates_there_is_no_depth_curve() -> None:
    cascade = build({"type": "cascade", "stages": [{"reranker": "oracle"}]})
    evaluation = evaluate(collection(), {"words": "lexical", "cascade": cascade}, **FEW)
    assert [one.depths for one in evaluation.systems] == [(), (), ()]


def test_probabilities_are_held_against_the_judgments_and_other_scores_are_not() -> None:
    judged = collection(4, 6)
    scores = {c.text: 0.9 if q.grades[c.id] else 0.1 for q in judged.queries for c in q.candidates}
    sure = ScriptedReranker(by_text=scores, answers_on="relevance")
    evaluation = evaluate(judged, {"sure": sure, "oracle": "oracle"}, **FEW)
    reliability = system(evaluation, "sure").reliability
    assert reliability is not None and reliability.ece == pytest.approx(0.1)
    assert system(evaluation, "oracle").reliability is None


def test_slices_are_of_the_fields_that_were_asked_for() -> None:
    evaluation = evaluate(collection(), ["oracle"], slices=["kind"], **FEW)
    assert [(part.field, part.value, part.queries) for part in evaluation.slices] == [
        ("kind", "even", 6),
        ("kind", "odd", 6),
    ]
    with pytest.raises(ConfigError, match="slice by 'kinds'; did you mean 'kind'"):
        evaluate(collection(), ["oracle"], slices=["kinds"])


def test_the_same_evaluation_comes_out_the_same() -> None:
    one, two = (evaluate(collection(), ["oracle", "chance"], **FEW).to_dict() for _ in range(2))
    for data in (one, two):
        del data["time"]
        for figures in data["systems"]:
            del figures["p50"], figures["p95"]
        for outcome in data["outcomes"]:
            del outcome["seconds"]
        data["verdict"]["reasons"] = [why for why in data["verdict"]["reasons"] if not why.startswith("A query takes")]
    assert one == two


def test_loading_and_the_first_call_are_not_in_the_latency(clock: VirtualClock) -> None:
    first = True

    class Slow(Oracle):
        kind = "slow"

        def warm_up(self) -> None:
            clock.sleep(100)

        def number(self, query: str, text: str) -> float:
            nonlocal first
            clock.sleep(9.0 if first else 0.25)
            first = False
            return 0.0

    evaluation = evaluate(collection(5, 2), [Slow()], **FEW)
    assert (evaluation.systems[1].p50, evaluation.systems[1].p95) == (0.5, 0.5)


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    virtual_clock = VirtualClock(seed=1)
    with virtual_clock.running():
        yield virtual_clock


def test_a_query_without_candidates_counts_as_nothing_found(scored_queries: list[str]) -> None:
    judged = changed(collection(3), 1, candidates=())
    evaluation = evaluate(judged, ["oracle"], **FEW)
    assert len(scored_queries) == 2
    assert evaluation.outcomes[1].measures["oracle"]["nDCG@10"] == 0.0
    assert evaluation.outcomes[1].failures == {FIRST_STAGE: "candidates", "oracle": "candidates"}
    assert evaluation.systems[1].errors == 0


# names


def test_configs_without_names_get_their_own_and_the_second_of_two_a_number(tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text("type: oracle\nname: the best\n")
    evaluation = evaluate(
        collection(2), ["oracle", "oracle", file, str(file), {"type": "chance"}, Chance(seed=2)], **FEW
    )
    names = [one.name for one in evaluation.systems]
    assert names == [FIRST_STAGE, "oracle", "oracle (2)", "ours", "ours (2)", "chance", "chance (2)"]


def test_names_that_were_given_stay_and_the_first_stages_is_taken() -> None:
    assert evaluate(collection(2), {"A": "oracle"}, **FEW).systems[1].name == "A"
    with pytest.raises(InputError, match="'first stage'"):
        evaluate(collection(2), {FIRST_STAGE: "oracle"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"configs": []}, "no config"),
        ({"configs": "oracle"}, "sequence of configs"),
        ({"configs": ["orakle"]}, "did you mean 'oracle'"),
        ({"depth": 0}, "depth must be"),
        ({"workers": 0}, "workers must be"),
        ({"measures": ["nDGC@10"]}, "did you mean 'nDCG@10'"),
        ({"judged": Judged(name="none", queries=())}, "no judged queries"),
    ],
)
def test_wrong_arguments_are_refused_before_any_call(
    options: dict[str, Any], message: str, scored_queries: list[str]
) -> None:
    with pytest.raises((ConfigError, InputError), match=message):
        evaluate(**{"judged": collection(2), "configs": ["oracle"], **options})
    assert not scored_queries


# records


def test_a_finished_evaluation_costs_nothing_and_says_the_same(tmp_path: Path, scored_queries: list[str]) -> None:
    first = evaluate(collection(), ["oracle"], records=tmp_path, **FEW)
    assert len(scored_queries) == 12
    again = evaluate(collection(), ["oracle"], records=tmp_path, **FEW)
    assert len(scored_queries) == 12
    assert replace(again, time=first.time) == first


def test_records_are_those_of_calls_without_texts(tmp_path: Path) -> None:
    judged = collection(2)
    evaluate(judged, ["oracle"], records=tmp_path, **FEW)
    (file,) = tmp_path.glob("*.jsonl")
    assert file.name.startswith("oracle-")
    records = list(read(file))
    assert [record.tags["query_id"] for record in records] == ["q0", "q1"]
    assert "question" not in file.read_text() and "of grade" not in file.read_text()


@pytest.mark.parametrize(
    "change",
    [
        lambda query: {"text": "something else"},
        lambda query: {"candidates": (replace(query.candidates[0], text="new of grade 1"), *query.candidates[1:])},
        lambda query: {"candidates": (replace(query.candidates[0], id="new"), *query.candidates[1:])},
        lambda query: {"candidates": query.candidates[::-1]},
        lambda query: {"candidates": query.candidates[1:]},
    ],
    ids=["query", "text", "id", "order", "number"],
)
def test_what_changed_is_run_again_and_nothing_else(tmp_path: Path, scored_queries: list[str], change: Any) -> None:
    judged = collection()
    evaluate(judged, ["oracle"], records=tmp_path, **FEW)
    scored_queries.clear()
    other = changed(judged, 3, **change(judged.queries[3]))
    evaluate(other, ["oracle"], records=tmp_path, **FEW)
    assert scored_queries == [other.queries[3].text]


@pytest.mark.parametrize("options", [{"depth": 5}, {"configs": [{"type": "chance", "seed": 2}]}, {"version": "9.9"}])
def test_answers_of_another_depth_config_or_version_do_not_count(
    tmp_path: Path, scored_queries: list[str], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(collection(), ["chance"], records=tmp_path, **FEW)
    if version := options.pop("version", None):
        monkeypatch.setattr("rag_rerank.evaluation.answer_store.__version__", version)
    evaluate(**{"judged": collection(), "configs": ["chance"], "records": tmp_path, **FEW, **options})
    assert len(scored_queries) == 24


def test_a_map_that_was_fitted_anew_under_its_name_makes_new_answers(tmp_path: Path, scored_queries: list[str]) -> None:
    for slope in (1.0, 2.0, 2.0):
        map_for(Oracle(), method="platt", slope=slope, intercept=0.0).save(tmp_path / "map.json")
        config = {"type": "calibrated", "reranker": "oracle", "map": str(tmp_path / "map.json")}
        evaluate(collection(), [config], records=tmp_path / "records", **FEW)
    assert len(scored_queries) == 24


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits of files are POSIX's")
@pytest.mark.parametrize("workers", [1, 3])
def test_a_disk_that_is_full_stops_a_config_by_name_and_leaves_the_folder_usable(tmp_path: Path, workers: int) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
        with pytest.raises(ConfigError, match=r"oracle: ConfigError: records cannot be kept in .*name another folder"):
            evaluate(collection(), ["oracle"], records=tmp_path, workers=workers, **FEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not evaluate(collection(), ["oracle"], records=tmp_path, **FEW).stopped


def test_new_judgments_need_no_new_answers(tmp_path: Path, scored_queries: list[str]) -> None:
    judged = collection()
    evaluate(judged, ["oracle"], records=tmp_path, **FEW)
    evaluate(changed(judged, 0, grades={"q0d0": 1}), ["oracle"], records=tmp_path, **FEW)
    assert len(scored_queries) == 12


def test_rerankers_that_nothing_describes_run_each_time(tmp_path: Path, scored_queries: list[str]) -> None:
    class Nameless(Oracle):
        why_not_cacheable = "it says so"  # type: ignore[assignment]

    for _ in range(2):
        evaluate(collection(), [Nameless()], records=tmp_path, **FEW)
    assert len(scored_queries) == 24
    assert not list(tmp_path.iterdir())


def test_half_a_record_is_run_again(tmp_path: Path, scored_queries: list[str]) -> None:
    evaluate(collection(), ["oracle"], records=tmp_path, **FEW)
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-100])
    evaluate(collection(), ["oracle"], records=tmp_path, **FEW)
    assert len(scored_queries) == 13
    evaluate(collection(), ["oracle"], records=tmp_path, **FEW)
    assert len(scored_queries) == 13


def test_two_evaluations_do_not_write_one_file_at_once(tmp_path: Path) -> None:
    class Nested(Oracle):
        def number(self, query: str, text: str) -> float:
            evaluate(collection(2), {"inner": self}, records=tmp_path)
            return 0.0

    with pytest.raises(ConfigError, match="another evaluation is writing"):
        evaluate(collection(2), {"outer": Nested()}, records=tmp_path, **FEW)


def test_a_folder_that_cannot_be_used_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match=r"records cannot be kept in .*taken"):
        evaluate(collection(2), ["oracle"], records=tmp_path / "taken", **FEW)


def test_a_file_system_without_locks_is_a_config_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock._acquire", refuse)
    with pytest.raises(ConfigError, match=r"records cannot be kept in .*does not appear to support flock"):
        evaluate(collection(2), ["oracle"], records=tmp_path, **FEW)


SCRIPT = """
    import os, signal, sys
    from support import judged_data
    from rag_rerank import registry
    from rag_rerank.evaluation import evaluate

    registry.BUILT_IN = {**registry.BUILT_IN, **judged_data.REGISTERED}
    score = judged_data.Oracle.score

    def counted(self, query, texts):
        with open(sys.argv[2], "a") as calls:
            calls.write(query + "\\n")
        if query == sys.argv[3]:
            os.kill(os.getpid(), int(sys.argv[4]))
        return score(self, query, texts)

    judged_data.Oracle.score = counted
    evaluation = evaluate(judged_data.collection(), ["oracle"], records=sys.argv[1], samples=200)
    print(evaluation.systems[1].measures["nDCG@10"].mean)
"""


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_was_killed_leaves_its_answers(tmp_path: Path, ended_by: signal.Signals) -> None:
    script, calls = tmp_path / "script.py", tmp_path / "calls"
    script.write_text(dedent(SCRIPT))
    paths = (str(Path(rag_rerank.__file__).parents[1]), str(Path(judged_data.__file__).parents[1]))

    def run(until: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(script), str(tmp_path / "records"), str(calls), until, str(int(ended_by))],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("question number 7").returncode != 0
    assert len(calls.read_text().splitlines()) == 8
    finished = run("nothing")
    assert finished.returncode == 0, finished.stderr
    assert calls.read_text().splitlines()[8:] == [f"question number {q}" for q in range(7, 12)]
    whole = evaluate(collection(), ["oracle"], **FEW).systems[1].measures["nDCG@10"].mean
    assert float(finished.stdout) == whole


# failures


def test_a_failed_query_keeps_the_first_stages_order_is_reported_and_tried_again(tmp_path: Path) -> None:
    moody = Moody(raises=InputTooLong("the query is too long"), on="question number 3")
    evaluation = evaluate(collection(), {"moody": moody}, records=tmp_path, **FEW)
    one = system(evaluation, "moody")
    assert one.errors == 1
    assert [(p.kind, p.count, p.examples) for p in one.problems] == [
        ("failed: InputTooLong", 1, ("query 'q3': InputTooLong: the query is too long",))
    ]
    outcome = evaluation.outcomes[3]
    assert outcome.measures["moody"] == outcome.measures[FIRST_STAGE]
    assert "moody" not in outcome.seconds
    Oracle.asked.clear()
    retry = evaluate(collection(), {"moody": replace(moody, on="question number 33")}, records=tmp_path, **FEW)
    assert retry.systems[1].errors == 0
    assert len(Oracle.asked) == 12  # another config


def test_failed_answers_are_tried_again_and_the_others_are_not(tmp_path: Path, scored_queries: list[str]) -> None:
    moody = Moody(raises=InputTooLong("too long"), on="question number 3")
    evaluate(collection(), [moody], records=tmp_path, **FEW)
    scored_queries.clear()
    evaluate(collection(), [moody], records=tmp_path, **FEW)
    assert scored_queries == ["question number 3"]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_config_that_fails_outright_is_stopped_by_name_and_the_others_go_on(
    workers: int, scored_queries: list[str]
) -> None:
    moody = Moody(raises=AuthenticationError("the key is not accepted"))
    evaluation = evaluate(collection(40), {"bad": moody, "good": "oracle"}, workers=workers, **FEW)
    assert evaluation.stopped == {"bad": "AuthenticationError: the key is not accepted"}
    assert [one.name for one in evaluation.systems] == [FIRST_STAGE, "good"]
    assert len(scored_queries) <= 40 + workers + 1


def test_what_is_being_answered_when_a_config_is_stopped_is_kept(tmp_path: Path, scored_queries: list[str]) -> None:
    raised = Event()

    class Refused(Moody):
        kind = "refused"

        def number(self, query: str, text: str) -> float:
            if query == "question number 1":
                raised.set()
            raised.wait()
            return super().number(query, text)

    refused = Refused(raises=AuthenticationError("the key is not accepted"), on="question number 1")
    evaluation = evaluate(collection(), {"bad": refused, "good": "oracle"}, workers=3, records=tmp_path, **FEW)
    assert list(evaluation.stopped) == ["bad"]
    (file,) = tmp_path.glob("refused-*.jsonl")
    assert len(list(read(file))) == len(scored_queries) - 12


def test_where_no_config_can_be_evaluated_each_is_named() -> None:
    moody = Moody(raises=AuthenticationError("the key is not accepted"))
    with pytest.raises(ConfigError, match="no config could be evaluated: bad: AuthenticationError: the key"):
        evaluate(collection(), {"bad": moody})


def test_a_backend_that_fails_again_and_again_is_left_alone_and_its_answers_are_kept(
    tmp_path: Path, scored_queries: list[str]
) -> None:
    judged = collection(40)
    down = Moody(raises=BackendUnavailable("no connection"), on="question number 1")  # 1, and 10 to 19
    evaluation = evaluate(judged, {"down": down, "good": "oracle"}, records=tmp_path, **FEW)
    assert evaluation.stopped == {"down": "BackendUnavailable: no connection"}
    assert len([query for query in scored_queries if query.startswith("question number 1")]) == 11 + 11
    scored_queries.clear()
    with pytest.raises(ConfigError, match="no connection"):
        evaluate(judged, {"down": down}, records=tmp_path, **FEW)
    assert scored_queries[:2] == ["question number 1", "question number 10"]


def test_a_mistake_in_a_plugin_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        evaluate(collection(2), [Moody(raises=ZeroDivisionError())])


# providers


def cohere(server: RerankServer, **options: Any) -> Reranker:
    return build(
        {"type": "cohere", "model": "rerank-v3.5", "base_url": server.url, "api_key": "k"}
        | {"retry": {"attempts": 1}}
        | options
    )


def test_a_providers_cost_is_reported_and_workers_are_said_to_be_load(rerank_server: RerankServer) -> None:
    evaluation = evaluate(collection(8, 4), {"cohere": cohere(rerank_server)}, workers=4, **FEW)
    one = system(evaluation, "cohere")
    assert len(rerank_server.received) == 8
    assert (one.texts, one.workers, one.errors) == (32, 4, 0)


def test_a_provider_that_fails_once_costs_one_query(rerank_server: RerankServer, tmp_path: Path) -> None:
    def once(request: Received) -> Answer:
        return Answer(503) if "number 2" in json.dumps(request.body) else Answer()

    rerank_server.rule = once
    reranker = cohere(rerank_server)
    assert system(evaluate(collection(5, 4), {"c": reranker}, records=tmp_path, **FEW), "c").errors == 1
    rerank_server.rule = lambda request: Answer()
    asked_before = len(rerank_server.received)
    assert system(evaluate(collection(5, 4), {"c": reranker}, records=tmp_path, **FEW), "c").errors == 0
    assert len(rerank_server.received) == asked_before + 1


# size


def test_answers_hold_no_texts_and_a_large_evaluation_stays_small() -> None:
    import tracemalloc

    filler = "word " * 200
    judged = Judged(
        name="large",
        queries=tuple(
            JudgedQuery(
                id=f"q{q}",
                text=f"question {q}",
                candidates=tuple(
                    rag_rerank.Candidate(f"d{i}", f"{filler}{q} {i} of grade {int(i == q % 50)}") for i in range(50)
                ),
                grades={f"d{q % 50}": 1},
            )
            for q in range(200)
        ),
    )
    texts = sum(len(c.text) for q in judged.queries for c in q.candidates)
    tracemalloc.start()
    try:
        evaluate(judged, [Oracle()], slices=[], measures=["RR@10"], samples=20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < texts  # ten million signs
