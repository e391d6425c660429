"""The table of known models in ``docs/reference/models.md``.

Its data is ``rag_rerank/backends/local/catalogue.json``; the table stands between two comments of the page.
"""

from __future__ import annotations

from pathlib import Path

from rag_rerank.backends.local.catalogue import Model, models

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "models.md"

BEGIN, END = "<!-- begin of the catalogue -->", "<!-- end of the catalogue -->"
HEAD = (
    *("alias", "model", "`type`", "kind", "million parameters", "window (tokens)", "languages", "licence", "GPU"),
    *("quality", "revision"),
)
ALIGN = ("---", "---", "---", "---", "---:", "---:", "---", "---", "---", "---", "---")


def catalogue_table() -> str:
    """Return the table: one row a model, in the order of the catalogue."""
    rows = [HEAD, ALIGN, *map(row, models())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n"


def row(model: Model) -> tuple[str, ...]:
    """Return the cells of one model."""
    name = f"`{model.id}`"
    if model.packaged:
        name += f", in `{model.package.replace('_', '-')}`" if model.package else ", in the package"
    revision = f"`{model.revision[:12]}`" if model.revision else ""
    parameters, window = f"{model.parameters:,}", f"{model.max_length:,}"
    alias = f"`{model.alias}`" if model.alias else ""
    licence = model.licence if model.commercial else f"{model.licence} (non-commercial)"
    gpu = "advised" if model.gpu_advised else ""
    quality = next((f"{value:.3f} `{name}`" for name, value in model.quality.items()), "")
    kind, backend = model.kind, f"`{model.backend}`"
    return alias, name, backend, kind, parameters, window, model.languages, licence, gpu, quality, revision


def with_table(page: str) -> str:
    """Return the text of the page with the table of now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{catalogue_table()}\n{END}{after}"
