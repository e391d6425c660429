"""What the vocabulary of the model reads, and what it says that it cannot read."""

from collections.abc import Iterator

import pytest
from rag_rerank import Reranker, build

READABLE = {
    "ar": "تقع المدينة على ضفة النهر ويبلغ عدد سكانها أكثر من مليوني نسمة.",
    "bn": "শহরটি নদীর তীরে অবস্থিত এবং এখানে বিশ লক্ষেরও বেশি মানুষ বাস করে।",
    "de": "Die Stadt liegt am Ufer des Flusses und hat mehr als zwei Millionen Einwohner, aber auch ein Museum.",
    "el": "Η πόλη βρίσκεται στην όχθη του ποταμού και έχει λιμάνι.",
    "en": "The city lies on the river, and two million people live there.",
    "es": "La ciudad está situada en la orilla del río y cuenta con más de dos millones de habitantes.",
    "fa": "این شهر در کنار رودخانه قرار دارد و بیش از دو میلیون نفر جمعیت دارد.",
    "fr": "La ville est située sur la rive du fleuve et compte plus de deux millions d'habitants.",
    "he": "העיר שוכנת על גדת הנהר ומונה יותר משני מיליון תושבים.",
    "hi": "यह शहर नदी के किनारे बसा है और यहाँ बीस लाख से अधिक लोग रहते हैं।",
    "id": "Kota ini terletak di tepi sungai dan memiliki lebih dari dua juta penduduk.",
    "it": "La città si trova sulla riva del fiume e conta più di due milioni di abitanti.",
    "ja": "この都市は川の岸に位置し、人口は二百万人を超えています。",
    "ko": "이 도시는 강가에 자리하고 있으며 인구는 이백만 명이 넘습니다.",
    "nl": "De stad ligt aan de oever van de rivier en heeft meer dan twee miljoen inwoners.",
    "pl": "Miasto leży nad brzegiem rzeki i liczy ponad dwa miliony mieszkańców, ale nie jest to stolica.",
    "pt": "A cidade fica na margem do rio e tem mais de dois milhões de habitantes.",
    "ru": "Город расположен на берегу реки и насчитывает более миллиона жителей.",
    "th": "เมืองนี้ตั้งอยู่ริมแม่น้ำและมีประชากรมากกว่าสองล้านคน",
    "tr": "Şehir nehrin kıyısında yer alır ve iki milyondan fazla nüfusa sahiptir, en büyük merkezlerden biri.",
    "uk": "Місто розташоване на березі річки і налічує два мільйони мешканців.",
    "vi": "Thành phố nằm bên bờ sông và có hơn hai triệu dân, nhưng cũng là nơi văn hóa giữ vai trò lớn.",
    "zh": "这座城市位于河岸，拥有两百多万居民，是该国主要的工业中心之一。",
    "traditional Chinese": "這座城市位於河岸，擁有兩百多萬居民，是該國主要的工業中心之一。",
    "names": "who is 李小龙 and where is Łódź, next to Kraków or to Санкт-Петербург?",
    "code": "def read(path: str) -> list[str]:\n    return [line.strip() for line in open(path) if line]",
    "numbers": "8,611 m; 28,251 ft; 35°52′57″N 76°30′48″E",
}

