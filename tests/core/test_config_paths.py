"""Paths in a config file are relative to that file, in every field that holds one, wherever the program runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import rag_rerank
from rag_rerank import Cached, Calibrated, ConfigError, ModelLoadError, Reranker, Windows, build, load, to_config
from rag_rerank.backends.auto import AutoReranker
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.cli import app
from rag_rerank.config.fields import config_fields, with_full_paths

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder ``conf`` with models beside the configs, and a working directory elsewhere."""
    for name in ("conf/small", "conf/models/small", "shared/large"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def read(folder: Path, content: Any, name: str = "rerank.yaml") -> Reranker:
    (folder / "conf" / name).write_text(json.dumps(content))
    return load(f"../conf/{name}")


@pytest.mark.parametrize("name", ["c.yaml", "c.json"])
@pytest.mark.parametrize(
    ("model", "place"),
    [
        ("./small", "conf/small"),
        ("small", "conf/small"),
        ("models/small", "conf/models/small"),
        ("../shared/large", "conf/../shared/large"),
        ("./absent", "conf/absent"),
        ("models/in/vain", "conf/models/in/vain"),
    ],
)
def test_a_folder_is_looked_for_beside_the_file(model: str, place: str, name: str, folder: Path) -> None:
    expected = OnnxReranker(model=f"{folder}/{place}")
    assert read(folder, {"type": "onnx", "model": model}, name) == expected
    assert read(folder, {"type": f"onnx:{model}"}, name) == expected
    if (folder / place).is_dir():
        assert read(folder, model, name) == read(folder, {"type": model}, name) == AutoReranker(model=expected.model)


@pytest.mark.parametrize("model", ["minilm", "MiniLM", "BAAI/bge-reranker-v2-m3", "someone/x@refs/pr/1", "/x", "~/x"])
def test_other_models_mean_what_they_mean_elsewhere(model: str, folder: Path) -> None:
    assert read(folder, {"type": "onnx", "model": model}) == OnnxReranker(model=model)


@pytest.mark.parametrize(
    ("node", "field", "value"),
    [
        ({"type": "cached", "reranker": "minilm", "path": "scores.db"}, "path", "conf/scores.db"),
        ({"type": "recorded", "reranker": "minilm", "file": "./calls.jsonl"}, "file", "conf/calls.jsonl"),
        ({"type": "calibrated", "reranker": "minilm", "map": "maps/m.json"}, "map", "conf/maps/m.json"),
        ({"type": "answerable", "reranker": "minilm", "map": "maps/a.json"}, "map", "conf/maps/a.json"),
        ({"type": "windows", "reranker": "minilm", "tokens": 99, "tokenizer": "./t.json"}, "tokenizer", "conf/t.json"),
    ],
)
def test_every_field_that_is_a_path_starts_from_the_file(node: Any, field: str, value: str, folder: Path) -> None:
    assert getattr(read(folder, node), field) == f"{folder}/{value}"
    assert getattr(build(node), field) == node[field]  # a mapping in Python keeps the working directory
    for text in ("/abs/file.json", "~/file.json"):
        assert getattr(read(folder, {**node, field: text}), field) == text


def test_the_fields_that_are_paths_are_those_that_say_so() -> None:
    marked = {
        f"{name}.{f.name}"
        for name in rag_rerank.registry.BUILT_IN
        for f in config_fields(rag_rerank.registry.resolve(name))
        if with_full_paths(rag_rerank.registry.resolve(name), f.name, "./x", "/conf") == "/conf/x"
    }
    assert marked == {
        *("auto.model", "embedding.model", "late_interaction.model", "onnx.model", "sparse.model", "torch.model"),
        *("answerable.map", "cached.path", "calibrated.map", "ltr.model", "recorded.file", "windows.tokenizer"),
    }


def test_the_name_of_a_tokenizer_and_a_file_within_a_model_are_no_paths(folder: Path) -> None:
    node = {"type": "windows", "reranker": {"type": "onnx", "file": "onnx/q.onnx"}, "tokens": 99, "tokenizer": "gpt-4o"}
    reranker = read(folder, node)
    assert isinstance(reranker, Windows) and reranker.tokenizer == "gpt-4o"
    assert isinstance(reranker.reranker, OnnxReranker) and reranker.reranker.file == "onnx/q.onnx"


def test_paths_deep_in_a_tree_start_from_the_file_and_are_written_in_full(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = {"type": "cached", "path": "scores.db", "reranker": "./small"}
    stages = [{"reranker": "lexical"}, {"reranker": {"type": "fallback", "members": [cached, "cached(models/small)"]}}]
    reranker = read(folder, {"type": "cascade", "stages": stages})
    first, second = reranker.children[1].children
    assert first == Cached(reranker=AutoReranker(model=f"{folder}/conf/small"), path=f"{folder}/conf/scores.db")
    assert second == Cached(reranker=AutoReranker(model=f"{folder}/conf/models/small"))
    node = to_config(reranker)
    monkeypatch.chdir("/")
    assert build(node) == reranker


def test_the_value_of_a_variable_is_read_as_if_it_stood_in_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL", "./small")
    monkeypatch.setenv("NODE", '{"type": "onnx", "model": "models/small"}')
    assert read(folder, {"type": "onnx", "model": "${MODEL}"}) == OnnxReranker(model=f"{folder}/conf/small")
    assert read(folder, {"type": "${MODEL}"}) == AutoReranker(model=f"{folder}/conf/small")
    assert read(folder, "${NODE}") == OnnxReranker(model=f"{folder}/conf/models/small")
    assert read(folder, {"type": "onnx", "model": "${NONE:-./small}"}) == OnnxReranker(model=f"{folder}/conf/small")
    dollar = folder / "conf" / "$x"
    dollar.mkdir()
    (dollar / "c.yaml").write_text("{type: onnx, model: ./small}")
    assert build(to_config(load(dollar / "c.yaml"))) == OnnxReranker(model=f"{dollar}/small")


def test_what_python_adds_to_a_file_starts_from_the_working_directory(folder: Path) -> None:
    read(folder, {"type": "cached", "reranker": "./small", "path": "scores.db"})
    expected = Cached(reranker=AutoReranker(model=f"{folder}/conf/small"), path="mine.db")
    assert build("../conf/rerank.yaml", path="mine.db") == expected
    read(folder, {"type": "onnx", "model": "./small"})
    assert build("../conf/rerank.yaml", model="./mine") == OnnxReranker(model="./mine")
    assert build("../conf/rerank.yaml", threads=2) == OnnxReranker(model=f"{folder}/conf/small", threads=2)


def test_a_link_to_a_file_is_a_file_where_the_link_is(folder: Path) -> None:
    read(folder, {"type": "onnx", "model": "./small"})
    (folder / "work" / "link.yaml").symlink_to(folder / "conf" / "rerank.yaml")
    assert load("link.yaml") == OnnxReranker(model=f"{folder}/work/small")


def test_a_folder_of_the_working_directory_is_no_silent_substitute(folder: Path) -> None:
    for name in ("mine", "owner/name"):
        (folder / "work" / name).mkdir(parents=True)
    for name in ("mine", "owner/name", "./mine"):
        with pytest.raises(ConfigError, match=r"relative to the file, and .*conf/(mine|owner/name)") as error:
            read(folder, {"type": name})
        assert repr(name) in str(error.value)
    assert read(folder, "owner/name@main") == AutoReranker(model="owner/name", revision="main")
    with pytest.raises(ConfigError, match=r"stages\[0\].reranker.model: 'owner/name' is a folder in the working dir"):
        read(folder, {"type": "cascade", "stages": [{"reranker": {"type": "onnx", "model": "owner/name"}}]})


def test_a_missing_path_is_named_as_it_was_written_and_where_it_was_looked_for(folder: Path) -> None:
    with pytest.raises(ConfigError, match=f"'./smal' in {folder}/conf; did you mean './small'"):
        read(folder, "./smal")
    with pytest.raises(ModelLoadError, match=f"no such folder: {folder}/conf/../smal"):
        read(folder, {"type": "onnx", "model": "../smal"}).warm_up()
    with pytest.raises(ConfigError, match=f"{folder}/conf/m.json"):
        read(folder, {"type": "calibrated", "reranker": "lexical", "map": "m.json"}).warm_up()


def test_the_scores_and_the_identity_of_a_model_do_not_depend_on_where_it_is_named_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(EMBEDDED, folder / "conf" / "copy")
    reranker = read(folder, "./copy")
    assert reranker.label == f"auto:{folder}/conf/copy"
    monkeypatch.chdir(folder / "conf")
    with build("./copy") as same, reranker:
        assert reranker.identity == same.identity
        texts = ["K2 is 8,611 m high.", "Lake Garda is 346 m deep."]
        assert [hit.score for hit in reranker.rerank("k2", texts)] == [hit.score for hit in same.rerank("k2", texts)]


def test_a_config_behind_a_link_is_edited_in_place_and_keeps_its_relative_paths(folder: Path) -> None:
    from rag_rerank.cli.config_edit import edit, write_config

    (folder / "work" / "small").mkdir()
    file, link = folder / "conf" / "c.yaml", folder / "work" / "link.yaml"
    file.write_text("type: onnx\nmodel: ./small  # mine\n")
    link.symlink_to(file)
    write_config(link, edit(link, {(): {"threads": 2}}), OnnxReranker(model=f"{folder}/work/small", threads=2))
    assert file.read_text() == "type: onnx\nmodel: ./small  # mine\nthreads: 2\n"
    with pytest.raises(ConfigError, match="would describe another reranker"):
        write_config(link, edit(link, {(): {"threads": 3}}), OnnxReranker(model=f"{folder}/conf/small", threads=3))


def test_the_command_line_ranks_with_a_model_beside_the_config(folder: Path) -> None:
    shutil.copytree(EMBEDDED, folder / "conf" / "copy")
    (folder / "conf" / "c.yaml").write_text("./copy\n")
    (folder / "work" / "texts.txt").write_text("K2 is high.\nGarda is deep.\n")
    run = CliRunner().invoke(app, ["rank", "-c", "../conf/c.yaml", "-q", "how high is K2?", "texts.txt"])
    assert run.exit_code == 0 and "K2 is high." in run.stdout


def test_a_new_config_of_the_command_line_names_files_in_its_folder_by_relative_paths(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_rerank.cli.config_edit import config_text, write_config

    reranker = build({"type": "calibrated", "reranker": "../conf/small", "map": "map.json"})
    for file, model, path in (
        (folder / "conf" / "new.yaml", f"{folder}/work/../conf/small", f"{folder}/work/map.json"),
        (folder / "work" / "new.json", "../conf/small", "./map.json"),
        (folder / "work" / "new.yaml", "../conf/small", "./map.json"),
    ):
        write_config(file, config_text(reranker, file), reranker)
        node = yaml.safe_load(file.read_text())  # JSON is YAML
        assert (node["reranker"]["model"], node["map"]) == (model, path)
        monkeypatch.chdir("/")
        in_full = AutoReranker(model=f"{folder}/work/../conf/small")
        assert load(file) == Calibrated(reranker=in_full, map=f"{folder}/work/map.json")
        monkeypatch.chdir(folder / "work")
