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
from support.toy_language import ENDINGS, HELD_OUT, SEEN, checkpoint, examples

from rag_rerank import BillingError, Candidate, PointwiseReranker, Scale, Scores, Usage, build, registry
from rag_rerank.cli import app
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.evaluation import Judged, JudgedQuery, write_jsonl
from rag_rerank.training.distillation.distill import Distillation, distil
from rag_rerank.training.distillation.plan import Plan
from rag_rerank.training.distillation.targets import as_logits, default_loss, judged_by_teacher
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
    """Hears whether the words of a text end as the query does; remembers what it was asked."""

    kind: ClassVar[str] = "ear"
    asked: ClassVar[list[str]] = []

    @property
    def scale(self) -> Scale:
        return "sigmoid"

    @property
    def why_not_cacheable(self) -> None:
        return None

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        self.asked.append(query)
        values = [4.0 if text[-2:] == query[-2:] else -4.0 for text in texts]
        return Scores(values, self.scale, Usage(texts=len(texts)))


@pytest.fixture(autouse=True)
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the teacher was asked."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "ear": f"{__name__}:Ear"})
    Ear.asked.clear()
    yield Ear.asked
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
    texts = passages(200, SEEN, chance)
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / "queries.txt").write_text("\n".join(stem + ending for stem in SEEN for ending in ENDINGS))
    judged = []
    for i in range(30):
        query, found = HELD_OUT[i] + ENDINGS[i % 4], passages(12, HELD_OUT, chance)
        chance.shuffle(found)
        grades = {text: int(text[-2:] == query[-2:]) for text in found}
        candidates = tuple(Candidate(text, text) for text in found)
        judged.append(JudgedQuery(id=str(i), text=query, candidates=candidates, grades=grades))
    write_jsonl(folder / "judged.jsonl", Judged(name="held out", queries=tuple(judged)))
    return folder


def run(data: Path, base: Path, out: Path, *more: str) -> Result:
    knobs = ("--epochs", "8", "--batch", "8", "--learning-rate", "3e-3", "--max-length", "32", "--device", "cpu")
    given = ("--corpus", str(data / "corpus.jsonl"), "--queries", str(data / "queries.txt"), "--depth", "12")
    paths = ("--base", str(base), "--out", str(out))
    return CliRunner().invoke(app, ["distil", *given, *paths, "--student", "1x32", *knobs, *more])


def test_one_command_makes_a_student_that_orders_held_out_truth_as_its_teacher_would(
    data: Path, base: Path, tmp_path: Path, ear: list[str]
) -> None:
    out = tmp_path / "student"
    ended = run(data, base, out, "--teacher", "ear", "--validation", str(data / "judged.jsonl"), "--json")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert found["teacher"]["label"] == "ear"
    assert found["judged"]["after"] > found["judged"]["before"] + 0.2
    assert found["following"]["agreement"]["tau"] > 0.4
    assert "costs no money" in ended.stderr and "layers 0 of" in ended.stderr and "loss     margin-mse" in ended.stderr
    record = json.loads((out / "training.json").read_text())
    assert record["distillation"]["following"] == found["following"]
    assert record["distillation"]["queries"]["asked"] == len(ear) == len(set(ear))
    card = (out / "README.md").read_text()
    assert "Kendall's tau-b" in card and "ear" in card and "rag-rerank distil" in card
    (judged,) = [row for row in card.splitlines() if row.startswith("| judged") and "nDCG@10" in row and "stage" in row]
    with build(f"onnx:{out / 'int8'}") as student:
        hits = student.rerank("babka", ["ladmo limmo numsu", "delka lunka bimka"])
        assert hits[0].text == "delka lunka bimka"
    assert judged
    assert not (tmp_path / "student.student").exists() and not (tmp_path / "student.checkpoints").exists()


def made(data: Path, base: Path, out: Path, teacher: Any = "ear", **options: Any) -> Distillation:
    given: dict[str, Any] = {"queries": data / "queries.txt", "settings": replace(QUICK, epochs=0.2), "depth": 8}
    return distil(data / "corpus.jsonl", teacher, "1x32", out, base=base, **{**given, **options})


def api(server: RerankServer) -> dict[str, Any]:
    return {
        "type": "cohere",
        "model": "rerank-v3.5",
        "base_url": server.url,
        "api_key": "kEy-7f3aQz0Lw9",
        "retry": {"attempts": 1},
        "price": {"per_thousand_search_units": 2.0},
    }


