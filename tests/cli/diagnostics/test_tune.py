"""``rag-rerank tune`` and ``models --check``, and edited config files. Times come from a fake bench."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.fake_bench import FakeBench, best_at

import rag_rerank
from rag_rerank import ConfigError, Fallback, build, load
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.local import catalogue
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.cli import app, config_edit
from rag_rerank.cli.config_edit import edit, write_config
from rag_rerank.cli.models import listing
from rag_rerank.config.build import build_text
from rag_rerank.diagnostics import check as checks
from rag_rerank.diagnostics import tune
from rag_rerank.diagnostics.sample_texts import questions

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"

SET = {"workers": 2, "threads": 2, "batch_tokens": 256}
"""The fastest settings on the machine of these tests."""


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeBench:
    bench = FakeBench(best_at(2, 256))
    monkeypatch.setattr(tune, "LoadedBench", lambda: bench)
    monkeypatch.setattr(tune, "cores", lambda: 4)
    return bench


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(app, list(arguments), **options)


def edited_file(tmp_path: Path, content: str, place: tuple[str | int, ...] = (), name: str = "c.yaml") -> str:
    file = tmp_path / name
    file.write_bytes(content.encode())
    return edit(file, {place: SET})


# editing


def test_new_fields_stand_behind_the_others_and_comments_stay(tmp_path: Path) -> None:
    for end in ("\n# the end\n", "# its engine\nproviders:\n- CPUExecutionProvider  # c\n# the end\n"):
        before = f"---\n# ours\ntype: onnx   # local\n# which\nmodel: minilm  # small\n{end}"
        new = "small\nworkers: 2\nthreads: 2\nbatch_tokens: 256\n"
        assert edited_file(tmp_path, before) == before.replace("small\n", new)


def test_fields_that_are_there_get_the_new_value_in_their_place(tmp_path: Path) -> None:
    before = "type: minilm\nbatch_tokens: 512 # was the best\nthreads: null\nrevision: null\nname: 'x'"
    after = "type: minilm\nbatch_tokens: 256 # was the best\nthreads: 2\nrevision: null\nname: 'x'\nworkers: 2\n"
    assert edited_file(tmp_path, before) == after


def test_a_flow_mapping_stays_one(tmp_path: Path) -> None:
    assert (
        edited_file(tmp_path, "{ type: onnx, threads: 1, model: 'minilm', }  # short\n")
        == "{type: onnx, threads: 2, model: 'minilm', workers: 2, batch_tokens: 256} # short\n"
    )


@pytest.mark.parametrize("name", ["minilm", "'minilm'", '"minilm"'])
def test_a_name_becomes_a_mapping(tmp_path: Path, name: str) -> None:
    before = f"# top\n{name}  # minilm is ours\n# below\n"
    after = f"# top\ntype: {name}  # minilm is ours\nworkers: 2\nthreads: 2\nbatch_tokens: 256\n# below\n"
    assert edited_file(tmp_path, before) == after


CASCADE = """\
type: cascade
stages:
  - reranker: lexical  # first
    depth: 100
  - depth: 50
    reranker:
      type: fallback
      members:
        - minilm       # a name
        - type: onnx
          model: "tinybert"   # a mapping
          providers:
            - CPUExecutionProvider
        - {type: embedded}
