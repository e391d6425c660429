"""OpenProvence: its logit against transformers, and its keep probabilities against torch over the layers' outputs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_checkpoints import DOCUMENTS, LINES, QUERIES
from support.tiny_open_provence import config_of_transformers, open_provence
from transformers import AutoTokenizer, ModernBertForSequenceClassification, PreTrainedTokenizerFast

from rag_rerank import ModelLoadError, Ranking, RelevantSpan, build, pack
from rag_rerank.backends.torch import TorchReranker
from rag_rerank.text.sentences import sentence_places

TEXTS = (*DOCUMENTS, f"{LINES[1]} {LINES[4]} {LINES[16]}", "- one item\n- two items\n\nA paragraph. Another?  ")
LONG = " ".join(LINES * 4)
ENDLESS = "a bearded dragon and " * 60
WINDOW = 150
TOLERANCE = 1e-5

pytestmark = pytest.mark.filterwarnings("ignore:.*read only the beginning:rag_rerank.TruncationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return open_provence(tmp_path_factory.mktemp("open-provence") / "model", max_length=WINDOW)


@cache
def library(folder: Path) -> tuple[Any, Any, Any, Any]:
    """Return transformers' cross-encoder, the tokenizer, and weight and bias of the second head."""
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    base = config_of_transformers(config["base_model_config"])
    base.tie_last_hidden_states = False  # the last hidden state is then that of the last layer, before the norm
    model = ModernBertForSequenceClassification(base).eval()
    prefix = "ranking_model."
    model.load_state_dict({name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)})
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return model, tokenizer, weights["pruning_head.classifier.weight"], weights["pruning_head.classifier.bias"]


@torch.inference_mode()
def expected(folder: Path, query: str, text: str, *, after_norm: bool = False) -> tuple[float, dict[int, float]]:
    """Return the logit, and for each character of the text the keep probability of the last token that ends there."""
    model, tokenizer, weight, bias = library(folder)
    pair = tokenizer(
        query,
        text,
        truncation="longest_first",
        max_length=WINDOW,
        return_tensors="pt",
        return_offsets_mapping=True,
        return_token_type_ids=False,
    )
    offsets = pair.pop("offset_mapping")[0].tolist()
    output = model(**pair, output_hidden_states=True)
    state = output.hidden_states[-1][0]
    if after_norm:
        state = model.model.final_norm(state)
    scores = state @ weight.T + bias
    keep = torch.exp(scores[:, 1]) / torch.exp(scores).sum(dim=1)
    tokens = [
        (max(end - 1, start), float(probability))
        for (start, end), part, probability in zip(offsets, pair.sequence_ids(0), keep, strict=True)
        if part == 1
    ]
    return float(output.logits), tokens


def means(tokens: list[tuple[int, float]], text: str) -> dict[tuple[int, int], float]:
    """Return the mean keep probability of each sentence that has a token."""
    of_sentences = {(a, b): [p for place, p in tokens if a <= place < b] for a, b in sentence_places(text)}
    return {place: float(np.mean(values)) for place, values in of_sentences.items() if values}


def rank(folder: Path, query: str, texts: tuple[str, ...] | list[str], **options: Any) -> Ranking:
    return build({"type": "spans", "reranker": {"type": "torch", "model": str(folder), **options}, "top_k": 99}).rerank(
        query, texts
    )


def by_place(spans: tuple[RelevantSpan, ...] | None) -> dict[tuple[int, int], float]:
    return {(span.start, span.end): span.score for span in spans or ()}


def test_logits_are_those_of_transformers(folder: Path) -> None:
    reranker = TorchReranker(model=str(folder))
    for query in QUERIES:
        logits = [expected(folder, query, text)[0] for text in (*TEXTS, LONG)]
        assert np.std(logits) > 0.5
        np.testing.assert_allclose(reranker.score(query, (*TEXTS, LONG)).values, logits, atol=1e-4)


def test_keep_probabilities_are_those_of_the_last_layer_before_the_norm(folder: Path) -> None:
    for query in QUERIES:
        ranking = rank(folder, query, TEXTS)
        for hit in ranking:
            tokens = expected(folder, query, hit.text)[1]
            assert by_place(hit.spans) == pytest.approx(means(tokens, hit.text), abs=TOLERANCE)
            assert all(span.raw_score == span.score for span in hit.spans or ())
        assert sum(len(hit.spans or ()) for hit in ranking) > len(TEXTS)
        of_norm = {hit.id: means(expected(folder, query, hit.text, after_norm=True)[1], hit.text) for hit in ranking}
        assert max(abs(score - of_norm[h.id][p]) for h in ranking for p, score in by_place(h.spans).items()) > 0.05


