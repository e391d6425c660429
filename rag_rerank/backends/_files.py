"""The files of one loaded model: what they are, and that nobody replaces them behind its back."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

from rag_rerank.backends._weights import ModelFolder
from rag_rerank.errors import ModelLoadError

__all__ = ["RECORDS", "ModelFiles"]

RECORDS = ("calibration.json", "training.json")
"""What may lie beside a model and decides no score: a map that was fitted for the model's identity cannot be a part of
it, and writing one must not disturb those who use the model."""


class ModelFiles:
    """The files that an engine loads and that a fingerprint speaks of, seen at one moment for both.

    Args:
        folder: Where they are.
        patterns: Which of its files count, as the hub reads such patterns (``*`` goes through folders).
    """

    def __init__(self, folder: ModelFolder, patterns: Sequence[str]) -> None:
        self._folder = folder
        self._patterns = patterns
        self._seen = self._state()

    @contextmanager
    def reading(self) -> Iterator[ModelFolder]:
        """Let the files be read, and make sure that they are still those that were seen first.

        Raises:
            ModelLoadError: Some file was changed, added or removed.
        """
        self._check()
        yield self._folder
        self._check()

    @cached_property
    def identity(self) -> str:
        """Id and commit of files from the hub, else a SHA-256 over the files: names and contents.

        Raises:
            ModelLoadError: A file cannot be read.
        """
        if self._folder.revision:
            return f"{self._folder.name}@{self._folder.revision}"
        try:
            listed = {self._relative(file): _sha256(file) for file in (*self._files(), *self._external())}
        except OSError as error:
            raise ModelLoadError(f"{self._folder.name}: cannot read {error.filename}: {error.strerror}") from error
        return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()

    def _check(self) -> None:
        if self._state() != self._seen:
            raise ModelLoadError(
                f"the files of {self._folder.name} changed while the model was in use; close() the reranker to go on "
                "with the new ones"
            )

    def _files(self) -> list[Path]:
        """Return the files that match; none for a commit of the hub, which cannot change."""
        if self._folder.revision:
            return []
        found = (file for file in self._folder.path.rglob("*") if file.is_file())
        parts = (file for file in found if file.name not in RECORDS)
        return [file for file in parts if any(fnmatch(self._relative(file), pattern) for pattern in self._patterns)]

    def _external(self) -> Iterator[Path]:
        """Yield the files that hold an ONNX graph's weights, under whatever name: the graph has it in plain bytes."""
        for graph in self._files():
            if graph.suffix == ".onnx" and graph.stat().st_size:
                with graph.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    for file in graph.parent.rglob("*"):
                        if file == graph or file.suffix in (".json", ".txt"):  # no weights; each search takes its time
                            continue
                        if file.is_file() and content.find(file.name.encode()) >= 0:
                            yield file

    def _state(self) -> dict[str, tuple[int, int, int]]:
        return {self._relative(f): (s.st_ino, s.st_size, s.st_mtime_ns) for f in self._files() for s in [f.stat()]}

    def _relative(self, file: Path) -> str:
        return file.relative_to(self._folder.path).as_posix()


def _sha256(file: Path) -> str:
    hashed = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            hashed.update(chunk)
    return hashed.hexdigest()
