import asyncio
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import tiny_checkpoints
from support.tiny_tokenizers import EMBEDDED
from support.unreadable_texts import ENGLISH, LATIN, OTHER_SCRIPTS
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

import rag_rerank
from rag_rerank import Candidate, ReadabilityWarning, Reranker, UnreadableText
from rag_rerank.backends.local.readability import PieceTable, ReadabilityCheck
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.errors import ConfigError, InputTooLong

QUERY = "how many people live in the city?"
TEXTS = (
    "The museum is open on Sunday.",
    "The city lies on the river, and two million people live there.",
    "The harbour was built a hundred years ago.",
    "There is a bridge over the river.",
)


@pytest.fixture(scope="module")
def embedded() -> Iterator[Reranker]:
    with rag_rerank.build("embedded") as reranker:
        yield reranker


@pytest.fixture(scope="module")
def check() -> ReadabilityCheck:
    return ReadabilityCheck(Tokenizer.from_file(str(EMBEDDED / "tokenizer.json")), ("en",))


def ids_of(ranking: rag_rerank.Ranking) -> list[str]:
    return [hit.id for hit in ranking]


@pytest.mark.parametrize("language", OTHER_SCRIPTS)
def test_another_script_keeps_the_order_of_the_first_stage(embedded: Reranker, language: str) -> None:
    query, passage = OTHER_SCRIPTS[language]
    ranking = embedded.rerank(query, [TEXTS[0], " ", passage, TEXTS[1]])
    assert ids_of(ranking) == ["0", "2", "3", "1"]
    assert [hit.score for hit in ranking] == [None] * 4
    assert [hit.unscored for hit in ranking] == ["the model cannot read the query"] * 3 + ["blank text"]
    assert ranking.degraded == ("not reranked, in the order of the first stage: the model cannot read the query",)
    assert ranking.substituted
    assert ranking.usage.texts == 0


@pytest.mark.parametrize("language", OTHER_SCRIPTS)
def test_texts_in_another_script_keep_the_order_of_the_first_stage(embedded: Reranker, language: str) -> None:
    passage = OTHER_SCRIPTS[language][1]
    ranking = embedded.rerank(QUERY, [passage, TEXTS[0], TEXTS[1]])
    assert ids_of(ranking) == ["0", "1", "2"]
    assert {hit.score for hit in ranking} == {None}
    assert len(ranking.degraded) == 1


@pytest.mark.parametrize("language", LATIN)
def test_another_language_in_latin_script_keeps_the_order_of_the_first_stage(embedded: Reranker, language: str) -> None:
    ranking = embedded.rerank(QUERY, [TEXTS[0], LATIN[language], LATIN[language], TEXTS[1]])
    assert ids_of(ranking) == ["0", "1", "2", "3"]
    assert ranking.degraded


@pytest.mark.parametrize("text", ENGLISH)
def test_odd_english_is_ranked(embedded: Reranker, text: str) -> None:
    ranking = embedded.rerank(text, [*TEXTS, text])
    assert ranking.degraded == ()
    assert all(hit.score is not None for hit in ranking)


def test_few_unreadable_texts_behind_the_first_three_have_no_score(embedded: Reranker) -> None:
    ranking = embedded.rerank(QUERY, [TEXTS[0], TEXTS[2], TEXTS[3], OTHER_SCRIPTS["ru"][1], TEXTS[1]])
    assert (ids_of(ranking)[0], ids_of(ranking)[-1]) == ("4", "3")
    assert ranking[-1].unscored == "a text that the model cannot read"
    assert ranking.degraded == ("without a score: the model cannot read 1 of 5 texts",)
    assert not ranking.substituted


def test_scores_are_those_of_the_texts_alone(embedded: Reranker) -> None:
    alone = {hit.text: hit.raw_score for hit in embedded.rerank(QUERY, TEXTS)}
    mixed = embedded.rerank(QUERY, [*TEXTS, OTHER_SCRIPTS["zh"][1]])
    for hit in mixed[:4]:
        assert hit.raw_score == pytest.approx(alone[hit.text], abs=1e-5)
        assert hit.coverage is not None and not hit.coverage.truncated


def test_the_note_has_the_numbers(embedded: Reranker) -> None:
    (note,) = embedded.rerank(OTHER_SCRIPTS["ru"][0], [LATIN["de"], TEXTS[0]]).trace.notes
    assert note.startswith(
        "not readable by late_interaction:embedded, which was made for: en: the query (its vocabulary reads 1"
    )
    assert note.endswith("of texts: de (1))")


def test_a_query_within_the_window_of_a_long_text_is_judged_by_the_whole_text(check: ReadabilityCheck) -> None:
    padding = "The city lies on the river. " * 300
    (beginning,) = check.of_texts([padding + OTHER_SCRIPTS["ru"][1] * 300])
    assert not beginning.readable


