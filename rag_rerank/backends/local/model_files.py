"""The files of a model: where they are, what identifies them, and whether they change after loading."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rag_rerank._files import expand_user, sha256_of
from rag_rerank._lazy import need
from rag_rerank.backends.local import catalogue
from rag_rerank.backends.local.hub import HubModel
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
    "list_files",
    "locate",
    "model_name",
]

ONNX_FILES = ("onnx/model.onnx", "onnx/model.onnx_data", "model.onnx", "model.onnx_data", "*.json")
"""What the ``onnx`` backend reads from a repository."""

TORCH_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
"""What the ``torch`` backend reads from a repository: never pickled weights, never code (a chat template is text)."""

RECORDS = ("calibration.json", "training.json")
"""Files beside a model that decide no score: a calibration map is fitted for the identity of the model, so it cannot be
part of it, and writing one must not disturb those who use the model."""


_POSITIONS_AFTER_PADDING = frozenset(
    {
        *("camembert", "data2vec-text", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet"),
        *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
    }
)
"""``model_type`` of the models of transformers that count positions from the padding id + 1, so that as many rows of
their table of positions are never used. Padding is 1 where the config does not say, and always in MPNet."""

_UNLIMITED = 10**6
"""From here on a tokenizer's ``model_max_length`` is no limit: transformers writes 1e30 where there is none."""


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

        An OpenProvence model says how long its inputs are by default; a limit may be longer than that.

        Raises:
            ModelLoadError: The limit is more than the model can read.
        """
        longest = self.row.max_length if self.row else self._readable_length()
        if longest is None and limit is None:
            raise ModelLoadError(
                f"{self.name}: config.json names no max_position_embeddings, and tokenizer_config.json no "
                "model_max_length; give max_length, such as 512"
            )
        if limit is not None and longest is not None and limit > longest:
            raise beyond_window(self.name, longest, limit)
        default = self.config.get("max_length") if self.row is None and self._base_config else None
        return limit or min((n for n in (default, longest) if isinstance(n, int) and n > 0), default=0)

    @property
    def _base_config(self) -> Mapping[str, Any]:
        """The config of the cross-encoder that a model is made of, which OpenProvence has in its own; else empty."""
        base = self.config.get("base_model_config")
        return base if isinstance(base, dict) else {}

    def unpinned_note(self, revision: str | None) -> tuple[str, ...]:
        """Return a note for the trace where neither the user nor the catalogue names the revision of hub files."""
        pinned = revision or (self.row and self.row.revision)
        if pinned or not self.revision:
            return ()
        return (f"the revision is not pinned; files are of commit {self.revision}",)

    def _readable_length(self) -> int | None:
        config = self.config
        positions = {**self._base_config, **config}.get("max_position_embeddings", config.get("n_positions"))
        if isinstance(positions, int) and config.get("model_type") in _POSITIONS_AFTER_PADDING:
            pad = config.get("pad_token_id")
            positions -= (1 if pad is None or config["model_type"] == "mpnet" else int(pad)) + 1
        tokenizer = self.path / "tokenizer_config.json"
        declared = read_json(tokenizer, self.name).get("model_max_length") if tokenizer.is_file() else None
        limits = [positions] if isinstance(positions, int) and positions > 0 else []
        if isinstance(declared, (int, float)) and (limits or config.get("model_type")) and 0 < declared < _UNLIMITED:
            limits.append(int(declared))
        return min(limits, default=None)


def beyond_window(name: str, longest: int, limit: int) -> ModelLoadError:
    """Return the error for a window that a model cannot read."""
    return ModelLoadError(f"{name} reads at most {longest} tokens; max_length={limit} is beyond that")


def model_name(model: str, revision: str | None = None) -> str:
    """Return a model as traces name it, ``"org/name@revision"``, without access to disk or network.

    `build` takes that name. The commit that the catalogue pins is shortened; the hub knows no other short ones.
    """
    row = catalogue.row_of(model)
    pinned = row.revision[:12] if row and row.revision else None
    commit = pinned if revision is None or (row and revision == row.revision) else revision
    return f"{row.id if row else model}{f'@{commit}' if commit else ''}"


def languages_of(model: str) -> tuple[str, ...]:
    """Return the languages of a model, as codes or ``("multilingual",)``, without access to the network.

    They are those of the catalogue, or of the model card of a local folder (``language`` at the top of its README.md);
    empty where neither names them.
    """
    row = catalogue.row_of(model)
    if row is not None:
        return parse_languages(row.languages)
    card = expand_user(model) / "README.md"
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
    model: str,
    *,
    backend: str,
    revision: str | None,
    patterns: Sequence[str],
    complete: Callable[[Path], bool],
    choose: Callable[[Collection[str]], Sequence[str]] | None = None,
) -> ModelFolder:
    """Find a model's files, fetching them into the hub's cache where they are not there yet.

    Args:
        model: Alias or id of the catalogue, which no folder of that name can replace; a folder; or any id on the hub.
        backend: The backend that needs the files; errors name the command that fetches them for it.
        revision: Commit, branch or tag; ``None`` for the catalogue's pinned one, else the main branch.
        patterns: Which files are needed.
        complete: Whether a folder holds all that is needed.
        choose: Returns the patterns of the files to fetch, of all files that the hub has; by default those above.

    Raises:
        MissingExtraError: The model ships in a package of its own, which is not installed.
        ModelUnavailable: The cache lacks files, and the hub cannot be reached, fails, or may not be asked.
        ModelLoadError: No such folder, model or revision; or it is not open to this user.
    """
    model, revision = catalogue.parse_model(model, revision)
    row = catalogue.find(model)
    if row and row.packaged:
        return ModelFolder(_packaged_folder(row), row.id, None, row)
    folder = expand_user(model)
    if row is None and folder.is_dir():
        if revision is not None:
            raise ModelLoadError(f"{model} is a local folder; a revision only means something for a model on the hub")
        return ModelFolder(folder, model, None, None)
    if row is None and _is_path(model):
        raise ModelLoadError(f"no such folder: {model}")
    hub_model = _hub_model(model, row, backend, revision, patterns, complete)
    path = hub_model.fetch(choose)
    return ModelFolder(path, hub_model.id, path.name, row)


def _packaged_folder(row: catalogue.Model) -> Path:
    """Return the folder of a model that ships with this package or in one of its own.

    Raises:
        MissingExtraError: That package is not installed.
    """
    if not row.package:
        return Path(__file__).parents[2] / "models" / row.id
    package = need(row.package, extra=row.extra)
    return Path(package.__file__).parent / row.id


def is_cached(
    model: str, *, backend: str, revision: str | None, patterns: Sequence[str], complete: Callable[[Path], bool]
) -> bool:
    """Return whether `locate` would find all of a model's files without asking the hub."""
    row = catalogue.find(model)
    if row is None and (expand_user(model).is_dir() or _is_path(model)):
        return True  # if something is wrong with it, `locate` says what
    if row and row.packaged:
        return not row.package or find_spec(row.package) is not None
    return _hub_model(model, row, backend, revision, patterns, complete).find_cached() is not None


def list_files(model: str, *, backend: str, revision: str | None) -> list[str]:
    """Ask the hub once for the names of a model's files.

    Raises:
        ModelUnavailable: The hub cannot be reached, fails, or may not be asked.
        ModelLoadError: There is no such model or revision, or it is not open to this user.
    """
    return _hub_model(model, catalogue.find(model), backend, revision, (), Path.is_dir).list_files()


def _hub_model(
    model: str,
    row: catalogue.Model | None,
    backend: str,
    revision: str | None,
    patterns: Sequence[str],
    complete: Callable[[Path], bool],
) -> HubModel:
    return HubModel(
        model=model,
        id=row.id if row else model,
        revision=revision or (row.revision if row else None),
        user_revision=revision is not None,
        backend=backend,
        patterns=patterns,
        complete=complete,
    )


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
