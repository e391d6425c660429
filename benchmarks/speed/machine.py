"""The machine and the versions of a run."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.speed import environments
from benchmarks.speed.systems import SYSTEMS

FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16")
PACKAGES = (
    "torch", "transformers", "sentence-transformers", "onnxruntime", "tokenizers", "numpy", "flashrank", "fastembed",
    "rerankers", "optimum-onnx", "optimum-intel", "openvino",
)  # fmt: skip


def describe(bench: Path) -> dict[str, Any]:
    """Return processor, memory, versions of relevant packages, and the commit of the checkout; nothing names a user."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = {name.strip(): rest.strip() for name, _, rest in (line.partition(":") for line in lines)}
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=environments.ROOT, capture_output=True, text=True
    ).stdout.strip()
    names = sorted({system.environment for system in SYSTEMS.values()})
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit,
        "cpu": cpu.get("model name", platform.processor()),
        "flags": [flag for flag in FLAGS if flag in cpu.get("flags", "").split()],
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": os.getloadavg(),
        "versions": {name: _versions(bench, name) for name in names if not environments.missing(bench, name)},
    }


def _versions(bench: Path, name: str) -> dict[str, str]:
    versions = {key.lower().replace("_", "-"): version for key, version in environments.versions(bench, name).items()}
    return {package: versions[package] for package in PACKAGES if package in versions}
