"""Every architecture that transformers classifies pairs with, against sentence-transformers' own preprocessing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder
from support.tiny_architectures import ARCHITECTURES, architecture, generic_tokenizer
from support.tiny_checkpoints import LINES, QUERIES

from rag_rerank import ModelLoadError
from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.model_tokenizer import read_tokenizer
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.backends.torch import TorchReranker
from rag_rerank.export import export

REFUSED = {"nystromformer": "does not run on short inputs", "mra": "gives different texts the same score"}
"""Architectures that cannot be served, with these configs or without their kernels."""

WITHOUT_WINDOW = ("funnel", "xlnet")
NOT_EXPORTED = {
    "fnet": "PyTorch cannot export",
    "funnel": "does not run on inputs of other lengths",
}
SERVED = [name for name in ARCHITECTURES if name not in REFUSED]
EXPORTED = ("bert, two labels", "bert, types not named", "bert, reads the end", "albert", "convbert", "mpnet", "xlnet")
"""Those whose inputs differ from those of the families in `tiny_checkpoints`."""

WINDOW = 64
SHORT = ("kept warm at night", "  two  spaces,\ta tab,\nand a new line ", "温度は。🙂 ok", "cafe\u0301 décomposé", ".")
LONG = " ".join(LINES)
PAIRS = [*product((QUERIES[0], "K2?"), (*SHORT, LONG)), (LONG, "warm"), (LONG, LONG), (" ".join(LINES[:3]), LONG)]
"""Short and long queries beside short and long texts, in several scripts."""

pytestmark = pytest.mark.filterwarnings("ignore:.*read only the beginning:rag_rerank.TruncationWarning")


def options(name: str) -> dict[str, Any]:
    return {"max_length": WINDOW} if name in WITHOUT_WINDOW else {}


@cache
def library(name: str) -> CrossEncoder:
    model = CrossEncoder(
        str(architecture(name)), device="cpu", activation_fn=torch.nn.Identity(), local_files_only=True
    ).eval()
    model.max_seq_length = WINDOW
    return model


def library_logits(name: str) -> np.ndarray:
    """One pair at a time: in some architectures padding changes the logits."""
    numbers = library(name).predict(PAIRS, batch_size=1, show_progress_bar=False).reshape(len(PAIRS), -1)
    return numbers[:, 0] if numbers.shape[1] == 1 else numbers[:, 1] - numbers[:, 0]


def logits_of(reranker: Any) -> np.ndarray:
    queries = dict.fromkeys(query for query, _ in PAIRS)
    values = {}
    for query in queries:
        texts: Sequence[str] = [text for other, text in PAIRS if other == query]
        values.update(zip([(query, text) for text in texts], reranker.score(query, texts).values, strict=True))
    return np.array([values[pair] for pair in PAIRS])


@pytest.mark.parametrize("name", SERVED)
def test_inputs_and_logits_are_those_of_sentence_transformers(name: str) -> None:
    reranker = TorchReranker(model=str(architecture(name)), **options(name))
    model: Any = reranker._engine.model
    assert model.window == WINDOW
    tokenizer = library(name).tokenizer
    for query, text in PAIRS:
        expected = tokenizer(query, text, truncation="longest_first", max_length=WINDOW)
        pairs = model.pairs.encode(query, [text], "truncate")
        arrays = {input: pairs.arrays([0])[input][0].tolist() for input in model.inputs}
        assert arrays == dict(expected)
    pair = [QUERIES[0], "K2?"], ["warm", "keep the terrarium warm at night"]
    padded = tokenizer(*pair, padding=True)
    rows = [model.pairs.encode(query, [text], "error") for query, text in zip(*pair, strict=True)]
    sides = {row.pads_left for row in rows}
    assert sides == {tokenizer.padding_side == "left" and not model.layout.startswith("tokens packed")}
    assert rows[0].pad == tokenizer.pad_token_id and rows[0].pad_type == tokenizer.pad_token_type_id
    assert len(padded["input_ids"][0]) == max(len(row.ids[0]) for row in rows)
    expected_logits = library_logits(name)
    assert expected_logits.std() > 0.05
    np.testing.assert_allclose(logits_of(reranker), expected_logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ModelLoadError, match=REFUSED[name]):
        TorchReranker(model=str(architecture(name))).warm_up()


@pytest.mark.parametrize("name", WITHOUT_WINDOW)
def test_a_model_without_a_window_asks_for_one(name: str) -> None:
    with pytest.raises(ModelLoadError, match="give max_length, such as 512"):
        TorchReranker(model=str(architecture(name))).warm_up()


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_folders_give_the_same_logits(name: str, tmp_path: Path) -> None:
    report = export(str(architecture(name)), tmp_path / "out", **options(name))
    assert report.max_difference < 1e-4
    with OnnxReranker(model=str(tmp_path / "out"), threads=1) as reranker:
        np.testing.assert_allclose(logits_of(reranker), library_logits(name), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NOT_EXPORTED)
def test_an_architecture_that_onnx_cannot_hold_is_refused_at_export(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=NOT_EXPORTED[name]):
        export(str(architecture(name)), tmp_path / "out", **options(name))
    assert not (tmp_path / "out").exists()


KINDS = (
    *("bert", "roberta", "xlm-roberta-xl", "electra", "albert", "deberta", "deberta-v2", "mpnet", "distilbert"),
    *("modernbert", "nomic_bert", "funnel", "xlnet", "fnet", "convbert", "mobilebert", "nystromformer", "gemma"),
)
CLASSES = (
    *(None, "PreTrainedTokenizerFast", "TokenizersBackend", "BertTokenizer", "BertTokenizerFast", "MPNetTokenizer"),
    *("ElectraTokenizerFast", "DistilBertTokenizer", "ConvBertTokenizer", "MobileBertTokenizerFast", "FNetTokenizer"),
    *("DebertaTokenizer", "RobertaTokenizerFast", "FunnelTokenizerFast", "SqueezeBertTokenizer", "LxmertTokenizer"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_read_from_files_are_those_that_transformers_finds(kind: str, tmp_path: Path) -> None:
    import json

    generic_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    file = tmp_path / "tokenizer_config.json"
    settings = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("tokenizer_class", "backend")}
    compared = 0
    for name in CLASSES:
        file.write_text(json.dumps({**settings, **({"tokenizer_class": name} if name else {})}))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
        except Exception:  # the class cannot hold these word pieces
            continue
        ours = read_tokenizer(ModelFolder(tmp_path, kind, None, None))
        expected = (set(theirs.model_input_names), theirs.padding_side, theirs.pad_token_type_id)
        assert (set(ours.inputs), "left" if ours.pads_left else "right", ours.pad_type) == expected, name
        compared += 1
    assert compared > 10


@pytest.mark.parametrize("name", SERVED)
def test_the_window_of_the_config_is_that_of_the_model(name: str) -> None:
    folder = ModelFolder(architecture(name), name, None, None)
    if name not in WITHOUT_WINDOW:
        assert folder.max_length(None) == WINDOW
        with pytest.raises(ModelLoadError, match=f"reads at most {WINDOW} tokens"):
            folder.max_length(WINDOW + 1)
