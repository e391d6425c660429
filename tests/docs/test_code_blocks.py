"""Every code block of the README and of the documentation runs as printed.

A page is one test. Its blocks run in order, in one empty folder with a copy of `docs/samples`, and in processes of the
page's own:

- ``python``: all in one process and one namespace. One with ``>>>`` is a doctest.
- ``bash``: by ``bash -e``, with this environment's ``rag-rerank`` and ``python`` first on the path.
- ``yaml``: a mapping with a ``type`` is built, and what ``to_config`` makes of it builds an equal reranker.
- ``json`` and ``jsonl`` are parsed.
- ``output``: what the block before it prints to stdout. ``...`` stands for any text, and numbers agree to two digits.
- A ``title="FILE"`` of any block writes it to that file first.
- ``<!-- not run: REASON -->`` on the line before a block leaves it out; `support.doc_pages.REASONS` are the reasons.

Providers, servers and hub models are there (`support.doc_services`). Without torch, a page that runs hub models is
skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.api.rerank_server import RerankServer
from support.doc_pages import PAGES, page_name
from support.doc_runner import run_page


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_blocks_of_a_page_run(
    page: Path, tmp_path: Path, rerank_server: RerankServer, hub_cache: Callable[[], Path]
) -> None:
    run_page(page, tmp_path, rerank_server, hub_cache)
