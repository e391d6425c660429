"""Guesses from the texts' own counts decide like counting every time, with a fraction of the counts."""

from collections.abc import Callable
from random import Random

import pytest
from support.tiny_tokenizers import EMBEDDED, tiny_encoding

from rag_rerank.context.token_budget import Budget
from rag_rerank.text.tokenizers import Tokens, tokens

WORDS = ["hello", "world.", "K2", "is", "8,611", "metres", "high.", "Größe", "漢字", "well", "\n\n"]


class Counting(Tokens):
    """Adds up how many characters it counted."""

    def __init__(self, inner: Tokens) -> None:
        self.inner, self.characters = inner, 0

    def count(self, text: str) -> int:
        self.characters += len(text)
        return self.inner.count(text)


def filled(texts: list[str], budget: Budget) -> list[str]:
    texts_kept: list[str] = []
    for text in texts:
        if budget.fits([*texts_kept, text]):
            texts_kept.append(text)
    return texts_kept


@pytest.mark.parametrize("separator", ["\n\n", ". ", ""])
@pytest.mark.parametrize("load", [lambda: EMBEDDED, tiny_encoding], ids=["json", "tiktoken"])
def test_the_same_texts_fit(load: Callable[[], object], separator: str) -> None:
    random = Random(7)
    for limit in (50, 500, 3_000):
        texts = [" ".join(random.choices(WORDS, k=random.randint(1, 60))) for _ in range(150)]
        often, seldom = Counting(tokens(load())), Counting(tokens(load()))
        strict = filled(texts, Budget(often, limit, separator, strict=True))
        assert filled(texts, Budget(seldom, limit, separator, strict=False)) == strict
        assert 0 < len(strict) < len(texts)
        assert limit < 3_000 or seldom.characters < often.characters / 5
