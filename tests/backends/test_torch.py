"""The torch backend: models it refuses, overflow, lack of memory, and what it releases."""

from __future__ import annotations

import gc
import json
import re
import shutil
import sys
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import CrossEncoder
from support import tiny_checkpoints
from support.tiny_checkpoints import DOCUMENTS, LINES, QUERIES

from rag_rerank import (
    BackendError,
    BadResponse,
    Candidate,
    ConfigError,
    InputTooLong,
    MissingExtraError,
    ModelLoadError,
    QueryTruncationWarning,
    TruncationWarning,
    build,
)
from rag_rerank.backends import torch as backend
from rag_rerank.backends.local.torch_models.causal import CausalModel
from rag_rerank.backends.local.torch_models.checkpoint import CrossEncoderModel
from rag_rerank.backends.torch import TorchReranker, usable_device

MINILM = "cross-encoder/ms-marco-MiniLM-L6-v2"
PINNED = "c5ee24cb16019beea0893ab7796b1df96625c6b8"


def copied(family: str, to: Path, **options: Any) -> Path:
    """Return a copy of a checkpoint that a test may change."""
    return Path(shutil.copytree(tiny_checkpoints.checkpoint(family, **options), to / family))


def edited(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def assert_refused(folder: Path, match: str, **options: Any) -> None:
    with pytest.raises(ModelLoadError, match=match):
        TorchReranker(model=str(folder), **options).warm_up()


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "deberta", "modernbert"])
def test_a_head_that_is_not_in_the_file_is_refused(family: str) -> None:
    assert_refused(
        tiny_checkpoints.checkpoint(family, head=False), r"lacks trained weights, which would be random: classifier"
    )


