"""Files and JSON: written whole or not at all, read strictly, hashed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rag_rerank.errors import ConfigError, RerankError

if TYPE_CHECKING:
    from yaml import MappingNode

__all__ = ["check_folder", "new_folder", "parse_json", "parse_yaml", "parsed", "sha256_of", "write", "write_folder"]


def write(file: Path, content: bytes, *, check: Callable[[Path], None] = lambda draft: None) -> None:
    """Write a file; one that was there is replaced and keeps its permissions.

    Args:
        file: The file. Of a link, what it points to is replaced; what is no file (``/dev/stdout``) is written to.
        content: What it will hold.
        check: Is shown the draft, which has the file's ending, before anything is replaced, and may raise.

    Raises:
        ConfigError: It cannot be written; what was there stays.
    """
    import shutil  # which loads compressors; nobody who only ranks needs them

    try:
        if file.exists() and not file.is_file() and not file.is_dir():
            file.write_bytes(content)
            return
        target = file.resolve()
        draft = target.with_name(f".{target.stem}-{os.urandom(4).hex()}{target.suffix}")
        try:
            with draft.open("xb") as stream:
                if target.exists():
                    shutil.copymode(target, draft)  # before it holds anything: a config may hold a key
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            check(draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror or error}") from error


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of the contents of a file, in hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    from hashlib import sha256

    digest = sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def check_folder(file: Path) -> None:
    """Find out before the work, not after it, that a file has no folder to lie in, or is one.

    Raises:
        ConfigError: There is no such folder, or the file is a folder.
    """
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"cannot write {file}: there is no such folder")
    if file.is_dir():
        raise ConfigError(f"cannot write {file}: it is a folder; name a file in it")


def new_folder(out: str | os.PathLike[str]) -> Path:
    """Find out before the work, not after it, that a folder can be made, and return its absolute path.

    Raises:
        ConfigError: It holds something, or there is no place for it.
    """
    target = Path(out).absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError(f"{target} exists already; name a folder that does not, or an empty one", path="out")
    nearest = _nearest(target)
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        raise ConfigError(f"no folder can be made in {nearest}", path="out")
    return target


def _nearest(target: Path) -> Path:
    return next(parent for parent in target.parents if parent.exists())


@contextmanager
def write_folder(out: Path) -> Iterator[Path]:
    """Let a folder be filled elsewhere on the same disk, and put it in place when all of it is there.

    Yields the draft, an empty folder.

    Args:
        out: The folder to make; it must not exist, or be empty. Its parents are made.

    Raises:
        ConfigError: ``out`` holds something or cannot be made, or the disk refused a write; nothing new is left there.
    """
    from tempfile import TemporaryDirectory

    target = new_folder(out)
    nearest = _nearest(target)
    try:
        with TemporaryDirectory(dir=nearest, prefix=".rag-rerank-draft-") as temporary:
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


def parsed(text: str | bytes) -> Any:
    """Return the value of a JSON text (RFC 8259).

    Raises:
        ValueError: It is not JSON: Python alone would also take NaN and Infinity. Or it is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def parse_json(text: str) -> Any:
    """Read JSON.

    Raises:
        ConfigError: It is not JSON, or a key stands twice in one object.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ConfigError(f"not valid JSON: {error}") from error


def parse_yaml(text: str) -> Any:
    """Read one YAML document of plain values.

    Raises:
        ConfigError: It is not YAML, holds more than plain values, or a key stands twice in one mapping.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> MappingNode:
            node = super().compose_mapping_node(anchor)
            _refuse_repeated(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            return node

    try:
        return yaml.load(text, Loader)  # a SafeLoader: plain values only
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = " ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(f"not valid YAML{where}: {what}") from None  # its own message quotes the line, key and all
    except (yaml.YAMLError, ValueError, AttributeError) as error:  # PyYAML lets a date like 2024-99-99 through
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_repeated(key for key, _ in pairs)
    return dict(pairs)


def _refuse_repeated(keys: Iterable[str]) -> None:
    seen = set()
    for key in keys:
        if key in seen:
            raise ConfigError(f"the key {key!r} stands twice in one mapping; the first would be lost")
        seen.add(key)
