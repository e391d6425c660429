"""sentence-transformers' trainer, kept quiet, with checkpoints, validation and order of this library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rag_rerank.errors import ConfigError
from rag_rerank.execution import clock
from rag_rerank.training import losses
from rag_rerank.training.base_model import Base
from rag_rerank.training.checkpoints import Checkpoint, Checkpoints
from rag_rerank.training.dataset import TrainingRows
from rag_rerank.training.run_record import TrainingState
from rag_rerank.training.settings import TrainingSettings
from rag_rerank.training.validation import MEASURE, Validation

__all__ = ["PREDICTED", "Progress", "run"]

Progress = Callable[..., None]
"""Is told the share that is done, and a few words."""

PREDICTED = 64
"""Pairs in one batch of a validation; it decides the time and memory only."""

_LONGEST_GRADIENT = 1.0
"""Length to which a longer gradient is cut, as in BERT's own training."""

_MODEL = "model"


def run(
    base: Base,
    lessons: TrainingRows,
    settings: TrainingSettings,
    validation: Validation | None,
    *,
    checkpoints: Checkpoints,
    course: TrainingState,
    start: Checkpoint | None,
    progress: Progress,
) -> None:
    """Train until the last step, or until patience is at its end; ``course`` tells what came of it."""
    model = base.module
    trainer = _Making(lessons, settings, validation, checkpoints, course, progress).trainer(model, base.device)
    _freeze(model, settings.freeze)
    trainer.train(resume_from_checkpoint=str(start.path) if start else None)


class _Making:
    """The trainer of one run, and what it calls; classes are made here because what they inherit is imported late."""

    def __init__(
        self,
        lessons: TrainingRows,
        settings: TrainingSettings,
        validation: Validation | None,
        checkpoints: Checkpoints,
        course: TrainingState,
        progress: Progress,
    ) -> None:
        self.lessons = lessons
        self.settings = settings
        self.validation = validation
        self.checkpoints = checkpoints
        self.course = course
        self.progress = progress
        self.since = clock.now()
        self.keep_now: Callable[[], None] = lambda: None

    def trainer(self, model: Any, device: str) -> Any:
        """Return the trainer of a model."""
        from sentence_transformers.cross_encoder import CrossEncoderTrainer
        from torch.utils.data import BatchSampler, SequentialSampler
        from transformers import PrinterCallback

        making = self

        class Trainer(CrossEncoderTrainer):  # type: ignore[misc]
            def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
                """Do without: the card is this library's own."""

            def get_batch_sampler(self, dataset: Any, batch_size: int, **_: Any) -> Any:
                return BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)

            def training_step(self, *args: Any, **kwargs: Any) -> Any:
                loss = super().training_step(*args, **kwargs)
                making.learnt(self.state.global_step + 1, float(loss))
                return loss

            def _save_checkpoint(self, *_: Any) -> None:
                making.keep(self.state.global_step, self.fill)

            def fill(self, folder: Path) -> None:
                self.model.save_pretrained(str(folder / _MODEL), create_model_card=False)
                self._save_optimizer_and_scheduler(str(folder))
                self._save_scaler(str(folder))
                self._save_rng_state(str(folder))
                self.state.save_to_json(str(folder / "trainer_state.json"))

            def _load_from_checkpoint(self, checkpoint_path: str) -> None:
                super()._load_from_checkpoint(str(Path(checkpoint_path) / _MODEL))

        trainer = Trainer(
            model=model,
            args=_arguments(self.settings, self.checkpoints.folder, device),
            train_dataset=self.lessons.dataset(),
            loss=losses.loss_of(self.settings.loss, model),
            callbacks=[self._callback()],
        )
        trainer.remove_callback(PrinterCallback)
        self.keep_now = lambda: trainer._save_checkpoint(None, None)
        return trainer

    def _callback(self) -> Any:
        from transformers import TrainerCallback

        making = self

        class Callback(TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, args: Any, state: Any, control: Any, **of: Any) -> None:
                if not making.course.curve:
                    making.measure(0, of["model"])
                    making.keep_now()

            def on_step_end(self, args: Any, state: Any, control: Any, **of: Any) -> None:
                making.stepped(state.global_step, of["model"], control)

        return Callback()

    def learnt(self, step: int, loss: float) -> None:
        """Note the loss of a step, before it changes anything."""
        if loss - loss != 0:
            raise ConfigError(
                f"the loss of step {step} is {loss}: training has come apart. Take a smaller learning rate than "
                f"{self.settings.learning_rate:g}" + (", or fp32" if self.settings.precision != "fp32" else ""),
                path="learning_rate",
            )
        self.course.losses.append(loss)

    def stepped(self, step: int, model: Any, control: Any) -> None:
        """Validate and keep what is due after a step, and tell how far it is."""
        last = step >= self.lessons.steps
        better = False
        if last or step % self.settings.evaluate_every == 0:
            better = self.measure(step, model)
            patience = self.settings.patience
            if patience is not None and self.course.stale >= patience:
                control.should_training_stop = last = True
        if last and self.validation is None:
            self.course.best_step = step
        self.course.finished = last
        if last or better or step % self.settings.checkpoint_every == 0:
            control.should_save = True
        self.progress(step / self.lessons.steps, self._words(step))

    def measure(self, step: int, model: Any) -> bool:
        """Add a point to the curve; return whether it is the best."""
        quality = None if self.validation is None else self.validation.quality(model, batch=PREDICTED)
        return self.course.add(step, quality)

    def keep(self, step: int, fill: Callable[[Path], None]) -> None:
        """Write a checkpoint."""
        now = clock.now()
        self.course.seconds += now - self.since
        self.since = now
        self.checkpoints.write(step, self.course.to_dict(), fill)

    def _words(self, step: int) -> str:
        point = self.course.curve[-1]
        loss = self.course.losses[-1] if self.course.losses else point.loss
        words = f"step {step:,} of {self.lessons.steps:,}, loss {loss:.4g}"
        return words + (f", {MEASURE} {point.ndcg:.4f} at step {point.step:,}" if point.ndcg is not None else "")


def _arguments(settings: TrainingSettings, folder: Path, device: str) -> Any:
    import torch
    from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments

    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,  # the rows of all epochs lie in one line; see Lessons
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=_LONGEST_GRADIENT,
        seed=settings.seed,
        bf16=settings.precision == "bf16",
        use_cpu=device == "cpu",
        dataloader_pin_memory=device.startswith("cuda"),
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",  # a callback says when
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
    )
    wanted, given = torch.device(device), arguments.device
    if (wanted.type, wanted.index or 0) != (given.type, given.index or 0):
        raise ConfigError(f"training runs on {given} here; choose another GPU by CUDA_VISIBLE_DEVICES", path="device")
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one of them: two would share the queries of a step among them
    return arguments


def _freeze(model: Any, layers: int) -> None:
    """Let the embeddings and the lowest layers as they are."""
    import torch

    if not layers:
        return
    encoder = model.transformers_model.base_model
    count = encoder.config.num_hidden_layers
    stacks = [m for m in encoder.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    if layers > count or not stacks or not hasattr(encoder, "embeddings"):
        raise ConfigError(f"the model has {count} layers; {layers} of them cannot be frozen", path="freeze")
    for part in (encoder.embeddings, *stacks[0][:layers]):
        part.requires_grad_(False)
