"""The files of a release, installed in empty environments, and together with the current releases of the hosts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging.utils import canonicalize_name

from release.distributions import NotReady, Release

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
HOSTS = re.compile(r"(langchain|llama-index)-core|haystack-ai")
"""The frameworks that the adapters are for."""

_HERE = Path(__file__).parent


def check_installs(release: Release) -> str:
    """On each Python, in an empty environment: install the wheels, check their requirements, run the smoke test."""
    with ThreadPoolExecutor(len(PYTHONS)) as pool:  # the network is what they wait for
        reports = pool.map(lambda version: _smoke(release, version), PYTHONS)
        return "; ".join(f"{version}: {report}" for version, report in zip(PYTHONS, reports, strict=True))


def check_sdist(release: Release) -> str:
    """On the oldest Python, the sdists build and install as well."""
    environment = _new_environment(release, PYTHONS[0], "sdists")
    files = [str(release.file(distribution, ".tar.gz")) for distribution in release.distributions]
    _run_uv(release, "pip", "install", "--quiet", "--python", str(environment), "--no-deps", *files)
    return f"{len(files)} sdists on Python {PYTHONS[0]}"


def check_extras(release: Release) -> str:
    """All extras of all distributions resolve together, so each alone; on the newest Python with the newest hosts."""
    everything = [
        f"{distribution.name}[{','.join(distribution.extras)}]=={distribution.version}"
        for distribution in release.distributions
    ]
    oldest = _resolve(release, PYTHONS[0], *everything)
    hosts = sorted(
        {
            requirement.name
            for distribution in release.distributions
            for requirement in distribution.requirements[""]
            if HOSTS.fullmatch(requirement.name)
        }
    )
    together, apart = _resolve(release, PYTHONS[-1], *everything), _resolve(release, PYTHONS[-1], *hosts)
    lines = [
        f"{host} {apart[host]} is out, and with all extras and adapters it is {together[host]}"
        for host in hosts
        if together[host] != apart[host]
    ]
    if lines:
        raise NotReady(*lines)
    count = sum(len(distribution.extras) for distribution in release.distributions)
    newest, first = (", ".join(f"{host} {versions[host]}" for host in hosts) for versions in (apart, oldest))
    return f"{count} extras with {newest}, the newest; on Python {PYTHONS[0]} with {first}"


def write_sbom(release: Release) -> str:
    """Write the bill of materials of an environment that has all distributions, as CycloneDX, and validate it."""
    environment = release.scratch / "sbom"
    if not environment.exists():
        _new_environment(release, "3.12", "sbom")
        _install(release, environment)
    target = release.files / f"rag_rerank-{release.version}.cdx.json"
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--validate"]
    command += ["--output-file", str(target), str(environment / "bin" / "python")]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=_environ())
    if run.returncode:
        raise NotReady("cyclonedx-py fails:", *run.stderr.splitlines()[-20:])
    text = target.read_text(encoding="utf-8")
    local = sorted(set(re.findall(r"file://[^\"]*|" + re.escape(str(release.root)) + r"[^\"]*", text)))
    if local:
        raise NotReady(f"{target.name} has paths of this machine:", *local)
    components = {canonicalize_name(component["name"]) for component in json.loads(text)["components"]}
    missing = release.names - components
    if missing:
        raise NotReady(f"{target.name} lacks {', '.join(sorted(missing))}")
    return f"{target.name}: {len(components)} packages"


def check_citation_schema(release: Release) -> str:
    """``CITATION.cff`` is valid; cffconvert needs an older jsonschema than the tests, so it gets an environment."""
    arguments = ("--from", "cffconvert", "cffconvert", "--validate", "-i", str(release.root / "CITATION.cff"))
    return _run_uv(release, "tool", "run", "--quiet", *arguments).strip()


def _smoke(release: Release, version: str) -> str:
    """Return what the smoke test of one Python printed."""
    environment = _new_environment(release, version, f"python{version}")
    _install(release, environment)
    _run_uv(release, "pip", "check", "--quiet", "--python", str(environment))
    interpreter = environment / "bin" / "python"
    command = [str(interpreter), "-I", str(_HERE / "smoke.py"), release.version, *sorted(release.names)]
    run = subprocess.run(command, cwd=release.scratch, capture_output=True, text=True, check=False, env=_environ())
    if run.returncode:
        raise NotReady(f"smoke test on Python {version}:", *(run.stdout + run.stderr).splitlines()[-20:])
    return run.stdout.strip().splitlines()[-1]


def _new_environment(release: Release, version: str, name: str) -> Path:
    """Make an empty environment in the scratch folder, and return it."""
    environment = release.scratch / name
    release.say(f"an empty environment of Python {version}")
    _run_uv(release, "venv", "--quiet", "--clear", "--python", str(_find_python(version)), str(environment))
    return environment


def _find_python(version: str) -> Path:
    """Return an interpreter of a version: on the path, or among those of pyenv."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    question = "import sys; print('.'.join(map(str, sys.version_info[:2])))"
    for candidate in (f"python{version}", *map(str, sorted(home.glob(f"versions/{version}.*/bin/python")))):
        with contextlib.suppress(OSError):
            run = subprocess.run([candidate, "-c", question], capture_output=True, text=True, check=False)
            if run.stdout.strip() == version:
                return Path(shutil.which(candidate) or candidate)
    raise NotReady(f"there is no Python {version} here: install it, or put python{version} on the PATH")


def _install(release: Release, environment: Path) -> None:
    """Install the wheels of all distributions, found by name among the files, as from an index."""
    names = [f"{distribution.name}=={distribution.version}" for distribution in release.distributions]
    files = [str(release.file(distribution, ".whl").parent) for distribution in release.distributions[:1]]
    _run_uv(
        release,
        "pip",
        "install",
        "--quiet",
        "--python",
        str(environment),
        "--find-links",
        *files,
        "--only-binary",
        ":all:",
        *names,
    )


def _resolve(release: Release, python: str, *requirements: str) -> dict[str, str]:
    """Return the versions that requirements resolve to, the files of the release among what can be chosen.

    Args:
        release: The release.
        python: The version of Python.
        requirements: The requirements.
    """
    compiled = _run_uv(
        release,
        *("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python-version", python),
        *("--find-links", str(release.files), "-"),
        input="\n".join(requirements),
    )
    pins = (line.split(";")[0].strip().partition("==") for line in compiled.splitlines() if "==" in line)
    return {canonicalize_name(name): version for name, _, version in pins}


def run_uv(*arguments: str, root: Path, input: str | None = None) -> str:
    """Return what uv prints.

    Args:
        arguments: The arguments of uv.
        root: The folder that it runs in.
        input: What it reads from its standard input.

    Raises:
        NotReady: It fails; with the end of what it says.
    """
    from uv import find_uv_bin

    command = [find_uv_bin(), *arguments]
    run = subprocess.run(command, cwd=root, input=input, capture_output=True, text=True, check=False, env=_environ())
    if run.returncode:
        words = " ".join(arguments[:2])
        raise NotReady(f"uv {words} fails: {' '.join(arguments[-3:])}", *(run.stdout + run.stderr).splitlines()[-20:])
    return run.stdout


def _run_uv(release: Release, *arguments: str, input: str | None = None) -> str:
    """Run uv in the scratch folder, where no settings of the repository are found."""
    return run_uv(*arguments, root=release.scratch, input=input)


def _environ() -> dict[str, str]:
    """Return the environment variables of a child: without those that point Python or uv somewhere else."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "UV_CONSTRAINT")
    }
