"""Training on data whose truth is known, and what it refuses."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.training.runs import QUICK, weights
from support.training.toy_language import HELD_OUT, SOURCE, checkpoint, examples

from rag_rerank.errors import ConfigError, InputError, ModelLoadError
from rag_rerank.training.data.examples import Example, Examples, Passage
from rag_rerank.training.dataset import TrainingRows
from rag_rerank.training.early_stopping import Point
from rag_rerank.training.model_card.card import Card
from rag_rerank.training.new_head import check_curve
from rag_rerank.training.settings import TrainingSettings
from rag_rerank.training.train import train


@pytest.fixture
def run(cards: list[Card], base: str, tmp_path: Path) -> Any:
    def train_quickly(data: Examples, settings: TrainingSettings = QUICK, **options: Any) -> Any:
        options = {"base": base, "card": Card(name="tiny"), **options}
        return train(data, tmp_path / "out", settings=settings, **options)

    return train_quickly


def test_a_model_learns_a_rule_that_holds_for_unseen_words(run: Any, cards: list[Card]) -> None:
    settings = replace(QUICK, epochs=12, batch=16, evaluate_every=50, loss="ranknet")
    validation = examples(60, stems=HELD_OUT, seed=1)
    result = run(examples(300), settings, validation=validation)
    assert result.before.ndcg < 0.7
    assert result.best.ndcg > result.before.ndcg + 0.15
    assert result.best.lift > 0.3
    assert result.best.ndcg == max(point.ndcg for point in result.curve)
    (card,) = cards
    assert card.figures[0].after == result.best.ndcg
    assert card.figures[0].before == result.before.ndcg
    assert (card.base, card.sources, card.settings["loss"]) == (result.base, (SOURCE,), "ranknet")


@pytest.mark.parametrize("loss", ["listwise", "bce", "margin-mse", "ranknet", "lambda"])
def test_every_loss_gets_smaller(run: Any, loss: Any) -> None:
    settings = replace(QUICK, loss=loss, epochs=6, batch=16, learning_rate=2e-3, evaluate_every=10)
    result = run(examples(80, teacher=loss == "margin-mse"), settings)
    assert result.curve[-1].loss < result.curve[1].loss
    assert result.best_step == result.steps == 30


def test_an_encoder_gets_a_new_head_and_the_record_says_so(run: Any, tmp_path: Path) -> None:
    encoder = checkpoint(tmp_path / "encoder", head=False)
    result = run(examples(40), replace(QUICK, epochs=12, learning_rate=3e-3, loss="ranknet"), base=str(encoder))
    assert {"classifier.weight", "classifier.bias"} <= set(result.new_weights)
    assert json.loads((result.folder / "training.json").read_text())["new_weights"] == list(result.new_weights)


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 1e-9}, {"epochs": 0.1, "warmup": 0.5}], ids=["tiny steps", "one step"]
)
@pytest.mark.parametrize("validated", [True, False])
def test_a_new_head_that_learnt_nothing_is_an_error_and_nothing_is_written(
    run: Any, tmp_path: Path, changes: dict[str, Any], validated: bool
) -> None:
    encoder = checkpoint(tmp_path / "encoder", head=False)
    validation = examples(8, stems=HELD_OUT) if validated else None
    settings = replace(QUICK, evaluate_every=1, **changes)
    for _ in range(2):  # the second run starts anew, and does not resume to the same end
        with pytest.raises(InputError, match="the new one learnt nothing") as error:
            run(examples(16), settings, base=str(encoder), validation=validation)
    assert "Nothing is written" in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder"]


def test_a_new_head_is_never_kept_as_it_was(run: Any, tmp_path: Path) -> None:
    encoder = checkpoint(tmp_path / "encoder", head=False)
    settings = replace(QUICK, epochs=12, learning_rate=3e-3, loss="ranknet", evaluate_every=20)
    result = run(examples(40), settings, base=str(encoder), validation=examples(30, stems=HELD_OUT, seed=1))
    assert result.best_step > 0 and result.best.ndcg > result.before.ndcg


def test_a_validation_that_random_weights_solve_refuses_nothing() -> None:
    curve = [Point(step=step, loss=None, ndcg=1.0, lift=0.0) for step in (0, 5)]
    check_curve(curve, 5, "encoder", QUICK)
    with pytest.raises(InputError, match=r"0\.9000 after the best step, and 1\.0000 with random weights"):
        check_curve([curve[0], replace(curve[1], ndcg=0.9)], 5, "encoder", QUICK)


def test_frozen_layers_stay_as_they_are_and_the_others_do_not(run: Any, base: str) -> None:
    result = run(examples(16), replace(QUICK, freeze=1))
    before, after = weights(Path(base)), weights(result.folder)
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(same[name] for name in same if "embeddings" in name or ".layer.0." in name)
    assert not any(same[name] for name in same if ".layer.1." in name and "key.bias" not in name)


def test_the_record_contains_data_settings_curve_machine_and_time(run: Any) -> None:
    result = run(examples(16), validation=examples(8, stems=HELD_OUT))
    record = json.loads((result.folder / "training.json").read_text())
    assert record["schema"] == 1
    assert record["settings"] == QUICK.to_dict()
    assert record["sources"][0]["sha256"] == SOURCE.sha256
    assert [point["step"] for point in record["curve"]] == [0, 2]
    assert record["incoming"]["ndcg"] == result.incoming.ndcg
    assert record["hardware"]["device"] == "cpu"
    assert record["sessions"][0]["step"] == 0
    assert record["seconds"] > 0
    assert {"torch", "transformers", "sentence-transformers"} <= record["versions"].keys()


def test_the_window_that_was_trained_is_the_window_that_is_declared(run: Any) -> None:
    result = run(examples(16))
    assert json.loads((result.folder / "tokenizer_config.json").read_text())["model_max_length"] == QUICK.max_length


def test_if_no_step_is_better_the_base_is_written_and_training_stops_early(run: Any, base: str) -> None:
    settings = replace(QUICK, epochs=9, learning_rate=1e-9, evaluate_every=1, patience=3)
    result = run(examples(32), settings, validation=examples(8, stems=HELD_OUT))
    assert (result.best_step, result.curve[-1].step, result.steps) == (0, 3, 36)
    assert torch.equal(weights(result.folder)["classifier.weight"], weights(Path(base))["classifier.weight"])


def test_nothing_is_printed_and_the_callers_random_state_is_restored(run: Any, capfd: Any) -> None:
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = (random.Random(5).random(), np.random.RandomState(5).rand(), torch.Generator().manual_seed(5))
    capfd.readouterr()
    run(examples(16), validation=examples(8, stems=HELD_OUT))
    assert capfd.readouterr() == ("", "")
    assert (random.random(), np.random.rand()) == expected[:2]
    assert torch.rand(1) == torch.rand(1, generator=expected[2])


def test_bf16_leaves_fp32_weights(run: Any) -> None:
    result = run(examples(16), replace(QUICK, precision="bf16"))
    assert {tensor.dtype for tensor in weights(result.folder).values()} == {torch.float32}


def test_queries_that_teach_nothing_are_left_out_and_counted(run: Any) -> None:
    alike = Example(query="alike", passages=(_passage("a", 0), _passage("b", 0)), source=SOURCE.name)
    data = examples(16)
    notes: list[str] = []
    result = run(replace(data, examples=(alike, *data.examples)), note=notes.append)
    assert result.queries == 16
    assert result.problems[-1].count == 1
    assert "'alike'" in notes[0]


def test_sampled_passages_contain_two_that_differ_and_are_others_at_each_pass() -> None:
    passages = (_passage("good", 1), *(_passage(f"bad {i}", 0) for i in range(30)))
    rows = TrainingRows([Example(query="q", passages=passages, source="s")], replace(QUICK, epochs=20, passages=4))
    samples = [rows.row(number) for number in range(len(rows))]
    assert all(len(texts) == 4 and texts[0] == "good" for _, texts, _ in samples)
    assert len({tuple(texts) for _, texts, _ in samples}) > 10
    assert [rows.row(number) for number in reversed(range(len(rows)))] == samples[::-1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "softmax"),
        ("epochs", 0),
        ("epochs", "3"),
        ("epochs", float("nan")),
        ("batch", 0),
        ("batch", 1.5),
        ("learning_rate", 0),
        ("learning_rate", 2),
        ("warmup", 1),
        ("weight_decay", -0.1),
        ("max_length", 7),
        ("passages", 1),
        ("evaluate_every", 0),
        ("patience", 0),
        ("checkpoint_every", 0),
        ("seed", -1),
        ("freeze", -1),
        ("precision", "fp8"),
    ],
)
def test_a_setting_out_of_range_is_a_config_error_with_its_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingSettings(**{name: value})
    assert caught.value.path == name


@pytest.mark.parametrize("loss", ["listwise", "bce", "margin-mse", "ranknet", "lambda"])
@pytest.mark.parametrize("grades", [(), (0, 0), (1, 1)], ids=["empty", "no relevant one", "relevant ones only"])
def test_empty_and_one_class_data_are_refused(run: Any, loss: Any, grades: tuple[int, ...]) -> None:
    passages = tuple(_passage(str(i), grade) for i, grade in enumerate(grades))
    data = Examples(examples=(Example(query="q", passages=passages, source="s"),) if grades else (), sources=())
    with pytest.raises(InputError, match="nothing to learn from"):
        run(data, replace(QUICK, loss=loss))


def test_a_validation_of_one_class_is_refused(run: Any) -> None:
    alike = Example(query="q", passages=(_passage("a", 1), _passage("b", 1)), source="s")
    with pytest.raises(InputError, match="nothing to validate on"):
        run(examples(8), validation=Examples(examples=(alike,), sources=()))


def test_a_validation_with_half_a_grade_is_refused(run: Any) -> None:
    half = Example(query="q", passages=(_passage("a", 0.5), _passage("b", 0)), source="s")
    with pytest.raises(InputError, match="whole number"):
        run(examples(8), validation=Examples(examples=(half,), sources=()))


def test_an_out_folder_that_holds_something_is_refused(run: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ConfigError, match="exists already") as caught:
        run(examples(8))
    assert caught.value.path == "out"


def test_more_frozen_layers_than_there_are_is_a_config_error(run: Any) -> None:
    with pytest.raises(ConfigError, match="2 layers") as caught:
        run(examples(8), replace(QUICK, freeze=3))
    assert caught.value.path == "freeze"


@pytest.mark.parametrize(("model", "words"), [("./nowhere", "no such folder"), ("embedded", "safetensors")])
def test_a_base_that_cannot_be_trained_is_refused(run: Any, model: str, words: str) -> None:
    with pytest.raises(ModelLoadError, match=words):
        run(examples(8), base=model)


def test_a_base_without_its_layers_is_refused(run: Any, tmp_path: Path) -> None:
    incomplete = checkpoint(tmp_path / "incomplete")
    remaining = {name: tensor for name, tensor in weights(incomplete).items() if ".layer.1." not in name}
    save_file(remaining, incomplete / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match="not only a head"):
        run(examples(8), base=str(incomplete))


def test_a_window_beyond_the_models_is_refused(run: Any) -> None:
    with pytest.raises(ModelLoadError, match="at most 64 tokens"):
        run(examples(8), replace(QUICK, max_length=65))


def test_an_absent_device_is_a_config_error(run: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        run(examples(8), replace(QUICK, device="elsewhere"))
    assert caught.value.path == "device"


def test_a_loss_that_is_no_number_stops_the_run_at_once(run: Any, tmp_path: Path) -> None:
    torn = checkpoint(tmp_path / "torn")
    save_file(
        {**weights(torn), "classifier.bias": torch.tensor([torch.nan])},
        torn / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ConfigError, match="step 1 is nan") as caught:
        run(examples(8), base=str(torn))
    assert caught.value.path == "learning_rate"


def _passage(text: str, grade: float) -> Passage:
    return Passage(text=text, id=text, grade=grade, origin="judged")
