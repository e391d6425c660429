"""Where model files come from: the package, a folder, or the hub's cache; pinned, and offline."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rag_rerank
from rag_rerank import ConfigError, MissingExtraError, ModelLoadError, build
from rag_rerank.backends.local import catalogue
from rag_rerank.backends.local.model_files import ONNX_FILES, is_cached, locate, model_name
from rag_rerank.backends.onnx import OnnxReranker

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"
MINILM = "cross-encoder/ms-marco-MiniLM-L6-v2"
PINNED = "c5ee24cb16019beea0893ab7796b1df96625c6b8"

Store = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty hub cache, offline, and a function that puts the starter's files there under another name."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(model: str, commit: str, *, without: str = "", branch: str = "main") -> Path:
        repository = tmp_path / f"models--{model.replace('/', '--')}"
        snapshot = repository / "snapshots" / commit
        blobs = repository / "blobs"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / branch).write_text(commit)
        (snapshot / "onnx").mkdir(parents=True)
        blobs.mkdir(exist_ok=True)
        for name in ("onnx/model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"):
            if name != without:
                blob = blobs / re.sub(r"\W", "", name)
                shutil.copy(EMBEDDED / Path(name).name, blob)
                (snapshot / name).symlink_to(blob)
        return snapshot

    return put


def test_a_catalogue_model_is_read_from_the_cache_at_its_pinned_commit(store: Store) -> None:
    store(MINILM, "f" * 40)
    with pytest.raises(ModelLoadError, match=r"not in the local cache .* rag-rerank pull onnx:minilm"):
        build("minilm").warm_up()
    store(MINILM, PINNED)
    ranking = build("minilm").rerank("how warm?", ["warm"])
    assert ranking.trace.model == f"{MINILM}@{PINNED[:12]}"
    assert ranking.trace.notes == ()


def test_former_ids_and_aliases_mean_the_same_files(store: Store) -> None:
    store(MINILM, PINNED)
    for name in ("onnx:minilm", f"onnx:{MINILM}", "onnx:cross-encoder/ms-marco-MiniLM-L-6-v2"):
        assert build(name).rerank("how warm?", ["warm"]).trace.model == f"{MINILM}@{PINNED[:12]}"


@pytest.mark.parametrize(
    "name", ["MiniLM", MINILM.upper(), f"{MINILM}@{PINNED}", f"{MINILM}@{PINNED[:12]}", "minilm@main"]
)
def test_the_same_files_are_found_by_whatever_name(store: Store, name: str) -> None:
    store(MINILM, PINNED)
    folder = locate(name, backend="onnx", revision=None, patterns=ONNX_FILES, complete=OnnxReranker.complete)
    assert (folder.name, folder.revision) == (MINILM, PINNED)


def test_another_revision_may_be_asked_for(store: Store) -> None:
    store(MINILM, "b" * 40, branch="v9")
    ranking = OnnxReranker(model="minilm", revision="v9").rerank("how warm?", ["warm"])
    assert ranking.trace.model == f"{MINILM}@v9"


def test_an_unknown_hub_model_works_and_says_that_it_is_not_pinned(store: Store) -> None:
    store("someone/cross-encoder", "c" * 40)
    ranking = build("onnx:someone/cross-encoder").rerank("how warm?", ["warm"])
    assert ranking.trace.notes == (f"the revision is not pinned; files are of commit {'c' * 40}",)


@pytest.mark.parametrize("without", ["onnx/model.onnx", "tokenizer.json", "config.json"])
def test_a_cache_that_lacks_a_file_is_not_used(store: Store, without: str) -> None:
    store("someone/cross-encoder", "c" * 40, without=without)
    with pytest.raises(ModelLoadError, match="someone/cross-encoder"):
        build("onnx:someone/cross-encoder").warm_up()


def test_a_copy_in_a_folder_needs_no_catalogue(store: Store, tmp_path: Path) -> None:
    folder = store("someone/cross-encoder", "c" * 40)
    reranker = OnnxReranker(model=str(folder))
    assert len(reranker.rerank("how warm?", ["warm"])) == 1
    with pytest.raises(ModelLoadError, match="a revision only means something for a model on the hub"):
        OnnxReranker(model=str(folder), revision="main").warm_up()


@pytest.mark.parametrize("model", ["./nowhere", "/no/such/folder", "~/no/such/folder", "~nobody-here/x", "a/b/c"])
def test_absent_folders_are_named(store: Store, model: str) -> None:
    with pytest.raises(ModelLoadError, match=f"no such folder: {model}"):
        OnnxReranker(model=model).warm_up()


def test_a_folder_that_is_called_like_a_catalogue_model_is_not_taken_for_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("minilm", MINILM):
        shutil.copytree(EMBEDDED, tmp_path / name)
        with pytest.raises(ModelLoadError, match="not in the local cache"):
            OnnxReranker(model=name).warm_up()
        assert OnnxReranker(model=f"./{name}").rerank("how warm?", ["warm"]).trace.model == f"./{name}"


def test_a_misspelt_alias_is_corrected_and_the_error_keeps_its_trace(store: Store) -> None:
    with pytest.raises(ConfigError, match="unknown model 'minlm'; did you mean 'minilm'") as caught:
        OnnxReranker(model="minlm").rerank("how warm?", ["warm"])
    assert caught.value.trace.step == "onnx:minlm"


def test_no_name_is_not_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EMBEDDED)
    with pytest.raises(ConfigError, match="unknown model ''"):
        build("onnx:").warm_up()


def test_an_impossible_hub_id_is_refused(store: Store) -> None:
    with pytest.raises(ModelLoadError, match="neither a folder nor a valid model id"):
        OnnxReranker(model="some one/--x").warm_up()


def test_the_name_in_traces_needs_no_files() -> None:
    assert model_name("minilm") == f"{MINILM}@{PINNED[:12]}"
    assert model_name("someone/x") == "someone/x"
    assert model_name("someone/x", "main") == "someone/x@main"
    assert model_name("someone/x", "refs/pr/123456") == "someone/x@refs/pr/123456"
    assert model_name("minilm", PINNED) == model_name("minilm")


def test_every_row_of_the_catalogue_is_pinned_and_named_once() -> None:
    rows = catalogue.models()
    names = [name for row in rows for name in (row.id, row.alias, *row.former_ids)]
    assert len(names) == len(set(names))
    for row in rows:
        pinned = row.revision is not None and re.fullmatch(r"[0-9a-f]{40}", row.revision)
        assert pinned or row.packaged or "no commit is pinned" in row.note, row.id
        assert row.backend in ("onnx", "torch", "late_interaction") and row.max_length >= 128 and row.parameters > 0
        assert build(catalogue.aliases()[row.alias])
    assert {"embedded", "minilm", "bge", "mxbai"} <= set(catalogue.aliases())


def test_a_non_commercial_licence_is_told_from_others() -> None:
    row = catalogue.models()[0]
    assert row.commercial
    assert not catalogue.Model(**{**{f: getattr(row, f) for f in row.__slots__}, "licence": "CC-BY-NC-4.0"}).commercial


def test_a_model_in_a_package_of_its_own_names_its_extra_where_the_package_is_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "rag_rerank_multilingual", None)
    with pytest.raises(MissingExtraError, match=r'pip install "rag-rerank\[multilingual\]"'):
        build("embedded-multilingual").rerank("q", ["a text"])
    assert not is_cached("embedded-multilingual", backend="onnx", revision=None, patterns=(), complete=lambda _: True)
