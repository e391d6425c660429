"""Choose the text of ``rag-rerank models --check`` and write it into the package.

Six questions of ``cookbook/data``, evenly spaced among those for which BM25 finds a relevant passage among its first
40; each with these 40, in the order of BM25. The same input gives the same bytes.

    python benchmarks/check_text.py
"""

import gzip
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "cookbook"))

from corpus import Bm25, chunks, questions  # noqa: E402

OUT = ROOT / "rag_rerank" / "models" / "check.jsonl.gz"
QUESTIONS, PASSAGES = 6, 40

HEADER = {
    "questions": "SelQA (Jurczyk, Zhai, Choi, ICTAI 2016), test split; Apache-2.0, Emory University",
    "passages": "English Wikipedia, by the authors in the history of the article that each passage names first; "
    "CC BY-SA 3.0",
    "changes": "sentences joined to passages with the article's title in front; see cookbook/data/README.md",
    "made_by": "benchmarks/check_text.py",
}


def main() -> None:
    """Write the file."""
    passages = chunks()
    index = Bm25(passages)
    every_twelfth = questions()[::12]  # enough to choose from, and distinct articles
    usable = []
    for question in every_twelfth:
        passage_ids = [id for id, _ in index.search(question["text"], PASSAGES)]
        if set(passage_ids) & set(question["relevant"]):
            usable.append({"query": question["text"], "texts": [passages[id] for id in passage_ids]})
    selection = [usable[i * len(usable) // QUESTIONS] for i in range(QUESTIONS)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in (HEADER, *selection))
    with OUT.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(lines.encode())
    size = f"{OUT.stat().st_size / 1000:.0f} kB"
    print(f"{OUT.relative_to(ROOT)}: {size}", *(row["query"] for row in selection), sep="\n")


if __name__ == "__main__":
    main()