def test_a_teacher_that_fails_midway_is_gone_on_with_by_the_same_call(
    data: Path, base: Path, tmp_path: Path, rerank_server: RerankServer
) -> None:
    rerank_server.then(*[Answer()] * 4, Answer(402))
    for _ in range(2):
        try:
            done = made(data, base, tmp_path / "out", api(rerank_server), max_pairs=80)
        except BillingError as error:
            assert "4 of 10 queries are answered and stored" in str(error)
            assert not (tmp_path / "out").exists()
    assert len(rerank_server.received) == 5 + 6
    assert done.teacher_scores.usage.cost == pytest.approx(0.02)
    assert done.plan.estimate.stored == 4
    texts = [request.body["query"] for request in rerank_server.received]
    assert len(set(texts)) == 10  # the one that failed was asked twice


def test_nothing_is_asked_where_the_plan_is_not_agreed_to(
    data: Path, base: Path, tmp_path: Path, ear: list[str]
) -> None:
    class Refused(Exception):
        pass

    def refuse(plan: Plan) -> None:
        assert plan.question_count == 10 and plan.student.parameters > 0
        raise Refused

    with pytest.raises(Refused):
        made(data, base, tmp_path / "out", max_pairs=80, agree=refuse)
    assert ear == []


def test_the_command_asks_before_a_provider_is_asked_and_tells_of_its_terms(
    data: Path, base: Path, tmp_path: Path, rerank_server: RerankServer
) -> None:
    file = tmp_path / "teacher.json"
    file.write_text(json.dumps(api(rerank_server)))
    ended = run(data, base, tmp_path / "out", "--teacher", str(file), "--max-pairs", "120")
    assert ended.exit_code == 1 and "Ask it?" in ended.stderr
    assert "terms may forbid" in ended.stderr and "$0.02" in ended.stderr
    dear = run(data, base, tmp_path / "out", "--teacher", str(file), "--ceiling", "0.01", "--yes")
    assert dear.exit_code == 2 and "nothing was asked" in dear.stderr
    assert rerank_server.received == []


def test_values_that_mean_nothing_are_refused_before_anything_is_asked(
    data: Path, base: Path, tmp_path: Path, ear: list[str]
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    for options, kind, words in (
        ({"out": taken}, ConfigError, "out: .* exists already"),
        ({"share": 1.0}, ConfigError, "share: must be a share"),
        ({"settings": replace(QUICK, loss="bce")}, ConfigError, "loss: 'bce' learns nothing from a teacher"),
        ({"max_pairs": 2}, ConfigError, "max_pairs: 2 pairs are fewer"),
        ({"max_pairs": 8}, InputError, "1 queries are too few to hold out 10%"),
        ({"queries": None}, InputError, "no pseudo-query can be made"),
        ({"ceiling": -1.0}, ConfigError, "ceiling: must be"),
    ):
        given: dict[str, Any] = {"out": tmp_path / "out", **options}  # type: ignore[dict-item]
        with pytest.raises(kind, match=words):
            made(data, base, **given)
    assert ear == []


def test_scores_become_logits_and_keep_their_order() -> None:
    given = examples(1, teacher=True)
    query = given.examples[0]

    def changed(scores: Sequence[float], scale: Scale) -> list[float]:
        pairs = zip(query.passages, scores, strict=True)
        one = replace(query, passages=tuple(replace(passage, teacher=score) for passage, score in pairs))
        shown = as_logits(replace(given, examples=(one,)), scale)
        return [passage.teacher or 0.0 for passage in shown.examples[0].passages]

    assert changed([4.0, -4.0, 1.0, 0.0], "sigmoid") == [4.0, -4.0, 1.0, 0.0]
    assert changed([0.9, 0.1, 0.5, 1.0], "relevance") == pytest.approx([2.197, -2.197, 0.0, 9.21], abs=1e-3)
    assert changed([3.0, 5.0, 3.0, 5.0], "unbounded") == pytest.approx([-3.0, 3.0, -3.0, 3.0])
    assert [default_loss(scale) for scale in ("sigmoid", "relevance", "unbounded")] == [*["margin-mse"] * 2, "listwise"]


def test_grades_are_the_teachers_order_and_ties_are_equal() -> None:
    (graded,) = judged_by_teacher(examples(1, teacher=True)).queries
    assert sorted(graded.grades.values()) == [0, 0, 0, 1]
