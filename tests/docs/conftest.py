from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.built_site import site
from support.doc_services import write_hub_cache

__all__ = ["hub_cache", "site"]


@pytest.fixture(scope="session")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return the folder of the hub's cache with models, written when a page needs it first."""
    home = tmp_path_factory.mktemp("hub")

    def find() -> Path:
        if not (home / "hub").exists():
            write_hub_cache(home)
        return home

    return find
