"""Training a cross-encoder on examples, from a checkpoint that exists to a folder that every backend loads."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rag_rerank._files import new_folder
from rag_rerank.compose import Unjudged
from rag_rerank.evaluation import Judged
from rag_rerank.training import trainer
from rag_rerank.training.base_model import check_extra, load_base, silent
from rag_rerank.training.checkpoints import Checkpoints
from rag_rerank.training.data.examples import Examples
from rag_rerank.training.dataset import TrainingRows, fingerprint
from rag_rerank.training.model_card.card import Card
from rag_rerank.training.model_folder import complete
from rag_rerank.training.run_record import TrainingRun, TrainingState, hardware, versions
from rag_rerank.training.settings import TrainingSettings
from rag_rerank.training.trainer import Progress
from rag_rerank.training.validation import Validation

__all__ = ["train"]

_LAYOUT = 1
"""Layout of the checkpoints; those of another one are not gone on with."""


def train(
    examples: Examples,
    out: str | os.PathLike[str],
    *,
    base: str,
    card: Card,
    revision: str | None = None,
    settings: TrainingSettings | None = None,
    validation: Examples | Judged | None = None,
    calibration: Judged | None = None,
    unjudged: Unjudged = "left out",
    resume: bool = True,
    describe: Callable[[Path, Card], tuple[Card, Mapping[str, Any]]] = lambda checkpoint, card: (card, {}),
    progress: Progress = lambda share, words=None: None,
    note: Callable[[str], None] = lambda words: None,
) -> TrainingRun:
    """Train a cross-encoder, and write the best of what it was on the way as a folder that all local backends load.

    While it runs, checkpoints lie beside ``out``, in ``OUT.checkpoints``; they go when the folder is there. A run that
    was interrupted, by Ctrl-C, a kill or a full disk, goes on from the last whole one when the same call is made again,
    and on a CPU ends with the same weights, bit by bit.

    The best step is the one with the best nDCG@10 on ``validation``, the first of equal ones; the base itself, before
    the first step, is among them. Without a validation it is the last step, and nothing stops early.

    Args:
        examples: What it learns from.
        out: The folder to make; it must not exist, or be empty.
        base: Alias or id of a model, or a folder with a safetensors checkpoint: a BERT-like cross-encoder with one
            logit, or an encoder, which is given a new head.
        card: What the model card says of name, licence and leakage; base, settings, figures and run are put in here.
        revision: Commit, branch or tag of ``base`` on the hub; by default the one that the catalogue pins.
        settings: The knobs; `Settings()` by default.
        validation: Judged queries with their candidates, or judged examples, none of them among ``examples``; the order
            in which they stand is the incoming one.
        calibration: Judged queries that the calibration map is fitted on; without them there is none.
        unjudged: What their candidates without a judgment are to that fit (`rag_rerank.evaluation.calibrate`).
        resume: Whether to go on from checkpoints that are there. ``False`` removes them and begins anew.
        describe: Is shown the best checkpoint and the card before the folder is made, and returns the card that is
            written, and what the run record has beside the training's own.
        progress: Is told the share that is done, and a few words.
        note: Is told what the user should know: damaged checkpoints, queries that teach nothing, why there is no map.

    Raises:
        ConfigError: ``out`` holds something, a setting does not fit the model or the device, checkpoints are of another
            run, a checkpoint cannot be written, or the loss is no number any more; its path says which.
        InputError: The examples teach the loss nothing, or nothing can be validated on.
        MissingExtraError: The extra ``train`` is not installed.
        ModelLoadError: The base cannot be loaded.
    """
    check_extra()
    settings = settings or TrainingSettings()
    target = new_folder(out)
    lessons = TrainingRows(examples.examples, settings)
    held_out = None if validation is None else Validation(validation)
    for problem in lessons.problems:
        note(str(problem))
    start_model = load_base(
        base, revision=revision, max_length=settings.max_length, device=settings.device, seed=settings.seed
    )
    data = fingerprint(examples.examples)
    identity = {
        "layout": _LAYOUT,
        "base": start_model.sha256,
        "data": data,
        "validation": None if held_out is None else held_out.fingerprint,
        "settings": settings.to_dict(),
    }
    with Checkpoints(target.with_name(f"{target.name}.checkpoints"), identity, note) as checkpoints:
        if not resume:
            checkpoints.remove()
        found = checkpoints.newest()
        course = TrainingState() if found is None else TrainingState.from_dict(found.course)
        course.sessions.append({"time": _now(), "step": 0 if found is None else found.step})
        if not course.finished:
            with silent(), _randomness_of_its_own():
                trainer.run(
                    start_model,
                    lessons,
                    settings,
                    held_out,
                    checkpoints=checkpoints,
                    course=course,
                    start=found,
                    progress=progress,
                )
        made = TrainingRun(
            folder=target,
            base=start_model.name,
            revision=start_model.revision,
            base_sha256=start_model.sha256,
            new_weights=start_model.new,
            settings=settings,
            sources=examples.sources,
            data_sha256=data,
            queries=lessons.queries,
            pairs=lessons.pairs,
            validation_sha256=None if held_out is None else held_out.fingerprint,
            validation_name=None if held_out is None else held_out.name,
            validation_queries=0 if held_out is None else held_out.queries,
            incoming=None if held_out is None else held_out.incoming,
            steps=lessons.steps,
            best_step=course.best_step,
            curve=tuple(course.curve),
            problems=(*examples.problems, *lessons.problems),
            sessions=tuple(course.sessions),
            ended=_now(),
            seconds=course.seconds,
            versions=versions(),
            hardware=hardware(start_model.device),
        )
        filled = replace(
            card,
            base=made.base,
            base_revision=made.revision,
            base_licence=start_model.licence,
            sources=examples.sources,
            settings=settings.to_dict(),
            seed=settings.seed,
            figures=(*card.figures, *made.figures()),
        )
        checkpoint = checkpoints.best(course.best_step) / "model"
        described, more = describe(checkpoint, filled)
        record = {**made.to_dict(), **more}
        folder = complete(checkpoint, target, calibration=calibration, unjudged=unjudged, card=described, run=record)
        if calibration is not None and folder.calibration is None:
            note(f"there is no calibration map: {folder.card.calibration}")
        checkpoints.remove()
    return made


@contextmanager
def _randomness_of_its_own() -> Iterator[None]:
    """Leave the caller's random numbers as they were: the trainer sets the seeds of the whole process."""
    import numpy as np
    import torch

    state, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(state)
        np.random.set_state(arrays)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