def test_the_sentences_come_with_the_scores_and_change_none_of_them(folder: Path) -> None:
    alone = TorchReranker(model=str(folder))
    scores = alone.score(QUERIES[0], TEXTS)
    assert not scores.spans, "nobody asked for spans"
    ranking = rank(folder, QUERIES[0], TEXTS)
    assert {hit.id: hit.raw_score for hit in ranking} == pytest.approx(
        {str(i): value for i, value in enumerate(scores.values)}, abs=TOLERANCE
    )
    assert ranking.trace.usage.texts == len(TEXTS), "each text is read once"


def test_what_is_behind_the_cut_is_read_for_its_sentences_only(folder: Path) -> None:
    hit = next(h for h in rank(folder, QUERIES[0], [LONG, DOCUMENTS[0]]) if h.text == LONG)
    assert hit.coverage is not None and hit.coverage.truncated
    assert hit.raw_score == pytest.approx(expected(folder, QUERIES[0], LONG)[0], abs=1e-4)
    spans = by_place(hit.spans)
    assert list(spans) == sentence_places(LONG)
    start, parts = 0, 0
    while start is not None:
        parts += 1
        tokens = expected(folder, QUERIES[0], LONG[start:])[1]
        read = start + max(place for place, _ in tokens) + 1
        whole = {place for place in spans if start <= place[0] and place[1] <= read}
        reference = {(a + start, b + start): score for (a, b), score in means(tokens, LONG[start:]).items()}
        assert {place: spans[place] for place in whole} == pytest.approx(
            {place: reference[place] for place in whole}, abs=TOLERANCE
        )
        start = min((a for a, b in spans if b > read), default=None)
    assert parts > 3


def test_a_sentence_that_fits_nowhere_is_scored_by_its_beginning(folder: Path) -> None:
    text = f"{ENDLESS.strip()}. {LINES[0]}"
    ranking = rank(folder, QUERIES[0], [text])
    (hit,) = ranking
    spans = by_place(hit.spans)
    assert list(spans) == sentence_places(text)
    tokens = expected(folder, QUERIES[0], text)[1]
    first, second = spans
    assert spans[first] == pytest.approx(np.mean([p for _, p in tokens]), abs=TOLERANCE)
    assert spans[second] == pytest.approx(
        np.mean([p for _, p in expected(folder, QUERIES[0], LINES[0])[1]]), abs=TOLERANCE
    )
    notes = [note for step in ranking.trace.walk() for note in step.notes]
    assert any(note.startswith("1 further inputs") for note in notes)


@pytest.mark.parametrize("key", ["default_threadshold", "default_threshold"])
def test_the_models_threshold_decides_what_is_relevant(folder: Path, key: str, tmp_path: Path) -> None:
    probabilities = [span.score for hit in rank(folder, QUERIES[0], TEXTS) for span in hit.spans or ()]
    middle = float(np.median(probabilities)) + 1e-4
    other = open_provence(tmp_path / "model", max_length=WINDOW, **{"default_threadshold": None, key: middle})
    for model, threshold in ((folder, 0.1), (other, middle)):
        spans = [span for hit in rank(model, QUERIES[0], TEXTS) for span in hit.spans or ()]
        assert [span.is_relevant for span in spans] == [span.score > threshold for span in spans]
    assert {span.is_relevant for span in spans} == {True, False}


def test_a_context_keeps_the_sentences_that_the_model_keeps(folder: Path, tmp_path: Path) -> None:
    model = open_provence(tmp_path / "model", default_threadshold=0.45)
    ranking = rank(model, QUERIES[0], [DOCUMENTS[7], DOCUMENTS[4], DOCUMENTS[6]])
    context = pack(ranking, trim="relevant")
    kept = {hit.id: [hit.text[s.start : s.end] for s in hit.spans or () if s.is_relevant] for hit in ranking}
    gone = {hit.id: [hit.text[s.start : s.end] for s in hit.spans or () if not s.is_relevant] for hit in ranking}
    assert any(kept.values()) and any(gone.values())
    for sentences in kept.values():
        assert all(sentence in context.text for sentence in sentences)
    for sentences in gone.values():
        assert not any(sentence in context.text for sentence in sentences)


