"""Train a cross-encoder on examples: from an existing checkpoint to a folder that every local backend loads."""

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
from rag_rerank.errors import InputError
from rag_rerank.evaluation import Judged
from rag_rerank.training import trainer
from rag_rerank.training.base_model import BaseModel, check_extra, load_base, silent
from rag_rerank.training.checkpoints import Checkpoints
from rag_rerank.training.data.examples import Examples
from rag_rerank.training.dataset import TrainingRows, fingerprint
from rag_rerank.training.early_stopping import TrainingState
from rag_rerank.training.model_card.card import Card
from rag_rerank.training.model_folder import complete
from rag_rerank.training.new_head import check_curve, check_order
from rag_rerank.training.run_record import TrainingRun, describe_hardware, library_versions
from rag_rerank.training.settings import TrainingSettings
from rag_rerank.training.trainer import Progress
from rag_rerank.training.validation import Validation

__all__ = ["train"]

_LAYOUT = 1
"""Layout of the checkpoints; checkpoints of another layout are refused."""


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
    new_head: bool = False,
    describe: Callable[[Path, Card], tuple[Card, Mapping[str, Any]]] = lambda checkpoint, card: (card, {}),
    progress: Progress = lambda share, words=None: None,
    note: Callable[[str], None] = lambda words: None,
) -> TrainingRun:
    """Train a cross-encoder, and write its best step as a folder that all local backends load.

    While it runs, checkpoints are beside ``out``, in ``OUT.checkpoints``; they are removed when the folder is complete.
    After an interruption (Ctrl-C, a kill, a full disk) the same call resumes from the last whole checkpoint, and on a
    CPU ends with the same weights, bit by bit.

    The best step is the one with the best nDCG@10 on ``validation``, the first of equal ones; the base itself, before
    the first step, competes unless its head is new. Without a validation the best step is the last one, and nothing
    stops early. A new head that learnt nothing is not written (see `rag_rerank.training.new_head`).

    Args:
        examples: The training data.
        out: The folder to make; it must not exist, or be empty.
        base: Alias or id of a model, or a folder with a safetensors checkpoint: a BERT-like cross-encoder with one
            logit, or an encoder, which gets a new head.
        card: Name, licence and leakage for the model card; base, settings, figures and run are filled in here.
        revision: Commit, branch or tag of ``base`` on the hub; by default the one that the catalogue pins.
        settings: `TrainingSettings()` by default.
        validation: Judged queries with their candidates, or judged examples, none of them among ``examples``; the order
            of the candidates is the incoming order.
        calibration: Judged queries that the calibration map is fitted on; without them there is no map.
        unjudged: How that fit counts candidates without a judgment (`rag_rerank.evaluation.calibrate`).
        resume: Whether to resume from existing checkpoints. ``False`` removes them and starts anew.
        new_head: Whether the head in the base's files is random, as in a student that was made for this training. The
            head that an encoder gets is new in any case.
        describe: Called with the best checkpoint and the card before the folder is made; returns the card to write, and
            further keys for the run record.
        progress: Called with the share that is done, and a few words.
        note: Called with what the user should know: damaged checkpoints, queries that teach nothing, why there is no
            map.

    Raises:
        ConfigError: ``out`` holds something, a setting does not fit the model or the device, checkpoints are of another
            run, a checkpoint cannot be written, or the loss is not a number; the path of the error says which.
        InputError: The loss can learn nothing from the examples, the validation cannot tell orders apart, or a new head
            learnt nothing; then the checkpoints are removed, too.
        MissingExtraError: The extra ``train`` is not installed.
        ModelLoadError: The base cannot be loaded.
    """
    check_extra()
    settings = settings or TrainingSettings()
    target = new_folder(out)
    rows = TrainingRows(examples.examples, settings)
    validator = None if validation is None else Validation(validation)
    for problem in rows.problems:
        note(str(problem))
    start_model = load_base(
        base, revision=revision, max_length=settings.max_length, device=settings.device, seed=settings.seed
    )
    has_new_head = new_head or bool(start_model.new_weights)
    data = fingerprint(examples.examples)
    identity = {
        "layout": _LAYOUT,
        "base": start_model.sha256,
        "data": data,
        "validation": None if validator is None else validator.fingerprint,
        "settings": settings.to_dict(),
    }
    with Checkpoints(target.with_name(f"{target.name}.checkpoints"), identity, note) as checkpoints:
        if not resume:
            checkpoints.remove()
        newest = checkpoints.newest()
        state = TrainingState() if newest is None else TrainingState.from_dict(newest.state)
        state.sessions.append({"time": _now(), "step": 0 if newest is None else newest.step})
        if not state.finished:
            with silent(), _isolated_randomness():
                trainer.run(
                    start_model,
                    rows,
                    settings,
                    validator,
                    checkpoints=checkpoints,
                    state=state,
                    start=newest,
                    progress=progress,
                    has_new_head=has_new_head,
                )
        if has_new_head:
            try:
                _check_new_head(start_model, revision, rows, settings, checkpoints.best(state.best_step), state)
            except InputError:
                checkpoints.remove()
                raise
        run = TrainingRun(
            folder=target,
            base=start_model.name,
            revision=start_model.revision,
            base_sha256=start_model.sha256,
            new_weights=start_model.new_weights,
            settings=settings,
            sources=examples.sources,
            data_sha256=data,
            queries=rows.queries,
            pairs=rows.pairs,
            validation_sha256=None if validator is None else validator.fingerprint,
            validation_name=None if validator is None else validator.name,
            validation_queries=0 if validator is None else validator.queries,
            incoming=None if validator is None else validator.incoming,
            steps=rows.steps,
            best_step=state.best_step,
            curve=tuple(state.curve),
            problems=(*examples.problems, *rows.problems),
            sessions=tuple(state.sessions),
            end_time=_now(),
            seconds=state.seconds,
            versions=library_versions(),
            hardware=describe_hardware(start_model.device),
        )
        complete_card = replace(
            card,
            base=run.base,
            base_revision=run.revision,
            base_licence=start_model.licence,
            sources=examples.sources,
            settings=settings.to_dict(),
            seed=settings.seed,
            figures=(*card.figures, *run.figures()),
        )
        checkpoint = checkpoints.best(state.best_step) / "model"
        final_card, more = describe(checkpoint, complete_card)
        record = {**run.to_dict(), **more}
        folder = complete(checkpoint, target, calibration=calibration, unjudged=unjudged, card=final_card, run=record)
        if calibration is not None and folder.calibration is None:
            note(f"there is no calibration map: {folder.card.calibration}")
        checkpoints.remove()
    return run


def _check_new_head(
    base: BaseModel,
    revision: str | None,
    rows: TrainingRows,
    settings: TrainingSettings,
    checkpoint: Path,
    state: TrainingState,
) -> None:
    """Refuse a new head that learnt nothing.

    Raises:
        InputError: It learnt nothing.
    """
    if state.best is not None:
        check_curve(state.curve, state.best_step, base.name, settings)
        return
    options: dict[str, Any] = {"max_length": settings.max_length, "device": settings.device, "seed": settings.seed}
    untrained = load_base(base.name, revision=revision, **options).module
    trained = load_base(str(checkpoint / "model"), **options).module
    check_order(untrained, trained, rows, base.name, settings)


@contextmanager
def _isolated_randomness() -> Iterator[None]:
    """Restore the caller's random state at the end: the trainer sets the seeds of the whole process."""
    import numpy as np
    import torch

    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