@pytest.mark.parametrize("asynchronous", [False, True])
def test_one_warning_a_reranker(asynchronous: bool) -> None:
    def rank(reranker: Reranker) -> None:
        if asynchronous:
            asyncio.run(reranker.arerank(OTHER_SCRIPTS["ru"][0], TEXTS))
        else:
            reranker.rerank(OTHER_SCRIPTS["ru"][0], TEXTS)

    for _ in range(2):
        with rag_rerank.build("embedded") as reranker, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rank(reranker)
            rank(reranker)
        (warning,) = [w for w in caught if w.category is ReadabilityWarning]
        assert "late_interaction:embedded cannot read" in str(warning.message)
        assert not any(char.isdigit() for char in str(warning.message))


def test_score_scores_all_the_same_and_says_so() -> None:
    scoring = {"type": "onnx", "model": "embedded", "on_unreadable": "score"}
    with rag_rerank.build(scoring) as reranker, pytest.warns(ReadabilityWarning, match="scores them all the same"):
        ranking = reranker.rerank(OTHER_SCRIPTS["ru"][0], [OTHER_SCRIPTS["ru"][1], TEXTS[0]])
    assert all(hit.score is not None for hit in ranking)
    assert ranking.degraded == ("scored, although the model cannot read it: the query",)


def test_error_raises_and_a_fallback_goes_on() -> None:
    strict = {"type": "onnx", "model": "embedded", "on_unreadable": "error"}
    with rag_rerank.build(strict) as reranker:
        with pytest.raises(UnreadableText, match=r"1 of 2 texts .*choose a model for that language"):
            reranker.rerank(QUERY, [TEXTS[0], OTHER_SCRIPTS["ar"][1]])
        assert reranker.rerank(QUERY, TEXTS).degraded == ()
    with rag_rerank.build({"type": "fallback", "members": [strict, "lexical"]}) as reranker:
        ranking = reranker.rerank("Казани", [TEXTS[0], "Сколько жителей в городе Казани"])
        assert ids_of(ranking) == ["1", "0"]
        assert "UnreadableText" in ranking.degraded[0]
        assert reranker.rerank(QUERY, TEXTS).degraded == ()


def test_a_wrong_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="on_unreadable"):
        OnnxReranker(on_unreadable="skip")  # type: ignore[arg-type]


def test_the_mode_decides_which_texts_have_a_score_so_it_is_part_of_the_identity() -> None:
    first, other = OnnxReranker(model="embedded"), OnnxReranker(model="embedded", on_unreadable="score")
    assert first.identity != other.identity


def test_an_error_of_a_text_names_the_right_candidate() -> None:
    with OnnxReranker(model="embedded", max_length=40, on_overflow="error") as reranker:
        candidates = [Candidate("a", TEXTS[0]), Candidate("ru", OTHER_SCRIPTS["ru"][1]), Candidate("b", TEXTS[1] * 9)]
        with pytest.raises(InputTooLong, match="candidate 'b'"):
            reranker.rerank(QUERY, candidates)


# --- languages of a model


def test_languages_come_from_the_catalogue_or_the_model_card(tmp_path: Path) -> None:
    assert OnnxReranker(model="embedded").languages == ("en",)
    assert OnnxReranker(model="BAAI/bge-reranker-base").languages == ("zh", "en")
    assert OnnxReranker(model="bge").languages == ("multilingual",)
    assert OnnxReranker(model=str(tmp_path)).languages == ()
    for text, languages in {
        "---\nlanguage: de\n---\n# a model": ("de",),
        "---\nlanguage:\n- de\n- en\nlicense: mit\n---\n": ("de", "en"),
        "---\nlicense: mit\n---\nlanguage: de": (),
        "---\nlanguage: [de\n---\n": (),
        "language: de": (),
    }.items():
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
        assert OnnxReranker(model=str(tmp_path)).languages == languages, text


def test_a_model_of_unknown_languages_scores_what_its_vocabulary_does_not_read(tmp_path: Path) -> None:
    folder = shutil.copytree(EMBEDDED, tmp_path / "model", ignore=shutil.ignore_patterns("README.md"))
    with OnnxReranker(model=str(folder)) as reranker, pytest.warns(ReadabilityWarning):
        ranking = reranker.rerank(QUERY, [TEXTS[0], OTHER_SCRIPTS["ka"][1]])
        assert reranker.rerank(QUERY, [LATIN["de"]] * 2).degraded == ()
    assert all(hit.score is not None for hit in ranking)
    assert ranking.degraded == ("scored, although the model cannot read it: 1 of 2 texts",)


def test_a_folder_whose_card_names_languages_keeps_the_order_of_the_first_stage(tmp_path: Path) -> None:
    folder = shutil.copytree(EMBEDDED, tmp_path / "model")
    with OnnxReranker(model=str(folder)) as reranker:
        assert reranker.rerank(QUERY, [LATIN["de"], TEXTS[1]])[0].id == "0"
        (folder / "README.md").write_text("---\nlanguage: [en, de]\n---\n")
    with OnnxReranker(model=str(folder)) as reranker:
        assert reranker.rerank(QUERY, [LATIN["de"], TEXTS[1]])[0].id == "1"


