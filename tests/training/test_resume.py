"""An interrupted run ends as an uninterrupted one, whatever interrupts it; and a damaged checkpoint is not used."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from support.training.runs import QUICK, copying
from support.training.toy_language import HELD_OUT, examples

from rag_rerank.errors import ConfigError
from rag_rerank.training import checkpoints as training_checkpoints
from rag_rerank.training.model_card.card import Card
from rag_rerank.training.run_record import TrainingRun
from rag_rerank.training.train import train

SETTINGS = replace(QUICK, epochs=1.5, batch=4, evaluate_every=2, checkpoint_every=3)
"""Of 32 queries: 12 steps, the epoch's end after the 8th; dropout is on."""

KILLED = """
import os, signal, sys
from support.training.toy_language import HELD_OUT, examples
from support.training.runs import copying
from rag_rerank.training.model_card.card import Card
from rag_rerank.training.settings import TrainingSettings
from rag_rerank.training.train import train
import json

def progress(share, words=None):
    if words.startswith("step 8 "):
        os.kill(os.getpid(), signal.SIGKILL)

with copying():
    train(examples(32), sys.argv[1], base=sys.argv[2], card=Card(name="tiny"),
          settings=TrainingSettings(**json.loads(sys.argv[3])), validation=examples(16, stems=HELD_OUT, seed=1),
          progress=progress)
"""


