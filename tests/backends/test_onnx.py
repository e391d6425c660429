"""The onnx backend: batching, overflow, and refusal of models that are no cross-encoders. Graphs are hand-made."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import rag_rerank
from rag_rerank import (
    BackendError,
    Candidate,
    ConfigError,
    Coverage,
    InputTooLong,
    MissingExtraError,
    ModelLoadError,
    QueryTruncationWarning,
    Trace,
    TruncationWarning,
    Windows,
    build,
)
from rag_rerank.backends.local.pair_encoding import EncodedPairs, apply_overflow
from rag_rerank.backends.onnx import OnnxReranker

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"
ALL = ("input_ids", "attention_mask", "token_type_ids")


def folder_of(
    path: Path,
    inputs: Sequence[str] = ALL,
    integers: int = TensorProto.INT64,
    output: Sequence[object] = ("batch", 1),
    factor: float = 1e-4,
    kind: int = TensorProto.FLOAT,
) -> Path:
    """Write a folder whose model gives ``factor * sum(ids * mask)``, so each pair's logit is known."""
    path.mkdir(exist_ok=True)
    shutil.copy(EMBEDDED / "config.json", path)
    tokenizer = json.loads((EMBEDDED / "tokenizer.json").read_text())
    del tokenizer["post_processor"]["pair"][3]  # the [CLS] before the text, which common cross-encoders do not have
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (path / "tokenizer_config.json").write_text('{"model_max_length": 512, "pad_token": "[PAD]"}')
    nodes = [
        helper.make_node("Mul", [inputs[0], inputs[1 % len(inputs)]], ["seen"]),
        helper.make_node("Cast", ["seen"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axis"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "factor"], ["scaled"]),
        helper.make_node("Expand", ["scaled", "shape"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["logits"], to=kind),
    ]
    last = output[-1] if len(output) > 1 and isinstance(output[-1], int) else 1
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info(name, integers, ["batch", "sequence"]) for name in inputs],
        [helper.make_tensor_value_info("logits", kind, list(output))],
        [
            numpy_helper.from_array(np.array([1]), "axis"),
            numpy_helper.from_array(np.array(factor, np.float32), "factor"),
            numpy_helper.from_array(np.array([1] * (len(output) - 1) + [last]), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path / "model.onnx")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("onnx") / "sum")


def words(count: int) -> str:
    return " ".join(["warm"] * count)


@pytest.mark.parametrize("budget", [1, 7, 64, 512, 100_000])
def test_scores_do_not_depend_on_the_batches(folder: Path, budget: int) -> None:
    texts = [words(n) for n in (3, 50, 1, 1, 17, 200, 8, 8, 90)]
    alone = [OnnxReranker(model=str(folder)).score("how warm?", [text]).values[0] for text in texts]
    together = OnnxReranker(model=str(folder), batch_tokens=budget).score("how warm?", texts)
    assert together.values == alone


@settings(max_examples=50)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 200))
def test_every_input_is_in_one_batch_within_the_budget(lengths: list[int], budget: int) -> None:
    inputs = EncodedPairs([[1] * n for n in lengths], [[0] * n for n in lengths], (), pad=9)
    all_rows = []
    for rows, arrays in inputs.batch_arrays(budget):
        assert len(rows) == 1 or arrays["input_ids"].size <= budget
        for i, row in enumerate(rows):
            assert arrays["attention_mask"][i].sum() == lengths[row]
            assert set(arrays["input_ids"][i][lengths[row] :].tolist()) <= {9}
        all_rows += rows
    assert sorted(all_rows) == list(range(len(lengths)))


def test_only_the_text_is_cut_and_coverage_says_how_much(folder: Path) -> None:
    reranker = OnnxReranker(model=str(folder), max_length=16)
    with pytest.warns(TruncationWarning, match="only the beginning"):
        ranking = reranker.rerank("how warm is it", ["cold", words(30)])
    by_id = {hit.id: hit for hit in ranking}
    assert (by_id["1"].coverage.total, by_id["1"].coverage.seen) == (30, 16 - 3 - 4)
    assert not by_id["0"].coverage.truncated
    fits = reranker.score("how warm is it", [words(9)])
    assert by_id["1"].raw_score == fits.values[0]


