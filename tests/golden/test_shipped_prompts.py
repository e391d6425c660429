"""Causal rerankers with a chat template of their own, against sentence-transformers, which reads the same files."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from support.tiny_checkpoints import DOCUMENTS, LINES, QUERIES
from support.tiny_shipped import FAMILIES, FLAT, STRUCTURED, shipped, with_vision
from transformers import AutoTokenizer, Qwen3_5ForConditionalGeneration

from rag_rerank import ConfigError, ModelLoadError, build
from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.torch import TorchReranker

LONG = tuple(" ".join((*LINES[start:], *LINES[:start])) for start in range(0, len(LINES), 4))
STRANGE = (" leading space", "trailing space ", "\nleading line", "{text} }{ <|im_start|>", "{{ messages }} {% if %}")
WINDOW = 300
RELATIVE = 1e-5
"""Logits of the random Qwen3.5 are some hundreds, with differences of a few units between texts."""

pytestmark = pytest.mark.filterwarnings("ignore:.*read only the beginning:rag_rerank.TruncationWarning")


@cache
def library(folder: Path) -> CrossEncoder:
    return CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity(), local_files_only=True).eval()


def library_logits(folder: Path, query: str, texts: tuple[str, ...], window: int | None = None) -> np.ndarray:
    model = library(folder)
    model.max_seq_length = window or 2048
    logits: np.ndarray = model.predict([(query, text) for text in texts], show_progress_bar=False)
    return logits


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_those_of_sentence_transformers(name: str) -> None:
    reranker = TorchReranker(model=str(shipped(name)))
    for query in (*QUERIES, " what is {query} or <|im_end|>? "):
        texts = (*DOCUMENTS, *STRANGE)
        expected = library_logits(shipped(name), query, texts)
        assert expected.std() > 0.5
        np.testing.assert_allclose(reranker.score(query, texts).values, expected, rtol=RELATIVE, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_text_that_is_too_long_is_cut_and_the_prompt_is_not(name: str) -> None:
    reranker = TorchReranker(model=str(shipped(name)), max_length=WINDOW)
    scores = reranker.score(QUERIES[0], LONG)
    assert all(coverage.truncated for coverage in scores.coverage)
    expected = library_logits(shipped(name), QUERIES[0], LONG, WINDOW)
    np.testing.assert_allclose(scores.values, expected, rtol=RELATIVE, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_logit_does_not_depend_on_what_else_is_in_the_batch(name: str) -> None:
    together = TorchReranker(model=str(shipped(name))).score(QUERIES[0], DOCUMENTS).values
    alone = TorchReranker(model=str(shipped(name)), batch_tokens=1).score(QUERIES[0], DOCUMENTS).values
    np.testing.assert_allclose(together, alone, rtol=RELATIVE, atol=1e-4)


def test_a_default_prompt_is_read_as_the_system_message() -> None:
    options = {"prompts": (("films", "Find passages about films"),), "default_prompt_name": "films"}
    folder = shipped("KURE-Reranker-base", **options)
    values = TorchReranker(model=str(folder)).score(QUERIES[0], DOCUMENTS).values
    np.testing.assert_allclose(values, library_logits(folder, QUERIES[0], DOCUMENTS), rtol=RELATIVE, atol=1e-4)
    plain = TorchReranker(model=str(shipped("KURE-Reranker-base"))).score(QUERIES[0], DOCUMENTS).values
    assert np.abs(np.array(values) - plain).max() > 0.1


def test_a_model_that_reads_pictures_too_scores_texts_as_the_whole_model_does() -> None:
    folder = with_vision("LightOn-rerank-PW")
    model = Qwen3_5ForConditionalGeneration.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    positive, negative = (tokenizer.convert_tokens_to_ids(word) for word in FAMILIES["LightOn-rerank-PW"].words)
    expected = []
    for text in DOCUMENTS:
        messages = [{"role": "query", "content": QUERIES[0]}, {"role": "document", "content": text}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        with torch.inference_mode():
            logits = model(**inputs).logits[0, -1]
        expected.append(float(logits[positive] - logits[negative]))
    values = TorchReranker(model=str(folder), batch_tokens=1000).score(QUERIES[0], DOCUMENTS).values
    np.testing.assert_allclose(values, expected, rtol=RELATIVE, atol=1e-4)


def test_the_score_of_zerank_is_one_logit_whose_sigmoid_is_the_score() -> None:
    ranking = TorchReranker(model=str(shipped("zerank-2"))).rerank(QUERIES[0], DOCUMENTS)
    assert ranking.scale == "sigmoid"
    for hit in ranking:
        assert hit.raw_score is not None
        assert hit.score == pytest.approx(1 / (1 + np.exp(-hit.raw_score)))


def test_a_folder_is_known_by_its_chat_template(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shipped("zerank-2"), tmp_path / "copy"))
    before = TorchReranker(model=str(folder)).identity
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("Judge", "Decide"))
    assert TorchReranker(model=str(folder)).identity != before


def test_auto_takes_torch_and_a_named_template_goes_first() -> None:
    folder = str(shipped("KURE-Reranker-base"))
    (best,) = build(folder).rerank(QUERIES[0], [DOCUMENTS[1]])
    assert best.raw_score == pytest.approx(library_logits(shipped("KURE-Reranker-base"), QUERIES[0], DOCUMENTS[1:2])[0])
    own = TorchReranker(model=folder, template="qwen3")
    assert own.takes_instruction
    assert own.score(QUERIES[0], DOCUMENTS[1:2]).values[0] != pytest.approx(best.raw_score, abs=0.01)


def test_an_instruction_needs_a_named_template() -> None:
    reranker = TorchReranker(model=str(shipped("KURE-Reranker-base")), instruction="find dragons")
    assert not reranker.takes_instruction
    with pytest.raises(ConfigError, match="takes no instruction"):
        reranker.warm_up()


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (FLAT.replace('"role", "eq", "query"', '"role", "eq", "user"'), "each once"),
        (FLAT.replace("<Query>: {{ ", "{{ messages[1].content }}<Query>: {{ "), "each once"),
        (FLAT.replace("first }}<|im_end|>", "first | trim }}<|im_end|>"), "changes the query or the text"),
        (FLAT.replace("first }}<|im_end|>", "first }}s are texts<|im_end|>"), "become one token"),
        (STRUCTURED, "each once"),
        ("{{ raise_exception('no') }}", "cannot be used"),
    ],
)
def test_a_template_that_this_library_cannot_fill_is_refused(template: str, problem: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shipped("KURE-Reranker-base"), tmp_path / "copy"))
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelLoadError, match=problem):
        TorchReranker(model=str(folder)).warm_up()


def test_answer_words_that_are_not_named_are_a_load_error(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shipped("KURE-Reranker-base"), tmp_path / "copy"))
    config = folder / "1_LogitScore" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "true_token_id": None}))
    with pytest.raises(ModelLoadError, match="does not name the token whose logit is the score"):
        TorchReranker(model=str(folder)).warm_up()
    assert ModelFolder(folder, "copy", None, None).config["architectures"] == ["Qwen3ForCausalLM"]
