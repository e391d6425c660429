"""Files and folders that are written whole or not at all; strict readers of JSON and YAML; hashes of files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, NoReturn, cast

from rag_rerank.errors import ConfigError, InputError, RerankError

if TYPE_CHECKING:
    from yaml import MappingNode

__all__ = [
    "ConfigPath",
    "FilePath",
    "absolute_path",
    "cache_folder",
    "check_folder",
    "expand_user",
    "new_folder",
    "parse_json",
    "parse_yaml",
    "path_from",
    "read_lines",
    "sha256_of",
    "write",
    "write_folder",
    "write_stream",
]

_BLOCK = 2**20
"""Bytes of a file that are read at a time."""

_GZIP = b"\x1f\x8b"


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` as the home directory. The name of an unknown user, ``~nobody``, is that of a folder.

    ``Path.expanduser`` raises a RuntimeError for both, and ``os.path.expanduser`` would leave a folder called ``~``.

    Raises:
        ConfigError: There is no home directory: no HOME, and a user id that the system does not know, as often in
            containers.
    """
    expanded = os.path.expanduser(path)  # noqa: PTH111 - see above
    if expanded.split(os.sep, 1)[0] == "~":
        raise ConfigError(f"{os.fspath(path)}: there is no home directory; set HOME, or name the path in full")
    return Path(expanded)


def path_from(folder: str | os.PathLike[str], path: str) -> str:
    """Return a path, written as seen from a folder, in full; an absolute one and one in a home directory as it is.

    It ends as the path was written: ``..`` stays, because a link before it would lead elsewhere without it. An empty
    folder is the working directory, from which a path is as it was written.
    """
    expanded = os.path.expanduser(path)  # noqa: PTH111 - as `expand_user`
    if not os.fspath(folder) or Path(expanded).is_absolute() or expanded.split(os.sep, 1)[0] == "~":
        return path
    return str(Path(folder) / path)  # without the "." of "./small"


class ConfigPath:
    """The mark of a config field that holds a path: ``Annotated[str, ConfigPath()]``.

    In a config file such a path is relative to the file's folder, and `rag_rerank.load` makes it absolute. A config
    that is a mapping in Python keeps its paths; they are relative to the working directory.

    Args:
        means_path: Whether a text of the field is a path, for a field that may hold something else: called with the
            text and the folder of the config file. By default every text is one.
    """

    def __init__(self, means_path: Callable[[str, str], bool] = lambda text, folder: True) -> None:
        self._means_path = means_path

    def resolve(self, text: str, folder: str) -> str:
        """Return the text of a field in a config file in this folder, with its path in full."""
        return path_from(folder, text) if text.strip() and self._means_path(text, folder) else text


FilePath = Annotated[str, ConfigPath()]
"""The type of a config field that is the path of a file or a folder; relative to the config file that names it."""