UNREADABLE = {
    "am": "ከተማዋ በወንዙ ዳር የምትገኝ ሲሆን ከሁለት ሚሊዮን በላይ ነዋሪዎች አሏት።",
    "gu": "આ શહેર નદીના કિનારે આવેલું છે અને અહીં વીસ લાખથી વધુ લોકો રહે છે.",
    "hy": "Քաղաքը գտնվում է գետի ափին և ունի ավելի քան երկու միլիոն բնակիչ։",
    "ka": "ქალაქი მდინარის ნაპირზე მდებარეობს და ორ მილიონზე მეტი მოსახლე ჰყავს.",
    "km": "ទីក្រុងនេះស្ថិតនៅលើច្រាំងទន្លេ និងមានប្រជាជនជាងពីរលាននាក់។",
    "kn": "ಈ ನಗರವು ನದಿಯ ದಡದಲ್ಲಿದೆ ಮತ್ತು ಇಲ್ಲಿ ಇಪ್ಪತ್ತು ಲಕ್ಷಕ್ಕೂ ಹೆಚ್ಚು ಜನರು ವಾಸಿಸುತ್ತಾರೆ.",
    "lo": "ເມືອງນີ້ຕັ້ງຢູ່ແຄມແມ່ນ້ຳ ແລະ ມີປະຊາກອນຫຼາຍກວ່າສອງລ້ານຄົນ.",
    "ml": "ഈ നഗരം നദിയുടെ തീരത്താണ്, ഇവിടെ ഇരുപത് ലക്ഷത്തിലധികം ആളുകൾ താമസിക്കുന്നു.",
    "my": "ဒီမြို့သည် မြစ်ကမ်းပေါ်တွင်ရှိပြီး လူဦးရေ နှစ်သန်းကျော်ရှိသည်။",
    "pa": "ਇਹ ਸ਼ਹਿਰ ਨਦੀ ਦੇ ਕੰਢੇ ਤੇ ਹੈ ਅਤੇ ਇੱਥੇ ਵੀਹ ਲੱਖ ਤੋਂ ਵੱਧ ਲੋਕ ਰਹਿੰਦੇ ਹਨ।",
    "si": "මෙම නගරය ගඟ අසල පිහිටා ඇති අතර මිලියන දෙකකට වැඩි ජනතාවක් වෙසෙති.",
    "ta": "இந்த நகரம் ஆற்றின் கரையில் அமைந்துள்ளது.",
    "te": "ఈ నగరం నది ఒడ్డున ఉంది మరియు ఇక్కడ ఇరవై లక్షలకు పైగా ప్రజలు నివసిస్తున్నారు.",
    "fi": "Kaupunki sijaitsee joen rannalla, ja siinä on yli kaksi miljoonaa asukasta, mutta se ei ole pääkaupunki.",
    "sv": "Staden ligger vid flodens strand och har mer än två miljoner invånare.",
    "sw": "Mji huo uko kando ya mto na una wakazi zaidi ya milioni mbili, lakini pia ni mahali pa utamaduni.",
}
"""Scripts whose pieces the vocabulary lacks, and languages in Latin letters for which it was not kept."""


@pytest.fixture(scope="module")
def multilingual() -> Iterator[Reranker]:
    with build("embedded-multilingual") as reranker:
        yield reranker


@pytest.mark.parametrize("text", READABLE.values(), ids=READABLE)
def test_its_languages_are_read(multilingual: Reranker, text: str) -> None:
    (readability,) = multilingual.readability([text])
    assert readability.readable
    assert readability.language is None


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_what_it_cannot_read_keeps_the_order_of_the_first_stage(multilingual: Reranker, text: str) -> None:
    (readability,) = multilingual.readability([text])
    assert not readability.readable
    ranking = multilingual.rerank(text, [READABLE["en"], text, READABLE["ru"]])
    assert [hit.id for hit in ranking] == ["0", "1", "2"]
    assert "cannot read the query" in ranking.degraded[0]


@pytest.mark.parametrize("letter", ["\u10d0", "\u0d05", "\u1200", "\u0e81", "\u0b85", "\u1780", "\u0105", "\u045e"])
def test_single_letters_of_every_script_stay_known(letter: str) -> None:
    """Letters of Georgian, Malayalam, Ethiopic, Lao, Tamil, Khmer, Polish and Belarusian."""
    from pathlib import Path

    from tokenizers import Tokenizer

    import rag_rerank_multilingual

    folder = Path(rag_rerank_multilingual.__file__).parent / "late-e5-small-v1"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert "<unk>" not in tokenizer.encode(letter).tokens