def test_a_vocabulary_of_letters_is_no_sign_of_anything_where_no_languages_are_known() -> None:
    folder = str(tiny_checkpoints.onnx_export("bert"))
    with OnnxReranker(model=folder) as reranker:
        ranking = reranker.rerank("yes", ["yes", OTHER_SCRIPTS["ka"][1]])
    assert (ranking.degraded, ranking.trace.notes) == ((), ())


# --- vocabularies of all kinds


def word_piece(*pieces: str) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(("[UNK]", *pieces))}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def byte_level(*words: str) -> Tokenizer:
    """A vocabulary of bytes and of these words."""
    merges = []
    for word in words:
        ((stand_ins, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(word)
        merges += [(stand_ins[:end], stand_ins[end]) for end in range(1, len(stand_ins))]
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(merge) for merge in merges)]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def unigram(*pieces: str, byte_fallback: bool = True) -> Tokenizer:
    bytes_ = [f"<0x{i:02X}>" for i in range(256)] if byte_fallback else []
    vocabulary = [("<unk>", 0.0), *((piece, -9.0) for piece in bytes_), *((piece, -1.0) for piece in pieces)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=byte_fallback))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def share(tokenizer: Tokenizer, text: str) -> float:
    pieces = PieceTable(tokenizer).pieces_of(text, tokenizer.encode(text, add_special_tokens=False).ids)
    return pieces.read / pieces.letters


LETTERS = [*"абвгдежзийклмнопрстуфхцчшщыьэюя"]


@pytest.mark.parametrize(
    ("tokenizer", "text", "expected"),
    [
        (word_piece("the", "city", "a"), "the city", 1.0),
        (word_piece("the", "c", "##i", "##t", "##y"), "the city", 3 / 7),
        (word_piece("the"), "the город", 3 / 8),
        (word_piece(*LETTERS, *(f"##{x}" for x in LETTERS)), "город", 0.0),
        (word_piece(*LETTERS, *(f"##{x}" for x in LETTERS)), "и в", 1.0),  # words of one letter
        (word_piece("го", "##род"), "город", 1.0),
        (word_piece("城", "市"), "城市", 1.0),  # an ideograph is a word
        (word_piece("城"), "城市", 0.5),
        (byte_level("the"), "the", 1.0),
        (byte_level("г", "о"), "гого", 0.0),  # letters one by one
        (byte_level("го"), "гого", 1.0),
        (byte_level(), "город", 0.0),  # bytes
        (byte_level(), "城市", 0.0),
        (byte_level("城"), "城城", 1.0),
        (unigram("▁the", "▁city"), "the city", 1.0),
        (unigram("▁the", "▁"), "the город", 3 / 8),
        (unigram("▁the", "▁", byte_fallback=False), "the город", 3 / 8),
        (unigram("▁", "город"), "город", 1.0),
        (unigram("▁", *LETTERS), "город", 0.0),
    ],
)
def test_the_share_of_letters_that_a_vocabulary_reads(tokenizer: Tokenizer, text: str, expected: float) -> None:
    assert share(tokenizer, text) == pytest.approx(expected)


def test_a_vocabulary_that_drops_what_it_lacks_reads_nothing_of_it() -> None:
    tokenizer = Tokenizer(models.BPE({"t": 0, "h": 1, "th": 2}, [("t", "h")]))
    assert share(tokenizer, "th город") == pytest.approx(2 / 7)
    assert share(tokenizer, "город") == 0.0


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "deberta", "roberta", "modernbert", "qwen3", "bge-gemma"])
def test_the_tokenizers_of_all_families_read_words_that_they_hold(family: str) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_checkpoints.checkpoint(family) / "tokenizer.json"))
    definition: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    assert definition["vocab"]
    known = "the water in the lake"
    assert share(tokenizer, known) > share(tokenizer, "ქალაქი მდინარის") == 0.0
    assert share(tokenizer, known) > 0.7


def test_a_multilingual_model_is_never_in_doubt() -> None:
    check = ReadabilityCheck(byte_level(), ("multilingual",))
    assert all(readability.readable for readability in check.of_texts([LATIN["de"], OTHER_SCRIPTS["ka"][1]]))


def test_the_scripts_of_a_models_languages_are_read_letter_by_letter() -> None:
    georgian = OTHER_SCRIPTS["ka"][1]
    assert ReadabilityCheck(byte_level(), ("ka",)).of_texts([georgian])[0].readable
    assert not ReadabilityCheck(byte_level(), ("en",)).of_texts([georgian])[0].readable


def test_languages_without_known_words_are_judged_by_the_vocabulary_alone(check: ReadabilityCheck) -> None:
    for languages in ((), ("tlh",)):
        other = ReadabilityCheck(check.tokenizer, languages)
        german, russian = other.of_texts([LATIN["de"], OTHER_SCRIPTS["ru"][1]])
        assert (german.readable, russian.readable) == (True, False)


def test_readability_tells_share_and_language(embedded: OnnxReranker) -> None:
    english, german, russian = embedded.readability([TEXTS[1], LATIN["de"], OTHER_SCRIPTS["ru"][1]])
    assert (english.share, english.language, english.readable) == (1.0, None, True)
    assert (german.language, german.readable) == ("de", False)
    assert russian.share < 0.2
