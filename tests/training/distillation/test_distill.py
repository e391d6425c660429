"""Distillation from end to end on a made-up language: a tiny student learns what its teacher knows."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result
from support.api.rerank_server import Answer, RerankServer
from support.training.toy_language import ENDINGS, HELD_OUT, TRAINING, checkpoint, examples

from rag_rerank import BillingError, Candidate, PointwiseReranker, Scale, Scores, Usage, build, registry
from rag_rerank.cli import app
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.evaluation import Judged, JudgedQuery, write_jsonl
from rag_rerank.training.distillation.distill import Distillation, distil
from rag_rerank.training.distillation.plan import Plan
from rag_rerank.training.distillation.student import plan_student
from rag_rerank.training.distillation.targets import as_logits, default_loss, judged_by_teacher
from rag_rerank.training.model_card.card import Card
from rag_rerank.training.settings import TrainingSettings

QUICK = TrainingSettings(
    loss="margin-mse",
    epochs=6,
    batch=8,
    passages=12,
    learning_rate=3e-3,
    max_length=32,
    evaluate_every=20,
    checkpoint_every=1000,
    device="cpu",
)


@dataclass(frozen=True, kw_only=True)
class Ear(PointwiseReranker):
    """Scores whether the words of a text end like the query; records the queries."""

    kind: ClassVar[str] = "ear"
    queries: ClassVar[list[str]] = []

    @property
    def scale(self) -> Scale:
        return "sigmoid"

    @property
    def why_not_cacheable(self) -> None:
        return None

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        self.queries.append(query)
        values = [4.0 if text[-2:] == query[-2:] else -4.0 for text in texts]
        return Scores(values, self.scale, Usage(texts=len(texts)))


@pytest.fixture(autouse=True)
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the queries of the teacher so far."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "ear": f"{__name__}:Ear"})
    Ear.queries.clear()
    yield Ear.queries
    torch.set_num_threads(threads)


def passages(count: int, stems: Sequence[str], chance: random.Random) -> list[str]:
    endings = [ENDINGS[i % len(ENDINGS)] for i in range(count)]
    return list(dict.fromkeys(" ".join(chance.choice(stems) + end for _ in range(3)) for end in endings))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, queries about it, and judged queries of stems that neither has."""
    folder, chance = tmp_path_factory.mktemp("data"), random.Random(0)
    texts = passages(200, TRAINING, chance)
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / "queries.txt").write_text("\n".join(stem + ending for stem in TRAINING for ending in ENDINGS))
    judged = []
    for i in range(30):
        query, texts = HELD_OUT[i] + ENDINGS[i % 4], passages(12, HELD_OUT, chance)
        chance.shuffle(texts)
        grades = {text: int(text[-2:] == query[-2:]) for text in texts}
        candidates = tuple(Candidate(text, text) for text in texts)
        judged.append(JudgedQuery(id=str(i), text=query, candidates=candidates, grades=grades))
    write_jsonl(folder / "judged.jsonl", Judged(name="held out", queries=tuple(judged)))
    return folder


def run(data: Path, base: Path, out: Path, *more: str) -> Result:
    settings = ("--epochs", "8", "--batch", "8", "--learning-rate", "3e-3", "--max-length", "32", "--device", "cpu")
    inputs = ("--corpus", str(data / "corpus.jsonl"), "--queries", str(data / "queries.txt"), "--depth", "12")
    paths = ("--base", str(base), "--out", str(out))
    return CliRunner().invoke(app, ["distil", *inputs, *paths, "--student", "1x32", *settings, *more])


