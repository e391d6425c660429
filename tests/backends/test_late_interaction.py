"""The late_interaction backend: the store, cuts, languages, indexing, closing, and calls side by side."""

import asyncio
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from support.tiny_colbert import colbert
from support.unreadable_texts import OTHER_SCRIPTS

import rag_rerank
from rag_rerank import (
    Candidate,
    ConfigError,
    Coverage,
    InputTooLong,
    ModelLoadError,
    QueryTruncationWarning,
    TruncationWarning,
    UnreadableText,
    Windows,
    build,
    to_config,
)
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.local.kept_vectors.opening import StoreSettings
from rag_rerank.backends.local.late_interaction.precision import VectorPrecision
from rag_rerank.errors import Overloaded
from rag_rerank.execution.progress import progress_listener

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"
PASSAGES = Path(__file__).parents[2] / "docs" / "samples" / "passages.jsonl"
TEXTS = [json.loads(line)["text"] for line in PASSAGES.read_text(encoding="utf-8").splitlines()]
QUERY = "How long did it take to shoot All Is Lost?"
ODD = ["[SEP]", "a", "[CLS] [SEP]", "a a a a", "no", "lake [SEP] lake lake"]


@pytest.fixture(scope="module")
def late_reranker() -> LateInteractionReranker:
    return LateInteractionReranker(precision="fp32")


@pytest.mark.parametrize("query", [QUERY, "[SEP]", "a", "zzzyx qqq", "the the lake [SEP] lake"])
@pytest.mark.parametrize("texts", [TEXTS[:40], ODD], ids=["passages", "odd"])
def test_scores_are_those_of_the_onnx_backend(
    late_reranker: LateInteractionReranker, query: str, texts: list[str]
) -> None:
    expected = build("onnx:embedded").score(query, texts)
    for _ in ("encoded", "from the store"):
        scores = late_reranker.score(query, texts)
        assert scores.values == pytest.approx(expected.values, abs=1e-5)
        assert scores.coverage == expected.coverage
        assert scores.scale == "sigmoid"
    order = [hit.id for hit in build("onnx:embedded").rerank(query, texts)]
    assert [hit.id for hit in late_reranker.rerank(query, texts)] == order


def test_a_model_without_onnx_file_is_read_from_its_safetensors() -> None:
    from support import tiny_checkpoints

    folder = str(tiny_checkpoints.checkpoint("late-interaction"))
    ours = LateInteractionReranker(model=folder, runtime="onnx", precision="fp32", on_unreadable="score")
    torch = build({"type": "torch", "model": folder, "on_unreadable": "score"})
    for query, text in tiny_checkpoints.PAIRS:
        assert ours.score(query, [text]).values == pytest.approx(torch.score(query, [text]).values, abs=1e-5)


def test_texts_are_encoded_once_and_told_of() -> None:
    reranker = LateInteractionReranker()
    first = reranker.score(QUERY, [TEXTS[0], TEXTS[1], TEXTS[0]])
    second = reranker.score(QUERY, TEXTS[:3])
    third = reranker.score(QUERY, TEXTS[:3])
    assert "0 of 3 texts from the store" in first.notes and first.values[0] == first.values[2]
    assert "2 of 3 texts from the store" in second.notes
    assert "3 of 3 texts from the store" in third.notes
    assert first.usage.tokens > second.usage.tokens > third.usage.tokens > 0
    assert third.values == second.values and first.values[:2] == pytest.approx(second.values[:2], abs=1e-6)
    stats = reranker.store_stats
    assert stats.texts == 3 and stats.bytes_per_text * 3 == stats.bytes <= (stats.max_bytes or 0)


def test_plain_embedded_keeps_vectors_within_64_mib() -> None:
    passages = TEXTS[:30]
    with build("embedded") as reranker:
        assert isinstance(reranker, LateInteractionReranker) and reranker.precision == "int8"
        first, second = (reranker.rerank(query, passages) for query in (QUERY, "Who voices the character of Po?"))
        assert "30 of 30 texts from the store" in second.trace.notes
        assert (second.usage.tokens or 0) < 15 < 1000 < (first.usage.tokens or 0)
        assert reranker.store_stats.max_bytes == 64 * 2**20


