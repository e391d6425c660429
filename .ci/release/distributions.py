"""The distributions of this repository, as their ``pyproject.toml`` describe them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


class NotReady(Exception):
    """An item of the release check that fails; each argument is one line of what it found."""


@dataclass(frozen=True)
class Distribution:
    """One distribution.

    Args:
        folder: Where its ``pyproject.toml`` is.
    """

    folder: Path

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Return all of its ``pyproject.toml``."""
        return tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def project(self) -> dict[str, Any]:
        """Return its table ``[project]``."""
        return self.settings["project"]  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        """Return its name on an index."""
        return str(self.project["name"])

    @property
    def file_name(self) -> str:
        """Return its name as the files of a release begin."""
        return canonicalize_name(self.name).replace("-", "_")

    @property
    def version(self) -> str:
        """Return its version, from the file that the build reads where it is not in ``pyproject.toml``."""
        if "version" in self.project:
            return str(self.project["version"])
        file = self.folder / self.settings["tool"]["hatch"]["version"]["path"]
        match = re.search(r'^__version__ = "([^"]+)"$', file.read_text(encoding="utf-8"), re.MULTILINE)
        if match is None:
            raise NotReady(f"{file} has no line __version__ = ")
        return match[1]

    @property
    def extras(self) -> list[str]:
        """Return the names of its extras, in order."""
        return list(self.project.get("optional-dependencies", {}))

    @property
    def groups(self) -> dict[str, list[Requirement]]:
        """Return its dependency groups, without what they include of each other."""
        groups = self.settings.get("dependency-groups", {})
        return {name: [Requirement(line) for line in lines if isinstance(line, str)] for name, lines in groups.items()}

    @property
    def requirements(self) -> dict[str, list[Requirement]]:
        """Return what each extra needs; under the empty name, what all users need."""
        lines = {"": self.project.get("dependencies", []), **self.project.get("optional-dependencies", {})}
        return {extra: [Requirement(line) for line in needed] for extra, needed in lines.items()}


@dataclass(frozen=True)
class Release:
    """A tree that is about to be released, and the folders that its check writes to.

    Args:
        root: The repository.
        scratch: A folder for environments and copies, removed after the check.
        say: Called with each step of an item that takes long.
    """

    root: Path
    scratch: Path
    say: Callable[[str], None] = print

    @property
    def files(self) -> Path:
        """Return the folder of the files of the release."""
        return self.root / "dist"

    @cached_property
    def distributions(self) -> list[Distribution]:
        """Return all distributions, the package itself first."""
        others = sorted(file.parent for file in self.root.glob("integrations/*/pyproject.toml"))
        return [Distribution(self.root), *map(Distribution, others)]

    @property
    def names(self) -> set[str]:
        """Return the names of all distributions."""
        return {distribution.name for distribution in self.distributions}

    @property
    def version(self) -> str:
        """Return the version of the package."""
        return self.distributions[0].version

    def file(self, distribution: Distribution, suffix: str) -> Path:
        """Return a built file of a distribution.

        Args:
            distribution: The distribution.
            suffix: ``.whl`` or ``.tar.gz``.

        Raises:
            NotReady: It was not built.
        """
        files = sorted(self.files.glob(f"{distribution.file_name}-{distribution.version}*{suffix}"))
        if len(files) != 1:
            pattern = f"{distribution.file_name}-{distribution.version}*{suffix}"
            raise NotReady(f"dist/ has {len(files)} files {pattern}; run the item build")
        return files[0]
