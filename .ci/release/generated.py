"""The files that a release renews: the lock of CI and the page of licences."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release.distributions import Distribution, NotReady, Release
from release.environments import run_uv
from release.tree import LOCK, OUTSIDE_LOCK

LICENCES = Path("docs/reference/licences.md")

COPYLEFT = re.compile(r"GPL|MPL|EPL|CDDL|EUPL|SSPL|Mozilla|General Public|proprietary|other", re.IGNORECASE)
"""What a reader may want to look at: all but permissive licences."""

_TORCH = """\
[[dependency-metadata]]
name = "torch"
requires-dist = ["filelock", "fsspec", "jinja2", "networkx", "setuptools", "sympy", "typing-extensions"]
"""
"""Settings of uv: what every build of torch needs, without the CUDA libraries of some."""

_LOCK_HEADER = """\
# The versions of all that CI installs, on every Python that it runs. `make release-renew` writes this file, and CI
# gives it to pip as PIP_CONSTRAINT, so that a new release of a dependency breaks no unrelated change.
# Without torch: the Makefile names its version, and each machine chooses the build for its hardware.
# Without hashes: pip takes none beside projects that are installed in place, and an index may serve rebuilt wheels.
"""

_PAGE = """\
---
description: The licence of each package that rag-rerank, its extras and its adapters install.
---

# Licences of dependencies

`make release-renew` writes this page from the metadata of the packages in an environment with everything that can be
installed. It names each licence as its authors do, and judges nothing. `rag-rerank` itself is under Apache-2.0;
[NOTICE](../../NOTICE) has the sources of the models and texts that it ships.

| what you install | packages, beside those of `rag-rerank` |
|---|---|
{counts}

PyTorch from PyPI also installs NVIDIA's CUDA libraries on Linux, under NVIDIA's own licences. Its CPU build, which this
list is made from, does not.

## Not permissive, or not only

{copyleft}

## All

"Needed by" is `rag-rerank` where everybody gets the package, else the extras and adapters that bring it.

{all}
"""


def renew(release: Release) -> None:
    """Write the files anew."""
    (release.root / LOCK).write_text(lock(release), encoding="utf-8")
    (release.root / LICENCES).write_text(licences_page(release), encoding="utf-8")


def lock(release: Release) -> str:
    """Return the newest versions of everything that all extras and groups need, one line a package and marker."""
    settings = release.scratch / "uv.toml"
    settings.write_text(_TORCH, encoding="utf-8")
    places = {
        distribution.folder.relative_to(release.root).as_posix(): distribution for distribution in release.distributions
    }
    projects = [f"-e ./{place}[{','.join(distribution.extras)}]" for place, distribution in places.items()]
    groups = [
        f"{place}/pyproject.toml:{group}" for place, distribution in places.items() for group in distribution.groups
    ]
    left_out = sorted(OUTSIDE_LOCK | release.names)
    compiled = run_uv(
        *("--config-file", str(settings), "pip", "compile", "--quiet", "--universal", "--python-version", "3.10"),
        *("--no-header", "--no-annotate", "--upgrade"),
        *(word for group in groups for word in ("--group", group)),
        *(word for name in left_out for word in ("--no-emit-package", name)),
        "-",
        root=release.root,
        input="\n".join([*projects, *_build_requirements(release), "pip", "setuptools", "uv"]),
    )
    pins = [line for line in compiled.splitlines() if not line.startswith("-e ")]
    return _LOCK_HEADER + "\n".join(pins) + "\n"


def check_licences(release: Release) -> str:
    """The page of licences is that of the installed packages, and none is unknown."""
    rows = licences(release)
    unknown = sorted(name for name, licence in rows.items() if licence in ("", "UNKNOWN"))
    if unknown:
        raise NotReady("no licence in the metadata of:", *unknown)
    page = release.root / LICENCES
    if not page.is_file() or page.read_text(encoding="utf-8") != licences_page(release):
        raise NotReady(f"{LICENCES} is not up to date; run: make release-renew")
    flagged = sum(bool(COPYLEFT.search(licence)) for licence in rows.values())
    return f"{len(rows)} packages, {flagged} not permissive or not only; {LICENCES} is up to date"


def licences_page(release: Release) -> str:
    """Return the page of licences."""
    needed = needed_by(release)
    found = licences(release)
    rows = {name: f"| {name} | {found[name]} | {_places(needed[name])} |" for name in sorted(needed)}
    head = "| package | licence | needed by |\n|---|---|---|\n"
    places = ["rag-rerank", *sorted({place for places in needed.values() for place in places} - {"rag-rerank"})]
    counts = [f"| `{place}` | {sum(place in places for places in needed.values())} |" for place in places]
    return _PAGE.format(
        counts="\n".join(counts),
        copyleft=head + "\n".join(row for name, row in rows.items() if COPYLEFT.search(found[name])),
        all=head + "\n".join(rows.values()),
    )


def licences(release: Release) -> dict[str, str]:
    """Return the licence of each package that some distribution or extra installs."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json", "--with-system"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    known = {canonicalize_name(row["Name"]): row["License"].strip().splitlines()[0] for row in json.loads(run.stdout)}
    return {name: known[name] for name in needed_by(release)}


def needed_by(release: Release) -> dict[str, set[str]]:
    """Return for each package, by canonical name, the distributions and extras whose installation brings it.

    Raises:
        NotReady: This environment lacks one.
    """
    own = {canonicalize_name(name) for name in release.names}
    everybody = _closure(release.distributions[0].requirements[""])
    needed: dict[str, set[str]] = {name: {"rag-rerank"} for name in everybody - own}
    for distribution in release.distributions:
        for extra, requirements in distribution.requirements.items():
            place = f"{distribution.name}[{extra}]" if extra else distribution.name
            if place in ("rag-rerank", "rag-rerank[all]"):
                continue
            for name in _closure(requirements) - everybody - own:
                needed.setdefault(name, set()).add(place)
    return needed


def _closure(requirements: Iterable[Requirement]) -> set[str]:
    """Return the packages that requirements bring in this environment, by canonical name."""
    seen: set[tuple[str, str]] = set()
    waiting = [(requirement, "") for requirement in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            try:
                lines = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                raise NotReady(f"{name} is not installed; run: make install") from None
            waiting += [(Requirement(line), wanted) for line in lines]
    return {name for name, _ in seen}


def _build_requirements(release: Release) -> list[str]:
    """Return what builds the distributions."""
    return sorted(
        {line for distribution in release.distributions for line in distribution.settings["build-system"]["requires"]}
    )


def _places(places: set[str]) -> str:
    """Return the places that bring a package, for a cell of a table."""
    return ", ".join(f"`{place}`" for place in sorted(places))


__all__ = ["LICENCES", "Distribution", "check_licences", "licences_page", "lock", "needed_by", "renew"]
