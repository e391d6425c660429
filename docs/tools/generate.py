"""Write all that is made from the code or from measurements: reference pages, tables, diagrams, the comparison.

python docs/tools/generate.py           writes the files
python docs/tools/generate.py --check   names those that are not up to date, and exits with 1 if there is one
"""

from __future__ import annotations

import sys
from pathlib import Path

import catalogue_table
import cli_page
import comparison_page
import diagrams
import rerankers_page

ROOT = Path(__file__).parents[2]


def outputs() -> dict[Path, str]:
    """Return each generated file with its text of now."""
    return {
        rerankers_page.PAGE: rerankers_page.render(),
        cli_page.PAGE: cli_page.page_with(cli_page.generated_part(), cli_page.PAGE.read_text(encoding="utf-8")),
        catalogue_table.PAGE: catalogue_table.with_table(catalogue_table.PAGE.read_text(encoding="utf-8")),
        comparison_page.PAGE: comparison_page.with_tables(comparison_page.PAGE.read_text(encoding="utf-8")),
        comparison_page.PLOT: comparison_page.draw_comparison(),
        **{diagrams.IMAGES / name: draw() for name, draw in diagrams.DIAGRAMS.items()},
    }


def main() -> int:
    """Write or check the files."""
    stale = [file for file, text in outputs().items() if not file.is_file() or file.read_text(encoding="utf-8") != text]
    if "--check" not in sys.argv[1:]:
        for file in stale:
            file.write_text(outputs()[file], encoding="utf-8")
        return 0
    for file in stale:
        print(f"{file.relative_to(ROOT)} is not up to date; run: make generate", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
