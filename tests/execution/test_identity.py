"""Identities: they change with everything that can change a score, and with nothing else."""

import pickle
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rag_rerank import Cached, ConfigError, ModelLoadError, PointwiseReranker, Secret, build, registry
from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.limiter import Limits
from rag_rerank.backends.api.pricing import Price
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.backends.local import base, model_files
from rag_rerank.backends.local.kept_vectors.opening import StoreSettings
from rag_rerank.backends.local.model_files import ModelFolder, locate
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.backends.torch import TorchReranker
from rag_rerank.backends.voyage import VoyageReranker
from rag_rerank.testing import ScriptedReranker

LOCAL = {
    **{"model": "minilm", "revision": "f" * 40, "max_length": 64},
    **{"on_overflow": "error", "on_long_query": "error", "on_unreadable": "score"},
}
API = {"model": "other", "base_url": "http://127.0.0.1:19"}
CHANGED: Mapping[str, Mapping[str, Any]] = {
    "auto": LOCAL,
    "bedrock": {**API, "region": "eu-central-1"},
    "cohere": {**API, "max_tokens_per_doc": 100, "relevant_spans": True},
    "decisions": {
        **API,
        "provider": "ollama",
        "wire": "openai",
        "ask": "yesno",
        "instruction": "find what keeps a dragon warm",
        "path": "/v2/systemone",
        "on_overflow": "error",
        "state_tokens": 100,
        "request_tokens": 100,
        "max_texts": 7,  # a score depends on the other texts of its request
    },
    "http": {
        **API,
        "dialect": "infinity",
        "path": "/v1/rerank",
        "answers_on": "sigmoid",
        "extra_body": {"use_activation": False},
        "instruction": "find what keeps a dragon warm",
        "window": 512,  # no score, but the coverage that a cache keeps with it
    },
    "embedding": {
        **LOCAL,
        "query_prompt": "Instruct: {instruction}\nQuery: ",
        "text_prompt": "passage: ",
        "instruction": "find what keeps a dragon warm",
        "dimensions": 16,
        "precision": "fp16",
        "runtime": "torch",
    },
    "late_interaction": {**LOCAL, "precision": "fp16", "pool": 2, "query_length": 32, "runtime": "torch"},
    "llm": {
        **API,
        "mode": "pairwise",
        "window": 30,
        "stride": 5,
        "passes": 2,
        "shuffles": 1,
        "top": 3,
        "score_by": "grade",
        "instruction": "find what keeps a dragon warm",
        "context": 8_000,
        "max_text_tokens": 100,
        "on_overflow": "error",
        "temperature": None,
        "seed": 7,
        "response_format": "json_schema",
        "extra_body": {"reasoning_effort": "low"},
    },
    "onnx": {**LOCAL, "precision": "int8", "file": "model_other.onnx", "providers": ("XnnpackExecutionProvider",)},
    "sparse": {**LOCAL, "max_active_dims": 9, "device": "meta", "dtype": "bfloat16"},
    "torch": {
        **LOCAL,
        "template": "qwen3",
        "instruction": "find what keeps a dragon warm",
        "device": "meta",
        "dtype": "bfloat16",
    },
    "voyage": {**API, "truncation": False, "instruction": "find what keeps a dragon warm"},
}
"""Fields that can change a score, with another value than the default; all others are ``fields_without_effect``."""

NEUTRAL: Mapping[str, Any] = {
    "api_key": "other",
    "batch_tokens": 7,
    "breaker": Breaker(failures=1),
    "limits": Limits(concurrency=1),
    "max_queue": 7,
    "max_texts": 7,
    "name": "other",
    "parallel": 7,
    "optimize": False,
    "price": Price(per_million_tokens=1.0),
    "priority": 3,
    "project": "other",
    "retry": RetryPolicy(attempts=1),
    "store": StoreSettings(max_bytes=7),
    "threads": 2,
    "timeout": 3.0,
    "workers": 7,
}

POINTWISE = sorted(
    name
    for name in registry.BUILT_IN
    if issubclass(registry.resolve(name), PointwiseReranker) and name not in ("cached", "first_stage", "lexical")
)


@pytest.fixture(autouse=True)
def no_world_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CO_API_URL", "COHERE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CO_API_KEY", "VOYAGE_API_KEY"):
        monkeypatch.setenv(name, "key")


