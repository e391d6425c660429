"""What the tests of training begin with: a tiny base, and a last step that only copies."""

from collections.abc import Iterator

import pytest

from rag_rerank.training.card import Card
from training.runs import copying, made_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return made_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def cards() -> Iterator[list[Card]]:
    with copying() as cards:
        yield cards
