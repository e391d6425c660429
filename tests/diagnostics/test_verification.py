"""`verify` passes right models and catches each planted mistake; the reference is sentence-transformers'."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sentence_transformers", reason="the reference needs the torch extra")

from support import tiny_checkpoints
from support.planted_mistakes import MISTAKES, PAIRS, plant, sentence_transformers_logits, write_scores
from support.tiny_colbert import colbert

from rag_rerank import ConfigError, VerificationError, build
from rag_rerank.backends.local.torch_models import prompt_templates
from rag_rerank.backends.local.verification.reference_scores import (
    published_models,
    published_scores,
    read_reference_scores,
)
from rag_rerank.backends.local.verification.tolerance import Range
from rag_rerank.diagnostics.order_questions import order_questions
from rag_rerank.diagnostics.verification import Verification, verify
from rag_rerank.testing import ScriptedReranker

SHARED = Path(__file__).parents[3] / "shared"
STARTER = SHARED / "models" / "starter-cross-encoder"


@pytest.fixture(autouse=True, scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Records of their own, so that no trace of another test says "verified"."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path_factory.mktemp("assets")))
        yield


def verified(folder: Path, values: Sequence[float], place: Path, kind: str = "torch", **options: Any) -> Verification:
    file = write_scores(place / "scores.json", values, **options.pop("scores", {}))
    with build({"type": kind, "model": str(folder), **options}) as reranker:
        return verify(reranker, read_reference_scores(file))


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "deberta", "modernbert", "ettin"])
def test_a_right_model_is_verified_within_fp32_rounding(family: str, tmp_path: Path) -> None:
    folder = tiny_checkpoints.checkpoint(family)
    outcome = verified(folder, sentence_transformers_logits(folder), tmp_path)
    assert outcome.status == "verified" and outcome.error is None
    assert outcome.values == len(PAIRS) and outcome.largest_difference is not None
    assert outcome.largest_difference < 1e-3
    assert outcome.orders > 0 and outcome.causes == ()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_noise_of_a_smaller_number_format_is_allowed(dtype: str, tmp_path: Path) -> None:
    folder = tiny_checkpoints.checkpoint("bert")
    outcome = verified(folder, sentence_transformers_logits(folder), tmp_path, dtype=dtype)
    assert outcome.status == "verified"
    assert outcome.largest_difference is not None and outcome.largest_difference > 1e-4


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_planted_mistake_is_caught_and_its_cause_is_named(mistake: str, tmp_path: Path) -> None:
    family, options, _, cause = MISTAKES[mistake]
    right = tiny_checkpoints.checkpoint(family, **options)
    values = sentence_transformers_logits(right)
    assert verified(right, values, tmp_path).status == "verified"
    outcome = verified(plant(mistake, right, tmp_path / "wrong"), values, tmp_path)
    assert outcome.status == "differs"
    assert any(cause in text for text in outcome.causes), outcome.causes
    error = outcome.error
    assert isinstance(error, VerificationError) and cause in str(error)
    first = next(row for row in outcome.scores if row.agrees is False)
    assert first.published is not None
    assert f"{first.published:.6g}" in str(error) and f"{first.here:.6g}" in str(error)
    assert error.url is not None and error.url.endswith("how-to/verify/")
    assert not any(text in str(error) for _, text in PAIRS)


def test_an_onnx_graph_with_a_wrong_head_is_caught_too(tmp_path: Path) -> None:
    right = tiny_checkpoints.checkpoint("bert")
    values = sentence_transformers_logits(right)
    assert verified(tiny_checkpoints.onnx_export("bert"), values, tmp_path, "onnx").status == "verified"
    other = tiny_checkpoints.onnx_export("bert", seed=1)
    assert verified(other, values, tmp_path, "onnx").status == "differs"


def transformers_qwen3(folder: Path) -> list[float]:
    """The scoring code of Qwen3-Reranker's card, in transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    logits = []
    for query, text in PAIRS:
        prompt = (
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
            'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
            "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
            f"<Query>: {query}\n<Document>: {text}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
        )
        with torch.inference_mode():
            last = model(**tokenizer(prompt, return_tensors="pt", add_special_tokens=False)).logits[0, -1]
        logits.append(float(last[yes] - last[no]))
    return logits