@pytest.mark.parametrize("precision", get_args(VectorPrecision))
def test_a_score_is_the_same_at_first_sight_from_the_store_and_without_one(precision: VectorPrecision) -> None:
    passages = TEXTS[:20]
    with LateInteractionReranker(precision=precision) as keeping:
        first, again = (keeping.score(QUERY, passages) for _ in range(2))
        assert "20 of 20 texts from the store" in again.notes
    with LateInteractionReranker(precision=precision, store=None) as forgetting:
        without = [forgetting.score(QUERY, passages) for _ in range(2)]
        assert all("0 of 20 texts from the store" in scores.notes for scores in without)
        assert keeping.identity == forgetting.identity
    assert first.values == again.values == without[0].values == without[1].values


def test_int8_moves_scores_by_less_than_the_documentation_says() -> None:
    with LateInteractionReranker() as rounded, LateInteractionReranker(precision="fp32") as exact:
        scores = [reranker.score(QUERY, TEXTS) for reranker in (rounded, exact)]
    moved = np.abs(np.subtract(scores[0].values, scores[1].values))
    assert 0 < moved.mean() < 0.001 and moved.max() <= 0.003


def test_without_a_store_nothing_can_be_indexed_and_the_config_says_so() -> None:
    node = {"type": "late_interaction", "model": "embedded", "store": None}
    reranker = build(node)
    assert to_config(reranker) == node and build(to_config(reranker)) == reranker
    with pytest.raises(ConfigError, match="store is null, so no vectors are kept") as caught:
        reranker.index(TEXTS[:1])  # type: ignore[attr-defined]
    assert caught.value.path == "store"


def test_what_the_store_has_no_room_for_is_encoded_again() -> None:
    reranker = build({"type": "late_interaction", "store": {"max_bytes": 1000}})
    for _ in range(2):
        scores = reranker.score(QUERY, TEXTS[:2])
        assert "0 of 2 texts from the store" in scores.notes
        assert scores.values == pytest.approx(build("embedded").score(QUERY, TEXTS[:2]).values, abs=1e-6)
    assert reranker.store_stats.texts == 0


@pytest.mark.parametrize("other", [{"max_length": 50}, {"precision": "fp32"}, {"precision": "fp16"}], ids=str)
def test_rows_of_another_cut_or_precision_are_not_used(tmp_path: Path, other: dict[str, Any]) -> None:
    store = StoreSettings(path=str(tmp_path / "vectors"))
    for options, count in (({}, 0), (other, 0), ({}, 1), (other, 1)):
        with LateInteractionReranker(store=store, **options) as reranker:
            assert f"{count} of 1 texts from the store" in reranker.score(QUERY, ["the lake"]).notes


def test_rows_of_another_runtime_or_pooling_are_not_used(tmp_path: Path) -> None:
    model, store = str(colbert("colbertv2")), StoreSettings(path=str(tmp_path / "vectors"))
    for count in (0, 1):
        for options in ({"runtime": "onnx"}, {"runtime": "torch"}, {"pool": 2}, {"pool": 4}):
            settings = {"model": model, "store": store, "on_unreadable": "score", **options}
            with LateInteractionReranker(**settings) as reranker:
                assert f"{count} of 1 texts from the store" in reranker.score("lake", ["the lake"]).notes


def test_a_changed_model_does_not_get_the_old_rows(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED, folder)
    store = StoreSettings(path=str(tmp_path / "vectors"))
    with LateInteractionReranker(model=str(folder), store=store) as one:
        one.score(QUERY, TEXTS[:1])
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "special_ids": [101, 102]}))
    with LateInteractionReranker(model=str(folder), store=store) as two:
        assert "0 of 1 texts from the store" in two.score(QUERY, TEXTS[:1]).notes


def test_a_long_text_is_cut_to_the_same_length_beside_every_query(late_reranker: LateInteractionReranker) -> None:
    long = " ".join(["lake"] * 600)
    with pytest.warns(TruncationWarning):
        ranking = LateInteractionReranker().rerank("lake", [long])
    assert ranking[0].coverage == Coverage(total=600, seen=510)
    limits = late_reranker.text_limits("lake"), late_reranker.text_limits(" ".join(["deep"] * 100))
    assert [limit.tokens for (limit,) in limits] == [510, 510]
    assert Windows(reranker=late_reranker).rerank("lake", [long])[0].window is not None


@pytest.mark.parametrize("stored", [False, True])
def test_a_text_that_may_not_be_cut_is_refused_by_its_id(tmp_path: Path, stored: bool) -> None:
    long, store = " ".join(["lake"] * 600), StoreSettings(path=str(tmp_path / "vectors"))
    if stored:
        with LateInteractionReranker(store=store) as reranker, pytest.warns(TruncationWarning):
            reranker.rerank("lake", [long])
    strict = LateInteractionReranker(store=store, on_overflow="error")
    with pytest.raises(InputTooLong, match=r"candidate 'b': the text has 600 tokens.* 510"):
        strict.rerank("lake", [Candidate("a", "deep lake"), Candidate("c", "  "), Candidate("b", long)])
    strict.close()


