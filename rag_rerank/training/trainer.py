"""Run sentence-transformers' trainer, silently, with this library's checkpoints, validation and order of rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rag_rerank.errors import ConfigError
from rag_rerank.execution import clock
from rag_rerank.training import losses
from rag_rerank.training.base_model import BaseModel
from rag_rerank.training.checkpoints import Checkpoint, Checkpoints
from rag_rerank.training.dataset import TrainingRows
from rag_rerank.training.early_stopping import TrainingState
from rag_rerank.training.settings import TrainingSettings
from rag_rerank.training.validation import MEASURE, VALIDATION_BATCH, Validation

__all__ = ["Progress", "TrainingLoop", "run"]

Progress = Callable[..., None]
"""Called with the share of the steps that is done, and a few words."""

_MAX_GRADIENT_NORM = 1.0
"""Norm to which a larger gradient is clipped, as in BERT's own training."""

_MODEL = "model"
"""Folder of the model in a checkpoint."""


def run(
    base: BaseModel,
    rows: TrainingRows,
    settings: TrainingSettings,
    validation: Validation | None,
    *,
    checkpoints: Checkpoints,
    state: TrainingState,
    start: Checkpoint | None,
    progress: Progress,
    has_new_head: bool = False,
) -> None:
    """Train until the last step or until patience ends, and record the outcome in ``state``.

    With ``has_new_head`` the base, before the first step, does not compete for the best step.
    """
    loop = TrainingLoop(rows, settings, validation, checkpoints, state, progress, has_new_head=has_new_head)
    trainer = loop.build_trainer(base.module, base.device)
    _freeze(base.module, settings.freeze)
    trainer.train(resume_from_checkpoint=str(start.path) if start else None)


class TrainingLoop:
    """The work of a run besides the gradient steps: losses, validations, checkpoints, progress."""

    def __init__(
        self,
        rows: TrainingRows,
        settings: TrainingSettings,
        validation: Validation | None,
        checkpoints: Checkpoints,
        state: TrainingState,
        progress: Progress,
        *,
        has_new_head: bool = False,
    ) -> None:
        self.has_new_head = has_new_head
        self.rows = rows
        self.settings = settings
        self.validation = validation
        self.checkpoints = checkpoints
        self.state = state
        self.progress = progress
        self._clock_start = clock.now()
        self._save: Callable[[], None] = lambda: None

    def build_trainer(self, model: Any, device: str) -> Any:
        """Return the trainer of a model; its class is defined inside because its parents are imported late."""
        from sentence_transformers.cross_encoder import CrossEncoderTrainer
        from torch.utils.data import BatchSampler, SequentialSampler
        from transformers import PrinterCallback

        loop = self

        class Trainer(CrossEncoderTrainer):  # type: ignore[misc]
            def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
                """Add none: this library writes its own card."""

            def get_batch_sampler(self, dataset: Any, batch_size: int, **_: Any) -> Any:
                return BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)

            def training_step(self, *args: Any, **kwargs: Any) -> Any:
                loss = super().training_step(*args, **kwargs)
                loop.record_loss(self.state.global_step + 1, float(loss))
                return loss

            def _save_checkpoint(self, *_: Any) -> None:
                loop.write_checkpoint(self.state.global_step, self.fill)

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
            train_dataset=self.rows.dataset(),
            loss=losses.build_loss(self.settings.loss, model),
            callbacks=[self._callback()],
        )
        trainer.remove_callback(PrinterCallback)
        self._save = lambda: trainer._save_checkpoint(None, None)
        return trainer

    def _callback(self) -> Any:
        from transformers import TrainerCallback

        loop = self

        class Callback(TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, args: Any, state: Any, control: Any, **context: Any) -> None:
                if not loop.state.curve:
                    loop.validate(0, context["model"])
                    loop._save()

            def on_step_end(self, args: Any, state: Any, control: Any, **context: Any) -> None:
                loop.after_step(state.global_step, context["model"], control)

        return Callback()

    def record_loss(self, step: int, loss: float) -> None:
        """Record the loss of a step, before the step changes any weight.

        Raises:
            ConfigError: The loss is not a number.
        """
        if loss - loss != 0:
            raise ConfigError(
                f"the loss of step {step} is {loss}: training has diverged. Take a smaller learning rate than "
                f"{self.settings.learning_rate:g}" + (", or fp32" if self.settings.precision != "fp32" else ""),
                path="learning_rate",
            )
        self.state.losses.append(loss)

    def after_step(self, step: int, model: Any, control: Any) -> None:
        """Validate and save where a step calls for it, and report progress."""
        last = step >= self.rows.steps
        better = False
        if last or step % self.settings.evaluate_every == 0:
            better = self.validate(step, model)
            patience = self.settings.patience
            if patience is not None and self.state.stale >= patience:
                control.should_training_stop = last = True
        if last and self.validation is None:
            self.state.best_step = step
        self.state.finished = last
        if last or better or step % self.settings.checkpoint_every == 0:
            control.should_save = True
        self.progress(step / self.rows.steps, self._words(step))

    def validate(self, step: int, model: Any) -> bool:
        """Add a point to the curve; return whether it is the best."""
        quality = None if self.validation is None else self.validation.quality(model, batch=VALIDATION_BATCH)
        return self.state.add(step, quality, competes=step > 0 or not self.has_new_head)

    def write_checkpoint(self, step: int, fill: Callable[[Path], None]) -> None:
        """Write a checkpoint; the time since the last one is added to the state."""
        now = clock.now()
        self.state.seconds += now - self._clock_start
        self._clock_start = now
        self.checkpoints.write(step, self.state.to_dict(), fill)

    def _words(self, step: int) -> str:
        point = self.state.curve[-1]
        loss = self.state.losses[-1] if self.state.losses else point.loss
        words = f"step {step:,} of {self.rows.steps:,}, loss {loss:.4g}"
        return words + (f", {MEASURE} {point.ndcg:.4f} at step {point.step:,}" if point.ndcg is not None else "")


def _arguments(settings: TrainingSettings, folder: Path, device: str) -> Any:
    import torch
    from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments

    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,  # the dataset holds the rows of all epochs, one after another; see TrainingRows
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=_MAX_GRADIENT_NORM,
        seed=settings.seed,
        bf16=settings.precision == "bf16",
        use_cpu=device == "cpu",
        dataloader_pin_memory=device.startswith("cuda"),
        logging_strategy="no",
        eval_strategy="no",
        save_strategy="no",  # the callback decides
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
    )
    requested, actual = torch.device(device), arguments.device
    if (requested.type, requested.index or 0) != (actual.type, actual.index or 0):
        raise ConfigError(f"training runs on {actual} here; choose another GPU by CUDA_VISIBLE_DEVICES", path="device")
    arguments._n_gpu = min(arguments.n_gpu, 1)  # the trainer would spread the queries of a step over several GPUs
    return arguments


def _freeze(model: Any, layers: int) -> None:
    """Exclude the embeddings and the lowest layers from training."""
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