class Interrupt:
    """Progress that raises after some step; ``steps`` lists the finished ones."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.steps: list[int] = []

    def __call__(self, share: float, words: str = "") -> None:
        self.steps.append(int(re.findall(r"step (\d+) of", words)[0]))
        if self.steps[-1] == self.at:
            raise KeyboardInterrupt


@pytest.fixture(scope="module", autouse=True)
def copied_folders() -> Iterator[None]:
    with copying():
        yield


@pytest.fixture(scope="module")
def through(base: str, tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    """An uninterrupted run."""
    return again(tmp_path_factory.mktemp("through") / "out", base)


def again(out: Path, base: str, at: int | None = None, **options: Any) -> TrainingRun:
    options = {"settings": SETTINGS, "progress": Interrupt(at), "card": Card(name="tiny"), **options}
    return train(examples(32), out, base=base, validation=examples(16, stems=HELD_OUT, seed=1), **options)


def interrupted(out: Path, base: str, at: int) -> Path:
    """Interrupt a run, and return the folder of its checkpoints."""
    with pytest.raises(KeyboardInterrupt):
        again(out, base, at)
    return out.with_name("out.checkpoints")


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def same(one: TrainingRun, other: TrainingRun) -> bool:
    """Whether two runs ended with the same weights and curve, bit by bit."""
    files = [run.folder / "model.safetensors" for run in (one, other)]
    return files[0].read_bytes() == files[1].read_bytes() and one.curve == other.curve


def test_the_run_of_these_tests_has_enough_steps_to_interrupt(through: TrainingRun) -> None:
    losses = {point.loss for point in through.curve}
    assert (through.steps, len(losses)) == (12, 7)
    assert through.best_step > 0
    assert not through.folder.with_name("out.checkpoints").exists()


@pytest.mark.parametrize("at", [1, 8, 12])
def test_an_interrupted_run_ends_with_the_same_weights_and_curve(
    through: TrainingRun, base: str, tmp_path: Path, at: int
) -> None:
    before = steps(interrupted(tmp_path / "out", base, at))
    assert before and max(before) < at
    progress = Interrupt()
    result = again(tmp_path / "out", base, progress=progress)
    assert same(result, through)
    assert result.best_step == through.best_step
    assert progress.steps == list(range(max(before) + 1, 13))
    assert [session["step"] for session in result.sessions] == [0, max(before)]


def test_several_interruptions_change_nothing(through: TrainingRun, base: str, tmp_path: Path) -> None:
    for at in (2, 7):
        interrupted(tmp_path / "out", base, at)
    assert same(again(tmp_path / "out", base), through)


def test_without_a_validation_it_resumes_from_the_last_checkpoint_too(base: str, tmp_path: Path) -> None:
    settings = replace(SETTINGS, evaluate_every=5, checkpoint_every=3)

    def plain(out: Path, at: int | None = None) -> TrainingRun:
        progress, card = Interrupt(at), Card(name="tiny")
        return train(examples(32), out, base=base, settings=settings, card=card, progress=progress)

    with pytest.raises(KeyboardInterrupt):
        plain(tmp_path / "out", 8)
    result = plain(tmp_path / "out")
    assert [session["step"] for session in result.sessions] == [0, 6]
    assert result.best_step == 12
    assert same(result, plain(tmp_path / "through"))


def test_a_resumed_run_keeps_its_patience(base: str, tmp_path: Path) -> None:
    slow = replace(SETTINGS, learning_rate=1e-9, evaluate_every=2, patience=3, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        again(tmp_path / "out", base, 5, settings=slow)
    result = again(tmp_path / "out", base, settings=slow)
    assert [point.step for point in result.curve] == [0, 2, 4, 6]


def test_another_process_resumes_a_killed_one(through: TrainingRun, base: str, tmp_path: Path) -> None:
    folder = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{folder.parent}"}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "out"), base, json.dumps(SETTINGS.to_dict())]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    result = again(tmp_path / "out", base)
    assert same(result, through)
    assert result.sessions[1]["step"] > 0


def test_a_finished_training_is_not_repeated(
    through: TrainingRun, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise ConfigError("no room")

    with monkeypatch.context() as patched:
        patched.setattr("rag_rerank.training.train.complete", failing)
        with pytest.raises(ConfigError, match="no room"):
            again(tmp_path / "out", base)
    progress = Interrupt()
    assert same(again(tmp_path / "out", base, progress=progress), through)
    assert progress.steps == []


@pytest.mark.parametrize("damage", ["a bit", "half of a file", "an empty folder"])
def test_a_damaged_checkpoint_is_noted_and_the_one_before_is_used(
    through: TrainingRun, base: str, tmp_path: Path, damage: str
) -> None:
    folder = interrupted(tmp_path / "out", base, 10)
    *_, before, newest = steps(folder)
    damaged = folder / f"step-{newest:08d}"
    if damage == "a bit":
        content = bytearray((damaged / "optimizer.pt").read_bytes())
        content[len(content) // 2] ^= 1
        (damaged / "optimizer.pt").write_bytes(content)
    elif damage == "half of a file":
        file = damaged / "model" / "model.safetensors"
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        shutil.rmtree(damaged)
        damaged.mkdir()
    notes: list[str] = []
    progress = Interrupt()
    result = again(tmp_path / "out", base, note=notes.append, progress=progress)
    assert same(result, through)
    assert progress.steps[0] == before + 1
    assert len(notes) == 1 and f"step {newest} " in notes[0] and "damaged" in notes[0]


def test_if_no_checkpoint_is_whole_the_run_begins_anew_and_says_so(
    through: TrainingRun, base: str, tmp_path: Path
) -> None:
    folder = interrupted(tmp_path / "out", base, 10)
    for seal in folder.rglob("seal.json"):
        seal.write_text("{")
    notes: list[str] = []
    assert same(again(tmp_path / "out", base, note=notes.append), through)
    assert "starts anew" in notes[-1]


def test_checkpoints_of_other_settings_or_data_are_refused_by_name(base: str, tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "out", base, 5)
    before = steps(folder)
    with pytest.raises(ConfigError, match=r"epochs \(1.5 there, 2 here\)"):
        again(tmp_path / "out", base, settings=replace(SETTINGS, epochs=2))
    with pytest.raises(ConfigError, match="they differ in: data"):
        train(
            examples(31),
            tmp_path / "out",
            base=base,
            card=Card(name="tiny"),
            settings=SETTINGS,
            validation=examples(16, stems=HELD_OUT, seed=1),
        )
    assert steps(folder) == before


def test_without_resume_it_begins_anew(through: TrainingRun, base: str, tmp_path: Path) -> None:
    interrupted(tmp_path / "out", base, 5)
    progress = Interrupt()
    result = again(tmp_path / "out", base, resume=False, progress=progress)
    assert progress.steps[0] == 1
    assert same(result, through)


def test_a_full_disk_is_a_clear_error_and_the_run_resumes_later(
    through: TrainingRun, base: str, tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Full(Interrupt):
        def __call__(self, share: float, words: str = "") -> None:
            super().__call__(share, words)
            if self.steps[-1] == 5:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    try:
        with pytest.raises(ConfigError, match=r"of step [346] is whole. Make room") as caught:
            again(tmp_path / "out", base, progress=Full())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.path == "out"
    assert not (tmp_path / "out.checkpoints" / ".draft").exists()
    assert same(again(tmp_path / "out", base), through)


def test_two_runs_do_not_write_the_same_checkpoints(base: str, tmp_path: Path) -> None:
    with FileLock(tmp_path / "out.checkpoints.lock"), pytest.raises(ConfigError, match="another run"):
        again(tmp_path / "out", base)


def test_the_last_two_checkpoints_stay_and_the_best_they_name(tmp_path: Path) -> None:
    with training_checkpoints.Checkpoints(tmp_path / "checkpoints", {"settings": {}}, pytest.fail) as checkpoints:
        for step, best in ((0, 0), (1, 1), (2, 1), (3, 1), (4, 1)):
            checkpoints.write(step, {"best_step": best}, lambda folder: (folder / "weights").touch())
        assert steps(tmp_path / "checkpoints") == [1, 3, 4]
        (tmp_path / "checkpoints" / "step-00000001" / "weights").write_text("changed")
        with pytest.raises(ConfigError, match=r"step 1 .* is damaged"):
            checkpoints.best(1)
