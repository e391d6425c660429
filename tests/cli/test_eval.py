"""``rag-rerank eval``: output, stored answers, errors and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support import judged_data
from support.calibration_maps import map_for
from support.judged_data import Oracle, collection, written

import rag_rerank
from rag_rerank import AuthenticationError, _lazy, registry
from rag_rerank.cli import app
from rag_rerank.errors import MissingExtraError
from rag_rerank.evaluation.report import SCHEMA


@pytest.fixture(autouse=True)
def queries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The queries of all calls of the rerankers of these tests."""
    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, **judged_data.REGISTERED})
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "cache"))
    Oracle.asked.clear()
    yield Oracle.asked
    Oracle.asked.clear()


@pytest.fixture
def data(tmp_path: Path) -> str:
    return written(collection(20), tmp_path / "ours.jsonl")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["eval", *arguments])


def test_the_verdict_stands_last_and_recommends_the_oracle(data: str) -> None:
    result = run(data, "--config", "chance", "-c", "oracle")
    assert result.exit_code == 0
    blocks = result.stdout.strip().split("\n\n")
    assert blocks[0].startswith("ours: 20 queries, 12.0 candidates")
    assert blocks[-1].startswith("Rerank with oracle,")
    assert "against the first stage  nDCG@10" in result.stdout and "lift at top-3" in result.stdout


def test_a_random_reranker_gets_do_not_rerank(tmp_path: Path) -> None:
    result = run(written(collection(20, good=True), tmp_path / "good.jsonl"), "-c", "chance")
    assert result.exit_code == 0
    assert "\nDo not rerank here: " in result.stdout


def test_json_is_one_object_on_stdout_and_all_else_is_on_stderr(data: str) -> None:
    result = run(data, "-c", "oracle", "--json", "--measure", "RR@10", "--seed", "3", "--top-k", "5")
    report = json.loads(result.stdout)
    assert report["schema"] == SCHEMA
    assert report["settings"] == {
        "measures": ["RR@10", "nDCG@3"],
        "depth": 12,
        "top_k": 5,
        "samples": 10_000,
        "seed": 3,
    }
    assert [system["name"] for system in report["systems"]] == ["first stage", "oracle"]
    assert "answers are stored in" in result.stderr


def test_answers_are_stored_in_the_users_cache_and_the_second_run_calls_no_reranker(
    data: str, tmp_path: Path, queries: list[str]
) -> None:
    first = run(data, "-c", "oracle")
    assert len(queries) == 20
    assert first.stdout == run(data, "-c", "oracle").stdout
    assert len(queries) == 20
    assert len(list((tmp_path / "cache" / "rag-rerank" / "evaluations" / "ours").glob("*.jsonl"))) == 1
    run(data, "-c", "oracle", "--records", str(tmp_path / "elsewhere"))
    assert len(queries) == 40
    assert len(list((tmp_path / "elsewhere").glob("*.jsonl"))) == 1


def test_queries_depth_relevant_and_slice_do_what_they_say(data: str) -> None:
    report = json.loads(
        run(
            data, "-c", "oracle", "--max-queries", "15", "--depth", "4", "--relevant", "2", "--slice", "kind", "--json"
        ).stdout
    )
    assert report["data"]["queries"] == 15
    assert (report["data"]["relevant"], report["settings"]["depth"]) == (2, 4)
    assert {part["field"] for part in report["slices"]} == {"kind"}
    assert all(outcome["candidates"] == 4 for outcome in report["outcomes"])


def test_the_same_config_twice_has_two_names(data: str) -> None:
    report = json.loads(run(data, "-c", "oracle", "-c", "oracle", "--json").stdout)
    assert [system["name"] for system in report["systems"]] == ["first stage", "oracle", "oracle (2)"]


def test_problems_of_the_data_are_printed_with_count_and_line(tmp_path: Path) -> None:
    file = tmp_path / "ours.jsonl"
    written(collection(12), file)
    rows = file.read_text().splitlines()
    rows.insert(2, json.dumps({"id": "unjudged", "query": "nobody judged this", "candidates": ["a text of grade 0"]}))
    file.write_text("\n".join(rows) + "\n")
    result = run(str(file), "-c", "oracle")
    assert result.exit_code == 0, result.stderr
    assert "data: 1 × " in result.stdout and "ours.jsonl:3" in result.stdout


