"""BM25: which words it counts."""

import pytest

from rag_rerank.backends.lexical import LexicalReranker


@pytest.mark.parametrize(
    ("query", "same", "other"),
    [
        ("\u00e9cole", "l'e\u0301cole ouvre", "ecole ouvre"),  # composed and decomposed: macOS and PDFs give the latter
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940",
            "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902",
            "\u0939\u0942\u0928 \u0926\u094b",
        ),  # Hindi
        ("\u0e19\u0e49\u0e33", "\u0e19\u0e49\u0e33", "\u0e19\u0e32\u0e33"),  # Thai
        ("STRASSE", "die Stra\u00dfe", "das Strass"),
    ],
)
def test_words_keep_their_marks(query: str, same: str, other: str) -> None:
    hits = LexicalReranker().rerank(query, [other, same])
    assert [hit.id for hit in hits] == ["1", "0"]
    assert hits[0].raw_score > 0 and hits[1].raw_score == 0
    assert hits[0].coverage.total == len(same.replace("'", " ").split())
