"""The signals of late interaction against sentence-transformers and numpy; the batch of a pair changes no bit."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.util import cos_sim
from support import tiny_checkpoints
from support.tiny_checkpoints import DOCUMENTS, LINES, QUERIES
from tokenizers import Tokenizer

from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.onnx_graphs.build import rewrite
from rag_rerank.backends.local.pair_encoding import PairTokenizer, concatenate
from rag_rerank.backends.local.torch_models.late_interaction import SIGNALS, architecture
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.backends.torch import TorchReranker

FAMILY = "late-interaction"
ODD_TEXTS = ("a", "no", "[SEP]", "[CLS] [SEP]", "[PAD] lake", "lake [SEP] lake", "lake lake lake deepest lake")
ODD_QUERIES = ("a", "[SEP]", "the lake [SEP] [CLS] is deep", "zzzyx", " ".join(LINES[:4]))


@cache
def model() -> Any:
    return architecture()[1].from_pretrained(tiny_checkpoints.checkpoint(FAMILY)).eval()


@cache
def tokenizer() -> PairTokenizer:
    return PairTokenizer(ModelFolder(tiny_checkpoints.checkpoint(FAMILY), FAMILY, None, None), 512)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    """The encoder alone, as a sentence encoder without pairs."""
    folder = tmp_path_factory.mktemp("encoder")
    model().bert.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert", "architectures": ["BertModel"]}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text((tiny_checkpoints.checkpoint(FAMILY) / name).read_text())
    parts = [Transformer(str(folder), transformer_task="feature-extraction"), Pooling(32, "mean")]
    return SentenceTransformer(modules=parts, device="cpu").eval()


@cache
def graph() -> onnxruntime.InferenceSession:
    """The fast graph, with its signals as another output."""
    folder = tiny_checkpoints.onnx_export(FAMILY)
    whole = rewrite(onnx.load(folder / "model.onnx"), json.loads((folder / "config.json").read_text()))
    whole.graph.output.append(helper.make_tensor_value_info("signals", onnx.TensorProto.FLOAT, ["batch", len(SIGNALS)]))
    return onnxruntime.InferenceSession(whole.SerializeToString())


def signals_of(query: str, text: str) -> list[np.ndarray]:
    """Return the signals of a pair, of PyTorch and of the fast graph."""
    arrays = dict(tokenizer().encode(query, [text], "error").arrays([0]))
    signals: list[np.ndarray] = []
    hook = model().classifier.register_forward_pre_hook(lambda _, inputs: signals.append(inputs[0][0].numpy()))
    with torch.inference_mode():
        model()(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    hook.remove()
    del arrays["attention_mask"]
    return [*signals, graph().run(["signals"], arrays)[0][0]]


def by_hand(encoder: SentenceTransformer, query: str, text: str) -> list[float]:
    """Return the signals as `SIGNALS` defines them, computed token by token."""
    vectors, ids = [], []
    for part in (query, text):
        read = encoder.encode(part, output_value="token_embeddings").numpy()
        pieces = encoder.tokenizer(part)["input_ids"]
        assert len(pieces) == len(read)
        words = [i for i, piece in enumerate(pieces) if piece not in model().config.special_ids]
        unit = read / np.linalg.norm(read, axis=1, keepdims=True)
        vectors.append(unit[words])
        ids.append(([pieces[i] for i in words], [*[pieces[i] for i in words], -1]))
    names = {id: piece for piece, id in encoder.tokenizer.get_vocab().items()}
    asking, words = ids[0][0], ids[1][0]
    similar = vectors[0] @ vectors[1].T
    weights = model().token_weights.weight.detach().numpy()[asking, 0]
    three = [np.sort(row)[::-1][:3].mean() for row in similar]
    same = [
        max((s for s, id in zip(row, words, strict=True) if id == query_token), default=0)
        for query_token, row in zip(asking, similar, strict=True)
    ]
    counts = np.array([words.count(query_token) for query_token in asking])
    saturated = counts * 2.2 / (counts + 1.2 * (0.5 + 0.5 * len(words) / 80))
    continues = [names[id].startswith("##") for id in asking]
    sentence = encoder.tokenizer(query)["input_ids"]
    split = [
        names[sentence[i]].startswith("##") or names[sentence[i + 1]].startswith("##")
        for i, id in enumerate(sentence)
        if id not in model().config.special_ids
    ]
    assert len(split) == len(continues)
    pooled = encoder.encode([query, text])
    return [
        float(cos_sim(pooled[0], pooled[1])),
        float(np.mean(three)),
        float(np.average(similar.max(1), weights=weights)),
        float(np.average(np.maximum(same, 0), weights=weights)),
        float(np.average(saturated, weights=weights) * np.average(split, weights=weights) ** 2),
        float(-np.log(np.mean(np.exp(-8 * similar.max(1)))) / 8),
        float(similar.max(0).mean()),
    ]


@pytest.mark.parametrize("query", [*QUERIES, "a", "lake", "the lake [SEP] [CLS] is deep", "zzzyx"])
def test_signals_are_those_computed_by_hand_from_two_texts_read_apart(encoder: SentenceTransformer, query: str) -> None:
    for text in (*DOCUMENTS, "a", "no", "[PAD] lake", "lake [SEP] lake", "lake lake lake deepest lake"):
        for signals in signals_of(query, text):
            np.testing.assert_allclose(signals, by_hand(encoder, query, text), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("[SEP]", "the lake", [0, 0, 0, 0, 1, -1]),
        ("the lake", "[SEP]", [0, -1, 0, 0, -1, 0]),
        ("[SEP]", "[CLS]", [0, 0, 0, 0, 1, 0]),
    ],
)
def test_a_query_or_a_text_without_words_gives_bounded_signals(query: str, text: str, expected: list[float]) -> None:
    for signals in signals_of(query, text):
        assert abs(signals[0]) <= 1
        np.testing.assert_allclose(signals[1:], expected, rtol=0, atol=1e-6)


def test_torch_and_both_graphs_agree_on_odd_pairs() -> None:
    folder = str(tiny_checkpoints.onnx_export(FAMILY))
    rerankers = (
        TorchReranker(model=str(tiny_checkpoints.checkpoint(FAMILY))),
        OnnxReranker(model=folder, optimize=False),
        OnnxReranker(model=folder),
    )
    for query in (*QUERIES, *ODD_QUERIES):
        expected, own, ours = (r.score(query, [*DOCUMENTS, *ODD_TEXTS]) for r in rerankers)
        assert ours.notes == ()
        np.testing.assert_allclose(own.values, expected.values, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(ours.values, expected.values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_logit_is_the_same_number_whatever_queries_share_its_batch(precision: Any) -> None:
    """Rows of one length, whose queries and texts have different ones."""
    engine = OnnxReranker(model=str(tiny_checkpoints.onnx_export(FAMILY)), precision=precision)._engine
    words = " ".join(LINES).split()
    rows = []
    for query in (*QUERIES, *ODD_QUERIES):
        for start in range(60):
            inputs = engine.tokenizer.encode(query, [" ".join(words[start : start + 40])], "truncate")
            row = {name: array[:, :90] for name, array in inputs.arrays([0]).items()}
            if row["token_type_ids"].shape[1] == 90 and row["token_type_ids"][0, 80] == 1:
                rows.append(row)
    query_lengths = {int((row["token_type_ids"] == 0).sum()) for row in rows}
    assert engine.equal_lengths and len(rows) > 50 and len(query_lengths) > 4
    alone = [engine.logits(row, [])[0] for row in rows]
    assert engine.logits(concatenate(rows), []) == alone
    assert engine.logits(concatenate(rows[::-1]), []) == alone[::-1]
    assert engine.logits(concatenate(rows[7:12]), []) == alone[7:12]


def test_token_types_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="token_type_ids"):
        model()(torch.tensor([[2, 9, 3, 2, 9, 3]]))


def test_padding_changes_nothing_in_half_precision() -> None:
    inputs = tokenizer().encode(QUERIES[0], [DOCUMENTS[7], "yes"], "error")
    half = architecture()[1].from_pretrained(tiny_checkpoints.checkpoint(FAMILY), dtype=torch.bfloat16).eval()
    with torch.inference_mode():
        padded, alone = (
            half(**{name: torch.from_numpy(array) for name, array in inputs.arrays(rows).items()}).logits[-1]
            for rows in ([0, 1], [1])
        )
    assert torch.isfinite(padded).all()
    assert abs(float(padded) - float(alone)) < 0.5


def test_with_prompts_texts_read_alone_have_the_scores_of_pairs() -> None:
    """The tokenizer puts the prompts before the parts of a pair; read alone, each side gets its own from the config."""
    folder = tiny_checkpoints.checkpoint(FAMILY, prompts=True)
    exported = tiny_checkpoints.onnx_export(FAMILY, prompts=True)
    texts = [*DOCUMENTS[:6], "lake", "[Q1] lake"]
    with (
        TorchReranker(model=str(folder), device="cpu") as pairs,
        OnnxReranker(model=str(exported)) as graph_of_pairs,
        LateInteractionReranker(model=str(folder), runtime="onnx", precision="fp32") as alone,
        LateInteractionReranker(model=str(exported), precision="fp32") as of_the_export,
    ):
        for query in QUERIES[:3]:
            expected = pairs.score(query, texts).values
            assert graph_of_pairs.score(query, texts).values == pytest.approx(expected, abs=1e-4)
            assert alone.score(query, texts).values == pytest.approx(expected, abs=1e-4)
            assert of_the_export.score(query, texts).values == pytest.approx(expected, abs=1e-4)


def test_prompts_are_not_counted_as_text() -> None:
    folder = tiny_checkpoints.checkpoint(FAMILY, prompts=True)
    pieces = len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode("lake lake", add_special_tokens=False))
    with LateInteractionReranker(model=str(folder)) as reranker:
        (coverage,) = reranker.score("a deep lake", ["lake lake"]).coverage
        assert (coverage.total, coverage.seen) == (pieces, pieces)
