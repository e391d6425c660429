"""The folder of an unfinished batch: its parts, what is known of each, and the settings they were made with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_rerank._files import parse_json, write
from rag_rerank.batch.files import FileFormat, Part, join_parts, read_part, write_part
from rag_rerank.errors import ConfigError

if TYPE_CHECKING:
    from filelock import FileLock
    from typing_extensions import Self

__all__ = ["PartFacts", "PartFolder"]

SCHEMA = "rag-rerank/batch/1"
"""The layout of the folder; a folder with another one is refused."""

_SETTINGS = "batch.json"


@dataclass(frozen=True, kw_only=True)
class PartFacts:
    """What is known of a finished part.

    Args:
        sha256: The hash of its rows in the input.
        rows: How many rows it has.
        pairs: How many candidates its rows have.
        failures: How many rows failed, by the class of the error.
        usage: The sum of the usage of its rows, as plain values.
    """

    sha256: str
    rows: int
    pairs: int
    failures: Mapping[str, int]
    usage: Mapping[str, Any]


@dataclass
class PartFolder:
    """The parts of a batch, as a context manager that keeps other processes out.

    Args:
        folder: The folder; made when needed.
        layout: The format of the parts.
        settings: What decides the answers, by name: parts of other settings are refused.

    Raises:
        ConfigError: The folder belongs to another batch, another process writes it, or it cannot be written.
    """

    folder: Path
    layout: FileFormat
    settings: Mapping[str, Any]
    _lock: FileLock | None = field(default=None, init=False)

    @classmethod
    def beside(cls, out: Path, layout: FileFormat, settings: Mapping[str, Any]) -> Self:
        """Return the folder for an output file: its name, and ``.parts``."""
        return cls(out.with_name(f"{out.name}.parts"), layout, settings)

    def __enter__(self) -> Self:
        from filelock import FileLock, Timeout

        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = FileLock(self.folder / ".lock", timeout=0)
            self._lock.acquire()
        except Timeout as error:
            raise ConfigError(f"another process writes {self.folder}; wait for it, or name another output") from error
        except OSError as error:
            raise ConfigError(f"{self.folder} cannot be written: {error.strerror or error}") from error
        try:
            self._check_settings()
        except ConfigError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        if self._lock is not None:
            self._lock.release()

    def facts(self, part: Part) -> PartFacts | None:
        """Return what is known of a part; ``None`` if it is not finished.

        Raises:
            ConfigError: The part was made of other rows.
        """
        file = self._file(part.number, ".facts.json")
        if not file.exists():
            return None
        facts = PartFacts(**_read_object(file))
        if facts.sha256 != part.sha256:
            raise ConfigError(
                f"{self._file(part.number)} was made of other rows than the input has now; restore the input, or "
                f"remove {self.folder} to start again"
            )
        return facts

    def rows(self, part: Part) -> Any:
        """Return the answered rows of a finished part."""
        return read_part(self._file(part.number), self.layout)

    def keep(self, part: Part, rows: Any, facts: PartFacts) -> None:
        """Write a part, and then what is known of it: it counts as finished from then on."""
        write_part(self._file(part.number), rows)
        write(self._file(part.number, ".facts.json"), json.dumps(asdict(facts)).encode())

    def join(self, count: int, out: Path) -> None:
        """Write the output file of so many parts."""
        join_parts([self._file(number) for number in range(count)], self.layout, out)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, number: int, ending: str = "") -> Path:
        return self.folder / f"{number:08}{ending or f'.{self.layout}'}"

    def _check_settings(self) -> None:
        """Write the settings into a new folder, and compare them in an old one."""
        file = self.folder / _SETTINGS
        own = {"schema": SCHEMA, **self.settings}
        if not file.exists():
            if any(self.folder.glob("[!.]*")):
                raise ConfigError(f"{self.folder} is no folder of a batch; name another output")
            write(file, json.dumps(own, indent=2).encode())
            return
        earlier = _read_object(file)
        different = [name for name in own if earlier.get(name) != own[name]]
        if different:
            changes = "; ".join(f"{name} was {earlier.get(name)!r}, and is {own[name]!r}" for name in different)
            raise ConfigError(
                f"{self.folder} holds parts of a batch with other settings ({changes}); use the same, name another "
                "output, or remove the folder"
            )


def _read_object(file: Path) -> dict[str, Any]:
    try:
        value = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}; remove its folder to start again") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{file} is no JSON object; remove its folder to start again")
    return value