def test_overflow_may_be_refused_naming_the_candidate(folder: Path) -> None:
    reranker = OnnxReranker(model=str(folder), max_length=16, on_overflow="error")
    with pytest.raises(InputTooLong, match=r"candidate 'long': the text has 30 tokens, and .* has room for 9"):
        reranker.rerank(
            "how warm is it", [Candidate("short", "x"), Candidate("blank", ""), Candidate("long", words(30))]
        )


@pytest.mark.filterwarnings("ignore:.*read only the beginning of 1 of 1 texts:rag_rerank.TruncationWarning")
def test_a_long_query_is_read_to_its_share_and_the_ranking_says_so(folder: Path) -> None:
    reranker = OnnxReranker(model=str(folder), max_length=16)
    with pytest.warns(TruncationWarning) as warnings_seen:
        for text in ("x", words(3), words(30)):
            ranking = reranker.rerank(words(900), [text])
    assert [w.category for w in warnings_seen] == [QueryTruncationWarning, TruncationWarning]
    assert "only the beginning of a query" in str(warnings_seen[0].message)
    assert ranking.trace.query_coverage == Coverage(total=900, seen=7)
    assert ranking[0].coverage == Coverage(total=30, seen=6)
    assert any(
        "the query has 900 tokens; beside the longest text its first 7 were read" in n for n in ranking.trace.notes
    )
    assert ranking.degraded == (f"{reranker.label} read only the beginning of the query",)
    assert "query cut" in ranking.trace.render()
    assert Trace.from_dict(json.loads(json.dumps(ranking.trace.to_dict()))) == ranking.trace


def test_a_query_is_cut_only_beside_a_text_that_does_not_fit(folder: Path) -> None:
    reranker = OnnxReranker(model=str(folder), max_length=16)
    ranking = reranker.rerank(words(12), ["x"])
    assert ranking.trace.query_coverage is None and not ranking.degraded
    assert Trace.from_dict(ranking.trace.to_dict()) == ranking.trace


def test_a_query_may_be_refused(folder: Path) -> None:
    reranker = OnnxReranker(model=str(folder), max_length=16, on_long_query="error")
    assert len(reranker.rerank(words(12), ["x"])) == 1
    with pytest.raises(InputTooLong, match=r"the query has 12 tokens, of which 6 fit .* on_long_query=.truncate"):
        reranker.rerank(words(12), [words(20)])
    with pytest.raises(InputTooLong, match="which leaves no room"):
        reranker.text_limits(words(13))
    with pytest.raises(ConfigError, match="did you mean 'truncate'") as error:
        OnnxReranker(model=str(folder), on_long_query="truncated")  # type: ignore[arg-type]
    assert error.value.path == "on_long_query"


def test_a_window_without_room_is_refused(folder: Path) -> None:
    with pytest.raises(InputTooLong, match="which leaves no room for a text in the window of 4 tokens"):
        OnnxReranker(model=str(folder), max_length=4).rerank("x", ["y"])


def test_windows_of_a_long_text_beside_a_long_query_are_read_whole(folder: Path) -> None:
    windows = Windows(reranker=OnnxReranker(model=str(folder), max_length=16), overlap=1)
    with pytest.warns(QueryTruncationWarning):
        ranking = windows.rerank(words(900), [words(40)])
    assert ranking[0].coverage == Coverage(total=40, seen=40)
    assert ranking.degraded


def test_a_megabyte_of_text_is_read_to_the_window(folder: Path) -> None:
    with pytest.warns(TruncationWarning):
        (hit,) = OnnxReranker(model=str(folder)).rerank("how warm?", ["warm " * 200_000])
    assert (hit.coverage.total, hit.coverage.seen) == (200_000, 512 - 3 - 3)


def test_a_word_without_tokens_is_still_scored(folder: Path) -> None:
    ranking = OnnxReranker(model=str(folder)).rerank("how warm?", ["\u200d\u0301", "warm"])
    assert all(hit.score is not None for hit in ranking)


