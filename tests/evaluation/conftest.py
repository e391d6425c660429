from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from support.small_collection import FILES

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a small collection; ``None`` leaves a file out, and a name in ``.gz`` compresses it."""

    def write(changes: dict[str, str | bytes | None] | None = None) -> Path:
        folder = tmp_path / "small"
        for name, content in {**FILES, **(changes or {})}.items():
            if content is None:
                continue
            data = content.encode() if isinstance(content, str) else content
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return folder

    return write