"""


def test_a_nested_model_is_changed_in_its_place_and_nothing_else(tmp_path: Path) -> None:
    whole = "workers: 2, threads: 2, batch_tokens: 256"
    changes = {
        0: (b"- minilm       #", f"- {{type: minilm, {whole}}} #".encode()),
        1: (
            b'"tinybert"   # a mapping\n',
            b'"tinybert"   # a mapping\n          workers: 2\n          threads: 2\n          batch_tokens: 256\n',
        ),
        2: (b"{type: embedded}", f"{{type: embedded, {whole}}}".encode()),
    }
    file = tmp_path / "c.yaml"
    file.write_text(CASCADE)
    expected = CASCADE
    for member, (old, new) in changes.items():
        alone = edited_file(tmp_path, CASCADE, ("stages", 1, "reranker", "members", member))
        assert alone == CASCADE.replace(old.decode(), new.decode())
        expected = expected.replace(old.decode(), new.decode())
    together = edit(file, {("stages", 1, "reranker", "members", member): SET for member in changes})
    assert together == expected


@pytest.mark.parametrize("content", [
    "type: fallback\nmembers:\n- type: lexical\n\n# the second\n- type: onnx\n  model: minilm\n",
    "type: fallback\nmembers:\n    - type: lexical\n    - type: onnx\n      model: minilm\n",
    "type: fallback\nmembers:\n    -   type: lexical\n    -   type: onnx\n        model: minilm\n",
    "type: cached\nreranker:\n    type: onnx\n    model: minilm\n",
])  # fmt: skip
def test_the_indentation_of_a_file_stays(tmp_path: Path, content: str) -> None:
    place = ("members", 1) if "members" in content else ("reranker",)
    column = " " * (len(content.splitlines()[-1]) - len("model: minilm"))
    assert edited_file(tmp_path, content, place) == content + "".join(f"{column}{k}: {v}\n" for k, v in SET.items())


def test_line_ends_of_windows_stay(tmp_path: Path) -> None:
    assert edited_file(tmp_path, "type: minilm # a\r\nname: x\r\n") == (
        "type: minilm # a\r\nname: x\r\nworkers: 2\r\nthreads: 2\r\nbatch_tokens: 256\r\n"
    )


def test_json_is_written_anew_with_its_keys_in_their_order(tmp_path: Path) -> None:
    before = '{"type":"fallback","members":["minilm",{"type":"onnx","threads":1,"model":"é"}]}'
    for member, expected in enumerate([{"type": "minilm", **SET}, {"type": "onnx", **SET, "model": "é"}]):
        after = edited_file(tmp_path, before, ("members", member), "c.json")
        assert json.loads(after)["members"][member] == expected
        assert "é" in after and after.startswith('{\n  "type"')
    assert json.loads(edited_file(tmp_path, '"minilm"', name="c.json")) == {"type": "minilm", **SET}


def test_anchors_and_merge_keys_are_edited_where_the_result_is_the_expected_one(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("type: fallback\nmembers:\n- &a {type: minilm}\n- *a\n- {<<: *a, name: mine}\n- tinybert\n")
    members = [build({"type": "minilm", **SET, **more}) for more in ({}, {}, {"name": "mine"})]
    expected = Fallback(members=(*members, build("tinybert")))
    write_config(file, edit(file, {("members", i): SET for i in range(3)}), expected)
    assert load(file) == expected
    one = Fallback(members=(build({"type": "minilm"}), *expected.members[1:]))
    with pytest.raises(ConfigError, match="a YAML anchor shares the edited part"):
        write_config(file, edit(file, {("members", 0): {"workers": 1}}), one)
    assert load(file) == expected


@pytest.mark.parametrize(
    ("content", "place", "line"),
    [
        ("# above\n---\ntype: minilm\n", (), 1),
        ("--- minilm  # ours\n", (), 1),
        ("type: fallback\nmembers: [\n  minilm,  # one\n  lexical]\n", ("members", 0), 3),
    ],
)
def test_a_file_whose_comment_would_be_lost_is_refused(
    tmp_path: Path, content: str, place: tuple[str | int, ...], line: int
) -> None:
    with pytest.raises(ConfigError, match=f"left as it is: the comment in line {line} would be lost"):
        edited_file(tmp_path, content, place)


@pytest.mark.parametrize(("name", "content"), [("c.yaml", "type: 'secret"), ("c.json", '{"type": "secret')])
def test_a_file_that_broke_meanwhile_is_refused_without_a_quotation(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}") as caught:
        edited_file(tmp_path, content, (), name)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", ['"plugin"', '{"type": "plugin"}', '{"type": "plugin", "part": "lexical"}'])
@pytest.mark.parametrize("name", ["c.json", "c.yaml"])
def test_a_part_that_the_file_does_not_name_is_refused(tmp_path: Path, content: str, name: str) -> None:
    with pytest.raises(ConfigError, match=r"left as it is: it does not spell out part\.inner"):
        edited_file(tmp_path, content, ("part", "inner"), name)


def test_a_draft_is_read_by_nobody_who_may_not_read_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("minilm\n")
    file.chmod(0o600)
    modes = []

    def build_(text: str, file: Path) -> object:
        modes.extend(draft.stat().st_mode & 0o777 for draft in tmp_path.glob(".c-*.yaml"))
        return build_text(text, file)

    monkeypatch.setattr(config_edit, "build_text", build_)
    write_config(file, "tinybert\n", build("tinybert"))
    assert modes == [0o600]


def test_a_value_on_a_line_of_its_own_moves_behind_its_key(tmp_path: Path) -> None:
    assert edited_file(tmp_path, "type:\n  minilm\n").startswith("type: minilm\nworkers: 2\n")


def test_a_file_is_replaced_only_by_what_describes_the_expected(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("minilm\n")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="left as it is: edited, it would describe another reranker"):
        write_config(file, "tinybert\n", build("minilm"))
    with pytest.raises(ConfigError, match="left as it is: the edited file could not be read"):
        write_config(file, "minilm: [", build("minilm"))
    assert file.read_text() == "minilm\n"
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    write_config(link, "tinybert\n", build("tinybert"))
    assert link.is_symlink() and file.read_text() == "tinybert\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c.yaml", "link.yaml"]
    with pytest.raises(ConfigError, match="cannot write"):
        write_config(tmp_path / "absent" / "c.yaml", "minilm\n", build("minilm"))


# tune


def test_without_a_file_the_tables_and_the_config_are_printed() -> None:
    result = run("tune", "embedded")
    assert result.exit_code == 0, result.output
    title, layouts, budgets, facts, config = result.stdout.split("\n\n")
    assert title == "late_interaction:embedded: 100 texts a call"
    assert [row.split()[:2] for row in layouts.splitlines()[1:]] == [["1", "4"], ["2", "2"], ["4", "1"]]
    assert layouts.splitlines()[3].endswith("present")
    assert budgets.splitlines()[2].split() == ["2", "2", "256", "25.0", "ms", "0.0", "ms", "chosen"]
    assert "choice  workers: 2, threads: 2, batch_tokens: 256: 4.00x as fast (25.0 ms against 100.0 ms" in facts
    assert "scores  the same" in facts
    assert config == "type: late_interaction\nmodel: embedded\nbatch_tokens: 256\nworkers: 2\nthreads: 2\n"
    assert "measuring late_interaction:embedded" in result.stderr


def test_a_new_file_is_written_and_an_old_one_is_not_overwritten(tmp_path: Path) -> None:
    for name in ("new.yaml", "new.json"):
        result = run("tune", "embedded", "-o", str(tmp_path / name))
        assert result.stdout.endswith(f"{tmp_path / name}: written\n")
        assert load(tmp_path / name) == build({"type": "embedded", **SET})
    again = run("tune", "embedded", "-o", str(tmp_path / "new.yaml"))
    assert again.exit_code == 2 and "exists already" in again.stderr


def test_write_changes_each_local_model_of_a_file_in_place(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(CASCADE)
    result = run("tune", "--write", str(file))
    assert result.exit_code == 0, result.output
    assert "onnx:tinybert  (stages[1].reranker.members[1]): 100 texts a call" in result.stdout
    members: Any = load(file).stages[1].reranker.members  # type: ignore[attr-defined]
    assert [(m.workers, m.threads, m.batch_tokens) for m in members] == [(2, 2, 256)] * 3
    assert "# first" in file.read_text() and "# a name" in file.read_text()
    assert run("tune", "--write", str(file)).stdout.endswith(f"{file}: nothing to change\n")


@pytest.mark.parametrize("content", ["./small\n", "type: ./small\n", "{type: auto, model: ./small}\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_folder_is_tuned_as_the_backend_that_its_files_choose(
    content: str, mark: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(EMBEDDED, tmp_path / "small")
    file = tmp_path / "c.yaml"
    file.write_bytes(mark + content.encode())
    assert run("tune", str(file), "--write").exit_code == 0
    assert load(file) == LateInteractionReranker(model=str(tmp_path / "small"), **SET)
    assert "./small" in file.read_text()
    assert run("tune", "-r", "small", "-o", "new.yaml").exit_code == 0
    assert load("new.yaml") == LateInteractionReranker(model=str(tmp_path / "small"), **SET)


def test_equal_models_are_measured_once_and_all_changed(machine: FakeBench, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("type: cascade\nstages: [{reranker: minilm, depth: 50}, {reranker: minilm, depth: 20}]\n")
    result = run("tune", "--write", "--json", str(file))
    output = json.loads(result.stdout)
    assert [row["place"] for row in output["models"]] == ["stages[0].reranker", "stages[1].reranker"]
    assert output["config"] is None
    assert file.read_text().count("workers: 2") == 2
    first = run("tune", "minilm", "--json")
    assert json.loads(first.stdout)["models"][0]["chosen"] == output["models"][0]["chosen"]


def test_a_file_that_holds_a_key_is_left_to_write(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("type: fallback\nmembers:\n  - {type: cohere, api_key: a-key}  # ours\n  - minilm\n")
    refusal = run("tune", str(file), "-o", str(tmp_path / "new.yaml"))
    assert refusal.exit_code == 2 and "with --write" in refusal.stderr
    result = run("tune", str(file), "--write")
    assert result.exit_code == 0, result.output
    assert "api_key: a-key}  # ours\n" in file.read_text()
    assert "a-key" not in refusal.output + result.output


def test_nothing_better_leaves_the_file_as_it_is(
    machine: FakeBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "cost", lambda _: 0.001)
    file = tmp_path / "c.yaml"
    file.write_text("type:\n  minilm\n")
    result = run("tune", "--write", str(file))
    assert "choice  no setting is better than the present one by more than the spread" in result.stdout
    assert result.stdout.endswith(f"{file}: nothing to change\n")
    assert file.read_text() == "type:\n  minilm\n"
    new = run("tune", "minilm", "-o", str(tmp_path / "new.yaml"))
    assert new.stdout.endswith("new.yaml: written\n")
    assert load(tmp_path / "new.yaml") == build("minilm")


def test_own_texts_are_measured(machine: FakeBench, tmp_path: Path) -> None:
    texts = tmp_path / "t.jsonl"
    texts.write_text('{"text": "K2 is tall"}\n{"text": "Lake Garda is deep"}\n')
    result = run("tune", "embedded", "--texts", str(texts), "-q", "how tall?")
    assert "2 texts a call" in result.stdout
    assert {question for _, question in machine.ran} == {("how tall?", ("K2 is tall", "Lake Garda is deep"))}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embedded", "--texts", "t.txt"], "--texts and --query go together"),
        (["embedded", "--query", "q"], "--texts and --query go together"),
        (["embedded", "--write"], "--write changes a config file in place"),
        (["c.yaml", "--write", "-o", "d.yaml"], "--write changes a config file in place"),
        (["embedded", "-o", "d.txt"], "ends in .yaml"),
        (["lexical"], "runs no local model"),
        (["embeded"], "did you mean 'embedded'"),
    ],
)
def test_what_cannot_be_tuned_is_one_line(arguments: list[str], message: str) -> None:
    result = run("tune", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr and result.stderr.startswith("Error: ")


def test_a_model_on_another_device_is_left_out_with_a_note(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    node = "type: fallback\nmembers: [{type: minilm, providers: [CUDAExecutionProvider]}, embedded]\n"
    file.write_text(node)
    result = run("tune", str(file), "--write")
    assert "Note: onnx:minilm computes on CUDAExecutionProvider" in result.stderr
    tuned = "{type: embedded, workers: 2, threads: 2, batch_tokens: 256}"
    assert file.read_text() == node.replace(", embedded]", f", {tuned}]")


# models --check


def test_check_prints_a_row_for_each_model_and_what_the_columns_mean(tmp_path: Path) -> None:
    texts = tmp_path / "t.txt"
    texts.write_text("K2 is 8,611 m high.\nLake Garda is 346 m deep.\nK2 was first climbed in 1954.\n")
    result = run("models", "--check", "embedded", "--texts", str(texts), "--query", "how tall is K2?")
    assert result.exit_code == 0, result.output
    heading, row, *rest = result.stdout.splitlines()
    assert heading.split()[0] == "model" and row.split()[:3] == ["late-minilm-v1", "written", "anew"]
    assert row.split()[-1].endswith("x")
    assert "3 query-text pairs of 1 query; your own text" in rest
    as_json = run("models", "--check", "embedded", "--texts", str(texts), "-q", "how tall is K2?", "--json")
    output = json.loads(as_json.stdout)
    assert (output["schema"], output["queries"], output["texts"], output["own_text"]) == (1, 1, 3, True)
    (check,) = output["checks"]
    assert check["passed"] is True and check["optimised"]["relative"] <= 1e-4
    assert {"tau", "top_10", "moved", "spread"} <= set(check["int8"])


def in_the_cache(cache: Path, name: str, *left_out: str) -> None:
    """Put files under a catalogue model's name into a hub cache, as a download would; they are the embedded model's."""
    row = catalogue.row_of(name)
    assert row is not None and row.revision is not None
    snapshot = cache / f"models--{row.id.replace('/', '--')}" / "snapshots" / row.revision
    for file in {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"}.difference(left_out):
        target = snapshot / ("onnx" if file == "model.onnx" else "") / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(EMBEDDED / file, target)


def test_without_a_model_the_check_takes_those_that_are_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_the_cache(tmp_path, "tinybert")
    in_the_cache(tmp_path, "minilm", "model.onnx")  # a download that was cut short
    question: list[str] = []

    def check(reranker: Any, queries: Any, progress: Any) -> Any:
        question.append(reranker.model)
        assert [len(texts) for _, texts in queries] == [40] * 6
        return passing

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    passing = checks.check(OnnxReranker(model="embedded"), questions()[:1], bench=FakeBench(lambda _: 0.001))
    monkeypatch.setattr(listing, "check", check)
    assert run("models", "--check").exit_code == 0
    assert sorted(question) == ["embedded", "embedded-multilingual", "embedded-static", "tinybert"]


def test_a_graph_that_differs_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = FakeBench(
        lambda _: 0.001,
        scores=lambda r, texts: [len(t) / 1000 + 0.5 * (r.optimize and r.precision == "fp32") for t in texts],
    )
    output = checks.check(OnnxReranker(model="embedded"), questions()[:1], bench=bench)
    monkeypatch.setattr(listing, "check", lambda *_, **__: output)
    result = run("models", "--check", "embedded")
    assert result.exit_code == 1
    assert "late-minilm-v1 FAILED: its optimised graph's logits differ by 0.5" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--check", "minilm"], "rag-rerank pull onnx:minilm"),
        (["--check", "nobody/nothing"], "rag-rerank pull onnx:nobody/nothing"),
        (["--check", "./nowhere"], "no such folder"),
        (["--check", "minilmm"], "did you mean 'minilm'"),
        (["--check", "MiniLM"], "rag-rerank pull onnx:minilm"),
        (["--check", "BAAI/bge-reranker-v2-m3@main"], "rag-rerank pull onnx:BAAI/bge-reranker-v2-m3"),
        (["--check", "lexical"], "lexical is no local model"),
        (["embedded"], "go with --check"),
        (["--query", "x"], "go with --check"),
    ],
)
def test_what_cannot_be_checked_is_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    result = run("models", *arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert message in result.stderr