@pytest.mark.parametrize(
    "options",
    [
        {"inputs": ("input_ids", "attention_mask")},
        {"inputs": ("input_ids",)},
        {"integers": TensorProto.INT32},
        {"kind": TensorProto.FLOAT16},
        {"output": ("batch", "labels")},
    ],
)
def test_other_inputs_and_types_of_real_exports_are_served(tmp_path: Path, options: dict[str, object]) -> None:
    scores = OnnxReranker(model=str(folder_of(tmp_path / "m", **options))).score("how warm?", ["warm", words(3)])
    assert scores.values[1] > scores.values[0] and all(type(value) is float for value in scores.values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ("input_ids", "attention_mask", "position_ids")}, "position_ids"),
        ({"inputs": ("pixels", "attention_mask")}, "pixels"),
        ({"integers": TensorProto.FLOAT}, "a cross-encoder takes integer"),
        ({"output": ("batch", 3)}, "not one logit a pair"),
        ({"output": ("batch", "sequence", 4)}, "not one logit a pair"),
    ],
)
def test_what_is_no_cross_encoder_is_refused_at_load(tmp_path: Path, options: dict[str, object], message: str) -> None:
    if options.get("integers") == TensorProto.FLOAT:
        path = folder_of(tmp_path / "m")
        model = onnx.load(path / "model.onnx")
        for value in model.graph.input:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
        onnx.save(model, path / "model.onnx")
    else:
        path = folder_of(tmp_path / "m", **options)
    with pytest.raises(ModelLoadError, match=message):
        OnnxReranker(model=str(path)).warm_up()


def test_logits_that_are_not_finite_are_a_bad_response(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "m", factor=float("inf"))
    with pytest.raises(BackendError, match="score 0 must be finite"):
        OnnxReranker(model=str(path)).rerank("how warm?", ["warm"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "model.onnx").unlink(), "rag-rerank export"),
        (lambda p: (p / "model.onnx").write_bytes(b"not a graph"), "ONNX Runtime cannot load model.onnx"),
        (lambda p: (p / "model.onnx").write_bytes(b""), "ONNX Runtime cannot load model.onnx"),
        (lambda p: (p / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda p: (p / "tokenizer.json").write_text("{"), "tokenizer.json cannot be read"),
        (lambda p: (p / "config.json").unlink(), "cannot read config.json"),
        (lambda p: (p / "config.json").write_text("[]"), "config.json holds no JSON object"),
        (lambda p: (p / "config.json").write_text("{}"), "names no max_position_embeddings"),
    ],
)
def test_damaged_folders_say_what_is_missing(tmp_path: Path, damage: object, message: str) -> None:
    path = folder_of(tmp_path / "m")
    damage(path)
    with pytest.raises(ModelLoadError, match=message):
        OnnxReranker(model=str(path)).rerank("how warm?", ["warm"])


def test_a_folder_without_a_padding_token_is_refused(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "m")
    (path / "tokenizer_config.json").unlink()
    config = json.loads((path / "config.json").read_text())
    del config["pad_token_id"]
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="names a padding token"):
        OnnxReranker(model=str(path)).warm_up()


def test_a_provider_that_is_not_there_is_refused_instead_of_replaced(folder: Path) -> None:
    with pytest.raises(ModelLoadError, match="TensorrtExecutionProvider"), pytest.warns(UserWarning):
        OnnxReranker(model=str(folder), providers=("TensorrtExecutionProvider",)).warm_up()


def test_a_window_beyond_the_model_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="reads at most 512 tokens; max_length=513"):
        build({"type": "onnx:embedded", "max_length": 513}).warm_up()


def test_rule_of_overflow() -> None:
    assert [(c.total, c.seen) for c in apply_overflow([(3, 5), (9, 5)], 2, 10, "m", "truncate")] == [(3, 3), (9, 5)]


def test_the_embedded_model_knows_an_answer_from_a_topic() -> None:
    texts = [
        "New York City is famous for the Metropolitan Museum of Art.",
        "Berlin is well known for its museums.",
        "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
    ]
    ranking = build("onnx:embedded").rerank("How many people live in Berlin?", texts)
    assert [hit.id for hit in ranking] == ["2", "1", "0"]
    assert ranking.scale == "sigmoid" and ranking[0].score > 0.5 > ranking[1].score
    assert ranking.trace.model == "late-minilm-v1"


def test_torch_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("embedded", "onnx:embedded"):
        assert len(build(name).rerank("how warm?", ["warm"])) == 1
    with pytest.raises(MissingExtraError, match=r'pip install "rag-rerank\[cohere\]"'):
        from rag_rerank._lazy import need

        monkeypatch.setitem(sys.modules, "cohere", None)
        need("cohere", extra="cohere")
