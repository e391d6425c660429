"""Checkpoints: folders that appear whole, are verified before use, and belong to one run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rag_rerank._files import sha256_of
from rag_rerank.errors import ConfigError

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["Checkpoint", "Checkpoints"]

_SEAL, _STATE = "seal.json", "course.json"
_PREFIX, _DRAFT = "step-", ".draft"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Args:
        path: Its folder.
        step: Steps that were done.
        state: The state of the run at that step.
    """

    path: Path
    step: int
    state: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run, in a folder of their own; a context manager that locks the folder.

    A checkpoint is written under another name, gets the hashes of its files, and is then renamed. So a folder with a
    checkpoint's name was complete once, and the hashes tell whether it still is. The last two checkpoints are kept, and
    the ones that they name as the best.

    Args:
        folder: Where they are; made when the first one is written.
        identity: What decides the outcome, in parts: data, settings, base.
        note: Called with a message for each damaged checkpoint.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], note: Callable[[str], None]) -> None:
        self.folder = folder
        self._identity = identity
        self._note = note
        self._lock: FileLock | None = None

    def __enter__(self) -> Checkpoints:
        from filelock import FileLock, Timeout

        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(f"{self.folder}.lock", timeout=0)
            self._lock.acquire()
        except Timeout as error:
            raise ConfigError(f"another run is writing {self.folder}; wait for it, or name another folder") from error
        except OSError as error:
            raise ConfigError(f"cannot write {self.folder}: {error.strerror or error}", path="out") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            with suppress(OSError):  # Windows cannot remove an open file
                Path(self._lock.lock_file).unlink()
            self._lock.release()

    def newest(self) -> Checkpoint | None:
        """Return the last whole checkpoint whose best one is whole too, and remove the damaged ones after it.

        Raises:
            ConfigError: It belongs to another run: other data, other settings or another base.
        """
        shutil.rmtree(self.folder / _DRAFT, ignore_errors=True)
        steps = sorted(self._steps(), reverse=True)
        for position, step in enumerate(steps):
            damage = self._damage(step)
            if damage is None:
                state = self._state(step)
                damage = None if state["best_step"] == step else self._damage(state["best_step"])
                if damage is None:
                    self._check_identity(state["identity"])
                    for later in steps[:position]:
                        shutil.rmtree(self._path(later), ignore_errors=True)
                    return Checkpoint(self._path(step), step, state)
            self._note(f"the checkpoint of step {step} in {self.folder} is damaged ({damage}); the one before is used")
        if steps:
            self._note(f"no checkpoint in {self.folder} is whole; the training starts anew")
        return None

    def best(self, step: int) -> Path:
        """Return the folder of the best checkpoint.

        Raises:
            ConfigError: It is damaged.
        """
        damage = self._damage(step)
        if damage is not None:
            raise ConfigError(
                f"the best checkpoint, of step {step} in {self.folder}, is damaged ({damage}); run the same command "
                "again to train from the last whole one before it"
            )
        return self._path(step)

    def write(self, step: int, state: Mapping[str, Any], fill: Callable[[Path], None]) -> None:
        """Write a checkpoint, and remove those that are not needed any more.

        Raises:
            ConfigError: It cannot be written; the earlier ones are whole.
        """
        from safetensors import SafetensorError

        draft, path = self.folder / _DRAFT, self._path(step)
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            fill(draft)
            (draft / _STATE).write_text(json.dumps({**state, "identity": self._identity}), encoding="utf-8")
            files = sorted(file for file in draft.rglob("*") if file.is_file())
            seal = {file.relative_to(draft).as_posix(): sha256_of(file) for file in files}
            (draft / _SEAL).write_text(json.dumps(seal), encoding="utf-8")
            for file in (*files, draft / _SEAL):
                _flush_to_disk(file)
            shutil.rmtree(path, ignore_errors=True)
            draft.rename(path)
        except (OSError, RuntimeError, SafetensorError) as error:  # a full disk in Python, torch and safetensors
            shutil.rmtree(draft, ignore_errors=True)
            last = max(self._steps(), default=None)
            raise ConfigError(
                f"cannot write the checkpoint of step {step} in {self.folder}: {error}. "
                + ("There is none before it. " if last is None else f"That of step {last} is whole. ")
                + "Make room, and run the same command again to go on",
                path="out",
            ) from error
        self._prune()

    def remove(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _prune(self) -> None:
        steps = sorted(self._steps())
        last = steps[-2:]
        needed = {*last, *(int(self._state(step)["best_step"]) for step in last)}
        for step in steps:
            if step not in needed:
                shutil.rmtree(self._path(step), ignore_errors=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"{_PREFIX}{step:08d}"

    def _steps(self) -> Iterator[int]:
        for path in self.folder.glob(f"{_PREFIX}*"):
            if path.name.removeprefix(_PREFIX).isdigit():
                yield int(path.name.removeprefix(_PREFIX))

    def _state(self, step: int) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self._path(step) / _STATE).read_text(encoding="utf-8"))
        return state

    def _damage(self, step: int) -> str | None:
        """Return what is wrong with a checkpoint, if anything is."""
        path = self._path(step)
        try:
            seal = json.loads((path / _SEAL).read_text(encoding="utf-8"))
            altered = [name for name, sha256 in seal.items() if sha256_of(path / name) != sha256]
        except (OSError, ValueError, AttributeError) as error:
            return str(error)
        return f"{altered[0]} has changed since it was written" if altered else None

    def _check_identity(self, theirs: Mapping[str, Any]) -> None:
        ours = json.loads(json.dumps(self._identity))
        if ours == theirs:
            return
        differences = [part for part in ours if part != "settings" and ours[part] != theirs.get(part)]
        their_settings = theirs.get("settings", {})
        differences += [
            f"{name} ({their_settings.get(name)!r} there, {value!r} here)"
            for name, value in ours["settings"].items()
            if value != their_settings.get(name)
        ]
        raise ConfigError(
            f"the checkpoints in {self.folder} belong to another run; they differ in: {', '.join(differences)}. Repeat "
            "that run's data and settings to resume it, or name another folder, or start anew without the checkpoints "
            "(resume=False, --no-resume)",
            path="resume",
        )


def _flush_to_disk(file: Path) -> None:
    """Wait until a file's bytes are on the disk: a rename alone would not survive a power cut."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