def test_one_command_makes_a_student_that_orders_held_out_truth_as_its_teacher_would(
    data: Path, base: Path, tmp_path: Path, ear: list[str]
) -> None:
    out = tmp_path / "student"
    result = run(data, base, out, "--teacher", "ear", "--validation", str(data / "judged.jsonl"), "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["teacher"]["label"] == "ear"
    assert summary["judged"]["after"] > summary["judged"]["before"] + 0.2
    assert summary["following"]["agreement"]["tau"] > 0.4
    assert (
        "costs no money" in result.stderr and "layers 0 of" in result.stderr and "loss     margin-mse" in result.stderr
    )
    record = json.loads((out / "training.json").read_text())
    assert record["distillation"]["following"] == summary["following"]
    assert record["distillation"]["queries"]["asked"] == len(ear) == len(set(ear))
    card = (out / "README.md").read_text()
    assert "Kendall's tau-b" in card and "ear" in card and "rag-rerank distil" in card
    (judged,) = [row for row in card.splitlines() if row.startswith("| judged") and "nDCG@10" in row and "stage" in row]
    with build(f"onnx:{out / 'int8'}") as student:
        hits = student.rerank("babka", ["ladmo limmo numsu", "delka lunka bimka"])
        assert hits[0].text == "delka lunka bimka"
    assert judged
    assert not (tmp_path / "student.student").exists() and not (tmp_path / "student.checkpoints").exists()


def test_a_student_that_follows_its_teacher_worse_than_bm25_is_flagged(
    base: Path, tmp_path: Path, cards: list[Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(1)
    texts = [" ".join(chance.choice(TRAINING) + chance.choice(ENDINGS) for _ in range(6)) for _ in range(120)]
    corpus, queries = tmp_path / "corpus.jsonl", tmp_path / "queries.txt"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    queries.write_text("\n".join(" ".join(text.split()[:3]) for text in texts[:60]))
    command = ["distil", "--corpus", str(corpus), "--queries", str(queries), "--base", str(base), "--student", "1x32"]
    command += ["--epochs", "1", "--max-length", "32", "--device", "cpu", "--learning-rate", "1e-4"]
    out = tmp_path / "student"
    result = CliRunner().invoke(app, [*command, "--teacher", "lexical", "--out", str(out), "--json"])
    assert result.exit_code == 1, result.output
    following = json.loads(result.stdout)["following"]
    assert not following["follows"] and following["ndcg"] < following["first_stage"]
    verdict = "held-out queries this student follows its teacher worse than BM25 does: do not use it"
    assert verdict in result.stderr
    assert any(verdict in limit for limit in cards[0].limits)


def test_a_students_random_head_is_not_written_unless_it_learnt(data: Path, base: Path, tmp_path: Path) -> None:
    head = checkpoint(tmp_path / "encoder", head=False)
    assert plan_student("1x32", base=head).has_new_head and not plan_student("1x32", base=base).has_new_head
    assert plan_student("1x64", base=base).has_new_head and not plan_student(str(base)).has_new_head
    settings = replace(QUICK, epochs=0.2, learning_rate=1e-9)
    with pytest.raises(InputError, match="the new one learnt nothing"):
        distil_quickly(data, head, tmp_path / "out", settings=settings)
    assert not (tmp_path / "out").exists() and (tmp_path / "out.teacher").exists()


def distil_quickly(data: Path, base: Path, out: Path, teacher: Any = "ear", **options: Any) -> Distillation:
    defaults: dict[str, Any] = {"queries": data / "queries.txt", "settings": replace(QUICK, epochs=0.2), "depth": 8}
    return distil(data / "corpus.jsonl", teacher, "1x32", out, base=base, **{**defaults, **options})


def api(server: RerankServer) -> dict[str, Any]:
    return {
        "type": "cohere",
        "model": "rerank-v3.5",
        "base_url": server.url,
        "api_key": "kEy-7f3aQz0Lw9",
        "retry": {"attempts": 1},
        "price": {"per_thousand_search_units": 2.0},
    }


def test_the_same_call_resumes_after_a_teacher_failed_midway(
    data: Path, base: Path, tmp_path: Path, rerank_server: RerankServer
) -> None:
    rerank_server.then(*[Answer()] * 4, Answer(402))
    for _ in range(2):
        try:
            outcome = distil_quickly(data, base, tmp_path / "out", api(rerank_server), max_pairs=80)
        except BillingError as error:
            assert "4 of 10 queries are answered and stored" in str(error)
            assert not (tmp_path / "out").exists()
    assert len(rerank_server.received) == 5 + 6
    assert outcome.teacher_scores.usage.cost == pytest.approx(0.02)
    assert outcome.plan.estimate.stored == 4
    texts = [request.body["query"] for request in rerank_server.received]
    assert len(set(texts)) == 10  # the one that failed was asked twice


def test_nothing_is_asked_where_the_plan_is_not_agreed_to(
    data: Path, base: Path, tmp_path: Path, ear: list[str]
) -> None:
    class RefusalError(Exception):
        pass

    def refuse(plan: Plan) -> None:
        assert plan.question_count == 10 and plan.student.parameters > 0
        raise RefusalError

    with pytest.raises(RefusalError):
        distil_quickly(data, base, tmp_path / "out", max_pairs=80, agree=refuse)
    assert ear == []


def test_the_command_asks_before_a_provider_is_asked_and_warns_of_its_terms(
    data: Path, base: Path, tmp_path: Path, rerank_server: RerankServer
) -> None:
    file = tmp_path / "teacher.json"
    file.write_text(json.dumps(api(rerank_server)))
    result = run(data, base, tmp_path / "out", "--teacher", str(file), "--max-pairs", "120")
    assert result.exit_code == 1 and "Call it?" in result.stderr
    assert "terms may forbid" in result.stderr and "$0.02" in result.stderr
    dear = run(data, base, tmp_path / "out", "--teacher", str(file), "--ceiling", "0.01", "--yes")
    assert dear.exit_code == 2 and "nothing was asked" in dear.stderr
    assert rerank_server.received == []


def test_values_out_of_range_are_refused_before_anything_is_asked(
    data: Path, base: Path, tmp_path: Path, ear: list[str]
) -> None:
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "file").touch()
    for options, kind, words in (
        ({"out": occupied}, ConfigError, "out: .* exists already"),
        ({"share": 1.0}, ConfigError, "share: must be a share"),
        ({"settings": replace(QUICK, loss="bce")}, ConfigError, "loss: 'bce' learns nothing from a teacher"),
        ({"max_pairs": 2}, ConfigError, "max_pairs: 2 pairs are fewer"),
        ({"max_pairs": 8}, InputError, "1 queries are too few to hold out 10%"),
        ({"queries": None}, InputError, "no pseudo-query can be made"),
        ({"ceiling": -1.0}, ConfigError, "ceiling: must be"),
    ):
        arguments: dict[str, Any] = {"out": tmp_path / "out", **options}  # type: ignore[dict-item]
        with pytest.raises(kind, match=words):
            distil_quickly(data, base, **arguments)
    assert ear == []


def test_scores_become_logits_and_keep_their_order() -> None:
    data = examples(1, teacher=True)
    query = data.examples[0]

    def logits(scores: Sequence[float], scale: Scale) -> list[float]:
        pairs = zip(query.passages, scores, strict=True)
        one = replace(query, passages=tuple(replace(passage, teacher=score) for passage, score in pairs))
        converted = as_logits(replace(data, examples=(one,)), scale)
        return [passage.teacher or 0.0 for passage in converted.examples[0].passages]

    assert logits([4.0, -4.0, 1.0, 0.0], "sigmoid") == [4.0, -4.0, 1.0, 0.0]
    assert logits([0.9, 0.1, 0.5, 1.0], "relevance") == pytest.approx([2.197, -2.197, 0.0, 9.21], abs=1e-3)
    assert logits([3.0, 5.0, 3.0, 5.0], "unbounded") == pytest.approx([-3.0, 3.0, -3.0, 3.0])
    losses = [default_loss(scale) for scale in ("sigmoid", "relevance", "unbounded", "rank")]
    assert losses == [*["margin-mse"] * 2, *["listwise"] * 2]


def test_grades_are_the_teachers_order_and_ties_are_equal() -> None:
    (query,) = judged_by_teacher(examples(1, teacher=True)).queries
    assert sorted(query.grades.values()) == [0, 0, 0, 1]
