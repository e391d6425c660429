"""A collection of three documents and two queries, as the files of a BEIR folder with a run."""

from __future__ import annotations

import json

CORPUS = (
    {"_id": "d1", "title": "Ball pythons", "text": "A python needs a warm hide.", "lang": "en"},
    {"_id": "d2", "title": "", "text": "Asynchronous Python with tasks."},
    {"_id": "d3", "text": "Geckos eat crickets.", "metadata": {"year": 2020}},
)
QUERIES = (
    {"_id": "q1", "text": "python pet care", "metadata": {"kind": "pets"}, "lang": "en"},
    {"_id": "q2", "text": "python tasks"},
)
FILES = {
    "corpus.jsonl": "".join(json.dumps(row) + "\n" for row in CORPUS),
    "queries.jsonl": "".join(json.dumps(row) + "\n" for row in QUERIES),
    "qrels.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td2\t1\n",
    "run.trec": "q1 Q0 d2 1 3.5 bm25\nq1 Q0 d1 2 2.5 bm25\nq2 Q0 d2 1 1.5 bm25\nq2 Q0 d3 2 0.5 bm25\n",
}
