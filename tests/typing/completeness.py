"""Check with pyright that every public name has a known type: those that the Python reference describes.

`python tests/typing/completeness.py` prints how many there are, and fails with the list of the others. It leaves the
adapters out: their classes are as completely typed as the bases that their hosts give them.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = "rag_rerank"


def find_documented_names() -> set[str]:
    """Return the names of the Python reference, as their modules define them."""
    pages = [ROOT / "docs/reference/python.md", *(ROOT / "docs/reference/python").glob("*.md")]
    names = {name for page in pages for name in re.findall(r"^::: ([\w.]+)", page.read_text("utf-8"), re.MULTILINE)}
    return {find_definition(name) for name in names if name.startswith(PACKAGE)}


def find_definition(name: str) -> str:
    """Return the module and the name of a class or a function; of anything else, the name itself."""
    module, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(module), attribute)
    if isinstance(value, (type, FunctionType)) and value.__module__.startswith(PACKAGE):
        return f"{value.__module__}.{value.__qualname__}"
    return name


def list_symbols() -> list[dict[str, Any]]:
    """Return pyright's report on each symbol of the package."""
    folder = Path(sys.executable).parent  # pyright reads the packages of the first Python on the path
    report = subprocess.run(
        [str(folder / "pyright"), "--verifytypes", PACKAGE, "--ignoreexternal", "--outputjson"],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    symbols: list[dict[str, Any]] = json.loads(report.stdout)["typeCompleteness"]["symbols"]
    return symbols


def is_public(symbol: str, documented: set[str]) -> bool:
    """Return whether a symbol is one of the documented names, or a part of one."""
    parts = symbol.split(".")
    return any(".".join(parts[:i]) in documented for i in range(1, len(parts) + 1))


def main() -> None:
    """Print how many symbols are public, and those whose type a checker must guess."""
    documented = find_documented_names()
    public = [symbol for symbol in list_symbols() if is_public(symbol["name"], documented)]
    guessed = [symbol for symbol in public if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]]
    for symbol in guessed:
        print(symbol["name"], *(item["message"] for item in symbol["diagnostics"]), sep="\n    ")
    print(f"{len(documented)} documented names with {len(public)} public symbols; {len(guessed)} without a known type")
    sys.exit(bool(guessed) or not public)


if __name__ == "__main__":
    main()
