"""Each loss against its paper's formula, on numbers worked out by hand."""

import math
from typing import Any

import pytest
import torch
from sentence_transformers import CrossEncoder

from rag_rerank.errors import InputError
from rag_rerank.training import losses
from rag_rerank.training.data.examples import Example, Origin, Passage


class NumberReader(CrossEncoder):
    """A model whose logit of a passage is the number that is its text."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        torch.nn.Sequential.__init__(self)

    def preprocess(self, pairs: Any, **_: Any) -> dict[str, Any]:
        return {"scores": torch.tensor([[float(text)] for _, text in pairs])}

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return features


def loss(name: str, *lists: tuple[list[float], list[float]]) -> float:
    inputs = [["q"] * len(lists), [[str(logit) for logit in logits] for logits, _ in lists]]
    value = losses.build_loss(name, NumberReader())(inputs, [torch.tensor(labels) for _, labels in lists])  # type: ignore[arg-type]
    return float(value)


def labels(name: str, *passages: Passage) -> list[float]:
    labelled = losses.label_passages(name, Example(query="q", passages=passages, source="s"))  # type: ignore[arg-type]
    return [label for _, label in labelled]


def passage(text: str, grade: float | None, *, teacher: float | None = None, origin: Origin = "judged") -> Passage:
    return Passage(text=text, id=text, grade=grade, teacher=teacher, origin=origin)


def test_listwise_is_the_cross_entropy_of_the_softmax_with_the_share_of_each_grade() -> None:
    shares = labels("listwise", passage("a", 3), passage("b", 1), passage("c", 0))
    total = math.exp(2) + math.exp(1) + math.exp(0)
    by_hand = -(0.75 * math.log(math.exp(2) / total) + 0.25 * math.log(math.exp(1) / total))
    assert loss("listwise", ([2, 1, 0], shares)) == pytest.approx(by_hand, rel=1e-5)


def test_listwise_with_a_teacher_is_listnet_whose_target_is_the_softmax_of_its_scores() -> None:
    scores = labels("listwise", passage("a", None, teacher=1.0), passage("b", None, teacher=-1.0))
    target = math.exp(1) / (math.exp(1) + math.exp(-1))
    share = math.exp(2) / (math.exp(2) + math.exp(0))
    by_hand = -(target * math.log(share) + (1 - target) * math.log(1 - share))
    assert loss("listwise", ([2, 0], scores)) == pytest.approx(by_hand, rel=1e-5)


def test_listwise_is_the_mean_over_queries_whatever_their_lengths() -> None:
    both = loss("listwise", ([2, 1, 0], [0.0, -math.inf, -math.inf]), ([1, 0], [-math.inf, 0.0]))
    first = -math.log(math.exp(2) / (math.exp(2) + math.exp(1) + 1))
    second = -math.log(1 / (math.exp(1) + 1))
    assert both == pytest.approx((first + second) / 2, rel=1e-5)


def test_bce_is_the_mean_log_loss_over_all_pairs() -> None:
    targets = labels("bce", passage("a", 2), passage("b", 0), passage("c", None, origin="bm25"))
    assert targets == [1.0, 0.0, 0.0]
    sigmoid = [1 / (1 + math.exp(-s)) for s in (2, 1, -1)]
    by_hand = -(math.log(sigmoid[0]) + math.log(1 - sigmoid[1]) + math.log(1 - sigmoid[2])) / 3
    assert loss("bce", ([2, 1], targets[:2]), ([-1], targets[2:])) == pytest.approx(by_hand, rel=1e-5)


def test_margin_mse_is_the_mean_squared_difference_of_margins_over_the_pairs_of_each_query() -> None:
    scores = labels("margin-mse", *(passage(t, None, teacher=y) for t, y in (("a", 5.0), ("b", 1.0), ("c", 0.0))))
    by_hand = ((1 - 4) ** 2 + (2 - 5) ** 2 + (1 - 1) ** 2 + (3 - 2) ** 2) / 4
    assert loss("margin-mse", ([2, 1, 0], scores), ([3, 0], [2.0, 0.0])) == pytest.approx(by_hand, rel=1e-5)


def test_margin_mse_of_one_relevant_passage_and_another_is_the_papers() -> None:
    assert loss("margin-mse", ([2, -1], [6.0, 1.0])) == pytest.approx((3 - 5) ** 2, rel=1e-5)


def test_ranknet_is_the_mean_cost_over_the_pairs_of_different_grade() -> None:
    by_hand = [math.log2(1 + math.exp(-margin)) for margin in (2 - 0, 1 - 0)]
    assert loss("ranknet", ([2, 1, 0], [1.0, 1.0, 0.0])) == pytest.approx(sum(by_hand) / 2, rel=1e-5)


def test_lambda_weighs_each_pair_as_ndcg_loss_2_plus_plus_does() -> None:
    # ranked by logit: grades 0, 1, 2; gains 2^y - 1 over the ideal DCG; discounts log2(1 + rank)
    ideal = 3 / math.log2(2) + 1 / math.log2(3)
    gain = [0.0, 1 / ideal, 3 / ideal]
    inverse = [1 / math.log2(1 + rank) for rank in (1, 2, 3)]
    logits = [2.0, 1.0, 0.0]
    costs = []
    for high, low in ((1, 0), (2, 0), (2, 1)):  # ranks of the better and of the worse passage
        apart = abs(high - low)
        rho = abs(inverse[apart - 1] - 1 / math.log2(2 + apart))
        weight = (10 * rho + abs(inverse[high] - inverse[low])) * abs(gain[high] - gain[low])
        costs.append(weight * math.log2(1 + math.exp(-(logits[high] - logits[low]))))
    assert loss("lambda", (logits, [0.0, 1.0, 2.0])) == pytest.approx(sum(costs) / 3, rel=1e-4)


@pytest.mark.parametrize("name", ["listwise", "ranknet"])
def test_grades_precede_a_teachers_scores(name: str) -> None:
    graded = (passage("a", 1, teacher=-3.0), passage("b", 0, teacher=3.0))
    first, second = labels(name, *graded)
    assert first > second


@pytest.mark.parametrize("name", ["listwise", "ranknet", "lambda", "margin-mse"])
def test_passages_that_do_not_differ_teach_nothing(name: str) -> None:
    assert labels(name, passage("a", 1, teacher=1.0), passage("b", 1, teacher=1.0)) == []


def test_grades_of_zero_and_below_are_the_same() -> None:
    assert labels("lambda", passage("a", 0), passage("b", -2)) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("margin-mse", "--filter-teacher"), ("bce", "--mine"), ("lambda", "teacher scores alone"), ("listwise", "--mine")],
)
def test_a_loss_without_labels_says_how_to_get_some(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        losses.check_labels(name, [])  # type: ignore[arg-type]
