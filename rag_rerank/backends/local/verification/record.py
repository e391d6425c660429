"""The record of a model that gave its reference scores on this machine, so that its traces can say so.

A record is a small file in the assets folder of the Hugging Face cache (``HF_ASSETS_CACHE``). It is found by a hash of
all that decides whether the model is loaded rightly: its files, the backend and its settings, the release of this
package, and those of the libraries that run it. So another commit, precision or release has no record, and a trace says
nothing. The folder may be deleted at any time.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path

from rag_rerank._files import cache_folder, write
from rag_rerank._version import __version__
from rag_rerank.errors import ConfigError

__all__ = ["VerificationRecord", "delete_record", "find_record", "has_records", "library_versions", "write_record"]

_SCHEMA = 1
_LIBRARIES = ("onnxruntime", "tokenizers", "torch", "transformers", "sentence-transformers", "numpy")


@dataclass(frozen=True, kw_only=True)
class VerificationRecord:
    """What was verified, and when.

    Args:
        model: The model, with its revision.
        key: The hash of all that decides whether it is loaded rightly.
        scores: How many reference scores agree.
        values: Whether their values agree; otherwise only their order was compared.
        largest_difference: The largest difference of a logit from its published number; ``None`` for orders.
        date: When, in UTC.
        version: The release of this package.
    """

    model: str
    key: str
    scores: int
    values: bool
    largest_difference: float | None
    date: str = ""
    version: str = __version__

    @property
    def note(self) -> str:
        """The note for the trace."""
        if not self.values:
            return f"verified: the order of {self.scores} reference scores is the published one"
        within = "" if self.largest_difference is None else f", within {self.largest_difference:.2g} at most"
        return f"verified: {self.scores} reference scores agree{within}"


def library_versions() -> dict[str, str]:
    """Return the installed releases of the libraries that may run a model."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def has_records(name: str) -> bool:
    """Whether there is any record of a model; quick, so that only verified models are hashed for their key."""
    try:
        return any(_folder().glob(f"{_prefix(name)}-*.json"))
    except (OSError, ConfigError):
        return False


def find_record(name: str, key: str) -> VerificationRecord | None:
    """Return the record of a model under a key; ``None`` where there is none, or it cannot be read.

    Args:
        name: The model's id, or its folder in full.
        key: The hash that `VerificationRecord` has.
    """
    try:
        content = json.loads(_file(name, key).read_text(encoding="utf-8"))
        if content.pop("schema") != _SCHEMA:
            return None
        record = VerificationRecord(**content)
    except (OSError, ConfigError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return record if record.key == key else None


def write_record(name: str, record: VerificationRecord) -> str:
    """Keep a record; return why it could not be kept, or an empty text."""
    try:
        file = _file(name, record.key)
        file.parent.mkdir(parents=True, exist_ok=True)
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        content = {"schema": _SCHEMA, **asdict(record), "date": record.date or date}
        write(file, (json.dumps(content, indent=2) + "\n").encode())
    except (OSError, ConfigError) as error:
        return str(error)
    return ""


def delete_record(name: str, key: str) -> None:
    """Delete a record, if there is one: the model does not give its scores any more."""
    with suppress(OSError, ConfigError):
        _file(name, key).unlink(missing_ok=True)


def _folder() -> Path:
    return cache_folder("verified")


def _file(name: str, key: str) -> Path:
    return _folder() / f"{_prefix(name)}-{key[:32]}.json"


def _prefix(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:16]
