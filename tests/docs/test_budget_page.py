"""What docs/how-to/budget.md shows is what comes out."""

import doctest
from pathlib import Path
from typing import get_args

from rag_rerank.context import Reason

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "budget.md"


def test_the_examples_give_what_they_show() -> None:
    tried = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8", verbose=False)
    assert tried.attempted > 3
    assert tried.failed == 0


def test_the_table_of_reasons_is_complete() -> None:
    table = PAGE.read_text(encoding="utf-8").split("| reason |")[1].split("##")[0]
    rows = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert rows == list(get_args(Reason))
