"""Model cards: their facts, what they say of unknown facts, and what they never contain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml

from rag_rerank.compose import FitQuality, Provenance
from rag_rerank.training.data.examples import Source
from rag_rerank.training.model_card.card import Card, Figure, ModelMeasurements, TeacherFacts
from rag_rerank.training.model_card.licences import hub_id
from rag_rerank.training.model_card.readme import render


def source(name: str = "manuals", licence: str | None = "CC-BY-4.0", **facts: Any) -> Source:
    return Source(
        **{"name": name, "licence": licence, "path": "data", "sha256": "ab" * 32, "queries": 10, "pairs": 90, **facts}
    )


CARD = Card(
    name="our-reranker",
    base="sentence-transformers/all-MiniLM-L6-v2",
    base_revision="c9745ed1d9f2",
    base_licence="Apache-2.0",
    licence="Apache-2.0",
    languages=("en", "de"),
    sources=(source(),),
    contamination=(),
    settings={"loss": "listwise", "batch": 16},
    seed=7,
)


def front_matter(card: Card) -> Mapping[str, Any]:
    _, matter, _ = render(card).split("---\n", 2)
    loaded: Mapping[str, Any] = yaml.safe_load(matter)
    return loaded


def section(card: Card, title: str) -> str:
    return render(card).split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_front_matter_is_what_the_hub_reads() -> None:
    assert front_matter(CARD) == {
        "license": "apache-2.0",
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "language": ["en", "de"],
        "library_name": "sentence-transformers",
        "pipeline_tag": "text-ranking",
        "tags": ["rag-rerank", "reranker", "cross-encoder", "sentence-transformers", "onnx"],
    }


def test_the_hubs_own_client_reads_it() -> None:
    from huggingface_hub import ModelCard

    data = ModelCard(render(CARD)).data
    assert (data.license, data.pipeline_tag, data.base_model) == ("apache-2.0", "text-ranking", CARD.base)


def test_a_licence_that_the_hub_has_no_name_for_is_named_beside_other() -> None:
    matter = front_matter(replace(CARD, licence="Our Own Terms"))
    assert (matter["license"], matter["license_name"]) == ("other", "our-own-terms")
    assert front_matter(replace(CARD, licence=None))["license"] == "unknown"


@pytest.mark.parametrize("base", ["/home/jo/models/mini", "../jo/mini", "mini", "~jo/mini", "C:\\Users\\jo\\mini"])
def test_a_base_that_is_no_repository_goes_by_its_last_name(base: str) -> None:
    card = replace(CARD, base=base)
    assert "base_model" not in front_matter(card)
    assert "| initialised from | mini at revision" in section(card, "Model")
    assert "jo" not in render(card)


def test_a_folder_that_is_named_like_a_repository_is_none(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "base_model" not in front_matter(replace(CARD, base="out/mine"))
    assert front_matter(replace(CARD, base="out/other"))["base_model"] == "out/other"


@pytest.mark.parametrize(
    ("licence", "identifier"),
    [
        ("Apache License, Version 2.0", "apache-2.0"),
        ("CC BY-SA 4.0", "cc-by-sa-4.0"),
        ("GPL-3.0-only", "gpl-3.0"),
        ("GPLv3", None),
        ("CC0", "cc0-1.0"),
        ("MIT", "mit"),
        ("house rules", None),
        (None, None),
    ],
)
def test_licences_have_the_hubs_names(licence: str | None, identifier: str | None) -> None:
    assert hub_id(licence) == identifier


def test_the_licences_of_base_teacher_and_text_are_listed_as_they_are_named() -> None:
    card = replace(
        CARD,
        base_licence="CC BY-NC 4.0",
        teacher=TeacherFacts(name="qwen3", remote=False),
        sources=(source("squad", "CC BY-SA 4.0"), source("tickets", None)),
    )
    licences = section(card, "Licence")
    assert "declared as Apache-2.0" in licences
    assert "| base sentence-transformers/all-MiniLM-L6-v2 | CC BY-NC 4.0 |" in licences
    assert "| teacher qwen3 | not stated |" in licences
    assert "| text squad | CC BY-SA 4.0 |" in licences
    assert "| text tickets | not stated |" in licences
    assert front_matter(card)["license"] == "apache-2.0", "the declaration is not the card's to change"


def test_a_providers_licence_is_its_terms() -> None:
    card = replace(CARD, teacher=TeacherFacts(name="cohere:rerank-v3.5", remote=True))
    assert "| teacher cohere:rerank-v3.5 | its provider's terms |" in section(card, "Licence")


def test_without_a_licence_the_card_says_so() -> None:
    assert "No licence is declared" in section(replace(CARD, licence=None), "Licence")
    assert "made from" not in section(Card(name="mine"), "Licence")


def test_figures_stand_beside_what_they_are_compared_with() -> None:
    card = replace(
        CARD,
        figures=(
            Figure(
                data="scifact",
                measure="nDCG@10",
                after=0.7,
                before=0.665,
                baseline="BM25",
                interval=(0.011, 0.06),
                queries=300,
            ),
            Figure(data="ours", measure="RR@10", after=0.5),
        ),
    )
    figures = section(card, "Quality")
    assert "| scifact | 300 | nDCG@10 | 0.665 (BM25) | 0.700 | +0.035 (+0.011 to +0.060) |" in figures
    assert "| ours |  | RR@10 |  | 0.500 |  |" in figures
    assert "It was not measured" in section(CARD, "Quality")


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (TeacherFacts(name="cohere:rerank-v3.5", remote=True, pairs=12000), "provider's terms may forbid"),
        (TeacherFacts(name="qwen3", remote=False, licence="Apache-2.0"), "licence of that model: Apache-2.0"),
        (TeacherFacts(name="torch:/home/jo/big", remote=False), "licence of that model is not stated"),
    ],
)
def test_a_teacher_is_named_with_what_may_forbid_its_use(teacher: TeacherFacts, words: str) -> None:
    for card in (replace(CARD, teacher=teacher), replace(CARD, teacher=teacher, sources=())):
        training_text = section(card, "Training text")
        assert words in training_text
        assert teacher.name.replace("/home/jo/", "") in training_text
    assert ("12,000 pairs" in training_text) == (teacher.pairs is not None)
    assert "provider" not in section(CARD, "Training text")


def test_contamination_is_a_row_a_collection_and_no_search_differs_from_no_finding() -> None:
    row = {
        "collection": "scifact",
        "fingerprint": "0" * 64,
        "left out": "queries",
        "searched": {"queries": 300, "documents": 5183},
        "queries": {"exact": 0, "near": 0, "run": 0},
        "documents": {"exact": 2, "near": 1, "run": 0},
        "training": {"queries": {"exact": 0}, "passages": {"exact": 2, "near": 1}},
        "first": [{"training": "ab" * 32}],
    }
    title = "Evaluation text in the training text"
    contamination = section(replace(CARD, contamination=(row,)), title)
    assert "| collection | left out | searched | queries | documents | training |" in contamination
    left_out = "queries"
    counts = "queries: 300, documents: 5,183 | none | exact: 2, near: 1 | queries: none, passages: "
    assert f"| scifact | {left_out} | {counts}" in contamination
    assert "may have been trained on the collection's passages" in contamination
    assert "with no collection" in section(CARD, title)
    assert "not searched" in section(replace(CARD, contamination=None), title)


def test_measurements_and_fit_stand_in_the_card_and_so_does_their_absence() -> None:
    measured = ModelMeasurements(
        window=256,
        parameters=22_700_000,
        bytes={"model.safetensors": 90_000_000},
        differences={"onnx": 3.1e-6, "int8": 0.21},
        pairs=14,
    )
    fitted = Provenance(
        reranker="onnx:our-reranker",
        scale="sigmoid",
        identity="1" * 64,
        data="held out",
        fingerprint="2" * 64,
        relevant=(1,),
        queries=50,
        pairs=1500,
        prior=0.25,
        before=FitQuality(ece=0.3, brier=0.2, log_loss=0.6),
        after=FitQuality(ece=0.02, brier=0.1, log_loss=0.4),
        version="0.1.0",
        date="2026-11-21",
    )
    card = replace(CARD, measured=measured, calibration=fitted)
    model = section(card, "Model")
    assert "| parameters | 22.7 M |" in model
    assert "| window | 256 tokens" in model
    assert "| `model.safetensors` | 90.0 MB |" in model
    assert "| logits of `onnx/` | differ from PyTorch's by at most 3.1e-06 on 14 sample pairs |" in model
    calibration = section(card, "Scores as probabilities")
    assert "1,500 judged candidates of 50 queries (held out), of which 25.0% are relevant" in calibration
    assert "| scores as they are | 0.300 | 0.200 | 0.600 |" in calibration
    assert "DIR/calibration.json" in section(card, "Use")
    assert "CrossEncoder(" in section(card, "Use")
    assert "CrossEncoder(" not in section(replace(card, measured=replace(measured, ours=True)), "Use")
    assert "There is no `calibration.json`: too little." in section(
        replace(card, calibration="too little"), "Scores as probabilities"
    )
    assert "calibration.json" not in section(CARD, "Use")


def test_no_path_user_or_key_stands_in_a_card_whatever_its_fields_hold() -> None:
    card = replace(
        CARD,
        name="/home/jo/models/mine",
        base="/home/jo smith/base",
        sources=(source("/home/jo/data/train.jsonl", path="/home/jo/data/train.jsonl"),),
        settings={"cache": "/var/jo/cache", "teacher": {"api_key": "sk-abcdef", "url": "https://jo:pw@host/v1?key=k1"}},
        teacher=TeacherFacts(name="onnx:/home/jo/teacher", remote=False),
        use="Made in /home/jo/work",
        commands=(
            ("rag-rerank", "train", "/home/jo smith/data", "--out=/home/jo/out", "--base", "~/models/mini"),
            (
                "rag-rerank",
                "distil",
                "--api-key",
                "sk-ghijkl",
                "--teacher",
                '{"type": "cohere", "api_key": "sk-mnopqr"}',
            ),
            ("rag-rerank", "eval", "data/dev", "--api-key", "${COHERE_API_KEY}"),
        ),
    )
    readme = render(card)
    for secret in ("jo", "sk-", "pw", "k1", "/home", "/var", "~"):
        assert secret not in readme, f"{secret!r} in {readme}"
    assert "rag-rerank train data --out=out --base mini" in readme
    assert "rag-rerank eval data/dev --api-key '${COHERE_API_KEY}'" in readme
    assert "rag-rerank distil --api-key ***" in readme
    assert "https://host/v1" in readme


def test_a_cell_cannot_break_its_table() -> None:
    card = replace(CARD, sources=(source("a | b\nc"),))
    assert "| a \\| b c | CC-BY-4.0 | 10 | 90 | `abababababababab` |" in render(card)