def test_auto_and_by_take_the_sentences_from_the_model(folder: Path) -> None:
    by_auto = build({"type": "spans", "reranker": "lexical", "by": {"type": "auto", "model": str(folder)}})
    ranking = by_auto.rerank(QUERIES[0], TEXTS[:4])
    for hit in ranking:
        assert by_place(hit.spans) == pytest.approx(
            means(expected(folder, QUERIES[0], hit.text)[1], hit.text), abs=TOLERANCE
        )
    estimate = by_auto.estimate(QUERIES[0], TEXTS[:4])
    assert estimate.texts == 8, "each text once for the ranking, and once for its sentences"


@pytest.mark.parametrize("type", ["torch", "auto"])
def test_only_a_model_with_the_head_says_that_it_scores_sentences(folder: Path, type: str, tmp_path: Path) -> None:
    from support import tiny_checkpoints

    assert build({"type": type, "model": str(folder)}).scores_sentences  # type: ignore[attr-defined]
    plain = build({"type": type, "model": str(tiny_checkpoints.checkpoint("modernbert"))})
    assert not plain.scores_sentences  # type: ignore[attr-defined]
    assert not build({"type": type, "model": "org/not-fetched"}).scores_sentences  # type: ignore[attr-defined]


def test_a_model_in_bf16_gives_fp32_numbers_near_those_of_fp32(folder: Path) -> None:
    exact, rough = (rank(folder, QUERIES[0], TEXTS, dtype=dtype) for dtype in ("float32", "bfloat16"))
    spans = {hit.id: by_place(hit.spans) for hit in exact}
    for hit in rough:
        assert by_place(hit.spans) == pytest.approx(spans[hit.id], abs=0.05)
        assert hit.raw_score != pytest.approx(float(torch.tensor(hit.raw_score).bfloat16()), abs=1e-9)


def test_the_window_is_that_of_the_config_unless_a_longer_one_is_named(folder: Path) -> None:
    (short,) = TorchReranker(model=str(folder)).score(QUERIES[0], [LONG]).coverage
    (long,) = TorchReranker(model=str(folder), max_length=512).score(QUERIES[0], [LONG]).coverage
    assert short.seen < WINDOW < long.seen
    with pytest.raises(ModelLoadError, match="reads at most 512 tokens"):
        TorchReranker(model=str(folder), max_length=600).warm_up()


def test_the_code_beside_the_weights_never_runs(folder: Path) -> None:
    TorchReranker(model=str(folder)).score(QUERIES[0], TEXTS)
    assert (folder / "modeling_open_provence_standalone.py").is_file()
    assert not (folder.parent / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_model_config": {"model_type": "deberta-v2"}}, "OpenProvence model on deberta-v2"),
        ({"base_model_config": None}, "on no named architecture"),
        ({"num_labels": 2}, "gives 2 numbers a pair"),
        ({"default_threadshold": "high"}, "the threshold in config.json is no number from 0 to 1: 'high'"),
        ({"default_threadshold": 1.5}, "the threshold in config.json"),
    ],
)
def test_a_config_that_is_not_known_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=message):
        TorchReranker(model=str(open_provence(tmp_path / "model", **changes))).warm_up()


@pytest.mark.parametrize("lost", ["pruning_head.classifier.bias", "ranking_model.classifier.weight"])
def test_a_head_without_trained_weights_is_refused(lost: str, tmp_path: Path) -> None:
    folder = open_provence(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights[lost]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelLoadError, match=f"lacks trained weights.*{lost}"):
        TorchReranker(model=str(folder)).warm_up()


def test_an_export_has_the_same_scores_and_no_sentences(folder: Path, tmp_path: Path) -> None:
    from rag_rerank.export import export

    export(str(folder), tmp_path / "out")
    exported = build({"type": "onnx", "model": str(tmp_path / "out")}).score(QUERIES[0], TEXTS)  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        exported.values, TorchReranker(model=str(folder)).score(QUERIES[0], TEXTS).values, atol=1e-4
    )
    assert not exported.spans


def test_training_from_it_is_refused(folder: Path) -> None:
    from rag_rerank.training.base_model import find_base

    with pytest.raises(ModelLoadError, match="has a second head, which would not fit"):
        find_base(str(folder))
