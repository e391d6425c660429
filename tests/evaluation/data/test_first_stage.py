"""The first stage that is made here: BM25 over the corpus of a folder in BEIR's format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from rag_rerank.evaluation.data.read import read


def beir_folder(
    folder: Path, corpus: Mapping[str, str], queries: Mapping[str, str], qrels: str, run: str | None = None
) -> Path:
    """Write a folder in BEIR's format; the rows of ``qrels`` and ``run`` have spaces between their columns."""
    for name, texts in (("corpus", corpus), ("queries", queries)):
        rows = (json.dumps({"_id": id, "text": text}) + "\n" for id, text in texts.items())
        (folder / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    (folder / "qrels.tsv").write_text(qrels.replace(" ", "\t"), encoding="utf-8")
    if run is not None:
        (folder / "run.trec").write_text(run, encoding="utf-8")
    return folder


def candidate_ids(folder: Path) -> dict[str, list[str]]:
    return {query.id: [candidate.id for candidate in query.candidates] for query in read(folder).queries}


def test_a_corpus_without_spaces(tmp_path: Path) -> None:
    corpus = {"d1": "香蕉是黄色的", "d2": "珠穆朗玛峰的海拔高度是8848米", "d3": "水"}
    queries = {"q1": "珠穆朗玛峰有多高", "q2": "水"}
    assert candidate_ids(beir_folder(tmp_path, corpus, queries, "q1 d2 1\nq2 d3 1\n")) == {"q1": ["d2"], "q2": ["d3"]}


def test_a_word_of_one_character_in_an_alphabetic_script(tmp_path: Path) -> None:
    corpus = {"d1": "กล้วยสีเหลือง", "d2": "ปลาดีมาก"}
    assert candidate_ids(beir_folder(tmp_path, corpus, {"q1": "ดี"}, "q1 d2 1\n")) == {"q1": ["d2"]}