def test_a_long_query_is_cut_or_refused() -> None:
    query = "lake deep " * 200
    with pytest.warns(QueryTruncationWarning):
        ranking = LateInteractionReranker().rerank(query, TEXTS[:1])
    assert ranking.trace.query_coverage == Coverage(total=400, seen=254)
    assert ranking.degraded == ("late_interaction:embedded read only the beginning of the query",)
    whole = LateInteractionReranker(query_length=512, on_long_query="error").rerank(query, TEXTS[:1])
    assert whole.trace.query_coverage is None and not whole.degraded
    with pytest.raises(InputTooLong, match=r"the query has 400 tokens, of which .* reads 8"):
        LateInteractionReranker(query_length=10, on_long_query="error").rerank(query, TEXTS[:1])


def test_what_cannot_be_read_has_no_score_whether_stored_or_not() -> None:
    russian_query, russian = OTHER_SCRIPTS["ru"]
    reranker = LateInteractionReranker()
    for _ in range(2):
        scores = reranker.score(QUERY, [*TEXTS[:5], russian])
        assert list(scores.unscored) == [5]
    assert reranker.score(russian_query, TEXTS[:2]).unscored.keys() == {0, 1}
    with pytest.raises(UnreadableText):
        LateInteractionReranker(on_unreadable="error").score(QUERY, [russian])
    anyway = LateInteractionReranker(on_unreadable="score")
    first, second = anyway.score(QUERY, [russian]), anyway.score(QUERY, [russian])
    assert first.degraded == second.degraded != () and first.values == second.values
    assert "1 of 1 texts from the store" in second.notes


def test_texts_are_indexed_ahead_and_skipped_the_second_time(tmp_path: Path) -> None:
    store, shares = StoreSettings(path=str(tmp_path / "vectors")), []
    long, russian = " ".join(["lake"] * 600), OTHER_SCRIPTS["ru"][1]
    candidates = [Candidate(f"p{i}", text) for i, text in enumerate([*TEXTS[:10], " ", long, russian])]
    with LateInteractionReranker(store=store) as reranker:
        report = reranker.index(candidates, progress=lambda share, words=None: shares.append((share, words)))
        assert (report.texts, report.new, report.in_store, report.blank) == (13, 11, 0, 1)
        assert (report.unreadable, report.cut, report.store.texts) == (1, 1, 11)
        assert report.bytes == report.store.bytes and report.tokens > 1000
        assert shares == [(1.0, "13 of 13 texts")]
    with LateInteractionReranker(store=store) as another:
        assert another.index(candidates).in_store == 11
        scores = another.score(QUERY, TEXTS[:10])
        assert "10 of 10 texts from the store" in scores.notes
        assert scores.values == pytest.approx(build("onnx:embedded").score(QUERY, TEXTS[:10]).values, abs=0.003)
    assert LateInteractionReranker().index(["a lake", "a lake", "a river"]).new == 2
    assert LateInteractionReranker().index([]).texts == 0


def test_a_folder_that_may_only_be_read_takes_no_score_away(tmp_path: Path) -> None:
    path = str(tmp_path / "vectors")
    with LateInteractionReranker(store=StoreSettings(path=path)) as writer:
        writer.index(TEXTS[:2])
    with LateInteractionReranker(store=StoreSettings(path=path, read_only=True)) as reader:
        scores = reader.score(QUERY, TEXTS[:3])
        assert "2 of 3 texts from the store" in scores.notes
        assert any(note.startswith("texts that were encoded now are not kept: ") for note in scores.notes)
        assert scores.values == pytest.approx(build("onnx:embedded").score(QUERY, TEXTS[:3]).values, abs=0.003)
        assert reader.store_stats.texts == 2
        with pytest.raises(ConfigError, match="read_only"):
            reader.index(TEXTS[:3])


def test_indexing_refuses_what_it_may_not_cut_or_cannot_read() -> None:
    with pytest.raises(InputTooLong, match="600 tokens"):
        LateInteractionReranker(on_overflow="error").index(["a lake", " ".join(["lake"] * 600)])
    with pytest.raises(UnreadableText, match="1 of 2 texts"):
        LateInteractionReranker(on_unreadable="error").index(["a lake", OTHER_SCRIPTS["ru"][1]])