def test_a_page_and_a_baseline_are_written(data: str, tmp_path: Path) -> None:
    page, baseline = tmp_path / "page.html", tmp_path / "baseline.json"
    assert run(data, "-c", "oracle", "--html", str(page), "--out", str(baseline)).exit_code == 0
    assert page.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")
    assert json.loads(baseline.read_text())["schema"] == SCHEMA


def save_baseline(data: str, tmp_path: Path, spec: str) -> str:
    """Write the baseline of a config called ``config``, and return the file's name."""
    config(tmp_path, spec)
    assert run(data, "-c", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "baseline.json")).exit_code == 0
    return str(tmp_path / "baseline.json")


def config(tmp_path: Path, spec: str) -> str:
    (tmp_path / "config.yaml").write_text(f"type: {spec}\n")
    return str(tmp_path / "config.yaml")


def test_against_a_baseline_a_fall_is_exit_code_1_and_named(data: str, tmp_path: Path) -> None:
    baseline = save_baseline(data, tmp_path, "oracle")
    result = run(data, "-c", config(tmp_path, "contrary"), "--against", baseline)
    assert result.exit_code == 1
    assert "FELL: config: nDCG@10 fell from 1.000 to" in result.stdout
    with_json = run(data, "-c", config(tmp_path, "contrary"), "--against", baseline, "--json")
    assert with_json.exit_code == 1
    assert json.loads(with_json.stdout)["schema"] == SCHEMA
    assert "FELL: config" in with_json.stderr


def test_against_a_baseline_no_fall_is_exit_code_0(data: str, tmp_path: Path) -> None:
    baseline = save_baseline(data, tmp_path, "contrary")
    for spec in ("contrary", "oracle"):
        result = run(data, "-c", config(tmp_path, spec), "--against", baseline)
        assert result.exit_code == 0
        assert "Nothing fell significantly against the baseline" in result.stdout


def test_a_baseline_of_other_queries_costs_nothing_that_was_found(data: str, tmp_path: Path) -> None:
    baseline = Path(save_baseline(data, tmp_path, "oracle"))
    other = json.loads(baseline.read_text())
    for outcome in other["outcomes"]:
        outcome["id"] += " of another collection"
    baseline.write_text(json.dumps(other))
    out = tmp_path / "found.json"
    result = run(data, "-c", "oracle", "--against", str(baseline), "--out", str(out))
    assert result.exit_code == 2 and "no query in common" in result.stderr
    assert "Rerank with oracle" in result.stdout and json.loads(out.read_text())["schema"] == SCHEMA


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "rag_rerank.evaluation/0"}', '{"schema": 1'])
def test_a_file_that_is_no_baseline_is_refused_before_any_call(
    data: str, tmp_path: Path, content: str, queries: list[str]
) -> None:
    (tmp_path / "bad.json").write_text(content)
    result = run(data, "-c", "oracle", "--against", str(tmp_path / "bad.json"))
    assert result.exit_code == 2
    assert "bad.json" in result.stderr and "Traceback" not in result.stderr
    assert not queries


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-c", "oracle", "--measure", "nDGC@10"), "did you mean 'nDCG@10'"),
        (("-c", "orakle"), "did you mean 'oracle'"),
        (("-c", "oracle", "--slice", "kinds"), "did you mean 'kind'"),
        (("-c", "oracle", "--depth", "0"), "--depth"),
        (("-c", "oracle", "--against", "nowhere.json"), "cannot read nowhere.json"),
        (("-c", "oracle", "--out", "no/such/folder.json"), "cannot write no/such/folder.json"),
        ((), "--config"),
    ],
)
def test_wrong_options_are_errors_before_any_call(
    data: str, arguments: tuple[str, ...], message: str, queries: list[str]
) -> None:
    result = run(data, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not queries


def test_a_map_of_other_settings_is_warned_of_in_one_line(data: str, tmp_path: Path) -> None:
    score_map = map_for(Oracle(), method="platt", slope=1.0, intercept=0.0)
    replace(score_map, fitted=replace(score_map.fitted, identity="another")).save(tmp_path / "map.json")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"type": "calibrated", "reranker": "oracle", "map": str(tmp_path / "map.json")}))
    result = run(data, "-c", str(config))
    assert result.exit_code == 0
    (line,) = (line for line in result.stderr.split("\n") if "the map was fitted on" in line)
    assert line.startswith("Warning: calibrated(")