@pytest.mark.parametrize(
    "mistake",
    [{"after": ("<|im_end|>\n<|im_start|>assistant\n",)}, {"before": (), "lead": "{query}\n", "after": ("\n",)}],
)
def test_another_prompt_and_a_lost_one_are_caught(
    mistake: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_checkpoints.checkpoint("qwen3")
    values = transformers_qwen3(folder)
    assert verified(folder, values, tmp_path, template="qwen3").status == "verified"
    wrong = replace(prompt_templates.TEMPLATES["qwen3"], **mistake)
    monkeypatch.setattr(prompt_templates, "TEMPLATES", {**prompt_templates.TEMPLATES, "qwen3": wrong})
    outcome = verified(folder, values, tmp_path, template="qwen3")
    assert outcome.status == "differs" and any("prompt template" in cause for cause in outcome.causes)


def test_published_scores_are_compared_with_the_instruction_that_they_were_made_with(tmp_path: Path) -> None:
    folder = tiny_checkpoints.checkpoint("qwen3")
    values = transformers_qwen3(folder)
    own = verified(folder, values, tmp_path, template="qwen3", instruction="Find contradictions")
    assert own.status == "verified"
    asked = {"instruction": "Find contradictions"}
    assert verified(folder, values, tmp_path, template="qwen3", scores=asked).status == "differs"


def test_no_shipped_score_contradicts_another_one() -> None:
    """If a new source does, `verify` copes with it; but then look at the revisions that both were made with."""
    for model in published_models():
        ranges: dict[tuple[str, str], list[Range]] = {}
        for row in published_scores(model):
            for text, score_range in zip(row.texts, row.ranges("fp32"), strict=True):
                ranges.setdefault((row.query, text), []).append(score_range)
        for pair, rows in ranges.items():
            assert all(one.meets(other) for one in rows for other in rows), (model, pair)


def test_a_published_probability_is_compared_as_a_range_of_logits(tmp_path: Path) -> None:
    folder = tiny_checkpoints.checkpoint("bert")
    logits = sentence_transformers_logits(folder)
    probabilities = [1 / (1 + 2.718281828459045 ** -(x - 4.5)) for x in logits]
    options = {"kind": "probability", "shift": 4.5}
    assert verified(folder, probabilities, tmp_path, scores=options).status == "verified"
    assert verified(folder, probabilities, tmp_path, scores={"kind": "probability"}).status == "differs"
    assert verified(folder, [round(p, 1) for p in probabilities], tmp_path, scores=options).status == "verified"


def test_sources_that_contradict_each_other_are_told_and_one_of_them_is_enough(tmp_path: Path) -> None:
    folder = tiny_checkpoints.checkpoint("bert")
    values = sentence_transformers_logits(folder)
    file = write_scores(tmp_path / "scores.json", values)
    content = json.loads(file.read_text())
    first = content["scores"][0]
    content["scores"].append({**first, "values": [value + 1 for value in first["values"]], "source": "elsewhere"})
    file.write_text(json.dumps(content))
    with build(f"torch:{folder}") as reranker:
        outcome = verify(reranker, read_reference_scores(file))
        assert outcome.status == "verified" and len(outcome.contradictions) == len(first["texts"])
        for row in content["scores"]:
            row["values"] = [value + 5 for value in row["values"]]
        file.write_text(json.dumps(content))
        assert verify(reranker, read_reference_scores(file)).status == "differs"


def test_scores_of_low_trust_decide_by_their_order_alone(tmp_path: Path) -> None:
    folder = tiny_checkpoints.checkpoint("bert")
    values = [3 * value for value in sentence_transformers_logits(folder)]
    outcome = verified(folder, values, tmp_path, scores={"trust": "low"})
    assert outcome.status == "order" and outcome.values == 0
    assert verified(folder, [-value for value in values], tmp_path, scores={"trust": "low"}).status == "differs"


@pytest.mark.parametrize("name", ["colbertv2", "lateon"])
def test_a_late_interaction_model_must_give_the_published_order(name: str, tmp_path: Path) -> None:
    from sentence_transformers import MultiVectorEncoder

    folder = colbert(name)
    reference = MultiVectorEncoder(str(folder), device="cpu")
    values = [
        float(reference.similarity(reference.encode_query([query]), reference.encode_document([text]))[0][0])
        for query, text in PAIRS
    ]
    right = verified(folder, values, tmp_path, "late_interaction", precision="fp32", scores={"kind": "maxsim"})
    assert right.status == "order" and right.error is None and right.orders > 0
    largest = max(row.difference for row in right.scores if row.difference is not None)
    assert largest < 1e-3
    turned = [-value for value in values]
    assert verified(folder, turned, tmp_path, "late_interaction", scores={"kind": "maxsim"}).status == "differs"


def test_without_published_scores_the_text_that_answers_must_come_first() -> None:
    folder = tiny_checkpoints.checkpoint("bert")
    with build(f"torch:{folder}") as reranker:
        outcome = verify(reranker)  # a random model
    assert outcome.status == "differs" and outcome.values == 0 and outcome.wrong_orders
    assert all(not row.source for row in outcome.scores)


def test_a_provider_is_asked_a_few_plain_questions_and_must_put_the_answer_first() -> None:
    answers = ("Kilimanjaro", "On Sundays", "In sunlight")
    texts = [text for _, texts in order_questions() for text in texts]
    good = ScriptedReranker(by_text={text: 1.0 for text in texts if text.startswith(answers)})
    outcome = verify(good)
    assert outcome.status == "order" and outcome.orders == 6 and len(good.calls) == 3
    assert outcome.not_recorded == ""
    bad = verify(ScriptedReranker(default=1.0))
    assert bad.status == "differs" and len(bad.wrong_orders) == 6
    assert "another model" in str(bad.error)


def test_the_embedded_model_gives_its_reference_scores() -> None:
    with build("embedded") as reranker:
        outcome = verify(reranker)
    assert outcome.status == "verified" and outcome.values >= 15 and outcome.orders >= 15
    assert outcome.largest_difference is not None and outcome.largest_difference < 0.1


def test_the_embedded_model_in_int8_is_verified_too() -> None:
    with build({"type": "embedded", "precision": "int8"}) as reranker:
        assert verify(reranker).status == "verified"


@pytest.mark.shared
@pytest.mark.skipif(not STARTER.is_dir(), reason="the trained cross-encoder is not beside this checkout")
@pytest.mark.parametrize("mistake", [None, "untrained head", "kept case", "short window", "other bias"])
def test_a_trained_model_with_real_weights_is_told_from_its_broken_copies(mistake: str | None, tmp_path: Path) -> None:
    values = sentence_transformers_logits(STARTER)
    folder = STARTER if mistake is None else plant(mistake, STARTER, tmp_path / "wrong")
    outcome = verified(folder, values, tmp_path, scores={"precision": "fp16"})  # what the file holds
    assert outcome.status == ("verified" if mistake is None else "differs")
    assert mistake is None or any(MISTAKES[mistake][3] in cause for cause in outcome.causes), outcome.causes


@pytest.mark.shared
@pytest.mark.skipif(not STARTER.is_dir(), reason="the trained cross-encoder is not beside this checkout")
def test_a_trained_model_answers_the_plain_questions() -> None:
    with build(f"torch:{STARTER}") as trained:
        outcome = verify(trained)
    assert outcome.status == "order" and outcome.orders == 12 and outcome.values == 0


def test_every_published_model_that_is_here_is_verified() -> None:
    seen = []
    for model in published_models():
        reranker = build(model if model != "late-minilm-v1" else "embedded")
        if reranker.is_cached():  # type: ignore[attr-defined]
            with reranker:
                outcome = verify(reranker)
            assert outcome.passed, outcome.error
            seen.append(model)
    assert "late-minilm-v1" in seen


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", 'an object with a list "scores"'),
        ('{"schema": 2, "scores": []}', "schema 2 is not known"),
        ('{"scores": []}', "has no scores"),
        ('{"scores": [{"query": "q", "texts": ["a"], "values": [1, 2], "kind": "logit"}]}', "as many finite values"),
        ('{"scores": [{"query": "q", "texts": ["a"], "values": [1], "kind": "logits"}]}', "expected one of logit"),
        ('{"scores": [{"query": "q", "texts": ["a"], "value": [1], "kind": "logit"}]}', "did you mean 'values'"),
        ('{"scores": [{"texts": ["a"], "values": [1], "kind": "logit"}]}', "not understood: KeyError: 'query'"),
        ('{"scores": [{"query": " ", "texts": ["a"], "values": [1], "kind": "logit"}]}', "not blank"),
        ("{", "cannot read reference scores"),
    ],
)
def test_a_wrong_file_of_scores_is_refused_with_its_place(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_reference_scores(file)
    assert str(file) in str(caught.value)