def test_weights_under_their_former_names_are_no_missing_head(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    former = {
        k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
        for k, v in weights.items()
    }
    save_file({**former, "bert.embeddings.position_ids": torch.arange(512)}, folder / "model.safetensors")
    expected = TorchReranker(model=str(tiny_checkpoints.checkpoint("bert"))).score(QUERIES[0], DOCUMENTS).values
    assert TorchReranker(model=str(folder)).score(QUERIES[0], DOCUMENTS).values == pytest.approx(expected, abs=1e-4)


def test_a_modular_head_that_is_not_there_is_refused() -> None:
    assert_refused(tiny_checkpoints.checkpoint("ettin", head=False), "cannot be loaded")


def test_an_untied_output_layer_that_is_not_in_the_file_is_refused() -> None:
    folder = tiny_checkpoints.checkpoint("qwen3", tied=False, head=False)
    assert_refused(folder, "would be random: lm_head.weight", template="qwen3")


def test_a_bare_encoder_is_refused(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    bare = {k.removeprefix("bert."): v for k, v in weights.items() if k.startswith("bert.") and "pooler" not in k}
    save_file(bare, folder / "model.safetensors", {"format": "pt"})
    edited(folder / "config.json", architectures=["BertModel"])
    assert_refused(folder, r"would be random: bert.pooler.*classifier.*is it a reranker")


@pytest.mark.parametrize(("family", "template"), [("bert", None), ("mxbai-v2", "mxbai-v2")])
def test_pickled_weights_are_refused(family: str, template: str | None) -> None:
    assert_refused(
        tiny_checkpoints.checkpoint(family, pickled=True), "has pickled weights only.*safetensors", template=template
    )


def test_pickled_weights_of_one_module_are_refused(tmp_path: Path) -> None:
    folder = copied("ettin", tmp_path)
    (folder / "4_Dense" / "model.safetensors").rename(folder / "4_Dense" / "pytorch_model.bin")
    assert_refused(folder, r"pickled weights only \(4_Dense")


def test_a_causal_model_of_unknown_prompt_is_refused_and_told_how_to_name_one() -> None:
    assert_refused(tiny_checkpoints.checkpoint("qwen3"), r"Qwen3ForCausalLM.*not in the catalogue.*template='qwen3'")


@pytest.mark.parametrize("family", ["mxbai-v2", "bert"])
def test_a_template_of_another_architecture_is_refused(family: str) -> None:
    assert_refused(tiny_checkpoints.checkpoint(family), "this template is for Qwen3ForCausalLM", template="qwen3")


def test_an_answer_that_is_not_one_token_is_refused(tmp_path: Path) -> None:
    folder = copied("qwen3", tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = [pair for pair in tokenizer["model"]["merges"] if "".join(pair) != "yes"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert_refused(folder, "2 tokens of 'yes'", template="qwen3")


def test_several_labels_are_refused() -> None:
    assert_refused(tiny_checkpoints.checkpoint("bert", labels=3), "gives 3 numbers a pair, not one relevance logit")


def test_a_sigmoid_at_the_end_of_the_modules_is_left_out(tmp_path: Path) -> None:
    folder = copied("ettin", tmp_path)
    edited(folder / "4_Dense" / "config.json", activation_function="torch.nn.modules.activation.Sigmoid")
    library = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity(), local_files_only=True)
    probabilities = library.predict([(QUERIES[0], text) for text in DOCUMENTS[:4]], show_progress_bar=False)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    with TorchReranker(model=str(folder)) as reranker:
        ranking = reranker.rerank(QUERIES[0], DOCUMENTS[:4])
    scores = [hit.score for hit in sorted(ranking, key=lambda hit: int(hit.id))]
    assert scores == pytest.approx(probabilities.reshape(-1).tolist(), abs=1e-5)


def test_a_head_with_two_labels_scores_by_the_softmax_of_the_second() -> None:
    folder = tiny_checkpoints.checkpoint("bert", labels=2)
    library = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    pairs = [(QUERIES[0], text) for text in DOCUMENTS]
    expected = library.predict(pairs, apply_softmax=True, show_progress_bar=False)[:, 1]
    ranking = TorchReranker(model=str(folder)).rerank(QUERIES[0], DOCUMENTS)
    scores = [hit.score for hit in sorted(ranking, key=lambda hit: int(hit.id))]
    assert scores == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_tokenizer_that_joins_pairs_without_a_sign_is_refused(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    shutil.copy(tiny_checkpoints.checkpoint("qwen3") / "tokenizer.json", folder)
    edited(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", pad_token="<|endoftext|>")
    assert_refused(folder, "puts nothing between query and text")


def test_code_in_the_folder_is_never_run(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    (folder / "modeling.py").write_text("raise SystemExit('code of the checkpoint was run')")
    edited(
        folder / "config.json",
        model_type="own",
        auto_map=dict.fromkeys(("AutoConfig", "AutoModelForSequenceClassification"), "modeling.Own"),
    )
    assert_refused(folder, r"Python code of its own \(modeling.Own\), which this library never runs")


def test_a_module_from_elsewhere_is_never_imported(tmp_path: Path) -> None:
    folder = copied("ettin", tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "this.That"
    (folder / "modules.json").write_text(json.dumps(modules))
    assert_refused(folder, "cannot be loaded")
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda folder: (folder / "config.json").unlink(), "cannot read config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot read config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer.json cannot be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 64), "cannot be loaded"),
        (lambda folder: (folder / "modules.json").write_text("[{}]"), "modules.json cannot be read"),
        (lambda folder: edited(folder / "config.json", model_type="no-such"), "cannot be loaded"),
    ],
)
def test_an_unreadable_folder_is_a_load_error(tmp_path: Path, spoil: Callable[[Path], None], match: str) -> None:
    folder = copied("bert", tmp_path)
    spoil(folder)
    assert_refused(folder, match)


def test_a_missing_shard_is_a_load_error(tmp_path: Path) -> None:
    folder = copied("qwen3", tmp_path, shard="100KB")
    next(iter(sorted(folder.glob("model-*.safetensors")))).unlink()
    assert_refused(folder, "not all of its shards", template="qwen3")


def test_no_folder_is_a_load_error(tmp_path: Path) -> None:
    assert_refused(tmp_path / "absent", "no such folder")


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"max_length": 0}, "max_length"),
        ({"batch_tokens": 0}, "batch_tokens"),
        ({"template": "qwen"}, "template"),
        ({"instruction": " "}, "instruction"),
        ({"dtype": "int8"}, "dtype"),
        ({"on_overflow": "window"}, "on_overflow"),
    ],
)
def test_wrong_arguments_are_config_errors(arguments: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build({"type": "torch", **arguments})
    assert caught.value.path == path


def test_an_unknown_template_is_met_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mxbai-v2'"):
        TorchReranker(template="mxbai-2")


@pytest.mark.parametrize(("family", "template"), [("bert", None), ("bge-gemma", "bge-gemma")])
def test_an_instruction_for_a_model_that_takes_none_is_a_config_error(family: str, template: str | None) -> None:
    reranker = TorchReranker(
        model=str(tiny_checkpoints.checkpoint(family)), template=template, instruction="Find animals"
    )
    with pytest.raises(ConfigError, match="takes no instruction"):
        reranker.warm_up()


OWN_CODE = {
    "jina-reranker-v1": ("bert", "jinaai/jina-bert-v2-implementation--modeling_bert.JinaBertForSequenceClassification"),
    "jina-reranker-v2": (
        "xlm-roberta",
        "jinaai/xlm-roberta-flash-implementation--modeling_xlm_roberta.XLMRobertaForSequenceClassification",
    ),
    "gte-multilingual-reranker": ("new", "Alibaba-NLP/new-impl--modeling.NewForSequenceClassification"),
}
"""What the configs of models say whose code is in a repository; their weights have other names than BERT's."""


@pytest.mark.parametrize("name", OWN_CODE)
def test_a_model_with_code_of_its_own_is_refused_and_the_code_never_runs(name: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model_type, code = OWN_CODE[name]
    folder = Path(shutil.copytree(tiny_checkpoints.checkpoint("xlm-roberta"), tmp_path / name))
    config = json.loads((folder / "config.json").read_text())
    own = {"model_type": model_type, "auto_map": {"AutoModelForSequenceClassification": code}}
    (folder / "config.json").write_text(json.dumps({**config, **own}))
    weights = load_file(folder / "model.safetensors")
    save_file({f"{key}.own": value for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    for module in ("llama_bidirectional_model", "configuration"):
        (folder / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with pytest.raises(ModelLoadError, match="needs Python code of its own") as caught:
        TorchReranker(model=str(folder)).warm_up()
    assert code in str(caught.value) and "http" in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert", "ettin"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layers_that_sentence_transformers_keeps_in_fp32_are_recognised(
    family: str, dtype: str, tmp_path: Path
) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    module = CrossEncoder(str(tiny_checkpoints.checkpoint(family)), device="cpu", local_files_only=True)
    linear = {name: layer for name, layer in module.named_modules() if isinstance(layer, torch.nn.Linear)}
    heads = [name for name, layer in linear.items() if layer.out_features == 1]
    module.set_keep_in_fp32_modules(heads)
    module.save_pretrained(str(tmp_path / family), create_model_card=False)
    stored = json.loads((tmp_path / family / "config_sentence_transformers.json").read_text())
    assert stored["keep_in_fp32_modules"] == heads
    kept, plain = (
        TorchReranker(model=str(folder), dtype=dtype).score("which lake is deep?", tiny_checkpoints.DOCUMENTS).values
        for folder in (tmp_path / family, tiny_checkpoints.checkpoint(family))
    )
    assert kept == pytest.approx(plain, abs=1e-5)
    assert len(set(kept)) == len(tiny_checkpoints.DOCUMENTS)


def test_an_unknown_device_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="no device 'warp'"):
        TorchReranker(model=str(tiny_checkpoints.checkpoint("bert")), device="warp").warm_up()


@pytest.mark.parametrize("package", ["torch", "sentence_transformers"])
def test_a_missing_extra_names_the_install_command(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r'pip install "rag-rerank\[torch\]"'):
        TorchReranker(model=str(tiny_checkpoints.checkpoint("bert"))).warm_up()


@pytest.mark.parametrize(("family", "template"), [("bert", None), ("qwen3", "qwen3")])
def test_a_long_query_is_shortened_or_refused(family: str, template: str | None) -> None:
    options: dict[str, Any] = {
        "model": str(tiny_checkpoints.checkpoint(family)),
        "template": template,
        "max_length": 300,
    }
    query = " ".join(LINES)
    with pytest.warns(TruncationWarning) as warnings_seen:
        ranking = TorchReranker(**options).rerank(query, [query])
    assert {w.category for w in warnings_seen} == {QueryTruncationWarning, TruncationWarning}
    seen, coverage = ranking.trace.query_coverage, ranking[0].coverage
    assert seen is not None and seen.truncated and coverage is not None
    assert 20 < seen.seen <= coverage.seen + 3 and ranking.degraded
    with pytest.raises(InputTooLong, match=r"on_long_query=.truncate"):
        TorchReranker(**options, on_long_query="error").rerank(query, [query])


@pytest.mark.parametrize(("family", "template", "window"), [("bert", None, 32), ("qwen3", "qwen3", 220)])
def test_overflow_is_told_or_refused(family: str, template: str | None, window: int) -> None:
    options: dict[str, Any] = {
        "model": str(tiny_checkpoints.checkpoint(family)),
        "template": template,
        "max_length": window,
    }
    candidates = [Candidate("short", "warm"), Candidate("long", " ".join(LINES))]
    with pytest.warns(TruncationWarning, match="only the beginning"):
        ranking = TorchReranker(**options).rerank("how warm?", candidates)
    assert {hit.id: hit.coverage.truncated for hit in ranking if hit.coverage} == {"short": False, "long": True}
    with pytest.raises(InputTooLong, match="candidate 'long': the text has"):
        TorchReranker(**options, on_overflow="error").rerank("how warm?", candidates)


def test_a_window_beyond_the_model_is_refused() -> None:
    assert_refused(tiny_checkpoints.checkpoint("bert", positions=64), "reads at most 64 tokens", max_length=65)


def test_a_catalogue_model_is_read_offline_from_the_cache_at_its_pinned_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = tmp_path / f"models--{MINILM.replace('/', '--')}" / "snapshots" / PINNED
    shutil.copytree(tiny_checkpoints.checkpoint("bert"), snapshot)
    ranking = build("torch", model="minilm", on_unreadable="score").rerank(QUERIES[0], DOCUMENTS[:2])
    assert ranking.trace.model == f"{MINILM}@{PINNED[:12]}"
    assert ranking.trace.notes == ()
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(
        ModelLoadError,
        match=rf"minilm \({MINILM}@{PINNED[:12]}\) is not in the local cache.*rag-rerank pull torch:minilm",
    ):
        build("torch:minilm").warm_up()


def test_loading_and_scoring_write_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    for family in ("bert", "ettin"):
        TorchReranker(model=str(tiny_checkpoints.checkpoint(family))).rerank(QUERIES[0], DOCUMENTS)
    TorchReranker(model=str(tiny_checkpoints.checkpoint("qwen3")), template="qwen3").rerank(QUERIES[0], DOCUMENTS)
    assert capfd.readouterr() == ("", "")


CUDA_FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
MPS_FULL = RuntimeError(
    "MPS backend out of memory (MPS allocated: 5.50 GiB, other allocations: 14.76 GiB, max allowed: 20.40 GiB). "
    "Tried to allocate 147.24 MiB on private pool."
)
MPS_BUFFER = RuntimeError("Invalid buffer size: 24.00 GiB")


@pytest.mark.parametrize("error", [CUDA_FULL, MPS_FULL, MPS_BUFFER], ids=["cuda", "mps", "mps buffer"])
def test_a_batch_too_large_for_the_gpu_is_halved_and_noted(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint("bert")), batch_tokens=10_000)
    expected = reranker.rerank(QUERIES[0], DOCUMENTS)
    model = reranker._engine.model
    logits, sizes = model.logits, []

    def narrow(arrays: Any) -> Any:
        sizes.append(len(arrays["input_ids"]))
        if sizes[-1] > 3:
            raise error
        return logits(arrays)

    monkeypatch.setattr(model, "logits", narrow)
    ranking = reranker.rerank(QUERIES[0], DOCUMENTS)
    assert [hit.id for hit in ranking] == [hit.id for hit in expected]
    assert [hit.raw_score for hit in ranking] == pytest.approx([hit.raw_score for hit in expected], abs=1e-4)
    assert sizes == [10, 5, 2, 3, 5, 2, 3]
    assert any("10 inputs" in note and "halved" in note for note in ranking.trace.notes)


def test_no_memory_for_a_single_input_is_a_backend_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint("bert")))

    def full(arrays: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(reranker._engine.model, "logits", full)
    with pytest.raises(BackendError, match=r"no memory for one input of .* lower max_length") as caught:
        reranker.rerank(QUERIES[0], DOCUMENTS)
    assert caught.value.backend == "torch"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        ValueError("MPS backend out of memory"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied: no MPS backend out of memory here"),
    ],
)
def test_other_failures_of_torch_are_not_tried_again(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint("bert")))
    calls = []

    def raise_error(arrays: Any) -> Any:
        calls.append(arrays)
        raise error

    monkeypatch.setattr(reranker._engine.model, "logits", raise_error)
    with pytest.raises(BackendError, match=re.escape(str(error))):
        reranker.rerank(QUERIES[0], DOCUMENTS)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_cuda_else_mps_else_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert usable_device("auto") == device


