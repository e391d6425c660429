"""What a reranker and those inside it need, and this machine does not have: packages, keys, files of models."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from rag_rerank import registry
from rag_rerank.base import Reranker
from rag_rerank.diagnostics.health.finding import Finding, Subject, error_finding
from rag_rerank.errors import ConfigError, MissingExtraError, ModelLoadError, UnusableKey

__all__ = ["check_needs", "find_missing", "kind_of"]


def check_needs(subject: Subject) -> Iterator[Finding]:
    """Yield what the config needs and this machine lacks."""
    findings = [] if subject.reranker is None else find_missing(subject.reranker)
    yield from findings
    if subject.reranker is not None and not findings:
        yield Finding("needs", "ok", subject.reranker.label, "its packages, keys and files are here")


def find_missing(reranker: Reranker) -> list[Finding]:
    """Return what a reranker and those inside it need, and this machine does not have; each thing once.

    Nothing is loaded, downloaded or sent.
    """
    return list(dict.fromkeys(finding for part in reranker.walk() for finding in _find_own(part)))


def kind_of(reranker: Reranker) -> str:
    """Return the type of a reranker, and of ``auto`` the one that its files choose; empty if they are not here."""
    from rag_rerank.backends.auto import AutoReranker

    if not isinstance(reranker, AutoReranker):
        return reranker.kind
    try:
        return reranker.backend.kind if reranker.is_cached() else ""
    except ModelLoadError:
        return ""


def _find_own(reranker: Reranker) -> Iterator[Finding]:
    """Yield what a reranker itself needs."""
    yield from _find_files(reranker)
    package, extra = registry.EXTRAS.get(kind_of(reranker), (None, None))
    if package is not None:
        yield from _find_package(reranker, package, extra)
    yield from _find_key(reranker)
    yield from _find_model(reranker)


def _find_key(reranker: Reranker) -> Iterator[Finding]:
    from rag_rerank.backends.api.base import ApiReranker

    if isinstance(reranker, ApiReranker):
        try:
            reranker.check_environment()
        except (ConfigError, UnusableKey) as error:
            yield error_finding("key", reranker.label, error, "set the variable where this process is started")


def _find_model(reranker: Reranker) -> Iterator[Finding]:
    from rag_rerank.backends.local.base import LocalReranker

    if not isinstance(reranker, LocalReranker):
        return
    label, page = reranker.label, ModelLoadError.page
    try:
        if not reranker.is_cached():
            yield Finding("model", "problem", label, "its files are not here", f"rag-rerank pull {label}", page)
        elif not reranker.complete(reranker.fetch().path):  # a folder; no hub is asked
            what = f"its folder lacks files that {kind_of(reranker)} reads"
            yield Finding("model", "problem", label, what, "export the model again, or name its folder", page)
    except (ModelLoadError, MissingExtraError) as error:
        yield error_finding("model", label, error)


def _find_files(reranker: Reranker) -> Iterator[Finding]:
    """Yield what is wrong with the calibration map, the tokenizer or the store that a reranker names."""
    from rag_rerank.backends.local.kept_vectors.base import VectorReranker
    from rag_rerank.backends.local.kept_vectors.opening import StoreSettings
    from rag_rerank.compose import AnswerabilityMap, Answerable, Calibrated, CalibrationMap, Windows
    from rag_rerank.text.tokenizers import is_tokenizer_file, tokens

    try:
        if isinstance(reranker, Calibrated) and not isinstance(reranker.map, CalibrationMap):
            CalibrationMap.load(reranker.map)
        if isinstance(reranker, Answerable) and not isinstance(reranker.map, AnswerabilityMap):
            AnswerabilityMap.load(reranker.map)
        if isinstance(reranker, Windows) and reranker.tokenizer is not None:
            if is_tokenizer_file(reranker.tokenizer):
                tokens(reranker.tokenizer)
            else:
                yield from _find_package(reranker, "tiktoken", "tiktoken")
        store = reranker.store if isinstance(reranker, VectorReranker) else None
        if isinstance(store, StoreSettings) and store.path is not None:
            yield from _find_package(reranker, "lmdb", "store")
    except (ConfigError, ModelLoadError) as error:
        yield error_finding("file", reranker.label, error)


def _find_package(reranker: Reranker, package: str, extra: str | None) -> Iterator[Finding]:
    if find_spec(package) is None:
        what, page = f"{package} is not installed", MissingExtraError.page
        yield Finding("package", "problem", reranker.label, what, f'pip install "rag-rerank[{extra}]"', page)
