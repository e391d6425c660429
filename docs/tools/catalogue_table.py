"""The table of known models in ``docs/reference/models.md``.

Its data is ``rag_rerank/backends/local/catalogue.json``; the table stands between two comments of the page.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "models.md"
CATALOGUE = ROOT / "rag_rerank" / "backends" / "local" / "catalogue.json"

BEGIN, END = "<!-- begin of the catalogue -->", "<!-- end of the catalogue -->"
HEAD = ("alias", "model", "`type`", "million parameters", "window (tokens)", "languages", "licence", "revision")


def catalogue_table() -> str:
    """Return the table: one row a model, in the order of the catalogue."""
    models = json.loads(CATALOGUE.read_text(encoding="utf-8"))["models"]
    rows = [HEAD, ("---", "---", "---", "---:", "---:", "---", "---", "---"), *map(row, models)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n"


def row(model: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of one model."""
    name = f"`{model['id']}`"
    if model.get("packaged"):
        name += f", in `{model['package'].replace('_', '-')}`" if model.get("package") else ", in the package"
    revision = f"`{model['revision'][:12]}`" if model["revision"] else ""
    parameters, window = f"{model['parameters']:,}", f"{model['max_length']:,}"
    alias = f"`{model['alias']}`" if model.get("alias") else ""
    return alias, name, f"`{model['backend']}`", parameters, window, model["languages"], model["licence"], revision


def with_table(page: str) -> str:
    """Return the text of the page with the table of now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{catalogue_table()}\n{END}{after}"
