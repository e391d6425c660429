"""Whether the packages are here, in the versions that this package and its adapters ask for."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING

from rag_rerank import registry
from rag_rerank._version import __version__
from rag_rerank.diagnostics.health.finding import Finding, Level, Subject
from rag_rerank.diagnostics.health.missing import kind_of

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = [
    "OWN",
    "PURPOSES",
    "Extra",
    "check_packages",
    "check_python",
    "find_extras",
    "find_versions",
    "needed_extras",
]

OWN = "rag-rerank"

ADAPTERS = (
    "langchain-rag-rerank",
    "llama-index-postprocessor-rag-rerank",
    "rag-rerank-haystack",
    "rag-rerank-multilingual",
)
"""Distributions that are released with this one."""

PURPOSES: Mapping[str, str] = MappingProxyType(
    {
        "bedrock": "the rerank models of Amazon Bedrock",
        "cohere": "Cohere's API",
        "datasets": "judged queries by ir_datasets",
        "eval": "rag-rerank eval and calibrate",
        "http": "servers and providers by HTTP, decision models",
        "llm": "language models",
        "ltr": "learning to rank",
        "mcp": "rag-rerank mcp",
        "multilingual": "the model embedded-multilingual",
        "otel": "OpenTelemetry",
        "parquet": "Parquet files in batches",
        "ray": "batches on Ray",
        "serve": "rag-rerank serve",
        "store": "stores of vectors on disk",
        "tiktoken": "tokenizers of OpenAI",
        "torch": "models by PyTorch",
        "train": "rag-rerank train",
        "voyage": "Voyage's API",
    }
)
"""Extra -> what it is for."""

_SAME_MODULE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-rocm")}
)
"""Distribution -> others that bring the same module."""


@dataclass(frozen=True)
class Extra:
    """An extra, and which of its packages are installed.

    Args:
        name: Its name.
        requirements: What it asks for, without what the package itself needs.
        versions: The installed version of each; ``None`` where it is absent.
    """

    name: str
    requirements: tuple[Requirement, ...]
    versions: Mapping[str, str | None]

    @property
    def is_installed(self) -> bool:
        """Whether all of its packages are here."""
        return None not in self.versions.values()


def check_python(subject: Subject) -> Iterator[Finding]:
    """Yield the versions of this package, of Python and of the system."""
    python = f"Python {platform.python_version()} ({platform.python_implementation()})"
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield Finding("python", "ok", OWN, f"{__version__} on {python}, {system}")
    try:
        installed = distribution(OWN)
    except PackageNotFoundError:
        what = "it runs from a folder and is not installed, so the versions of packages are not checked"
        yield Finding("python", "warning", OWN, what, "pip install rag-rerank")
        return
    if installed.version != __version__:
        what = f"the files are of {__version__}, and the installed package says {installed.version}: two installations"
        yield Finding("python", "warning", OWN, what, "pip install --force-reinstall rag-rerank; look at PYTHONPATH")


def check_packages(subject: Subject) -> Iterator[Finding]:
    """Yield which packages are absent or out of their bounds: of this one, of its extras, of its adapters."""
    own = _requirements(OWN)
    if own is None:
        return
    yield from _check_bounds(OWN, _always_needed(own), is_needed=True)
    yield from _check_twins()
    needed = needed_extras(subject)
    extras = find_extras()
    for extra in extras:
        rows = [row for row in extra.requirements if extra.versions[row.name] is not None]
        findings = _check_bounds(f"{OWN}[{extra.name}]", rows, is_needed=extra.name in needed)
        yield from (finding for finding in findings if finding.level != "ok")
    here = [extra.name for extra in extras if extra.is_installed]
    absent = [f"{name} ({PURPOSES[name]})" if name in PURPOSES else name for name in _absent(extras)]
    yield Finding("extra", "ok", "extras that are installed", ", ".join(here) or "none")
    yield Finding("extra", "ok", "extras that are not", ", ".join(absent) or "none")
    for name in ADAPTERS:
        yield from _check_bounds(name, _always_needed(_requirements(name) or ()), is_needed=True)
    for point in entry_points(group=registry.PLUGIN_GROUP):
        owner = f"{point.dist.name} {point.dist.version}" if point.dist else "another distribution"
        yield Finding("plugin", "ok", point.name, f"a type of {owner}")


def _absent(extras: list[Extra]) -> list[str]:
    return [extra.name for extra in extras if not extra.is_installed]


def needed_extras(subject: Subject) -> set[str]:
    """Return the extras that the config needs."""
    rows = (registry.EXTRAS.get(kind_of(part)) for part in subject.parts)
    return {row[1] for row in rows if row is not None}


def find_extras() -> list[Extra]:
    """Return the extras of this package, without ``all``; none if it is not installed."""
    own = _requirements(OWN) or []
    core = {row.name for row in _always_needed(own)}

    def rows_of(extra: str) -> Iterator[Requirement]:
        for row in own:
            if row.marker is not None and row.name not in core and row.marker.evaluate({"extra": extra}):
                if row.name == OWN:
                    for inner in sorted(row.extras):
                        yield from rows_of(inner)
                else:
                    yield row

    names = sorted(set(distribution(OWN).metadata.get_all("Provides-Extra") or ()) - {"all"}) if own else []
    extras = []
    for name in names:
        rows = tuple(rows_of(name))
        extras.append(Extra(name, rows, {row.name: _version(row.name) for row in rows}))
    return extras


def find_versions() -> dict[str, str]:
    """Return the versions of this package and of all that it, its extras and its adapters ask for, where installed."""
    rows = [row.name for name in (OWN, *ADAPTERS) for row in _requirements(name) or ()]
    names = {name: _version(name) for name in (OWN, *ADAPTERS, *rows)}
    versions = {name: version for name, version in names.items() if version is not None}
    return {"python": platform.python_version(), **dict(sorted(versions.items(), key=lambda row: row[0].lower()))}


def _check_bounds(where: str, rows: list[Requirement], *, is_needed: bool) -> Iterator[Finding]:
    """Yield the packages that are absent or out of bounds, or one line with all versions if none is."""
    versions = {row.name: _version(row.name) for row in rows}
    level: Level = "problem" if is_needed else "warning"
    is_right = True
    for row in rows:
        version = versions[row.name]
        bounds = f'"{row.name}{row.specifier}"'
        if version is None:
            is_right = False
            yield Finding(
                "package", level, row.name, f"{where} needs it, and it is not installed", f"pip install {bounds}"
            )
        elif not row.specifier.contains(version, prereleases=True):
            is_right = False
            what = f"version {version} is installed, and {where} needs {row.specifier}"
            yield Finding("package", level, row.name, what, f"pip install {bounds}")
    if is_right and rows:
        version_of_owner = _version(where)
        owner = f"{version_of_owner} with " if version_of_owner and where != OWN else ""
        yield Finding(
            "package", "ok", where, owner + ", ".join(f"{name} {version}" for name, version in versions.items())
        )


def _check_twins() -> Iterator[Finding]:
    """Yield the distributions that overwrite each other's files."""
    for name, twins in _SAME_MODULE.items():
        here = [twin for twin in (name, *twins) if _exact_version(twin) is not None]
        if len(here) > 1:
            what = f"{' and '.join(here)} are both installed, and each overwrites the files of the other"
            yield Finding("package", "warning", name, what, f"pip uninstall {' '.join(here)}, then install one of them")


def _always_needed(rows: Iterable[Requirement]) -> list[Requirement]:
    """Return the requirements that hold on this system without any extra."""
    return [row for row in rows if row.marker is None or row.marker.evaluate({"extra": ""})]


def _version(name: str) -> str | None:
    """Return the installed version of a distribution, or of another one with the same module."""
    versions = map(_exact_version, (name, *_SAME_MODULE.get(name, ())))
    return next((version for version in versions if version is not None), None)


def _exact_version(name: str) -> str | None:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None


def _requirements(name: str) -> list[Requirement] | None:
    """Return what an installed distribution asks for on this system; ``None`` if it is not installed."""
    from packaging.requirements import Requirement

    try:
        texts = distribution(name).requires or []
    except PackageNotFoundError:
        return None
    return [Requirement(text) for text in texts]
