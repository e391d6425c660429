"""What the files of the repository say of a release: versions, bounds, URLs, citation, checksums, lock."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from release.distributions import NotReady, Release

URLS = ("Documentation", "Changelog")
CATALOGUE = "rag_rerank/backends/local/catalogue.json"
LOCK = Path(".ci/constraints.txt")
OUTSIDE_LOCK = {"torch"}
"""What the lock does not pin: the Makefile names its version, and a machine chooses the build for its hardware."""


def check_clean(release: Release) -> str:
    """Everything is committed."""
    changes = git(release, "status", "--porcelain").splitlines()
    if changes:
        raise NotReady("not committed:", *changes)
    return f"commit {git(release, 'rev-parse', '--short', 'HEAD').strip()}"


def check_changelog(release: Release) -> str:
    """The changelog has a dated section for the version, and nothing is left under "Unreleased"."""
    date = release_date(release)
    if date is None:
        raise NotReady(f'CHANGELOG.md has no section "## {release.version} - YYYY-MM-DD"')
    text = (release.root / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased = re.search(r"^## Unreleased\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if unreleased and unreleased[1].strip():
        raise NotReady('CHANGELOG.md still has entries under "Unreleased"')
    return f"{release.version} of {date}"


def check_versions(release: Release) -> str:
    """All distributions have one version, and each one's bounds on the others let in this minor version alone."""
    version = Version(release.version)
    following = Version(f"{version.major}.{version.minor + 1}")
    problems = [
        f"{distribution.name} is {distribution.version}, and rag-rerank is {version}"
        for distribution in release.distributions
        if distribution.version != str(version)
    ]
    bounds = 0
    for distribution in release.distributions:
        for extra, requirements in distribution.requirements.items():
            for requirement in requirements:
                if requirement.name not in release.names - {distribution.name}:
                    continue
                bounds += 1
                if version not in requirement.specifier or following in requirement.specifier:
                    place = f"{distribution.name}[{extra}]" if extra else distribution.name
                    problems.append(f"{place} needs {requirement}: that must admit {version} and not {following}")
    if problems:
        raise NotReady(*problems)
    return f"{len(release.distributions)} distributions of {version}, {bounds} bounds on each other"


def check_urls(release: Release) -> str:
    """Each distribution has its project URLs, on https."""
    problems = []
    for distribution in release.distributions:
        urls = distribution.project.get("urls", {})
        problems += [f"{distribution.name} has no URL {name!r}" for name in URLS if name not in urls]
        problems += [
            f"{distribution.name}: {url} is not https" for url in urls.values() if not url.startswith("https://")
        ]
    if problems:
        raise NotReady(*problems)
    return ", ".join(URLS) + f" in {len(release.distributions)} distributions"


def check_citation(release: Release) -> str:
    """``CITATION.cff`` has the version, and the date of its section in the changelog; none before there is one."""
    citation = yaml.safe_load((release.root / "CITATION.cff").read_text(encoding="utf-8"))
    date = citation.get("date-released")
    version, stated = str(citation.get("version")), None if date is None else str(date)
    if (version, stated) != (release.version, release_date(release)):
        raise NotReady(
            f"CITATION.cff: version {version}, date-released {stated}; "
            f"it must be {release.version} and, as in CHANGELOG.md, {release_date(release)}"
        )
    return f"version {version}, " + (f"released {stated}" if stated else "not dated: no release yet")


def check_checksums(release: Release) -> str:
    """The files of each shipped model are those of its row in the catalogue."""
    rows = json.loads((release.root / CATALOGUE).read_text(encoding="utf-8"))["models"]
    stated = {row["id"]: row.get("sha256", {}) for row in rows if row.get("packaged")}
    folders = model_folders(release)
    problems, count = [], 0
    for folder in folders:
        sums, now = stated.get(folder.name, {}), checksums_of(folder)
        count += len(now)
        problems += [
            f"{folder.name}/{name}: {sums.get(name, 'no checksum')} in {CATALOGUE}, {now.get(name, 'no file')} here"
            for name in sorted({*sums, *now})
            if sums.get(name) != now.get(name)
        ]
    if problems:
        raise NotReady(*problems)
    return f"{count} files of {len(folders)} models"


def check_lock(release: Release) -> str:
    """The lock of CI pins each direct requirement of each extra and group, within its bounds."""
    pins = read_pins(release.root / LOCK)
    problems = []
    for distribution in release.distributions:
        for part, requirements in {**distribution.requirements, **distribution.groups}.items():
            for requirement in requirements:
                name = canonicalize_name(requirement.name)
                if name in OUTSIDE_LOCK or requirement.name in release.names:
                    continue
                if not any(requirement.specifier.contains(version, prereleases=True) for version in pins.get(name, ())):
                    problems.append(
                        f"{distribution.name}[{part}] needs {requirement}, and {LOCK} has {pins.get(name) or 'nothing'}"
                    )
    if problems:
        raise NotReady(*problems, "run: make release-renew")
    return f"{len(pins)} packages"


def release_date(release: Release) -> str | None:
    """Return the date of the version's section in the changelog; ``None`` where there is no such section."""
    text = (release.root / "CHANGELOG.md").read_text(encoding="utf-8")
    match = re.search(rf"^## \[?{re.escape(release.version)}\]? - (\d{{4}}-\d{{2}}-\d{{2}})$", text, re.MULTILINE)
    return match[1] if match else None


def model_folders(release: Release) -> list[Path]:
    """Return the folders of the models that distributions ship."""
    graphs = [*release.root.glob("rag_rerank/models/*/*.onnx"), *release.root.glob("integrations/*/*/*/*.onnx")]
    return sorted({graph.parent for graph in graphs})


def checksums_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that a model is loaded from: all but its card and the record of its export."""
    files = sorted(
        file for file in folder.iterdir() if file.is_file() and file.name not in ("README.md", "rag_rerank.json")
    )
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def read_pins(file: Path) -> dict[str, list[str]]:
    """Return the versions that a file of constraints pins: canonical name -> one version for each marker."""
    pins: dict[str, list[str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            pins.setdefault(canonicalize_name(requirement.name), []).append(pinned_version(requirement.specifier))
    return pins


def pinned_version(specifier: SpecifierSet) -> str:
    """Return the version of a specifier such as ``==1.2.3``.

    Raises:
        NotReady: It is no pin.
    """
    pins = [part.version for part in specifier if part.operator == "=="]
    if len(pins) != 1:
        raise NotReady(f"{LOCK}: {specifier} is no exact version")
    return pins[0]


def git(release: Release, *arguments: str) -> str:
    """Return what git prints."""
    return subprocess.run(["git", *arguments], cwd=release.root, capture_output=True, text=True, check=True).stdout
