"""The text limits of local models against what they read, for every family of tokenizers and every prompt."""

from functools import cache
from typing import Any

import pytest
from support import tiny_checkpoints
from support.tiny_checkpoints import DOCUMENTS, LINES, QUERIES

from rag_rerank import InputTooLong
from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.pair_encoding import PairTokenizer
from rag_rerank.backends.local.torch_models.causal import PromptTokenizer
from rag_rerank.backends.local.torch_models.prompt_templates import TEMPLATES
from rag_rerank.compose.windows import SplitText
from rag_rerank.text.unicode import valid_unicode

FAMILIES = (*tiny_checkpoints.ENCODERS, *tiny_checkpoints.CAUSAL)
ODD = "深い湖 " * 20 + "e\u0301\u0302" * 20 + " \u200b\n\t 👩\u200d👩\u200d👧 " * 10 + "x" * 200 + "\ud800 1,2.5 " * 10
TEXTS = (" ".join(LINES), ODD, *DOCUMENTS, " leading space", "\nleading line", "▁ marks ▁▁")


@cache
def tokenizer(family: str, window: int, **options: Any) -> Any:
    folder = ModelFolder(tiny_checkpoints.checkpoint(family), family, None, None)
    if family in tiny_checkpoints.CAUSAL:
        return PromptTokenizer(folder, TEMPLATES[family], None, window, **options)
    return PairTokenizer(folder, window, **options)


def window(family: str) -> int:
    """Tokens that leave room for some thirty of a text."""
    inputs = tokenizer(family, 2048).encode(QUERIES[0], ["x"], "error")
    return len(inputs.ids[0]) - inputs.coverage[0].total + 30


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_fits_the_room_just_when_it_is_read_whole(family: str) -> None:
    small = tokenizer(family, window(family))
    room = small.text_limit(QUERIES[0])
    assert room.tokens == 30
    texts = [text[:end] for text in TEXTS for end in (5, 20, 40, 60, 80, 100, 120, 150, len(text))]
    inputs = small.encode(QUERIES[0], [valid_unicode(text) for text in texts], "truncate")
    fitting = [not room.excess(text) for text in texts]
    assert fitting == [not coverage.truncated for coverage in inputs.coverage]
    assert any(fitting) and not all(fitting)


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_are_read_whole_by_the_model(family: str) -> None:
    small = tokenizer(family, window(family))
    for text in TEXTS[:2]:
        document = SplitText(text, [small.text_limit(QUERIES[0])], 8)
        pieces = [valid_unicode(text[start:end]) for start, end in document.windows]
        small.encode(QUERIES[0], pieces, "error")
        assert 5 < len(pieces) < 2 + document.coverage([]).total / 8


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_has_half_of_the_room_beside_a_long_query(family: str) -> None:
    small, query = tokenizer(family, window(family)), QUERIES[0] * 10
    limit = small.text_limit(query)
    assert 10 < limit.tokens < 30
    texts = [text[:end] for text in TEXTS for end in (5, 20, 40, 60, 80, 100, len(text))]
    inputs = small.encode(query, [valid_unicode(text) for text in texts], "truncate")
    read_whole = [not coverage.truncated for coverage in inputs.coverage]
    assert all(whole for text, whole in zip(texts, read_whole, strict=True) if not limit.excess(text))
    assert not all(read_whole) and inputs.query.truncated
    assert max(map(len, inputs.ids)) <= small.window


@pytest.mark.parametrize("family", FAMILIES)
def test_a_query_that_leaves_no_room_and_may_not_be_cut_is_refused(family: str) -> None:
    small = tokenizer(family, window(family), on_long_query="error")
    with pytest.raises(InputTooLong, match="leaves no room"):
        small.text_limit(QUERIES[0] * 10)
    with pytest.raises(InputTooLong, match=r"on_long_query=.truncate"):
        small.encode(QUERIES[0] * 10, TEXTS[:1], "truncate")
