"""The sparse backend: tables without torch, kept weights, explanations, the choice of auto, and errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.tiny_sparse import idf, sparse

from rag_rerank import Candidate, build
from rag_rerank.backends.sparse import SparseReranker
from rag_rerank.errors import ConfigError, InputError, InputTooLong, ModelLoadError

QUERY = "which lake is the deepest?"
TEXTS = ["The lake is deep, a lake.", "K2 is high.", "Which is the lake?"]


def reranker(name: str = "idf", **settings: Any) -> SparseReranker:
    made: SparseReranker = build({"type": "sparse", "model": str(sparse(name)), "on_unreadable": "score", **settings})
    return made


def weights_of(folder: Path) -> dict[str, float]:
    weights: dict[str, float] = json.loads((folder / "idf.json").read_text())
    return weights


def test_a_table_scores_by_its_weights_and_by_saturated_frequency() -> None:
    weights = weights_of(sparse("idf"))
    text = "The dragon, warm dragon"  # five tokens
    of_dragon, of_the = (f * 2.2 / (f + 1.2 * (0.25 + 0.75 * 5 / 80)) for f in (2, 1))
    explanation = reranker().explain("dragon the the", text)
    assert [match.term for match in explanation.terms] == ["dragon", "the"]
    assert explanation.terms[0].query_weight == pytest.approx(weights["dragon"])
    assert explanation.terms[0].text_weight == pytest.approx(of_dragon, rel=1e-6)
    assert explanation.terms[0].places == ((4, 10), (17, 23))
    expected = weights["dragon"] * of_dragon + weights["the"] * of_the
    assert explanation.raw_score == pytest.approx(expected, rel=1e-6)


def test_special_and_unknown_tokens_of_a_table_match_nothing() -> None:
    assert reranker().score("[SEP] \U0001f642", ["[SEP] \U0001f642", "a [SEP]"]).values == [0.0, 0.0]


def test_a_text_without_a_token_scores_zero_beside_others() -> None:
    assert reranker().score("lake", ["\ufffd", "lake"]).values[0] == 0.0


def test_a_table_runs_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from rag_rerank import build\n"
        f"r = build({str(sparse('idf'))!r})\n"
        "print(r.rerank('lake', ['a hill', 'a lake'])[0].candidate.id, r.identity[:1] != '')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "True"]


@pytest.mark.parametrize("name", ["idf", "splade", "inference-free"])
@pytest.mark.filterwarnings("ignore::rag_rerank.errors.TruncationWarning")
def test_a_score_does_not_depend_on_the_store(name: str, tmp_path: Path) -> None:
    expected = reranker(name, store=None).score(QUERY, TEXTS)
    with reranker(name, store={"path": str(tmp_path / "kept")}) as first:
        report = first.index([Candidate(id, text) for id, text in zip("abc", TEXTS, strict=True)])
        assert (report.new, report.in_store) == (3, 0)
        assert first.score(QUERY, TEXTS).values == expected.values
    with reranker(name, store={"path": str(tmp_path / "kept")}) as second:
        scores = second.score(QUERY, TEXTS)
        assert scores.values == expected.values and "3 of 3 texts from the store" in scores.notes
        assert second.delete(["b"]) == 1 and second.store_stats.texts == 2


def test_an_inference_free_query_over_kept_texts_runs_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from rag_rerank.backends.local.sparse.torch_encoder import SparseTorchEncoder

    with reranker("inference-free") as ours:
        expected = ours.score(QUERY, TEXTS).values
        monkeypatch.setattr(SparseTorchEncoder, "term_weights", None)
        assert ours.score(QUERY, TEXTS).values == expected
        with pytest.raises(TypeError):
            ours.score(QUERY, ["another text"])


def test_settings_that_change_weights_do_not_share_rows(tmp_path: Path) -> None:
    store = {"path": str(tmp_path / "kept")}
    with reranker("splade", store=store) as all_terms, reranker("splade", store=store, max_active_dims=2) as few:
        all_terms.score(QUERY, TEXTS)
        assert "0 of 3 texts from the store" in few.score(QUERY, TEXTS).notes


@pytest.mark.parametrize("name", ["idf", "splade", "splade-sum", "inference-free", "static"])
def test_products_add_up_to_the_score_and_the_largest_comes_first(name: str) -> None:
    ours = reranker(name)
    for text in TEXTS:
        explanation = ours.explain(QUERY, text)
        products = [match.product for match in explanation.terms]
        assert sum(products) == pytest.approx(explanation.raw_score, rel=1e-9, abs=1e-12)
        assert explanation.raw_score == ours.score(QUERY, [text]).values[0]
        assert products == sorted(products, reverse=True)
        for match in explanation.terms:
            assert match.product == match.query_weight * match.text_weight
            assert match.in_text == bool(match.places)
            for start, end in match.places:
                assert text[start:end].lower() == match.term.removeprefix("##")


def test_expansions_are_marked() -> None:
    explanation = reranker("splade").explain(QUERY, TEXTS[0])
    origins = {(match.in_query, match.in_text) for match in explanation.terms}
    assert (False, False) in origins and len(origins) > 1
    table = str(explanation)
    assert "query and text" in table and f"{len(explanation.terms) - 30} more terms" in table
    plain = explanation.to_dict()
    assert json.loads(json.dumps(plain))["terms"][0]["product"] == explanation.terms[0].product
    assert explanation.terms[0].term in explanation.to_html()
    assert "expansion" not in str(reranker().explain("dragon", "a dragon"))


def test_an_explanation_has_no_similarities_and_a_distance_no_explanation() -> None:
    with pytest.raises(InputError, match="no similarities"):
        reranker().explain("lake", "a lake").to_dict(similarities=True)
    with pytest.raises(ConfigError, match="no sum over terms"):
        reranker("splade-euclidean").explain("lake", "a lake")
    with pytest.raises(InputError, match="blank"):
        reranker().explain("lake", " ")


@pytest.mark.parametrize("name", ["idf", "splade", "inference-free", "static"])
def test_auto_means_sparse_for_such_a_folder(name: str) -> None:
    auto = build(str(sparse(name)))
    assert type(auto.backend) is SparseReranker
    assert auto.scale == "unbounded"


def test_auto_does_not_take_a_masked_language_model_for_a_sparse_one() -> None:
    assert type(build(str(sparse("naver"))).backend) is not SparseReranker


@pytest.mark.filterwarnings("ignore::rag_rerank.errors.QueryTruncationWarning")
def test_windows_cut_query_and_text_apart() -> None:
    ours = reranker(max_length=4)
    scores = ours.score("dragon " * 6, ["dragon " * 5])
    assert (scores.coverage[0].total, scores.coverage[0].seen) == (5, 4)
    assert scores.degraded and scores.query_coverage is not None and scores.query_coverage.total == 6
    with pytest.raises(InputTooLong):
        reranker(max_length=4, on_overflow="error").score("dragon", ["dragon " * 5])


def test_what_is_no_sparse_model_says_so(tmp_path: Path) -> None:
    from support import tiny_checkpoints, tiny_colbert

    for folder, words in (
        (tiny_checkpoints.checkpoint("bert"), "names no masked language model"),
        (tiny_colbert.colbert("lateon"), "is not known here"),
    ):
        with pytest.raises(ModelLoadError, match=words):
            SparseReranker(model=str(folder)).score(QUERY, TEXTS)
    with pytest.raises(ConfigError, match="needs a model"):
        build("sparse")
    both = tmp_path / "both"
    shutil.copytree(sparse("naver"), both)
    shutil.copy(sparse("idf") / "idf.json", both)
    with pytest.raises(ModelLoadError, match="how they go together"):
        SparseReranker(model=str(both)).score(QUERY, TEXTS)


def test_pickled_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(sparse("naver"), pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match="pickled"):
        SparseReranker(model=str(pickled)).score(QUERY, TEXTS)
    for content, words in (({"warm": "much"}, "no numbers"), ({"warm": float("nan")}, "finite"), ([1], "JSON object")):
        folder = idf(tmp_path / words.replace(" ", "-"))
        (folder / "idf.json").write_text(json.dumps(content))
        with pytest.raises(ModelLoadError, match=words):
            SparseReranker(model=str(folder)).score(QUERY, TEXTS)


def test_a_table_outside_of_the_model_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(sparse("opensearch-doc"), folder)
    place = folder / "query_0_SparseStaticEmbedding"
    (folder / "idf.json").rename(tmp_path / "idf.json")
    (place / "config.json").write_text(json.dumps({"path": "../idf.json", "frozen": True}))
    with pytest.raises(ModelLoadError, match=r"no file \.\./idf\.json"):
        SparseReranker(model=str(folder)).score(QUERY, TEXTS)
