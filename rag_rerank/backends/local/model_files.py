"""The files of a model: where they are, what identifies them, and whether they change after loading."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from rag_rerank._files import sha256_of
from rag_rerank.backends.local import catalogue
from rag_rerank.errors import ModelLoadError
from rag_rerank.text.languages import parse_languages

__all__ = [
    "ONNX_FILES",
    "RECORDS",
    "TORCH_FILES",
    "ModelFiles",
    "ModelFolder",
    "is_cached",
    "languages_of",
    "locate",
    "model_name",
]

ONNX_FILES = ("onnx/model.onnx", "onnx/model.onnx_data", "model.onnx", "model.onnx_data", "*.json")
"""What the ``onnx`` backend reads from a repository."""

TORCH_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")
"""What the ``torch`` backend reads from a repository: never pickled weights, never code."""

RECORDS = ("calibration.json", "training.json")
"""Files beside a model that decide no score: a calibration map is fitted for the identity of the model, so it cannot be
part of it, and writing one must not disturb those who use the model."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder with the files of a model.

    Args:
        path: The folder.
        name: Model id, or the folder as the user gave it.
        revision: Commit of the files, where they come from the hub.
        row: The model's row in the catalogue, if it has one.
    """

    path: Path
    name: str
    revision: str | None
    row: catalogue.Model | None

    @property
    def config(self) -> Mapping[str, Any]:
        """The transformers config of the model.

        Raises:
            ModelLoadError: ``config.json`` is absent or not JSON.
        """
        return read_json(self.path / "config.json", self.name)

    def max_length(self, limit: int | None) -> int:
        """Return the window in tokens: the user's limit, or else all that the model can read.

        Raises:
            ModelLoadError: The limit is more than the model can read.
        """
        longest = self.row.max_length if self.row else self._readable_length()
        if limit is not None and limit > longest:
            raise ModelLoadError(f"{self.name} reads at most {longest} tokens; max_length={limit} is beyond that")
        return limit or longest

    def unpinned_note(self, revision: str | None) -> tuple[str, ...]:
        """Return a note for the trace where neither the user nor the catalogue names the revision of hub files."""
        pinned = revision or (self.row and self.row.revision)
        if pinned or not self.revision:
            return ()
        return (f"the revision is not pinned; files are of commit {self.revision}",)

    def _readable_length(self) -> int:
        config = self.config
        positions = config.get("max_position_embeddings")
        if not isinstance(positions, int):
            raise ModelLoadError(f"{self.name}: config.json names no max_position_embeddings; give max_length")
        if config.get("model_type") in ("roberta", "xlm-roberta", "camembert"):
            positions -= int(config.get("pad_token_id") or 0) + 1  # these count positions from pad_token_id + 1
        tokenizer = self.path / "tokenizer_config.json"
        declared = read_json(tokenizer, self.name).get("model_max_length") if tokenizer.is_file() else None
        return min(positions, int(declared)) if declared else positions


def model_name(model: str, revision: str | None = None) -> str:
    """Return a model as traces name it, ``"org/name@revision"``, without access to disk or network."""
    row = catalogue.row_of(model)
    commit = revision or (row.revision if row else None)
    return f"{row.id if row else model}{f'@{commit[:12]}' if commit else ''}"


def languages_of(model: str) -> tuple[str, ...]:
    """Return the languages of a model, as codes or ``("multilingual",)``, without access to the network.

    They are those of the catalogue, or of the model card of a local folder (``language`` at the top of its README.md);
    empty where neither names them.
    """
    row = catalogue.row_of(model)
    if row is not None:
        return parse_languages(row.languages)
    card = Path(os.path.expanduser(model), "README.md")  # noqa: PTH111 - Path.expanduser raises on an unknown user
    if not card.is_file():
        return ()
    import yaml

    _, _, rest = card.read_text(encoding="utf-8", errors="replace").partition("---\n")
    try:
        data = yaml.safe_load(rest.partition("\n---")[0])
    except yaml.YAMLError:
        return ()
    return parse_languages(data.get("language")) if isinstance(data, dict) else ()


def locate(
    model: str, *, backend: str, revision: str | None, patterns: Sequence[str], complete: Callable[[Path], bool]
) -> ModelFolder:
    """Find a model's files, fetching them into the hub's cache where they are not there yet.

    Args:
        model: Alias or id of the catalogue, which no folder of that name can replace; a folder; or any id on the hub.
        backend: The backend that needs the files; errors name the command that fetches them for it.
        revision: Commit, branch or tag; ``None`` for the catalogue's pinned one, else the main branch.
        patterns: Which files to fetch.
        complete: Whether a folder holds all that is needed.

    Raises:
        ModelLoadError: No such folder, model or revision; or the hub cannot be reached and the cache lacks files.
    """
    row = catalogue.find(model)
    if row and row.packaged:
        return ModelFolder(Path(__file__).parents[2] / "models" / row.id, row.id, None, row)
    folder = Path(os.path.expanduser(model))  # noqa: PTH111 - Path.expanduser raises on an unknown user
    if row is None and folder.is_dir():
        if revision is not None:
            raise ModelLoadError(f"{model} is a local folder; a revision only means something for a model on the hub")
        return ModelFolder(folder, model, None, None)
    if row is None and _is_path(model):
        raise ModelLoadError(f"no such folder: {model}")
    name = row.id if row else model
    pinned = revision or (row.revision if row else None)
    path = _from_hub(name, pinned, backend, patterns, complete)
    return ModelFolder(path, name, path.name, row)


def is_cached(model: str, *, revision: str | None, patterns: Sequence[str], complete: Callable[[Path], bool]) -> bool:
    """Return whether `locate` would find all of a model's files without asking the hub."""
    row = catalogue.find(model)
    if row is None and (Path(os.path.expanduser(model)).is_dir() or _is_path(model)):  # noqa: PTH111
        return True  # if something is wrong with it, `locate` says what
    if row and row.packaged:
        return True
    name, pinned = (row.id, revision or row.revision) if row else (model, revision)
    return _from_cache(name, pinned, patterns, complete) is not None


