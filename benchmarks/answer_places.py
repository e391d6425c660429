"""Questions with the places of their answers in one of the candidates, from three collections."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rag_rerank import Candidate
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.evaluation.data.read import read

Places = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Question:
    """A question, its candidates, and the places of its answers: one of the alternatives is enough.

    Args:
        text: The question.
        candidates: The texts to rank.
        id: The candidate with the answer.
        answers: For each alternative, the characters of that text that hold it.
    """

    text: str
    candidates: tuple[Candidate, ...]
    id: str
    answers: tuple[Places, ...]

    def is_kept(self, parts: Sequence[tuple[int, int]]) -> bool:
        """Whether one of the answers is whole in these parts of the text."""
        return any(
            all(any(first <= start and end <= last for first, last in parts) for start, end in places)
            for places in self.answers
        )


def read_questions(folder: Path, answers: Path | None, *, count: int, depth: int, seed: int) -> list[Question]:
    """Return a random sample of the questions, the same for the same seed.

    Args:
        folder: A collection: selqa-test, nq-qed or xquad-en.
        answers: For nq-qed the file qed-dev.jsonlines, for xquad-en xquad.en.json, both from their repositories;
            selqa-test has its answers in its judgments.
        count: How many questions.
        depth: How many candidates a question has: the first ones of BM25.
        seed: The seed of the sample.
    """
    if folder.name == "selqa-test":
        questions = list(_selqa(folder, depth, count, seed))
    else:
        places = _qed(answers) if folder.name == "nq-qed" else _xquad(answers)
        questions = list(_with_places(folder, places, depth))
    return random.Random(seed).sample(questions, min(count, len(questions)))


def _with_places(folder: Path, places: dict[str, tuple[str, tuple[Places, ...]]], depth: int) -> Iterator[Question]:
    """Yield the questions whose text with the answer is among the candidates, at the same places."""
    for query in read(folder, depth=depth).queries:
        text, answers = places.get(query.id, ("", ()))
        gold = next((c for c in query.candidates if c.text.endswith(text)), None)
        if answers and gold:
            title = len(gold.text) - len(text)  # which stands before the text
            moved = tuple(tuple((title + a, title + b) for a, b in one) for one in answers)
            yield Question(query.text, tuple(query.candidates), gold.id, moved)


def _qed(file: Path | None) -> dict[str, tuple[str, tuple[Places, ...]]]:
    assert file is not None, "nq-qed needs qed-dev.jsonlines"
    places = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        answers = tuple(tuple((a["start"], a["end"]) for a in one) for one in row["original_nq_answers"])
        places[str(row["example_id"])] = (row["paragraph_text"], answers)
    return places


def _xquad(file: Path | None) -> dict[str, tuple[str, tuple[Places, ...]]]:
    assert file is not None, "xquad-en needs xquad.en.json"
    return {
        qa["id"]: (
            paragraph["context"],
            tuple(((a["answer_start"], a["answer_start"] + len(a["text"])),) for a in qa["answers"]),
        )
        for article in json.loads(file.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }


def _selqa(folder: Path, depth: int, count: int, seed: int) -> Iterator[Question]:
    """Yield questions over sections, whose sentences are joined again: the best of BM25 among its own and 50 others."""

    def rows(name: str) -> Iterator[dict[str, str]]:
        return map(json.loads, (folder / name).read_text(encoding="utf-8").splitlines())

    text_of = {row["_id"]: row["text"] for row in rows("corpus.jsonl")}
    section_of: dict[str, list[str]] = {}
    for line in (folder / "candidates.trec").read_text(encoding="utf-8").splitlines():
        query, _, id, *_ = line.split()
        section_of.setdefault(query, []).append(id)
    good: dict[str, set[str]] = {}
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, id, grade = line.split("\t")
        if int(grade) > 0:
            good.setdefault(query, set()).add(id)
    sections = {" ".join(ids): Candidate(ids[0], " ".join(text_of[id] for id in ids)) for ids in section_of.values()}
    unique = {candidate.id: candidate for candidate in sections.values()}
    bm25, chance = LexicalReranker(), random.Random(seed)
    queries = [row for row in rows("queries.jsonl") if row["_id"] in good]
    for row in chance.sample(queries, min(count, len(queries))):
        ids = section_of[row["_id"]]
        own = sections[" ".join(ids)]
        pool = {candidate.id: candidate for candidate in (*chance.sample(list(unique.values()), 50), own)}
        best = bm25.rerank(row["text"], tuple(pool.values()), top_k=depth)
        if own.id not in {hit.id for hit in best}:
            continue
        answers, start = [], 0
        for id in ids:
            end = start + len(text_of[id])
            answers += [((start, end),)] if id in good[row["_id"]] else []
            start = end + 1
        yield Question(row["text"], tuple(hit.candidate for hit in best), ids[0], tuple(answers))
