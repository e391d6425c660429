"""Datasets of ir_datasets, from local files in its own registry."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_rerank.errors import InputError, MissingExtraError
from rag_rerank.evaluation.data.judged import Judged
from rag_rerank.evaluation.data.read import read

ir_datasets: Any = pytest.importorskip("ir_datasets", reason="needs the extra datasets")

DOCS = "d1\tA python needs a warm hide.\nd2\tAsynchronous Python with tasks.\nd3\tGeckos eat crickets.\n"
QUERIES = "q1\tpython pet care\nq2\tpython tasks\nq3\tunjudged\n"
QRELS = "q1 0 d1 2\nq1 0 gone 1\nq2 0 d2 1\n"
SCORED = "q1\td2\t3.5\nq1\td1\t2.5\nq2\td2\t1.5\n"


class Scored(ir_datasets.formats.BaseScoredDocs):  # type: ignore[misc]
    def scoreddocs_iter(self) -> Iterator[Any]:
        for line in SCORED.splitlines():
            query, document, score = line.split("\t")
            yield ir_datasets.formats.GenericScoredDoc(query, document, float(score))


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(ir_datasets.registry, "_registered", {})
    files = {"docs_tsv": DOCS, "queries_tsv": QUERIES, "qrels_trec": QRELS}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    paths = {name: str(tmp_path / name) for name in files}
    whole = ir_datasets.create_dataset(**paths)
    ir_datasets.registry.register("small/plain", whole)
    ir_datasets.registry.register("small/scored", ir_datasets.Dataset(whole, Scored()))
    ir_datasets.registry.register("small/docs", ir_datasets.create_dataset(docs_tsv=paths["docs_tsv"]))
    unjudged = ir_datasets.create_dataset(docs_tsv=paths["docs_tsv"], queries_tsv=paths["queries_tsv"])
    ir_datasets.registry.register("small/unjudged", unjudged)
    return paths


def ids(judged: Judged) -> dict[str, list[str]]:
    return {query.id: [candidate.id for candidate in query.candidates] for query in judged.queries}


@pytest.mark.parametrize("prefix", ["ir_datasets", "ir-datasets"])
def test_a_dataset_is_read_by_its_name_with_its_own_first_stage(registered: Any, prefix: str) -> None:
    judged = read(f"{prefix}:small/scored")
    assert judged.name == "small/scored"
    assert judged.sources == ("candidates: small/scored scoreddocs", "judgments: small/scored qrels")
    assert ids(judged) == {"q1": ["d2", "d1"], "q2": ["d2"]}
    assert judged.queries[0].candidates[1].text == "A python needs a warm hide."
    assert judged.queries[0].grades == {"d1": 2, "gone": 1}
    assert [(p.kind, p.count, p.examples) for p in judged.problems] == [
        ("queries with no judgments, left out", 1, ("small/scored queries:3: query 'q3'",)),
        (
            "judged documents that are not in the corpus, which count in the ideal ranking",
            1,
            ("small/scored qrels:2: document 'gone' of query 'q1'",),
        ),
    ]


def test_documents_are_looked_up_and_the_corpus_is_not_read_where_a_run_is_there(
    registered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read("ir_datasets:small/scored")  # builds the store of the documents
    monkeypatch.delattr(ir_datasets.formats.TsvDocs, "docs_iter")
    assert ids(read("ir_datasets:small/scored")) == {"q1": ["d2", "d1"], "q2": ["d2"]}


def test_without_a_first_stage_it_is_bm25_or_a_run_that_is_given(registered: Any, tmp_path: Path) -> None:
    assert read("ir_datasets:small/plain").sources[0].startswith("candidates: BM25 over the corpus")
    run = tmp_path / "mine.trec"
    run.write_text("q1 Q0 d3 1 1 x\n")
    assert ids(read("ir_datasets:small/plain", run=run)) == {"q1": ["d3"], "q2": []}


def test_a_dataset_that_lacks_something_is_refused_and_given_judgments_help(registered: Any) -> None:
    with pytest.raises(InputError, match="the dataset 'small/docs' has no queries"):
        read("ir_datasets:small/docs")
    with pytest.raises(InputError, match="has no qrels; name the judgments with qrels"):
        read("ir_datasets:small/unjudged")
    assert len(read("ir_datasets:small/unjudged", qrels=registered["qrels_trec"]).queries) == 2
    with pytest.raises(InputError, match="ir_datasets knows no dataset 'small/none'"):
        read("ir_datasets:small/none")


def test_qrels_of_another_kind_are_refused(registered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ir_datasets.formats.TrecQrels, "qrels_cls", lambda _: ir_datasets.formats.GenericScoredDoc)
    with pytest.raises(InputError, match="the qrels of 'small/plain' have no relevance"):
        read("ir_datasets:small/plain")


def test_what_ir_datasets_cannot_fetch_is_an_input_error(registered: Any) -> None:
    Path(registered["qrels_trec"]).unlink()
    with pytest.raises(InputError, match="ir_datasets cannot read 'small/plain'"):
        read("ir_datasets:small/plain")


def test_without_ir_datasets_the_install_command_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(MissingExtraError, match=r'pip install "rag-rerank\[datasets\]"'):
        read("ir_datasets:small/plain")
