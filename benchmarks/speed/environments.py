"""The environments of the systems: what is installed in each, and how much disk space a system takes.

Peers whose pins agree share one. Only the standard library is needed, so that a bare Python can make them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]

PINS: dict[str, tuple[str, ...]] = {
    "ours": (".",),
    "light": ("fastembed==0.9.1", "flashrank==0.2.10"),
    "torch": (
        "torch==2.13.0",
        "sentence-transformers==6.2.0",
        "transformers==5.23.0",
        "rerankers==0.10.0",
        "matplotlib>=3.9",
        ".[torch]",
    ),
    "torch-onnx": (
        "torch==2.13.0",
        "sentence-transformers==5.7.0",
        "transformers==4.57.6",
        "optimum-onnx[onnxruntime]==0.1.0",
    ),
    "torch-openvino": (
        "torch==2.13.0",
        "sentence-transformers==6.2.0",
        "transformers==5.5.4",
        "optimum-intel==2.2.0",
        "openvino==2026.4.1",
    ),
}
"""Environment -> requirements for pip. These versions were tested together; torch is pinned exactly, because another
version may come with gigabytes for graphics cards. ``.`` is this project; measured is nevertheless the checkout, which
stands before the installed copy on the path of each worker."""

UNUSED: dict[str, tuple[str, ...]] = {"torch-openvino": ("torchvision",)}
"""Packages that are removed again: optimum-intel requires torchvision, whose build for CUDA does not load beside torch
for CPU, and transformers fails on it where it is installed; no text model needs it."""

_SIZE = """
import importlib.metadata as m, json, re, sys
from packaging.requirements import Requirement
todo, done = [Requirement(r) for r in sys.argv[1:]], {}
while todo:
    requirement = todo.pop()
    key = (re.sub(r"[-_.]+", "-", requirement.name).lower(), frozenset(requirement.extras))
    if key in done:
        continue
    try:
        distribution = done[key] = m.distribution(requirement.name)
    except m.PackageNotFoundError:  # removed again, see UNUSED
        continue
    for line in distribution.requires or ():
        needed = Requirement(line)
        if any(not needed.marker or needed.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
            todo.append(needed)
each = {name: distribution for (name, _), distribution in done.items()}
paths = {name: [file.locate() for file in distribution.files or ()] for name, distribution in each.items()}
sizes = {name: sum(path.stat().st_size for path in files if path.is_file()) for name, files in paths.items()}
print(json.dumps({"bytes": sum(sizes.values()), "distributions": len(sizes), "largest": max(sizes, key=sizes.get)}))
"""


def python(bench: Path, name: str) -> Path:
    """Return the interpreter of an environment."""
    return bench / "env" / name / ("Scripts" if os.name == "nt" else "bin") / "python"


def missing(bench: Path, name: str) -> str | None:
    """Return why an environment cannot be used, or ``None`` if it can."""
    note = _note(bench, name)
    if not note.is_file():
        return "not installed: run `make bench`"
    reason = json.loads(note.read_text(encoding="utf-8"))["failed"]
    return f"not installed: {reason}" if reason else None


def install(bench: Path) -> None:
    """Install the environments; one that is up to date stays. A failure is recorded and not raised."""
    for name, pins in PINS.items():
        note, inputs = _note(bench, name), [*pins, *UNUSED.get(name, ()), _own(pins)]
        if note.is_file() and json.loads(note.read_text(encoding="utf-8"))["asked"] == inputs:
            continue
        print(f"installing {name}: {' '.join(pins)}", flush=True)
        if not python(bench, name).is_file():
            venv.create(bench / "env" / name, with_pip=True)
        pip = [str(python(bench, name)), "-m", "pip", "--disable-pip-version-check"]
        done = subprocess.run([*pip, "install", "--quiet", *pins], cwd=ROOT, capture_output=True, text=True)
        if unused := UNUSED.get(name):
            subprocess.run([*pip, "uninstall", "--quiet", "--yes", *unused], capture_output=True, check=False)
        failed = (done.stderr.strip().splitlines() or ["pip failed"])[-1] if done.returncode else None
        if failed:
            print(f"  {done.stderr.strip()}", file=sys.stderr)
        note.write_text(json.dumps({"asked": inputs, "failed": failed}, indent=2), encoding="utf-8")


def size(bench: Path, name: str, *requirements: str) -> dict[str, int | str]:
    """Return the bytes on disk and the number of distributions that requirements bring into an environment."""
    command = [str(python(bench, name)), "-c", _SIZE, *requirements]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def versions(bench: Path, name: str) -> dict[str, str]:
    """Return every distribution of an environment with its version."""
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    output = subprocess.run([str(python(bench, name)), "-c", code], check=True, capture_output=True, text=True).stdout
    return dict(sorted(json.loads(output).items(), key=lambda pair: pair[0].lower()))


def _note(bench: Path, name: str) -> Path:
    return bench / "env" / name / "installed.json"


def _own(pins: tuple[str, ...]) -> str:
    """Return the project's own requirements, which an environment with this project depends on as well."""
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8") if any(pin[0] == "." for pin in pins) else ""
