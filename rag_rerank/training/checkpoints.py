"""Checkpoints: folders that appear whole, are checked before they are trusted, and belong to one run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rag_rerank.errors import ConfigError

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["Checkpoint", "Checkpoints"]

_SEAL, _COURSE = "seal.json", "course.json"
_PREFIX, _DRAFT = "step-", ".draft"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Args:
        path: Its folder.
        step: Steps that were done.
        course: What the run knew of itself by then.
    """

    path: Path
    step: int
    course: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run, in a folder of their own; a context manager, so that nobody else writes there.

    A checkpoint is made under another name, gets the hashes of its files, and is then renamed: what has its name is
    whole, or was damaged since, which the hashes tell. The last two are kept, and those that they name as the best.

    Args:
        folder: Where they are; made when the first one is written.
        identity: What decides the outcome, in parts: data, settings, base.
        note: Is told what was found to be damaged.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], note: Callable[[str], None]) -> None:
        self.folder = folder
        self._identity = identity
        self._note = note
        self._busy: FileLock | None = None

    def __enter__(self) -> Checkpoints:
        from filelock import FileLock, Timeout

        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._busy = FileLock(f"{self.folder}.lock", timeout=0)
            self._busy.acquire()
        except Timeout as error:
            raise ConfigError(f"another run is writing {self.folder}; wait for it, or name another folder") from error
        except OSError as error:
            raise ConfigError(f"cannot write {self.folder}: {error.strerror or error}", path="out") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._busy is not None:
            with suppress(OSError):  # Windows removes no open file
                Path(self._busy.lock_file).unlink()
            self._busy.release()

    def newest(self) -> Checkpoint | None:
        """Return the last whole checkpoint, whose best one is whole too; later ones, which are damaged, go.

        Raises:
            ConfigError: It is of another run: other data, other settings or another base.
        """
        shutil.rmtree(self.folder / _DRAFT, ignore_errors=True)
        steps = sorted(self._steps(), reverse=True)
        for position, step in enumerate(steps):
            damage = self._damage(step)
            if damage is None:
                course = self._course(step)
                damage = None if course["best_step"] == step else self._damage(course["best_step"])
                if damage is None:
                    self._check_identity(course["identity"])
                    for later in steps[:position]:
                        shutil.rmtree(self._path(later), ignore_errors=True)
                    return Checkpoint(self._path(step), step, course)
            self._note(f"the checkpoint of step {step} in {self.folder} is damaged ({damage}); the one before is used")
        if steps:
            self._note(f"no checkpoint in {self.folder} is whole; the training begins anew")
        return None

    def best(self, step: int) -> Path:
        """Return the folder of a checkpoint that is whole.

        Raises:
            ConfigError: It was damaged since.
        """
        damage = self._damage(step)
        if damage is not None:
            raise ConfigError(
                f"the best checkpoint, of step {step} in {self.folder}, is damaged ({damage}); run the same command "
                "again to train from the last whole one before it"
            )
        return self._path(step)

    def write(self, step: int, course: Mapping[str, Any], fill: Callable[[Path], None]) -> None:
        """Write a checkpoint, and remove those that are not needed any more.

        Raises:
            ConfigError: It cannot be written; those before it are whole.
        """
        from safetensors import SafetensorError

        draft, path = self.folder / _DRAFT, self._path(step)
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            fill(draft)
            (draft / _COURSE).write_text(json.dumps({**course, "identity": self._identity}), encoding="utf-8")
            seal = {file.relative_to(draft).as_posix(): _hash(file, sync=True) for file in _files(draft)}
            (draft / _SEAL).write_text(json.dumps(seal), encoding="utf-8")
            _hash(draft / _SEAL, sync=True)
            shutil.rmtree(path, ignore_errors=True)
            draft.rename(path)
        except (
            OSError,
            RuntimeError,
            SafetensorError,
        ) as error:  # a full disk, as Python, torch, safetensors tell it
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
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _prune(self) -> None:
        steps = sorted(self._steps())
        last = steps[-2:]
        kept = {*last, *(int(self._course(step)["best_step"]) for step in last)}
        for step in steps:
            if step not in kept:
                shutil.rmtree(self._path(step), ignore_errors=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"{_PREFIX}{step:08d}"

    def _steps(self) -> Iterator[int]:
        for path in self.folder.glob(f"{_PREFIX}*"):
            if path.name.removeprefix(_PREFIX).isdigit():
                yield int(path.name.removeprefix(_PREFIX))

    def _course(self, step: int) -> dict[str, Any]:
        course: dict[str, Any] = json.loads((self._path(step) / _COURSE).read_text(encoding="utf-8"))
        return course

    def _damage(self, step: int) -> str | None:
        """Return what is wrong with a checkpoint, if anything is."""
        path = self._path(step)
        try:
            seal = json.loads((path / _SEAL).read_text(encoding="utf-8"))
            changed = [name for name, wanted in seal.items() if _hash(path / name) != wanted]
        except (OSError, ValueError, AttributeError) as error:
            return str(error)
        return f"{changed[0]} has changed since it was written" if changed else None

    def _check_identity(self, theirs: Mapping[str, Any]) -> None:
        ours = json.loads(json.dumps(self._identity))
        if ours == theirs:
            return
        differing = [part for part in ours if part != "settings" and ours[part] != theirs.get(part)]
        knobs = theirs.get("settings", {})
        differing += [
            f"{name} ({knobs.get(name)!r} there, {value!r} here)"
            for name, value in ours["settings"].items()
            if value != knobs.get(name)
        ]
        raise ConfigError(
            f"the checkpoints in {self.folder} are of another run; different are: {', '.join(differing)}. Give what "
            "they were made with to go on, or name another folder, or begin anew without them (resume=False, "
            "--no-resume)",
            path="resume",
        )


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _hash(file: Path, *, sync: bool = False) -> str:
    found = sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            found.update(block)
        if sync:
            os.fsync(stream.fileno())
    return found.hexdigest()