@pytest.mark.parametrize("device", ["cuda:99", "mps:99"])
def test_a_device_that_is_not_there_is_a_config_error_and_no_fallback(device: str) -> None:
    with pytest.raises(ConfigError, match=f"the device '{device}' cannot be used here") as caught:
        TorchReranker(model=str(tiny_checkpoints.checkpoint("bert")), device=device).warm_up()
    assert caught.value.path == "device"


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a CUDA card that computes on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(backend, "CausalModel", partial(on_the_cpu, CausalModel))
    monkeypatch.setattr(backend, "CrossEncoderModel", partial(on_the_cpu, CrossEncoderModel))


def on_the_cpu(model: Any, *arguments: Any, **options: Any) -> Any:
    *before, device, dtype = arguments
    assert device == "cuda"
    return model(*before, "cpu", dtype, **options)


@pytest.mark.parametrize(
    ("family", "template", "dtype", "description"),
    [
        ("bert", None, "float32", "float32; tokens packed, attention row by row"),
        ("bert", None, "bfloat16", "bfloat16; tokens packed, attention row by row"),
        ("deberta", None, "float32", "float32; inputs padded: no packed layout for DebertaV2ForSequ"),
        ("qwen3", "qwen3", "float32", "float32; inputs padded: no packed layout for causal models"),
    ],
)
def test_the_trace_says_on_what_and_how_the_scores_were_computed(
    card: None, family: str, template: str | None, dtype: Any, description: str
) -> None:
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint(family)), template=template, dtype=dtype)
    (note,) = reranker.rerank(QUERIES[0], DOCUMENTS[:2]).trace.notes
    assert note.startswith(f"computed on cuda (NVIDIA H200) in {description}")
    assert reranker._engine.batch_tokens == 16384


