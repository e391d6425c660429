"""Every name that a user types or reads in a trace means the same everywhere, and a wrong one is corrected."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import rag_rerank
from rag_rerank import ConfigError, ModelLoadError, PointwiseReranker, Reranker, build, load, registry, to_config
from rag_rerank.backends.api.dialects import DIALECTS, Name
from rag_rerank.backends.auto import AutoReranker
from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.backends.http import HttpReranker
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.backends.torch import TorchReranker
from rag_rerank.backends.voyage import VoyageReranker
from rag_rerank.cli import app

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"
MINILM = "cross-encoder/ms-marco-MiniLM-L6-v2"
BGE = "BAAI/bge-reranker-v2-m3"

NAMES: dict[str, Reranker] = {
    BGE: TorchReranker(model=BGE),
    MINILM: OnnxReranker(model=MINILM),
    "cross-encoder/ms-marco-MiniLM-L-6-v2": OnnxReranker(model="cross-encoder/ms-marco-MiniLM-L-6-v2"),
    BGE.lower(): TorchReranker(model=BGE),
    f"{BGE}@main": TorchReranker(model=BGE, revision="main"),
    f"{MINILM}@c5ee24cb1601": OnnxReranker(model=MINILM),
    f"onnx:{MINILM}@c5ee24cb16019beea0893ab7796b1df96625c6b8": OnnxReranker(model=MINILM),
    f"torch:{MINILM}@v9": TorchReranker(model=MINILM, revision="v9"),
    "minilm@v9": OnnxReranker(model="minilm", revision="v9"),
    "MiniLM": OnnxReranker(model="minilm"),
    "ONNX:MiniLM": OnnxReranker(model="minilm"),
    "Lexical": LexicalReranker(),
    "late-minilm-v1": LateInteractionReranker(model="late-minilm-v1"),
    "onnx:embedded": OnnxReranker(model="embedded"),
    "someone/cross-encoder": AutoReranker(model="someone/cross-encoder"),
    "someone/cross-encoder@refs/pr/1": AutoReranker(model="someone/cross-encoder", revision="refs/pr/1"),
    "rerank-v3.5": CohereReranker(model="rerank-v3.5"),
    "rerank-2.5": VoyageReranker(model="rerank-2.5"),
    "jina-reranker-v3.5": HttpReranker(dialect="jina", model="jina-reranker-v3.5"),
    "http:jina:jina-reranker-v2": HttpReranker(dialect="jina", model="jina-reranker-v2"),
}
FOLDERS: dict[str, Reranker] = {
    "./small": AutoReranker(model="./small"),
    "small": AutoReranker(model="small"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model and a config, and without a hub."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    (tmp_path / "pipeline.json").write_text('{"type": "lexical", "b": 0.2}')
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_name_means_the_same_as_text_as_type_and_in_a_file(name: str, folder: Path) -> None:
    expected = NAMES[name]
    (folder / "name.yaml").write_text(json.dumps(name))
    (folder / "type.yaml").write_text(json.dumps({"type": name}))
    (folder / "nested.json").write_text(json.dumps({"type": "fallback", "members": [name, "lexical"]}))
    assert build(name) == build({"type": name}) == load("name.yaml") == load("type.yaml") == expected
    assert build("nested.json").children[0] == expected
    assert build(to_config(expected)) == expected


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_means_the_same_as_text_and_as_type_and_is_named_in_full_in_a_file(name: str, folder: Path) -> None:
    expected = FOLDERS[name]
    in_full = AutoReranker(model=str(folder / "small"))
    (folder / "name.yaml").write_text(json.dumps(name))
    (folder / "type.yaml").write_text(json.dumps({"type": name}))
    assert build(name) == build({"type": name}) == build(to_config(expected)) == expected
    assert load("name.yaml") == load("type.yaml") == in_full


@pytest.mark.parametrize("name", [*NAMES, *FOLDERS])
def test_a_name_means_the_same_on_the_command_line(name: str) -> None:
    result = CliRunner().invoke(app, ["config", "check", name], catch_exceptions=False)
    assert result.exit_code in (0, 1), result.output  # 1 where this machine lacks the model or a key
    assert result.stdout.splitlines()[0].split("  ")[0] == {**NAMES, **FOLDERS}[name].label


@pytest.mark.parametrize("name", [*NAMES, *FOLDERS])
def test_what_traces_print_is_a_name(name: str) -> None:
    reranker = {**NAMES, **FOLDERS}[name]
    assert build(reranker.label) == reranker
    assert isinstance(reranker, PointwiseReranker)
    if reranker.model_id is not None:
        again = build(reranker.model_id)
        assert isinstance(again, PointwiseReranker) and again.model_id == reranker.model_id


@pytest.mark.parametrize("model", ["minilm", MINILM, f"{MINILM}@v9", "MiniLM", "./small", "someone/x@main"])
@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_a_model_means_the_same_after_the_type_and_in_its_field(kind: str, model: str) -> None:
    made = {"onnx": OnnxReranker, "torch": TorchReranker}[kind](model=model)
    assert build(f"{kind}:{model}") == build({"type": kind, "model": model}) == build(kind, model=model) == made


def test_a_path_object_is_a_folder_or_a_config_file_and_never_a_name(folder: Path) -> None:
    (folder / "minilm").mkdir()
    assert build(Path("small")) == build(Path("./small")) == AutoReranker(model="./small")
    assert build(Path("minilm")) == AutoReranker(model="./minilm")
    assert build(folder / "small") == AutoReranker(model=str(folder / "small"))
    assert build(Path("pipeline.json")) == build(folder / "pipeline.json") == LexicalReranker(b=0.2)
    assert build("onnx", model=Path("minilm")) == OnnxReranker(model="./minilm") == OnnxReranker(model=Path("minilm"))  # type: ignore[arg-type]
    assert build({"type": "cascade", "stages": [{"reranker": Path("small")}]}).children[0].label == "auto:./small"


def test_a_folder_with_the_exact_name_comes_before_a_name_in_another_case(folder: Path) -> None:
    (folder / "MiniLM").mkdir()
    assert build("MiniLM") == AutoReranker(model="MiniLM")
    assert build("minilm") == OnnxReranker(model="minilm")


def test_two_revisions_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^revision: the model names the revision v1, and revision is v2"):
        build({"type": "onnx", "model": "someone/x@v1", "revision": "v2"})


def test_a_wrapper_is_built_from_its_label() -> None:
    for reranker in (build("cached", reranker="minilm"), build("windows", reranker="cached(minilm)")):
        assert build(reranker.label) == reranker
        assert reranker.label.endswith("cached(onnx:minilm)" + ")" * reranker.label.startswith("windows"))


@pytest.mark.parametrize(
    ("spec", "options", "expected"),
    [
        ("onnx", {"model": "minilm", "threads": 2}, OnnxReranker(threads=2)),
        ("minilm", {"max_length": 64}, OnnxReranker(max_length=64)),
        ({"type": "lexical", "b": 0.1}, {"b": 0.2}, LexicalReranker(b=0.2)),
        ("pipeline.json", {"name": "mine"}, LexicalReranker(b=0.2, name="mine")),
        ("./small", {"threads": 2}, OnnxReranker(model="./small", threads=2)),
        ("someone/x", {"device": "cpu"}, TorchReranker(model="someone/x", device="cpu")),
        ("someone/x", {"max_length": 64}, AutoReranker(model="someone/x", max_length=64)),
        ("http:tei", {"base_url": "http://gpu:80"}, HttpReranker(dialect="tei", base_url="http://gpu:80")),
    ],
)
def test_keyword_arguments_are_further_fields(spec: Any, options: dict[str, Any], expected: Reranker) -> None:
    assert build(spec, **options) == expected


def test_a_field_may_be_called_as_an_argument_of_build_could_be(folder: Path) -> None:
    assert to_config(build("cached", reranker="embedded", path="scores.db"))["path"] == "scores.db"
    reranker = build("http", dialect="jina", model="m", path="/v2/rerank")
    assert to_config(reranker)["path"] == "/v2/rerank"
    stages = build("cascade", stages=[{"reranker": LexicalReranker()}, {"reranker": "minilm", "depth": 5}])
    assert [child.label for child in stages.children] == ["lexical", "onnx:minilm"]


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("onnx", {"modl": "minilm"}, "unknown key 'modl' of type 'onnx'; did you mean 'model'?"),
        ("someone/x", {"devise": "cpu"}, "unknown key 'devise' of type 'auto'"),
        ("lexical", {"b": "high"}, "b: Input should be a valid number, got 'high'"),
        ("onnx:minilm", {"model": "x/y"}, "type 'onnx:minilm' already names a model; remove 'model'"),
        (LexicalReranker(), {"b": 1}, "b: a reranker is there already"),
        ("auto", {}, "model: auto needs a model"),
    ],
)
def test_a_wrong_keyword_is_the_error_of_a_mapping(spec: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(spec, **options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("minilmm", "minilm"),
        ("Minlm", "minilm"),
        ("bge-reranker-v2", BGE),
        ("ms-marco-MiniLM-L6-v2", MINILM),
        ("lexicl", "lexical"),
        ("chohere:rerank-v3.5", "cohere"),
        ("./smal", "./small"),
        ("smal", "small"),
        ("pipelin.json", "pipeline.json"),
        ("./pipeline.jsn", "./pipeline.json"),
        (f"https://huggingface.co/{BGE}/tree/main", BGE),
        ("openruter:cohere/rerank-v3.5", "openrouter"),
        ("zeroentrophy", "zeroentropy"),
        ("pinecone-inference", "pinecone"),
    ],
)
def test_a_wrong_name_gets_the_nearest_right_one(name: str, nearest: str) -> None:
    for spec in (name, {"type": "fallback", "members": ["lexical", name]}):
        if isinstance(spec, dict) and name.endswith(".json"):
            continue  # no config names a file
        with pytest.raises(ConfigError) as caught:
            build(spec)
        assert f"did you mean {nearest!r}?" in str(caught.value)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_is_a_name_by_itself(name: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"model": "org/m:free", "base_url": "http://127.0.0.1:9"}
    expected = HttpReranker(dialect=name, **options)
    assert to_config(expected) == {"type": "http", "dialect": name, **options}
    if name == "cohere":  # which is also a type, of Cohere itself
        assert registry.resolve(name) is CohereReranker and name not in registry.providers()
        return
    assert registry.providers()[name] == f"http:{name}"
    url = {"base_url": options["base_url"]}
    for spec in (f"{name}:org/m:free", f"{name.upper()}:org/m:free", f"http:{name}:org/m:free"):
        assert build(spec, **url) == build({"type": spec, **url}) == expected
    assert build(name, **options) == build({"type": name, **options}) == expected
    assert build({"type": "fallback", "members": [{"type": name, **options}, "lexical"]}).children[0] == expected
    with pytest.raises(ConfigError, match=f"type '{name}' already names a dialect; remove 'dialect'"):
        build({"type": name, "dialect": name, **options})
    with pytest.raises(ConfigError, match="ends after the colon"):
        build(f"{name}:")


def test_a_wrong_path_object_gets_the_nearest_one_too() -> None:
    with pytest.raises(ConfigError, match=r"no such folder or config file: './smal'; did you mean './small'\?"):
        build(Path("smal"))


@pytest.mark.parametrize("name", ["cohere:", "onnx: ", "http:"])
def test_a_colon_needs_a_model(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' ends after the colon; write {name.strip()}"):
        build(name)


@pytest.mark.parametrize("name", ["embedded:", "minilm:onnx", "MiniLM:x"])
def test_nothing_follows_an_alias(name: str) -> None:
    with pytest.raises(ConfigError, match="is a model already, so nothing may follow it"):
        build(name)


def test_a_file_that_is_no_config_is_no_model(folder: Path) -> None:
    (folder / "small" / "model.onnx").write_bytes(b"")
    for name in ("small/model.onnx", "./small/model.onnx"):
        with pytest.raises(ConfigError, match=r"a model is named by its folder, '(\./)?small'"):
            build(name)


def test_an_unknown_hub_id_builds_without_a_connection_and_fails_at_use(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    reranker = build("someone/cross-encoder")
    with pytest.raises(ModelLoadError, match="someone/cross-encoder"):
        reranker.rerank("q", ["a"])


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"workers": 2}, "late_interaction"), ({"store": None}, "late_interaction"), ({"optimize": False}, "onnx")],
    ids=str,
)
def test_options_go_to_the_backend_that_the_folder_chooses(options: dict[str, Any], kind: str, folder: Path) -> None:
    shutil.copytree(EMBEDDED, folder / "configs" / "late")
    (folder / "configs" / "c.json").write_text(json.dumps({"type": "./late", **options}))
    assert load("configs/c.json").kind == build("configs/late", **options).kind == kind
    assert build("someone/model", workers=2).kind == "onnx"  # the first with this option


def test_names_do_not_depend_on_where_a_model_is(folder: Path) -> None:
    """The same folder by every name: equal scores, equal identity."""
    shutil.copytree(EMBEDDED, folder / "copy")
    texts = ["K2 is tall", "a lake"]
    expected = LateInteractionReranker(model="./copy").rerank("how tall?", texts)
    in_full = os.fspath(folder / "copy")
    for spec in ("./copy", "copy", Path("copy"), in_full, "late_interaction:./copy", {"type": "./copy"}):
        with build(spec) as reranker:
            assert [hit.raw_score for hit in reranker.rerank("how tall?", texts)] == [h.raw_score for h in expected]
            assert reranker.identity == LateInteractionReranker(model="./copy").identity