def read_json(file: Path, name: str) -> Mapping[str, Any]:
    """Read a JSON object that belongs to a model.

    Raises:
        ModelLoadError: The file is absent, unreadable, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{name}: cannot read {file.name}: {error}") from error
    if not isinstance(content, dict):
        raise ModelLoadError(f"{name}: {file.name} holds no JSON object")
    return content


class ModelFiles:
    """The files that an engine loads and that `identity` covers; both must find the same files.

    Args:
        folder: The folder with the files.
        patterns: Which of its files count, as the hub reads such patterns (``*`` matches slashes too).
    """

    def __init__(self, folder: ModelFolder, patterns: Sequence[str]) -> None:
        self._folder = folder
        self._patterns = patterns
        self._first_state = self._state()

    @contextmanager
    def reading(self) -> Iterator[ModelFolder]:
        """Yield the folder for reading, and check before and after that its files have not changed since the beginning.

        Raises:
            ModelLoadError: A file was changed, added or removed.
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
            hashes = {self._relative(file): sha256_of(file) for file in (*self._files(), *self._external())}
        except OSError as error:
            raise ModelLoadError(f"{self._folder.name}: cannot read {error.filename}: {error.strerror}") from error
        return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()

    def _check(self) -> None:
        if self._state() != self._first_state:
            raise ModelLoadError(
                f"the files of {self._folder.name} changed while the model was in use; close() the reranker to go on "
                "with the new ones"
            )

    def _files(self) -> list[Path]:
        """Return the files that count; none for a commit of the hub, which cannot change."""
        if self._folder.revision:
            return []
        files = (file for file in self._folder.path.rglob("*") if file.is_file() and file.name not in RECORDS)
        return [file for file in files if any(fnmatch(self._relative(file), pattern) for pattern in self._patterns)]

    def _external(self) -> Iterator[Path]:
        """Yield the files with the weights of an ONNX graph; the graph holds their names as plain bytes."""
        for graph in self._files():
            if graph.suffix == ".onnx" and graph.stat().st_size:
                with graph.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    for file in graph.parent.rglob("*"):
                        if file == graph or file.suffix in (".json", ".txt"):  # never weights; each search takes time
                            continue
                        if file.is_file() and content.find(file.name.encode()) >= 0:
                            yield file

    def _state(self) -> dict[str, tuple[int, int, int]]:
        return {self._relative(f): (s.st_ino, s.st_size, s.st_mtime_ns) for f in self._files() for s in [f.stat()]}

    def _relative(self, file: Path) -> str:
        return file.relative_to(self._folder.path).as_posix()


def _is_path(model: str) -> bool:
    return model.startswith((".", "~", os.sep)) or os.sep * 2 in model or model.count("/") != 1


def _from_cache(
    name: str, revision: str | None, patterns: Sequence[str], complete: Callable[[Path], bool]
) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        cached = Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns), local_files_only=True))
    except HFValidationError as error:
        raise ModelLoadError(f"{name!r} is neither a folder nor a valid model id: {error}") from error
    except LocalEntryNotFoundError:
        return None
    return cached if complete(cached) else None


def _from_hub(
    name: str, revision: str | None, backend: str, patterns: Sequence[str], complete: Callable[[Path], bool]
) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    cached = _from_cache(name, revision, patterns, complete)
    if cached is not None:
        return cached
    try:
        path = Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except LocalEntryNotFoundError as error:
        raise ModelLoadError(
            f"{name} is not in the local cache and the hub cannot be reached; fetch it where there is a network with: "
            f"rag-rerank pull {backend}:{name}"
        ) from error
    except Exception as error:  # the hub's client lets errors of its HTTP library through
        raise ModelLoadError(f"cannot fetch {name} at revision {revision or 'main'}: {_first_line(error)}") from error
    if not complete(path):
        raise ModelLoadError(
            f"{name} at revision {path.name} lacks files needed here ({', '.join(patterns)}); if there was no "
            f"network to fetch them from, run where there is one: rag-rerank pull {backend}:{name}"
        )
    return path


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