@pytest.mark.parametrize(("family", "template"), [("bert", None), ("deberta", None), ("qwen3", "qwen3")])
def test_a_gpu_runs_once_while_it_is_loaded(
    card: None, family: str, template: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    run = backend.TorchEngine.logits
    monkeypatch.setattr(
        backend.TorchEngine, "logits", lambda self, arrays, notes: runs.append(1) or run(self, arrays, notes)
    )
    TorchReranker(model=str(tiny_checkpoints.checkpoint(family)), template=template).warm_up()
    assert len(runs) == 1


def test_an_fp32_model_on_a_cpu_has_nothing_to_say() -> None:
    ranking = TorchReranker(model=str(tiny_checkpoints.checkpoint("bert")), device="cpu").rerank(
        QUERIES[0], DOCUMENTS[:2]
    )
    assert ranking.trace.notes == ()


def test_nan_from_the_model_is_a_bad_response(tmp_path: Path) -> None:
    folder = copied("bert", tmp_path)
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] *= float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadResponse, match="must be finite"):
        TorchReranker(model=str(folder)).rerank(QUERIES[0], DOCUMENTS)


@pytest.mark.parametrize(("family", "template"), [("ettin", None), ("mxbai-v2", "mxbai-v2")])
def test_close_releases_the_weights(family: str, template: str | None) -> None:
    reranker = TorchReranker(model=str(tiny_checkpoints.checkpoint(family)), template=template)
    reranker.rerank(QUERIES[0], DOCUMENTS)
    before = [weakref.ref(item) for item in gc.get_objects() if type(item) is torch.nn.Parameter]
    reranker.close()
    freed = sum(reference() is None for reference in before)
    assert freed >= 10
