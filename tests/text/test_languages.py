import pytest
from support.unreadable_texts import ENGLISH, LATIN

from rag_rerank.text.languages import (
    foreign_language,
    has_function_words,
    latin_words,
    parse_languages,
    share_in_scripts,
)


@pytest.mark.parametrize("language", [code for code in LATIN if code != "transliterated"])
def test_a_sentence_in_another_language_is_known_by_its_function_words(language: str) -> None:
    words = latin_words(LATIN[language]).words
    assert foreign_language(words, ["en"]) is not None
    assert foreign_language(words, ["en", language]) is None


@pytest.mark.parametrize("text", ENGLISH)
def test_names_code_and_typing_errors_are_no_other_language(text: str) -> None:
    assert foreign_language(latin_words(text).words, ["en"]) is None


def test_english_is_foreign_to_a_model_for_german() -> None:
    text = "The city lies on the river, and it is one of the largest in that country."
    assert foreign_language(latin_words(text).words, ["de"]) == "en"


def test_one_foreign_word_is_a_loan_however_often_it_occurs() -> None:
    assert foreign_language(latin_words("und und und und").words, ["en"]) is None


def test_words_are_read_in_lower_case_and_composed_form() -> None:
    words, share = latin_words("E\u0301TE\u0301 snake_case été2 лето")
    assert words == ("été", "snake", "case", "été")
    assert share == pytest.approx(15 / 19)


def test_languages_are_known_by_their_words_or_by_their_script() -> None:
    assert has_function_words(["en", "zh", "ru"])
    assert not has_function_words(["en", "tlh"])


def test_the_share_of_letters_in_the_scripts_of_languages() -> None:
    assert share_in_scripts("ab вг", ["en"]) == 0.5
    assert share_in_scripts("ab вг", ["en", "ru"]) == 1.0
    assert share_in_scripts("ab 日本", ["ja"]) == 0.5
    assert share_in_scripts("ab", []) == 0.0
    assert share_in_scripts("12", ["en"]) == 0.0


@pytest.mark.parametrize(
    ("value", "codes"),
    [("en", ("en",)), ("zh, en", ("zh", "en")), (["de", "en"], ("de", "en")), (None, ()), ({"a": 1}, ()), ("", ())],
)
def test_languages_of_a_card(value: object, codes: tuple[str, ...]) -> None:
    assert parse_languages(value) == codes
