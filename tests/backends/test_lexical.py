"""BM25: which words it counts, and how it ranks by them."""

from pathlib import Path

import pytest

from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.evaluation import evaluate, read
from rag_rerank.text.words import VERSION


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


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("珠穆朗玛峰有多高", ["香蕉是黄色的", "珠穆朗玛峰的海拔高度是8848米"]),
        ("ハンバーガーの値段", ["木曜日は雨です", "ﾊﾝﾊﾞｰｶﾞｰは五百円です"]),
        ("เมืองหลวงของไทย", ["กล้วยมีสีเหลือง", "กรุงเทพเป็นเมืองหลวงของประเทศไทย"]),
        ("រាជធានី", ["ចេកមានពណ៌លឿង", "ភ្នំពេញជារាជធានីនៃកម្ពុជា"]),
        ("ນະຄອນຫຼວງ", ["ກ້ວຍສີເຫຼືອງ", "ວຽງຈັນເປັນນະຄອນຫຼວງຂອງລາວ"]),
        ("မြို့တော်", ["ငှက်ပျောသီးအဝါ", "နေပြည်တော်သည်မြန်မာနိုင်ငံ၏မြို့တော်"]),
        ("서울의 인구", ["바나나는 노랗다", "서울은 인구가 많다"]),
        ("Python教程", ["香蕉是黄色的", "學習Ｐｙｔｈｏｎ的教程"]),
        ("水", ["火和土", "喝水很好"]),
        ("ดี", ["กล้วยสีเหลือง", "ปลาดีมาก"]),
    ],
)
def test_scripts_without_spaces_are_ranked(query: str, texts: list[str]) -> None:
    ranking = LexicalReranker().rerank(query, texts)
    assert ranking[0].id == "1"
    assert ranking[0].raw_score > ranking[1].raw_score >= 0
    assert not ranking.trace.notes


@pytest.mark.parametrize("query", ["zebra", "🙂", "。"])
def test_where_nothing_matches_the_ranking_says_so(query: str) -> None:
    ranking = LexicalReranker().rerank(query, ["one two", "three"])
    assert [(hit.id, hit.score) for hit in ranking] == [("0", 0.0), ("1", 0.0)]
    assert ranking.trace.notes == ("no text shares a word with the query, so the texts keep their order",)


def test_the_identity_covers_the_rules_of_words(monkeypatch: pytest.MonkeyPatch) -> None:
    before = LexicalReranker().identity
    monkeypatch.setattr("rag_rerank.backends.lexical.VERSION", VERSION + 1)
    assert LexicalReranker().identity != before


@pytest.mark.shared
def test_thai_is_ranked_as_well_as_by_character_trigrams() -> None:
    """The candidates of the collection come from BM25 over character trigrams; by words between spaces it is 0.91."""
    folder = Path(__file__).parents[3] / "shared" / "collections" / "xquad-th"
    if not folder.is_dir():
        pytest.skip("xquad-th is not beside this checkout")
    first_stage, lexical = evaluate(read(folder, queries=40), ["lexical"], measures=["nDCG@10"], samples=2).systems
    assert lexical.measures["nDCG@10"].mean > first_stage.measures["nDCG@10"].mean - 0.01
