"""Words in every script: what BM25 counts, what texts are compared by, and how long a text is."""

import json
from pathlib import Path
from unicodedata import category, normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_rerank.text.words import count_words, split_words, terms

COLLECTIONS = Path(__file__).parents[3] / "shared" / "collections"

SENTENCES = {
    "Chinese": "珠穆朗玛峰的海拔高度是8848米",
    "Japanese": "木曜日はハンバーガーを食べました",
    "Thai": "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "Lao": "ພາສາລາວເປັນພາສາທາງການ",
    "Khmer": "ភាសាខ្មែរជាភាសាផ្លូវការ",
    "Burmese": "မြန်မာနိုင်ငံသည်အရှေ့တောင်အာရှတွင်ရှိသည်",
    "Tibetan": "བོད་ཡིག་ནི་བོད་པའི་སྐད་ཡིག་ཡིན།",
    "Korean": "서울은대한민국의수도이다",
}


@pytest.mark.parametrize("text", SENTENCES.values(), ids=SENTENCES)
def test_a_part_of_a_text_without_spaces_shares_terms_with_it(text: str) -> None:
    part = text[len(text) // 3 : 2 * len(text) // 3]
    assert len({*terms(part)} & {*terms(text)}) >= 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("用Python编程", ["用", "python", "编", "程", "编程"]),
        ("水", ["水"]),
        ("ＡＢＣ １２３", ["abc", "123"]),
        ("ﾊﾝｶﾞ", ["ハ", "ン", "ガ", "ハン", "ンガ"]),
        ("⽔", ["水"]),  # a radical, as PDFs have it
        ("葛\U000e0100", ["葛"]),  # a variant of its form
        ("서울은 큰", ["서", "울", "은", "서울", "울은", "큰"]),
        ("น้ำแข็ง", ["น้ำ", "ำแ", "แข็", "ข็ง", "น้ำแ", "ำแข็", "แข็ง"]),
        ("བོད་ཡིག", ["བོད", "ཡིག", "བོདཡིག"]),
        ("हिन्दी १९५४", ["हिन्दी", "1954"]),
        ("كَتَبَ الكـتاب ١٢", ["كتب", "الكتاب", "12"]),
        ("ﻛﺘﺐ", ["كتب"]),  # presentation forms, as PDFs have them
        ("می\u200cخواهم", ["می", "خواهم"]),
        ("ක්\u200dෂ", ["ක්ෂ"]),
        ("\U00011103\U00011127", ["\U00011103\U00011127"]),  # Chakma: marks outside the first plane
        ("İstanbul ISPARTA ısparta", ["istanbul", "isparta", "isparta"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("мо\u0301ре", ["море"]),
        ("don't l’école m² name™", ["don", "t", "l", "école", "m²", "name"]),
        ("。！ ་", []),
    ],
)
def test_terms_of_all_scripts(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_a_query_of_one_character_finds_it_in_an_alphabetic_script() -> None:
    assert terms("ดี") == ["ดี"]
    assert "ดี" not in terms("ปลาดีมาก")
    assert "ดี" in terms("ปลาดีมาก", {"ดี"})


def words_between_spaces(text: str) -> list[str]:
    """Return the words by the rule for scripts with spaces alone, character by character."""
    words, inside = [], False
    for char in normalize("NFC", text.casefold()):
        if inside and (char == "_" or char.isalnum() or category(char)[0] == "M"):
            words[-1] += char
        else:
            inside = char == "_" or char.isalnum()
            words += [char] if inside else []
    return words


@given(st.text(alphabet=st.characters(max_codepoint=0x24F, exclude_characters="İı") | st.sampled_from("‘’“”–—…€™")))
def test_words_in_latin_letters_are_runs_of_letters_digits_and_marks(text: str) -> None:
    assert terms(text) == split_words(text) == words_between_spaces(text)
    assert count_words(text) == len(text.split())


@pytest.mark.shared
@pytest.mark.parametrize("name", ["cranfield", "scifact", "trec-dl19"])
def test_words_of_english_collections_are_runs_of_letters_digits_and_marks(name: str) -> None:
    corpus = COLLECTIONS / name / "corpus.jsonl"
    if not corpus.is_file():
        pytest.skip(f"{name} is not beside this checkout")
    for line in corpus.read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["text"]
        assert terms(text) == split_words(text) == words_between_spaces(text)


def test_texts_without_spaces_are_compared_by_characters() -> None:
    assert split_words("蛇を飼う Python") == ["蛇", "を", "飼", "う", "python"]
    assert split_words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]


def test_equal_passages_of_an_alphabetic_script_are_cut_alike_wherever_they_stand() -> None:
    passage = SENTENCES["Thai"]
    alone, inside = split_words(passage), split_words("ปลาดีมาก" + passage + "และอื่นๆ")
    assert "".join(alone) == passage
    assert len(passage) / 6 < len(alone) < len(passage) / 2
    assert {*alone[1:-1]} <= {*inside}


def test_length_in_words() -> None:
    assert count_words("How tall - is K2?") == 5
    assert count_words("珠峰有多高？") == 5
    assert count_words("用 Python 编程。") == 4
    assert count_words("") == 0


def test_no_mark_begins_a_term() -> None:
    for mark in (char for char in map(chr, range(0x20000)) if category(char)[0] == "M"):
        assert all(category(term[0])[0] != "M" for term in terms(f"a{mark}b 水{mark} ก{mark}ข"))
