"""Check whether a release could go out, and build its files into ``dist/``.

make release-check          check all items; exits with 1 if one fails
make release-check ITEMS=   ... only the named ones
make release-renew          write the lock of CI and the page of licences anew
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from release import archives, environments, generated, tree
from release.distributions import NotReady, Release

ITEMS: dict[str, Callable[[Release], str]] = {
    "clean": tree.check_clean,
    "changelog": tree.check_changelog,
    "versions": tree.check_versions,
    "urls": tree.check_urls,
    "citation": tree.check_citation,
    "citation-schema": environments.check_citation_schema,
    "checksums": tree.check_checksums,
    "lock": tree.check_lock,
    "licences": generated.check_licences,
    "build": archives.build,
    "twine": archives.check_twine,
    "metadata": archives.check_metadata,
    "contents": archives.check_contents,
    "sizes": archives.check_sizes,
    "installs": environments.check_installs,
    "sdists": environments.check_sdist,
    "extras": environments.check_extras,
    "sbom": environments.write_sbom,
}
"""What is checked, in order; from "twine" on, items look at the files that "build" writes into ``dist/``."""


def main() -> int:
    """Check the items, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m release", description="Check whether a release could go out.")
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"only these: {', '.join(ITEMS)}")
    parser.add_argument("--renew", action="store_true", help="write the generated files anew instead")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.items if name not in ITEMS]
    if unknown:
        parser.error(f"no item {unknown[0]!r}; there are {', '.join(ITEMS)}")
    with tempfile.TemporaryDirectory(prefix="release-") as scratch:
        release = Release(Path(__file__).resolve().parents[2], Path(scratch), say=_say)
        if arguments.renew:
            generated.renew(release)
            return 0
        failures = [name for name in arguments.items or ITEMS if not _check(name, release)]
    if failures:
        print(f"\nnot ready: {', '.join(failures)}")
    else:
        print("\nready" if not arguments.items else "\nthese items pass")
    return 1 if failures else 0


def _check(name: str, release: Release) -> bool:
    """Check one item, and print what it found."""
    began = time.perf_counter()
    try:
        report, passed = ITEMS[name](release), True
    except NotReady as problem:
        report, passed = "\n".join(f"    {line}" for line in problem.args).strip(), False
    print(f"{'ok  ' if passed else 'FAIL'} {name:<15} {time.perf_counter() - began:6.1f} s  {report}", flush=True)
    return passed


def _say(step: str) -> None:
    """Print a step of an item that takes long."""
    print(f"     ... {step}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
