"""The wheels and sdists of a release: built twice, and looked at."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from release.distributions import Distribution, NotReady, Release
from release.tree import URLS, git, model_folders

MEGABYTES = {"rag_rerank": 40, "rag_rerank_multilingual": 60}
"""The largest wheel and sdist of a distribution; 1 MB where nothing is said. An index takes 100 MB."""

_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^()\s<>]+)")
_CODE = re.compile(r"^( *)(```+).*?^\1\2 *$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def build(release: Release) -> str:
    """Build twice and compare each byte: from what is committed, by way of the sdist; and from the working tree."""
    shutil.rmtree(release.files, ignore_errors=True)
    release.files.mkdir()
    committed, again = release.scratch / "committed", release.scratch / "again"
    committed.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=release.root, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(committed)], input=archive, check=True)
    date = git(release, "log", "-1", "--format=%ct").strip()
    for distribution in release.distributions:
        folder = distribution.folder.relative_to(release.root)
        if not (committed / folder / "pyproject.toml").is_file():
            raise NotReady(f"{folder} is not committed")
        release.say(f"{distribution.name}: sdist, and the wheel from it")
        _run_build(committed / folder, release.files, date)
        release.say(f"{distribution.name}: sdist and wheel from the working tree")
        _run_build(distribution.folder, again, date, "--sdist", "--wheel")
    first, second = _hashes(release.files), _hashes(again)
    differences = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    if differences:
        raise NotReady(
            "differ between what is committed and the working tree (or the wheel from the sdist, and from the tree):",
            *differences,
        )
    lines = (f"{digest}  {name}\n" for name, digest in sorted(first.items()))
    (release.files / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
    return f"{len(first)} files, the same bytes twice"


def check_twine(release: Release) -> str:
    """``twine check --strict``."""
    files = [
        str(release.file(distribution, suffix))
        for distribution in release.distributions
        for suffix in (".whl", ".tar.gz")
    ]
    run = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise NotReady(*(run.stdout + run.stderr).splitlines())
    return f"{len(files)} files pass"


def check_metadata(release: Release) -> str:
    """The metadata has URLs, a licence of SPDX, and a long description whose links are all absolute."""
    links, problems = 0, []
    for distribution in release.distributions:
        metadata = read_metadata(release.file(distribution, ".whl"))
        links += len(links_of(metadata))
        problems += [f"{distribution.name}: {problem}" for problem in problems_of_metadata(distribution, metadata)]
    if problems:
        raise NotReady(*problems)
    return f"{links} links in the descriptions, all absolute"


def check_contents(release: Release) -> str:
    """Wheels hold the package, its licences and its models, and nothing else; sdists also hold their tests."""
    problems = []
    counts = []
    for distribution in release.distributions:
        for suffix in (".whl", ".tar.gz"):
            file = release.file(distribution, suffix)
            names = file_names(file)
            counts.append(len(names))
            problems += [
                f"{file.name}: {problem}" for problem in problems_of_names(release, distribution, names, suffix)
            ]
    if problems:
        raise NotReady(*problems)
    return f"{sum(counts)} entries in {len(counts)} files"


def check_sizes(release: Release) -> str:
    """Each file is below its limit."""
    sizes = {}
    problems = []
    for distribution in release.distributions:
        limit = MEGABYTES.get(distribution.file_name, 1)
        for suffix in (".whl", ".tar.gz"):
            file = release.file(distribution, suffix)
            sizes[file.name] = file.stat().st_size / 1e6
            if sizes[file.name] > limit:
                problems.append(f"{file.name}: {sizes[file.name]:.1f} MB, more than {limit} MB")
    if problems:
        raise NotReady(*problems)
    return ", ".join(f"{name} {size:.2f} MB" for name, size in sizes.items() if name.endswith(".whl"))


def problems_of_metadata(distribution: Distribution, metadata: Message) -> list[str]:
    """Return what is wrong with the metadata of a wheel."""
    problems = [f"the link {link} is relative" for link in links_of(metadata) if not link.startswith("https://")]
    labels = {line.split(",")[0] for line in metadata.get_all("Project-URL", [])}
    problems += [f"no URL {name!r}" for name in URLS if name not in labels]
    if metadata["Version"] != distribution.version:
        problems.append(f"version {metadata['Version']}")
    fields = ("Summary", "Requires-Python", "Keywords", "License-Expression", "License-File")
    problems += [f"no {field}" for field in fields if not metadata[field]]
    try:
        canonicalize_license_expression(metadata["License-Expression"] or "")
    except InvalidLicenseExpression as error:
        problems.append(str(error))
    return problems


def links_of(metadata: Message) -> list[str]:
    """Return the targets of the links and images in the long description."""
    return _LINK.findall(_CODE.sub("", str(metadata.get_payload())))


def read_metadata(wheel: Path) -> Message:
    """Return the metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def file_names(file: Path) -> list[str]:
    """Return the names in a wheel; in an sdist, those below its one folder."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    with tarfile.open(file) as archive:
        return [member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()]


def problems_of_names(release: Release, distribution: Distribution, names: list[str], suffix: str) -> list[str]:
    """Return what is wrong with the names in a wheel (``.whl``) or an sdist (``.tar.gz``)."""
    packages = {name.parent for name in map(Path, names) if name.name == "py.typed"}
    problems = [] if packages else ["has no py.typed"]
    licences = distribution.project["license-files"]
    problems += [f"has no {licence}" for licence in licences if not any(Path(name).name == licence for name in names)]
    for folder in model_folders(release):
        if (
            folder.is_relative_to(distribution.folder)
            and folder.relative_to(distribution.folder).parts[0] != "integrations"
        ):
            for file in sorted(folder.iterdir()):
                name = file.relative_to(distribution.folder).as_posix()
                problems += [] if name in names else [f"has no {name}"]
    unwanted = re.compile(r"(^|/)(__pycache__|\..+_cache|\.hypothesis)(/|$)|\.py[co]$|(^|/)\.venv")
    problems += [f"has {name}" for name in names if unwanted.search(name)]
    if suffix == ".whl":
        allowed = tuple(f"{Path(*package.parts[:1])}/" for package in packages)
        problems += [f"has {name}" for name in names if not (name.startswith(allowed) or ".dist-info/" in name)]
    else:
        needed = ("pyproject.toml", "README.md", "PKG-INFO")
        problems += [f"has no {name}" for name in needed if name not in names]
        problems += [] if any(name.startswith("tests/") for name in names) else ["has no tests"]
    return problems


def _run_build(folder: Path, target: Path, date: str, *options: str) -> None:
    """Build a folder with a date in seconds since 1970; without options, the sdist, and the wheel from it."""
    run = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), *options, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SOURCE_DATE_EPOCH": date},
    )
    if run.returncode:
        raise NotReady(f"{folder.name} cannot be built:", *(run.stdout + run.stderr).splitlines()[-20:])


def _hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}
