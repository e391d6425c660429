"""The tables of docs/how-to/budget.md are complete."""

from pathlib import Path
from typing import get_args

import pytest

from rag_rerank.context import Reason
from rag_rerank.context.layout import Merge, Order
from rag_rerank.context.packing import Trim

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "budget.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("heading", "values"),
    [
        ("| reason |", get_args(Reason)),
        ("| `merge` |", get_args(Merge)),
        ("| `order` |", get_args(Order)),
        ("| `trim` |", (*get_args(Trim), "None")),
    ],
)
def test_a_table_has_a_row_for_each_value(heading: str, values: tuple[str, ...]) -> None:
    table = PAGE.split(heading)[1].split("\n\n")[0]
    assert [line.split("`")[1].strip('"') for line in table.splitlines() if line.startswith("| `")] == list(values)
