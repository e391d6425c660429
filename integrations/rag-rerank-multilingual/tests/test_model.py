"""The model as an installation has it: found by its name, offline, in many languages."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from rag_rerank import Ranking, Reranker, build
from rag_rerank.testing import RerankerContract

import rag_rerank_multilingual

ANSWERS = {
    "ar": ("كم يبلغ ارتفاع جبل كي 2؟", "تسلق البشر جبل كي 2 لأول مرة عام 1954.", "يبلغ ارتفاع جبل كي 2 نحو 8611 مترا."),
    "bn": ("কে২ পর্বতের উচ্চতা কত?", "১৯৫৪ সালে প্রথম কে২ আরোহণ করা হয়।", "কে২ পর্বতের উচ্চতা ৮৬১১ মিটার।"),
    "de": (
        "Wie hoch ist der K2?",
        "Der K2 wurde 1954 zum ersten Mal bestiegen.",
        "Der K2 ragt 8611 m über den Meeresspiegel.",
    ),
    "el": ("Πόσο ψηλό είναι το Κ2;", "Το Κ2 κατακτήθηκε πρώτη φορά το 1954.", "Το ύψος του Κ2 είναι 8611 μέτρα."),
    "en": ("how tall is K2?", "K2 was first climbed in 1954.", "K2 rises to 8,611 m above sea level."),
    "es": (
        "¿Qué altura tiene el K2?",
        "El K2 se escaló por primera vez en 1954.",
        "La altitud del K2 es de 8611 metros.",
    ),
    "fa": ("ارتفاع کوه کی۲ چقدر است؟", "کوه کی۲ نخستین بار در سال ۱۹۵۴ فتح شد.", "بلندی کوه کی۲ ۸۶۱۱ متر است."),
    "fr": ("Quelle est la hauteur du K2 ?", "Le K2 a été gravi en 1954.", "Le K2 culmine à 8 611 m d'altitude."),
    "he": ("מה גובהו של הר K2?", "הר K2 טופס לראשונה בשנת 1954.", "גובהו של הר K2 הוא 8611 מטרים."),
    "hi": ("के2 पर्वत की ऊँचाई कितनी है?", "के2 पर पहली बार 1954 में चढ़ाई हुई।", "के2 की ऊँचाई 8611 मीटर है।"),
    "id": ("Berapa tinggi gunung K2?", "K2 pertama kali didaki pada tahun 1954.", "Ketinggian K2 adalah 8.611 meter."),
    "it": (
        "Quanto è alto il K2?",
        "Il K2 fu scalato per la prima volta nel 1954.",
        "Il K2 raggiunge gli 8611 m di altezza.",
    ),
    "ja": ("K2の高さはどのくらいですか", "K2は1954年に初めて登頂された。", "K2の標高は8611メートルである。"),
    "ko": ("K2의 높이는 얼마인가요?", "K2는 1954년에 처음으로 등정되었다.", "K2의 높이는 해발 8611미터이다."),
    "nl": ("Hoe hoog is de K2?", "De K2 werd in 1954 voor het eerst beklommen.", "De hoogte van de K2 is 8611 meter."),
    "pl": ("Jak wysoki jest szczyt K2?", "K2 zdobyto po raz pierwszy w 1954 roku.", "Wysokość K2 to 8611 metrów."),
    "pt": (
        "Qual é a altura do K2?",
        "O K2 foi escalado pela primeira vez em 1954.",
        "O K2 tem 8611 metros de altitude.",
    ),
    "ru": (
        "Какова высота горы К2?",
        "На гору К2 впервые поднялись в 1954 году.",
        "Высота горы К2 составляет 8611 метров.",
    ),
    "th": ("ภูเขาเคทูสูงเท่าไร", "มีผู้พิชิตยอดเขาเคทูครั้งแรกในปี 1954", "ยอดเขาเคทูมีความสูง 8611 เมตร"),
    "tr": (
        "K2 dağı ne kadar yüksek?",
        "K2 dağına ilk kez 1954 yılında tırmanıldı.",
        "K2 dağının yüksekliği 8611 metredir.",
    ),
    "uk": ("Яка висота гори К2?", "Гору К2 уперше підкорили 1954 року.", "Висота гори К2 становить 8611 метрів."),
    "vi": ("Núi K2 cao bao nhiêu?", "K2 được chinh phục lần đầu vào năm 1954.", "Độ cao của núi K2 là 8611 mét."),
    "zh": ("乔戈里峰有多高？", "乔戈里峰于1954年首次被登顶。", "乔戈里峰海拔8611米。"),
}
"""A question, a text about something else of the same mountain, and the answer."""

ACROSS = "Lake Garda lies in the north of Italy and is 346 m deep."


@pytest.fixture(scope="module")
def multilingual() -> Iterator[Reranker]:
    with build("embedded-multilingual") as reranker:
        yield reranker


def rank(reranker: Reranker, language: str) -> Ranking:
    query, other, answer = ANSWERS[language]
    return reranker.rerank(query, [ACROSS, other, answer])


@pytest.mark.parametrize("language", ANSWERS)
def test_the_answer_comes_first_and_the_text_about_something_else_last(multilingual: Reranker, language: str) -> None:
    ranking = rank(multilingual, language)
    assert [hit.id for hit in ranking] == ["2", "1", "0"]
    assert ranking.degraded == ()


def test_a_question_finds_an_answer_in_another_language(multilingual: Reranker) -> None:
    ranking = multilingual.rerank(ANSWERS["de"][0], [ACROSS, ANSWERS["ru"][1], ANSWERS["ru"][2]])
    assert ranking[0].id == "2"


def test_no_connection_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with build("embedded-multilingual") as reranker:
        assert rank(reranker, "en")[0].id == "2"


def test_traces_name_the_model_and_config_shows_the_alias(multilingual: Reranker) -> None:
    ranking = rank(multilingual, "en")
    assert ranking.trace.model == "late-e5-small-v1"
    assert multilingual.label == "late_interaction:embedded-multilingual"


def test_the_scores_of_pairs_read_at_once_are_the_same() -> None:
    multilingual = build("late_interaction:embedded-multilingual", precision="fp32")
    with build("onnx:embedded-multilingual", optimize=False) as pairs:
        for language in ("en", "ru", "th"):
            query, *texts = ANSWERS[language]
            expected = pairs.score(query, texts).values
            assert multilingual.score(query, texts).values == pytest.approx(expected, abs=1e-4)


def test_every_file_of_the_model_is_there_and_the_card_names_origin_and_licence() -> None:
    folder = Path(rag_rerank_multilingual.__file__).parent / "late-e5-small-v1"
    files = {file.name for file in folder.iterdir()}
    assert files == {
        *("README.md", "config.json", "model.onnx", "rag_rerank.json", "tokenizer.json", "tokenizer_config.json")
    }
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "intfloat/multilingual-e5-small" in card and "license: mit" in card


class TestContract(RerankerContract):
    @pytest.fixture
    def reranker(self, multilingual: Reranker) -> Reranker:
        return multilingual