def test_lone_surrogates_are_kept_as_they_are_read() -> None:
    reranker = LateInteractionReranker()
    assert reranker.index(["a lake \ud800"]).new == 1
    assert "1 of 1 texts from the store" in reranker.rerank("lake", ["a lake \ud800"]).trace.notes


def test_many_threads_get_the_scores_of_one() -> None:
    expected = LateInteractionReranker().score(QUERY, TEXTS[:20]).values
    reranker = LateInteractionReranker(store=StoreSettings(max_bytes=600_000))
    with ThreadPoolExecutor(8) as threads:
        results = list(
            threads.map(lambda start: reranker.score(QUERY, TEXTS[start : start + 10]).values, [0, 5, 10] * 8)
        )
    for start, values in zip([0, 5, 10] * 8, results, strict=True):
        assert values == pytest.approx(expected[start : start + 10], abs=1e-5)


def test_progress_is_told_of_texts_that_are_encoded() -> None:
    steps: list[str] = []
    reranker = LateInteractionReranker()
    with progress_listener(lambda share, words=None: steps.append(words or "")):
        reranker.rerank(QUERY, TEXTS[:3])
    assert steps[0] == "loading late_interaction:embedded"
    assert steps[-2:] == [
        "late_interaction:embedded: 3 of 3 texts encoded",
        "late_interaction:embedded: 3 texts compared",
    ]


def test_closing_forgets_the_memory_and_a_later_call_encodes_again() -> None:
    reranker = LateInteractionReranker()
    reranker.score(QUERY, TEXTS[:2])
    reranker.close()
    assert "0 of 2 texts from the store" in reranker.score(QUERY, TEXTS[:2]).notes


def test_a_full_queue_is_told() -> None:
    reranker = LateInteractionReranker(max_queue=1)
    reranker.warm_up()

    async def ask() -> list[Any]:
        calls = [reranker.arerank(QUERY, TEXTS[:30]) for _ in range(3)]
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(ask())
    assert [isinstance(answer, Overloaded) for answer in answers] == [False, True, True]


def test_the_config_comes_back_and_the_store_does_not_count_in_the_identity(tmp_path: Path) -> None:
    node = {
        "type": "late_interaction",
        "model": "embedded",
        "store": {"path": str(tmp_path / "v")},
        "precision": "fp16",
    }
    reranker = build(node)
    assert to_config(reranker) == node
    assert reranker.identity == build({**node, "store": "memory"}).identity
    assert reranker.identity != build({**node, "precision": "fp32"}).identity
    assert not (tmp_path / "v").exists(), "nothing is opened before it is needed"


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"store": "disk"}, "store"),
        ({"store": {"path": " "}}, "store.path"),
        ({"store": {"max_bytes": 0}}, "store.max_bytes"),
        ({"store": {"read_only": True}}, "store.read_only"),
        ({"precision": "int2"}, "precision"),
        ({"pool": 3}, "pool"),
        ({"pool": 2}, "pool"),
        ({"query_length": 0}, "query_length"),
        ({"runtime": "tf"}, "runtime"),
        ({"workers": 0}, "workers"),
    ],
    ids=str,
)
def test_values_that_are_not_allowed_are_refused_by_their_key(options: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build({"type": "late_interaction", **options})
    assert caught.value.path == path


def test_lengths_that_the_model_cannot_read_are_refused() -> None:
    with pytest.raises(ConfigError, match="reads at most 512 tokens"):
        LateInteractionReranker(query_length=513).score(QUERY, TEXTS[:1])
    with pytest.raises(ModelLoadError, match="at most 512"):
        LateInteractionReranker(max_length=513).score(QUERY, TEXTS[:1])
    with pytest.raises(ConfigError, match="fills queries up to 12"):
        LateInteractionReranker(model=str(colbert("colbertv2")), query_length=8).score(QUERY, TEXTS[:1])


def test_a_model_of_another_kind_is_refused() -> None:
    from support import tiny_checkpoints

    with pytest.raises(ModelLoadError, match="no late-interaction model"):
        LateInteractionReranker(model=str(tiny_checkpoints.checkpoint("bert"))).score(QUERY, TEXTS[:1])


def test_a_colbert_model_says_that_only_its_order_means_something() -> None:
    reranker = LateInteractionReranker(model=str(colbert("colbertv2")), on_unreadable="score")
    ranking = reranker.rerank("lake", ["the lake", "a crane in autumn"])
    assert ranking.scale == reranker.scale == "unbounded"
    assert ranking[0].score == ranking[0].raw_score
