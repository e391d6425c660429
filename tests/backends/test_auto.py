"""Models by their files: the folder, the hub's cache, else the hub decides the backend, and traces say so."""

import asyncio
import json
import pickle
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.hub_server import MODEL, HubServer, point_to

import rag_rerank
from rag_rerank import ConfigError, ModelLoadError, Reranker, build, to_config
from rag_rerank.backends.auto import AutoReranker
from rag_rerank.backends.embedding import EmbeddingReranker
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.testing import RerankerContract

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"
QUERY, TEXTS = "how tall is K2?", ["Lake Garda is deep", "K2 is 8,611 m tall"]


class Hub:
    """A hub on 127.0.0.1 that lists files; ``asked`` has the paths of its requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: dict[str, list[str]] = {}
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.asked.append(self.path)
                model = "/".join(self.path.split("?")[0].removeprefix("/api/models/").split("/")[:2])
                files = hub.files.get(model)
                self.send_response(200 if files is not None else 404)
                body = json.dumps(
                    {"id": model, "sha": "f" * 40, "siblings": [{"rfilename": name} for name in files or ()]}
                ).encode()
                if files is None:
                    self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        import huggingface_hub.constants as constants
        from huggingface_hub import hf_api

        address = f"http://127.0.0.1:{self.server.server_port}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(hf_api, "ENDPOINT", address, raising=False)
        monkeypatch.setattr(hf_api.constants, "ENDPOINT", address)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, offline."""
    import huggingface_hub.constants as constants

    folder = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub(monkeypatch)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED, tmp_path / "small"))


def store(cache: Path, model: str, *names: str, commit: str = "c" * 40) -> None:
    snapshot = cache / f"models--{model.replace('/', '--')}" / "snapshots" / commit
    (snapshot / "onnx").mkdir(parents=True)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(commit)
    for name in names:
        shutil.copy(EMBEDDED / Path(name).name, snapshot / name)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    return build(Path(shutil.copytree(EMBEDDED, tmp_path_factory.mktemp("models") / "small")))


class TestContract(RerankerContract):
    @pytest.fixture
    def reranker(self, shared: Reranker) -> Reranker:
        return shared


def test_a_folder_is_scored_by_the_backend_of_its_files_and_the_trace_says_why(folder: Path) -> None:
    reranker = build(folder)
    assert to_config(reranker) == {"type": "auto", "model": str(folder)}
    rankings = [reranker.rerank(QUERY, TEXTS), asyncio.run(reranker.arerank(QUERY, TEXTS))]
    expected = LateInteractionReranker(model=str(folder)).rerank(QUERY, TEXTS)
    for ranking in rankings:
        assert [(hit.id, hit.raw_score) for hit in ranking] == [(hit.id, hit.raw_score) for hit in expected]
        assert ranking.trace.step == f"auto:{folder}"
        assert "auto means late_interaction here: the folder has a late-interaction model" in ranking.trace.notes
        assert ranking.scale == reranker.scale == "sigmoid"


