"""The callable: every kind of batch gets the answers of single calls, and no row is lost."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.batch_rows import LEXICAL, sample_rows, scored_ids, single_answers

from rag_rerank import BackendUnavailable, ConfigError, InputError, UnusableKey, build
from rag_rerank.batch import BatchReranker
from rag_rerank.batch.answers import ANSWER_COLUMNS
from rag_rerank.batch.shares import share_of
from rag_rerank.testing import ScriptedReranker

ROWS = sample_rows(6)


def columns() -> dict[str, list[Any]]:
    return {name: [row[name] for row in ROWS] for name in ROWS[0]}


def arrays() -> dict[str, Any]:
    made = {}
    for name, cells in columns().items():
        made[name] = np.empty(len(cells), dtype=object)
        made[name][:] = [np.array(cell, dtype=object) if isinstance(cell, list) else cell for cell in cells]
    return made


def pandas_frame() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(columns(), index=range(10, 10 + len(ROWS)))


def polars_frame() -> Any:
    return pytest.importorskip("polars").DataFrame(ROWS)


def arrow_table() -> Any:
    return pytest.importorskip("pyarrow").Table.from_pylist(ROWS)


def arrow_batch() -> Any:
    return arrow_table().combine_chunks().to_batches()[0]


def cells(batch: Any, name: str) -> list[Any]:
    column = batch[name]
    method = next((name for name in ("to_pylist", "to_list") if hasattr(column, name)), None)
    return list(getattr(column, method)() if method else column)


@pytest.mark.parametrize("make", [columns, arrays, pandas_frame, polars_frame, arrow_table, arrow_batch])
def test_every_kind_of_batch_has_the_answers_of_single_calls(make: Callable[[], Any]) -> None:
    batch = make()
    before = copy.deepcopy(batch)
    answered = BatchReranker("lexical", top_k=4)(batch)
    assert type(answered) is type(batch)
    names = answered.schema.names if hasattr(answered, "to_pylist") else getattr(answered, "columns", answered)
    assert list(names) == ["id", "query", "relevant", *ANSWER_COLUMNS]
    assert cells(answered, "id") == [row["id"] for row in ROWS]
    assert scored_ids(cells(answered, "hits")) == single_answers(ROWS, LEXICAL, 4)
    assert str(batch) == str(before)
    if hasattr(answered, "index"):
        assert list(answered.index) == list(batch.index)


def test_a_list_of_rows_keeps_their_keys_and_may_keep_the_candidates() -> None:
    rows = [{"n": 1, "query": "K2", "candidates": ["Lake Garda", {"text": "K2 is high", "page": 3}]}]
    (row,) = BatchReranker("lexical", keep_candidates=True)(rows)
    assert row["n"] == 1 and "candidates" not in row
    assert [(hit["id"], hit["first_rank"], hit["candidate"]) for hit in row["hits"]] == [
        ("1", 2, {"text": "K2 is high", "page": 3}),
        ("0", 1, "Lake Garda"),
    ]


def test_a_row_that_fails_has_its_error_and_the_others_their_hits() -> None:
    good = {"query": "K2", "candidates": ["K2"]}
    bad = [
        {"query": " ", "candidates": ["K2"]},
        {"query": None, "candidates": ["K2"]},
        {"query": "K2"},
        {"query": "K2", "candidates": ["K2", {"id": "a"}]},
        {"query": "K2", "candidates": [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]},
    ]
    rows = BatchReranker("lexical", workers=3)([good, *bad, good])
    assert [row["error"] and row["error"]["type"] for row in rows] == [None, *["InputError"] * len(bad), None]
    assert "candidates[1]" in rows[4]["error"]["message"]
    assert all(row["hits"] == [] and row["scale"] is None for row in rows[1:-1])
    assert [len(row["hits"]) for row in (rows[0], rows[-1])] == [1, 1]
    with pytest.raises(InputError, match="blank"):
        BatchReranker("lexical", on_error="raise")([good, *bad])


def test_an_error_that_every_row_would_have_stops_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"query": "K2", "candidates": ["K2"]}] * 30
    for name in ("CO_API_KEY", "COHERE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UnusableKey):
        BatchReranker("cohere:rerank-v3.5")(rows)
    broken = ScriptedReranker(error=BackendUnavailable("no connection"))
    assert [row["error"]["type"] for row in BatchReranker(broken)(rows[:9])] == ["BackendUnavailable"] * 9
    with pytest.raises(BackendUnavailable):
        BatchReranker(broken)(rows)
    assert len(broken.calls) == 9 + 10


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"question": ["K2"], "candidates": [["K2"]]}, "no column 'query'"),
        ({"query": ["K2"], "candidates": [["K2"]], "error": [""]}, "'error'; rename"),
        ([{"query": "K2", "candidates": [], "hits": []}], "'hits'; rename"),
        ("K2", "not builtins.str"),
    ],
    ids=["no-column", "taken-column", "taken-key", "no-batch"],
)
def test_a_batch_that_cannot_be_answered_is_refused(batch: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BatchReranker("lexical")(batch)


def test_wrong_arguments_are_refused() -> None:
    for arguments in ({"top_k": 0}, {"timeout": -1}, {"workers": 0}, {"on_error": "ignore"}):
        with pytest.raises(ConfigError):
            BatchReranker("lexical", **arguments)  # type: ignore[arg-type]


def test_copies_in_one_process_are_one_object_with_one_model() -> None:
    made = BatchReranker("lexical", top_k=2)
    copies = [pickle.loads(pickle.dumps(made)) for _ in range(2)]
    assert copies[0] is copies[1] and copies[0] == made
    assert pickle.loads(pickle.dumps(BatchReranker("lexical"))) is not copies[0]


def test_several_processes_share_limits_and_cores() -> None:
    limits = {"requests_per_minute": 100, "concurrency": 9, "cost_per_process": 1.0, "cost_per_call": 0.5}
    provider = {"type": "cohere", "model": "rerank-v3.5", "limits": limits}
    tree = build({"type": "cascade", "stages": [{"reranker": "minilm"}, {"depth": 5, "reranker": provider}]})
    first, second = share_of(tree, 4, 2).children
    assert first.workers == 2  # type: ignore[attr-defined]
    share = second.limits  # type: ignore[attr-defined]
    assert (share.requests_per_minute, share.concurrency, share.cost_per_process, share.cost_per_call) == (
        25,
        2,
        0.25,
        0.5,
    )
    assert share_of(tree, 1) is tree
    with pytest.raises(ConfigError, match="at most 9"):
        share_of(tree, 10)


def test_no_value_of_an_answer_is_numpys() -> None:
    rows = BatchReranker("lexical", keep_candidates=True)(arrays())

    def check(value: Any) -> None:
        assert type(value).__module__ == "builtins", type(value)
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(inner)

    for name in ANSWER_COLUMNS:
        for cell in rows[name]:
            check(cell)