def test_a_source_that_is_not_there_is_exit_code_2() -> None:
    result = run("nowhere", "-c", "oracle")
    assert result.exit_code == 2
    assert "nowhere" in result.stderr


def test_a_config_that_fails_outright_is_named_and_ends_with_2_beside_the_others(
    data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AuthenticationError("the key is not accepted")

    monkeypatch.setattr(judged_data.Contrary, "score", refuse)
    result = run(data, "-c", "contrary", "-c", "oracle")
    assert result.exit_code == 2
    assert "NOT EVALUATED: contrary: AuthenticationError: the key is not accepted" in result.stdout
    assert "Rerank with oracle" in result.stdout
    alone = run(data, "-c", "contrary")
    assert alone.exit_code == 2
    assert "contrary: AuthenticationError: the key is not accepted" in alone.stderr


def test_without_the_extra_the_install_command_is_named(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: str, *, extra: str) -> None:
        raise MissingExtraError(f'{module} is missing; pip install "rag-rerank[{extra}]"')

    monkeypatch.setattr("rag_rerank.evaluation.measures.need", absent)
    result = run(data, "-c", "oracle")
    assert result.exit_code == 2
    assert 'pip install "rag-rerank[eval]"' in result.stderr
    assert _lazy.need is not absent


def process(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = (str(Path(rag_rerank.__file__).parents[1]), str(Path(judged_data.__file__).parents[1]))
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_is_code_130_without_a_traceback_and_the_next_run_goes_on(data: str, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from support import judged_data; from rag_rerank import cli, registry\n"
        "registry.BUILT_IN = {**registry.BUILT_IN, **judged_data.REGISTERED}\n"
        "score = judged_data.Oracle.score\n"
        "def counted(self, query, texts):\n"
        "    if query == 'question number 4': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return score(self, query, texts)\n"
        "judged_data.Oracle.score = counted\n"
        "sys.argv[0] = ''; cli.main()"
    )
    records = tmp_path / "records"
    result = process(script, "eval", data, "-c", "oracle", "--records", str(records))
    assert (result.returncode, result.stdout) == (130, "")
    assert "Traceback" not in result.stderr
    (file,) = records.glob("*.jsonl")
    assert len(file.read_text().splitlines()) == 4


def test_the_other_commands_load_no_evaluation_no_probes_and_no_pages() -> None:
    rooms = tuple(f"rag_rerank.{room}" for room in ("evaluation", "probes", "pages"))
    script = f"import sys; import rag_rerank.cli; print([m for m in sys.modules if m.startswith({rooms!r})])"
    assert process(script).stdout.strip() == "[]"


def test_a_folder_in_place_of_a_file_is_refused_before_any_call(data: str, tmp_path: Path, queries: list[str]) -> None:
    for option in ("--html", "--out"):
        result = run(data, "-c", "oracle", option, str(tmp_path))
        assert (result.exit_code, queries) == (2, [])
        assert f"cannot write {tmp_path}: it is a folder" in result.stderr


@pytest.mark.parametrize(("columns", "blocks"), [(80, 1), (120, 0)])
def test_on_a_narrow_terminal_the_lift_has_a_table_of_its_own(
    data: str, monkeypatch: pytest.MonkeyPatch, columns: int, blocks: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = run(data, "-c", "oracle").stdout.splitlines()
    assert sum(line.startswith("against the first stage  lift at top-3") for line in lines) == blocks
    assert [line for line in lines if line.startswith(("ours", "against", "oracle")) and len(line) > columns] == []