@pytest.fixture
def from_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pretend that models of the hub are in the cache; their content depends on the commit only."""

    (tmp_path / "config.json").write_text('{"architectures": ["BertForMaskedLM"]}')  # sparse reads what it is

    def locate_fake(model: str, *, revision: str | None, **_: Any) -> ModelFolder:
        from rag_rerank.backends.local import catalogue

        row = catalogue.find(model)
        commit = revision or (row.revision if row else None) or "0" * 40
        return ModelFolder(tmp_path, row.id if row else model, commit, row)

    monkeypatch.setattr(base, "locate", locate_fake)


def default(kind: str) -> PointwiseReranker:
    needed = {
        "auto": {"model": "embedded"},
        "embedding": {"model": "bge-base"},
        "http": {"dialect": "prime", "model": "m", "base_url": "http://127.0.0.1:9"},
        "late_interaction": {"model": "bge-base"},  # nothing is loaded; embedded would take no pooling
        "llm": {"model": "m"},
        "onnx": {"model": "embedded"},
        "sparse": {"model": "bge-base"},
        "torch": {"model": "embedded"},
    }
    reranker = build({"type": kind, **needed.get(kind, {})})
    assert isinstance(reranker, PointwiseReranker)
    return reranker


def settable(kind: str) -> set[str]:
    return {f.name for f in fields(registry.resolve(kind)) if f.init and not f.metadata.get("live")}


@pytest.mark.parametrize("kind", POINTWISE)
def test_every_field_is_known_to_change_scores_or_not(kind: str) -> None:
    fields_without_effect = registry.resolve(kind).fields_without_effect
    assert settable(kind) - fields_without_effect - set(CHANGED[kind]) == set(), (
        f"new fields of {kind}: can they change a score? If so, give an example in CHANGED; if not, add them to "
        "`fields_without_effect` of the class and to NEUTRAL here"
    )
    assert fields_without_effect <= settable(kind) and fields_without_effect <= set(NEUTRAL)
    assert not fields_without_effect & set(CHANGED[kind])


@pytest.mark.usefixtures("from_hub")
@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in POINTWISE for field in CHANGED[kind]])
def test_what_can_change_a_score_changes_the_identity(kind: str, field: str) -> None:
    reranker = default(kind)
    assert replace(reranker, **{field: CHANGED[kind][field]}).identity != reranker.identity


@pytest.mark.usefixtures("from_hub")
@pytest.mark.parametrize("kind", POINTWISE)
def test_what_cannot_change_a_score_does_not(kind: str) -> None:
    reranker = default(kind)
    for field in registry.resolve(kind).fields_without_effect - ({"api_key"} if kind == "bedrock" else set()):
        assert replace(reranker, **{field: NEUTRAL[field]}).identity == reranker.identity, field
    assert pickle.loads(pickle.dumps(reranker)).identity == reranker.identity


@pytest.mark.usefixtures("from_hub")
def test_the_same_model_under_another_name_shares_and_backends_do_not() -> None:
    alias = OnnxReranker(model="minilm")
    assert alias.identity == OnnxReranker(model="cross-encoder/ms-marco-MiniLM-L6-v2").identity
    assert alias.identity != TorchReranker(model="minilm").identity
    assert alias.identity == OnnxReranker(model="minilm", max_length=512).identity  # the model's own window


def test_a_cache_does_not_outlive_a_release_and_a_calibration_map_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reranker, file = ScriptedReranker(default=1.0), str(tmp_path / "scores.db")
    identity = reranker.identity

    def hits() -> int:
        with Cached(reranker=reranker, path=file) as cached:
            return cached.rerank("q", ["a"]).usage.cached

    assert [hits(), hits()] == [0, 1]
    monkeypatch.setattr("rag_rerank.compose.cache.cached.__version__", "99.0")
    assert hits() == 0
    assert reranker.identity == identity


def test_scale_and_script_count() -> None:
    assert (
        ScriptedReranker(by_text={"a": 1.0, "b": 2.0}).identity
        == ScriptedReranker(by_text={"b": 2.0, "a": 1.0}).identity
    )
    prints = {
        ScriptedReranker(by_text={"a": 1.0}).identity,
        ScriptedReranker(by_text={"a": 2.0}).identity,
        ScriptedReranker(default=1.0).identity,
        ScriptedReranker(answers_on="sigmoid").identity,
    }
    assert len(prints) == 4


def test_a_field_that_a_subclass_adds_counts_and_a_secret_never_does() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Special(ScriptedReranker):
        kind: ClassVar[str] = "special"
        more: Any = None

    assert Special(more=1).identity != Special(more=2).identity
    assert Special(more=RetryPolicy()).identity != Special(more=RetryPolicy(attempts=1)).identity
    with pytest.raises(ConfigError, match=r"special has no identity: .* plain values, and Secret is not one"):
        _ = Special(more=Secret("s3cret")).identity


def test_the_server_counts_wherever_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    one = CohereReranker()
    there = CohereReranker(base_url="https://azure.test").identity
    assert there != one.identity
    monkeypatch.setenv("CO_API_URL", "https://azure.test")
    assert CohereReranker().identity == there
    assert one.identity != there  # its client is made for the server that it had
    one.close()
    assert one.identity == there
    assert VoyageReranker(api_key="al-1").identity != VoyageReranker(api_key="pa-1").identity


@pytest.mark.parametrize("kind", [CohereReranker, VoyageReranker])
def test_an_injected_client_cannot_be_cached(kind: Callable[..., PointwiseReranker]) -> None:
    with pytest.raises(ConfigError, match="which server an injected client calls is not known here"):
        Cached(reranker=kind(client=object()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that has enough for an identity; nothing in it is loaded."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in {
        "model.onnx": 'weights in "outside.bin"',
        "outside.bin": "weights",
        "config.json": '{"max_position_embeddings": 512}',
        "tokenizer.json": "{}",
        "tokenizer_config.json": "{}",
        "README.md": "words",
        "other.bin": "not read",
    }.items():
        (folder / name).write_text(content)
    return folder


def of(folder: Path, **options: Any) -> str:
    return OnnxReranker(model=str(folder), **options).identity


@pytest.mark.parametrize(
    "name", ["model.onnx", "outside.bin", "config.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_folder_is_known_by_the_files_that_make_a_score(folder: Path, name: str) -> None:
    before = of(folder)
    (folder / name).write_text((folder / name).read_text() + " ")
    assert of(folder) != before


def test_other_files_and_the_place_do_not_count(folder: Path, tmp_path: Path) -> None:
    before = of(folder)
    (folder / "README.md").write_text("other words")
    (folder / "other.bin").write_text("more")
    assert of(folder) == before
    assert of(shutil.move(folder, tmp_path / "elsewhere")) == before


def test_names_and_contents_do_not_run_into_each_other(folder: Path) -> None:
    one = of(folder)
    shutil.move(folder / "tokenizer_config.json", folder / "tokenizer_config2.json")
    assert of(folder) != one


def test_files_are_hashed_once_per_load_and_only_on_demand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    sha256_of = model_files.sha256_of
    monkeypatch.setattr(model_files, "sha256_of", lambda file: hashed.append(file.name) or sha256_of(file))
    reranker = OnnxReranker(model=str(folder))
    cached = Cached(reranker=reranker)
    assert hashed == []
    first = cached.identity
    assert (reranker.identity, len(hashed)) == (first, 5)
    cached.close()
    assert (cached.identity, len(hashed)) == (first, 10)


def test_files_replaced_behind_an_identity_are_an_error_until_close(folder: Path) -> None:
    reranker = OnnxReranker(model=str(folder))
    before = reranker.identity
    (folder / "model.onnx").write_text("other weights")
    with pytest.raises(ModelLoadError, match=r"files of .* changed while the model was in use; close\(\)"):
        reranker.warm_up()
    reranker.close()
    assert reranker.identity != before


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    packaged = locate("embedded", backend="onnx", revision=None, patterns=(), complete=lambda _: True).path
    return Path(shutil.copytree(packaged, tmp_path_factory.mktemp("model") / "starter"))


def test_no_other_window_rule_or_file_ever_hits(starter: Path, tmp_path: Path) -> None:
    file, texts = str(tmp_path / "scores.db"), ["K2 is 8,611 m high.", "Lake Garda is 346 m deep."]

    def hits(**options: Any) -> int:
        with Cached(reranker=OnnxReranker(model=str(starter), **options), path=file) as cached:
            return cached.rerank("how tall is K2?", texts).usage.cached

    assert [hits(), hits(), hits(threads=1, batch_tokens=64, name="other")] == [0, 2, 2]
    assert [hits(max_length=64), hits(on_overflow="error"), hits(max_length=64)] == [0, 0, 2]
    tokenizer = starter / "tokenizer.json"
    content = tokenizer.read_text()
    tokenizer.write_text(content + "\n")
    assert hits() == 0
    tokenizer.write_text(content)
    assert hits() == 2


def test_weights_replaced_before_the_first_miss_are_not_scored_with(starter: Path, tmp_path: Path) -> None:
    file, config = str(tmp_path / "scores.db"), starter / "config.json"
    with Cached(reranker=OnnxReranker(model=str(starter)), path=file) as cached:
        cached.rerank("q", ["a"])
    with Cached(reranker=OnnxReranker(model=str(starter)), path=file) as cached:
        assert cached.rerank("q", ["a"]).usage.cached == 1  # nothing is loaded for it
        assert "_engine (loaded)" not in vars(cached.reranker)
        config.write_text(config.read_text() + "\n")
        with pytest.raises(ModelLoadError, match="changed while the model was in use"):
            cached.rerank("q", ["b"])
        cached.close()
        assert cached.rerank("q", ["a", "b"]).usage.cached == 0