def absolute_path(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path with ``~`` as the home directory.

    Raises:
        ConfigError: There is no home directory, or the path begins in a current directory that was deleted.
    """
    try:
        return Path(os.path.abspath(expand_user(path)))  # noqa: PTH100 - Path.absolute keeps ".."
    except FileNotFoundError as error:
        raise ConfigError(
            f"{os.fspath(path)}: the current directory was deleted; name the path in full, or start elsewhere"
        ) from error


def cache_folder(name: str) -> Path:
    """Return a folder of ours in the assets of the Hugging Face cache (``HF_ASSETS_CACHE``); it may not exist yet.

    Raises:
        ConfigError: The cache is in a home directory, and there is none.
    """
    from huggingface_hub.constants import HF_ASSETS_CACHE

    try:
        return expand_user(HF_ASSETS_CACHE) / "rag-rerank" / name
    except ConfigError as error:
        raise ConfigError(
            "there is no home directory for the cache; set HF_HOME to a folder that can be written"
        ) from error


def write(file: Path, content: bytes, *, check: Callable[[Path], None] = lambda draft: None) -> None:
    """Write a file in one step; an existing one is replaced and keeps its permissions.

    Args:
        file: The file. A link stays, and its target is replaced; a device (``/dev/stdout``) is written to.
        content: The new content.
        check: Called with the draft, which has the file's ending, before anything is replaced; it may raise.

    Raises:
        ConfigError: The file cannot be written; an existing one stays as it was.
    """
    try:
        if file.exists() and not file.is_file() and not file.is_dir():
            file.write_bytes(content)
            return
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror or error}") from error
    with write_stream(file, check=check) as stream:
        stream.write(content)


@contextmanager
def write_stream(file: Path, *, check: Callable[[Path], None] = lambda draft: None) -> Iterator[IO[bytes]]:
    """Yield a stream to a draft, which becomes the file when the block ends without an error; as `write`.

    Raises:
        ConfigError: As `write`; the draft is removed.
    """
    import shutil  # loads compressors, which ranking does not need

    try:
        target = file.resolve()
        draft = target.with_name(f".{target.stem}-{os.urandom(4).hex()}{target.suffix}")
        try:
            with draft.open("xb") as stream:
                if target.exists():
                    shutil.copymode(target, draft)  # before the content, because a config may hold a key
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            check(draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror or error}") from error


def check_folder(file: Path) -> None:
    """Check before long work that its result can be written to a file.

    Raises:
        ConfigError: The file's folder does not exist, or the file is a folder.
    """
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"cannot write {file}: there is no such folder; make it first, or name another")
    if file.is_dir():
        raise ConfigError(f"cannot write {file}: it is a folder; name a file in it")


def new_folder(out: str | os.PathLike[str]) -> Path:
    """Check before long work that a folder can be made, and return its absolute path.

    Raises:
        ConfigError: The folder exists and is not empty, or its nearest existing parent does not let it be made.
    """
    target = Path(out).absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError(f"{target} exists already; name a folder that does not, or an empty one", path="out")
    parent = _nearest_parent(target)
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise ConfigError(
            f"no folder can be made in {parent}; name another place, or make that one writable", path="out"
        )
    return target


def _nearest_parent(target: Path) -> Path:
    return next(parent for parent in target.parents if parent.exists())


@contextmanager
def write_folder(out: Path) -> Iterator[Path]:
    """Yield an empty draft folder on the same disk, and move it to ``out`` when the block ends without an error.

    Args:
        out: The folder to make; it must not exist, or must be empty. Missing parents are made too.

    Raises:
        ConfigError: ``out`` is not empty or cannot be made, or the disk refused a write; the draft is removed.
    """
    from tempfile import TemporaryDirectory

    target = new_folder(out)
    parent = _nearest_parent(target)
    try:
        with TemporaryDirectory(dir=parent, prefix=".rag-rerank-draft-") as temporary:
            draft = Path(temporary) / "draft"
            draft.mkdir()
            yield draft
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                target.rmdir()
            draft.rename(target)
    except RerankError:
        raise
    except OSError as error:
        raise ConfigError(
            f"cannot write {target}: {error.strerror or error}; nothing is left of it", path="out"
        ) from error


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal digits; the file is never in memory as a whole.

    Raises:
        OSError: The file cannot be read.
    """
    from hashlib import sha256  # loads OpenSSL, which ranking does not need

    digest = sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def parse_json(text: str | bytes, *, unique_keys: bool = False) -> Any:
    """Return the value of a JSON text (RFC 8259).

    Args:
        text: The text; bytes are UTF-8, UTF-16 or UTF-32.
        unique_keys: Refuse an object that has a key twice; otherwise the last one counts.

    Raises:
        ValueError: It is not JSON (Python alone would also take NaN and Infinity), is nested too deeply, or repeats a
            key.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique if unique_keys else None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_unique(key for key, _ in pairs)
    return dict(pairs)


def parse_yaml(text: str) -> Any:
    """Return the value of a config file's YAML (1.1): one document of plain values.

    PyYAML reads configs although ruamel.yaml edits them: ruamel reads ``y``, ``n`` and ``1e3`` as other types, and its
    message about a repeated key quotes the values.

    Raises:
        ConfigError: It is not YAML, holds more than plain values, or repeats a key in a mapping. The message quotes
            no line, because a line may hold a key of a provider.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> MappingNode:
            node = super().compose_mapping_node(anchor)
            _check_unique(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            return node

    try:
        return yaml.load(text, Loader)  # a SafeLoader: plain values only
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = " ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(f"not valid YAML{where}: {what}") from None  # PyYAML's own message quotes the line
    except (yaml.YAMLError, ValueError, AttributeError, KeyError) as error:  # PyYAML's own are not all wrapped
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from error


def _check_unique(keys: Iterable[str]) -> None:
    earlier: set[str] = set()
    for key in keys:
        if key in earlier:
            raise ValueError(f"the key {key!r} occurs twice in one mapping, and the first would be lost; remove one")
        earlier.add(key)


def read_lines(file: Path | None) -> Iterator[tuple[int, bytes]]:
    """Yield each line of a file, plain or gzip, with its number from 1; ``None`` reads standard input.

    Only a line feed ends a line, with or without a carriage return; neither is part of the line, nor is a byte order
    mark at the start. gzip is recognised by its first bytes.

    Raises:
        InputError: The file cannot be read, is broken gzip, or is UTF-16.
    """
    import zlib

    name = "standard input" if file is None else file
    try:
        with _open_lines(file) as stream:
            for number, line in enumerate(stream, start=1):
                if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise InputError(f"{name} is UTF-16; save it as UTF-8")
                yield number, line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").rstrip(b"\r\n")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error


def _open_lines(file: Path | None) -> IO[bytes]:
    import gzip
    import io
    import sys

    if file is None:
        if sys.stdin is None or sys.stdin.closed:
            raise InputError("standard input is closed; name a file instead of -")
        content = sys.stdin.buffer.read()
        stream = io.BytesIO(content)
        return cast("IO[bytes]", gzip.open(stream, "rb")) if content.startswith(_GZIP) else stream
    raw = file.open("rb")
    if not raw.peek(2).startswith(_GZIP):
        return raw
    raw.close()
    return cast("IO[bytes]", gzip.open(file, "rb"))