def test_a_folder_with_safetensors_only_is_run_by_torch() -> None:
    pytest.importorskip("sentence_transformers")
    from support.tiny_checkpoints import checkpoint

    folder = checkpoint("bert")
    ranking = build(folder).rerank(QUERY, TEXTS)
    expected = build("torch", model=folder).rerank(QUERY, TEXTS)
    assert [hit.raw_score for hit in ranking] == [hit.raw_score for hit in expected]
    assert "auto means torch here: the folder has safetensors and no model.onnx" in ranking.trace.notes


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["onnx/model.onnx", "model.safetensors"], "onnx"),
        (["model.onnx"], "onnx"),
        (["model-00001-of-2.safetensors", "onnx/model_quantized.onnx"], "torch"),
        (["onnx/model_quantized.onnx"], "onnx"),
        (["pytorch_model.bin"], "torch"),
        (["README.md"], None),
        ([], None),
    ],
)
def test_files_decide_in_a_folder_and_on_the_hub(files: list[str], kind: str | None, tmp_path: Path, hub: Hub) -> None:
    folder = tmp_path / "made"
    (folder / "onnx").mkdir(parents=True)
    for name in files:
        (folder / name).touch()
    hub.files["someone/made"] = files
    for spec in (folder, "someone/made"):
        reranker = build(spec)
        assert isinstance(reranker, AutoReranker)
        if kind is None:
            with pytest.raises(ModelLoadError, match="neither an ONNX graph nor safetensors"):
                reranker.warm_up()
        else:
            assert reranker.backend.kind == kind
    assert len([path for path in hub.asked if path.startswith("/api/models/someone/made")]) == 1


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"model_type": "ColBERT"}, "late_interaction"),
        ({"model_type": "MultiVectorEncoder"}, "late_interaction"),
        ({"query_length": 32, "document_length": 180}, "late_interaction"),
        ({"model_type": "CrossEncoder"}, "torch"),
        ({"similarity_fn_name": "cosine"}, "embedding"),
    ],
    ids=str,
)
def test_the_settings_of_a_hub_model_tell_how_it_reads(
    settings: dict[str, Any], kind: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("base.modules.Transformer", "sentence_transformer.modules.Pooling" if kind == "embedding" else "Other")
    modules = [{"path": str(place), "type": f"sentence_transformers.{name}"} for place, name in enumerate(kinds)]
    small = {
        "config.json": b'{"model_type": "bert"}',
        "config_sentence_transformers.json": json.dumps(settings).encode(),
        "modules.json": json.dumps(modules).encode(),
    }
    with HubServer({**small, "model.safetensors": b"never fetched"}) as hub:
        point_to(hub.url, cache, monkeypatch)
        reranker = build(MODEL)
        assert isinstance(reranker, AutoReranker) and reranker.scale == "sigmoid"  # nothing is known of it yet
        assert hub.paths == []
        assert reranker.backend.kind == kind
    fetched = {path.rpartition("/")[2] for path in hub.paths if "/resolve/" in path}
    assert fetched == set(small), "weights wait for the first call"


@pytest.mark.parametrize("name", ["colbertv2", "lateon", "gte-modern"])
def test_a_folder_with_a_colbert_model_is_run_as_late_interaction(name: str) -> None:
    pytest.importorskip("sentence_transformers")
    from support.tiny_colbert import colbert

    reranker = build(colbert(name))
    assert isinstance(reranker, AutoReranker) and reranker.scale == "unbounded"
    assert reranker.backend == LateInteractionReranker(model=str(colbert(name)))


@pytest.mark.parametrize("name", ["mean", "joined"])
def test_a_folder_with_an_embedding_model_is_run_as_embedding(name: str) -> None:
    pytest.importorskip("sentence_transformers")
    from support.tiny_embeddings import embedding_model

    reranker = build(embedding_model(name))
    assert isinstance(reranker, AutoReranker) and reranker.scale == "similarity"
    assert reranker.backend == EmbeddingReranker(model=str(embedding_model(name)))
    assert build(embedding_model(name), store=None) == EmbeddingReranker(model=str(embedding_model(name)), store=None)
    note = "auto means embedding here: the folder has an embedding model"
    assert note in reranker.rerank(QUERY, TEXTS).trace.notes


def test_an_embedding_model_follows_an_instruction_through_auto() -> None:
    pytest.importorskip("sentence_transformers")
    from support.tiny_embeddings import embedding_model

    assert build(embedding_model("last")).takes_instruction and not build(embedding_model("mean")).takes_instruction


def test_the_cache_decides_before_the_hub(cache: Path, hub: Hub) -> None:
    store(cache, "someone/cached", "onnx/model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json")
    hub.files["someone/cached"] = ["model.safetensors"]
    reranker = build("someone/cached")
    assert isinstance(reranker, AutoReranker) and reranker.is_cached()
    ranking = reranker.rerank(QUERY, TEXTS)
    note = "auto means late_interaction here: the hub's cache holds its files for late_interaction"
    assert note in ranking.trace.notes and ranking.scale == reranker.scale == "sigmoid"
    assert ranking.trace.model == "someone/cached"
    assert hub.asked == []


def test_a_misspelt_hub_id_is_corrected_at_first_use(hub: Hub) -> None:
    with pytest.raises(ModelLoadError, match=r"no model .*m4.*; did you mean .BAAI/bge-reranker-v2-m3."):
        build("BAAI/bge-reranker-v2-m4").rerank(QUERY, TEXTS)


def test_without_a_hub_the_error_says_what_to_do() -> None:
    with pytest.raises(ModelLoadError, match=r"someone/x .*rag-rerank pull auto:someone/x"):
        build("someone/x").rerank(QUERY, TEXTS)


def test_readability_loads_the_backend_and_nothing_beside_it(folder: Path) -> None:
    texts = ["how tall is K2?", "высота горы"]
    with build(folder) as auto, OnnxReranker(model=str(folder)) as onnx:
        assert isinstance(auto, AutoReranker)
        assert auto.readability(texts) == onnx.readability(texts)
        assert auto.stats is not None and auto.backend.stats is not None


def test_identity_and_maps_are_those_of_the_backend(folder: Path) -> None:
    auto, backend = build(folder), LateInteractionReranker(model=str(folder))
    assert auto.identity == backend.identity
    assert build("cached", reranker=auto).identity == build("cached", reranker=backend).identity


def test_it_pickles_closes_and_loads_again(folder: Path) -> None:
    reranker = build(folder)
    first = reranker.rerank(QUERY, TEXTS)
    assert pickle.loads(pickle.dumps(reranker)) == reranker
    assert reranker.stats is not None  # type: ignore[attr-defined]
    reranker.close()
    assert reranker.stats is None  # type: ignore[attr-defined]
    assert [hit.raw_score for hit in reranker.rerank(QUERY, TEXTS)] == [hit.raw_score for hit in first]


def test_a_type_in_the_catalogue_needs_no_files() -> None:
    for name, kind in (("bge", "torch"), ("minilm", "onnx"), ("embedded", "late_interaction")):
        reranker = build({"type": "auto", "model": name})
        assert isinstance(reranker, AutoReranker) and reranker.backend.kind == kind


def test_auto_needs_a_model() -> None:
    with pytest.raises(ConfigError, match="model: auto needs a model"):
        build("auto")
