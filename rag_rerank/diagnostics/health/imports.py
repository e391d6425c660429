"""Whether installed packages can be imported, and what the runtimes of models find on this machine."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rag_rerank import registry
from rag_rerank.backends.api.message_redaction import redacted_message
from rag_rerank.diagnostics.health.finding import Finding, Level, Subject
from rag_rerank.diagnostics.health.missing import kind_of

__all__ = ["CORE", "Import", "check_imports", "import_modules"]

CORE: Mapping[str, str] = MappingProxyType(
    {
        "bm25s": "bm25s",
        "filelock": "filelock",
        "huggingface_hub": "huggingface-hub",
        "numpy": "numpy",
        "onnx": "onnx",
        "onnxruntime": "onnxruntime",
        "packaging": "packaging",
        "pydantic": "pydantic",
        "yaml": "PyYAML",
        "ruamel.yaml": "ruamel.yaml",
        "tenacity": "tenacity",
        "tokenizers": "tokenizers",
    }
)
"""Module that this package always needs -> its distribution."""

_PARTS_OF_EXTRAS = ("torch", "lmdb", "tiktoken", "fastapi")
"""Modules of extras that no type of `registry.EXTRAS` names, and that hold compiled code or much code."""

_SECONDS = 120.0
"""Seconds for all imports: PyTorch on a busy machine with a cold disk takes half a minute."""


@dataclass(frozen=True)
class Import:
    """How the import of a module ended: with an error or without one, and what it found."""

    error: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)


def check_imports(subject: Subject) -> Iterator[Finding]:
    """Yield the packages that are installed and cannot be imported, and what the runtimes find."""
    needed = {*CORE, *_modules_of(subject)}
    more = {package for package, _ in registry.EXTRAS.values()} | {*_PARTS_OF_EXTRAS} if subject.full else set()
    modules = [name for name in sorted({*needed, *more}) if find_spec(name.partition(".")[0]) is not None]
    outcomes = import_modules(modules)
    if not outcomes:
        yield Finding("import", "warning", "python", "no second Python could be started, so nothing was imported")
        return
    errors = {name: outcome.error for name, outcome in outcomes.items() if outcome.error is not None}
    for name, error in errors.items():
        package = CORE.get(name, name.replace("_", "-"))
        advice = f"pip install --force-reinstall {package}"
        if "SIGILL" in str(error):
            advice += "; its wheel needs instructions that this processor lacks: look for one that does not"
        level: Level = "problem" if name in needed else "warning"
        yield Finding("import", level, name, f"it is installed and cannot be imported: {error}", advice)
    if not errors:
        yield Finding("import", "ok", "imports", f"{len(outcomes)} packages can be imported")
    yield from _describe_runtimes(outcomes)


def import_modules(modules: Sequence[str], *, seconds: float = _SECONDS) -> dict[str, Import]:
    """Import modules in a process of its own, and return how each import ended.

    Modules behind one that ended the process are imported in another process. An empty mapping means that no process
    could be started.
    """
    outcomes: dict[str, Import] = {}
    rest = list(modules)
    while rest:
        batch = _import_batch(rest, seconds)
        if not batch:
            return {}
        outcomes.update(batch)
        rest = [name for name in rest if name not in batch]
    return outcomes


def _import_batch(modules: Sequence[str], seconds: float) -> dict[str, Import]:
    """Import modules until one ends the process."""
    request = json.dumps({"path": sys.path, "modules": list(modules)})
    probe = Path(__file__).with_name("import_probe.py")
    try:
        process = subprocess.run(
            [sys.executable, str(probe)], input=request, capture_output=True, text=True, timeout=seconds, check=False
        )
        output, end = process.stdout, _describe_end(process.returncode)
    except subprocess.TimeoutExpired as error:
        text = error.stdout or b""
        output, end = text.decode() if isinstance(text, bytes) else text, f"it took longer than {seconds:g} s"
    except (OSError, ValueError):
        return {}
    outcomes, running = {}, None
    for line in output.splitlines():
        row: dict[str, Any] = {}
        with suppress(ValueError):  # half a line of a process that was ended
            row = json.loads(line)
        running = row.get("begin", running)
        if "end" in row:
            message = None if row["error"] is None else redacted_message(row["error"], "", ())
            outcomes[row["end"]], running = Import(message, row["facts"]), None
    if running is not None:
        outcomes[running] = Import(f"the import ended the process ({end})")
    return outcomes


def _describe_end(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _modules_of(subject: Subject) -> set[str]:
    kinds = {kind_of(part) for part in subject.parts}
    modules = {registry.EXTRAS[kind][0] for kind in kinds if kind in registry.EXTRAS}
    return modules | ({"torch"} if "sentence_transformers" in modules else set())


def _describe_runtimes(outcomes: Mapping[str, Import]) -> Iterator[Finding]:
    if facts := outcomes.get("onnxruntime", Import()).facts:
        providers = ", ".join(facts["providers"])
        yield Finding("runtime", "ok", "onnxruntime", f"{facts['version']}, providers: {providers}")
    if facts := outcomes.get("torch", Import()).facts:
        devices = ", ".join(facts["gpus"]) or ("Apple's GPU (mps)" if facts["mps"] else "no GPU")
        yield Finding("runtime", "ok", "torch", f"{facts['version']}: {devices}; {facts['threads']} threads")
        if not facts["gpus"] and _has_nvidia_gpu():
            what = "the system has an NVIDIA driver, and PyTorch finds no GPU"
            advice = "install the build of torch for your CUDA version; in a container, pass the GPU (--gpus all)"
            yield Finding("runtime", "warning", "torch", what, advice)


def _has_nvidia_gpu() -> bool:
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None
