"""Tokenizers: a function, a tiktoken name or a tokenizer.json, and the errors of wrong ones."""

import json
import math
from collections import UserDict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_tokenizers import EMBEDDED, tiny_encoding
from tokenizers import Tokenizer

from rag_rerank.errors import ConfigError, MissingExtraError, ModelLoadError, ModelUnavailable
from rag_rerank.text.tokenizers import EstimatedTokens, tokens

SAMPLES = [
    "K2 is the second-highest mountain on Earth, at 8,611 metres above sea level. It lies in the Karakoram range.",
    "Der K2 ist mit 8611 m Höhe der zweithöchste Berg der Erde; die Erstbesteigung gelang am 31. Juli 1954.",
    "Чогори — вторая по высоте горная вершина мира, высотой 8611 метров над уровнем моря.",
    "के2 विश्व का दूसरा सबसे ऊँचा पर्वत है। इसकी ऊँचाई 8,611 मीटर है।",
    "乔戈里峰海拔8611米,是世界第二高峰,位于喀喇昆仑山脉。",
    "K2は標高8,611メートルで、世界で二番目に高い山である。",
    "ยอดเขาเคทูเป็นยอดเขาที่สูงเป็นอันดับสองของโลก",
    'def height(name: str) -> int:\n    return {"K2": 8611, "Everest": 8849}[name]  # metres\n',
    "https://example.org/search?q=k2+height&page=3 0x7f3a9c 1e-9 [1, 2, 3]",
]


def test_a_function_counts_by_itself_and_knows_no_places() -> None:
    counter = tokens(len)
    assert counter.count("four") == 4
    assert counter.spans("four") is None


def test_whole_numbers_of_other_libraries_become_plain_ones() -> None:
    counted = tokens(lambda text: np.int64(len(text))).count("four")
    assert (counted, type(counted)) == (4, int)


@pytest.mark.parametrize(
    ("nonsense", "message"),
    [
        (-1, "-1 (int)"),
        (1.0, "1.0 (float)"),
        (True, "True (bool)"),
        (math.nan, "nan"),
        (None, "NoneType"),
        ("3", "str"),
    ],
)
def test_the_error_names_what_a_function_returned(nonsense: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=r"^tokenizer: the function must return a whole number") as caught:
        tokens(lambda _: nonsense).count("four")
    assert f"it returned {message}" in str(caught.value)


def test_what_is_no_number_and_no_list_of_tokens_is_not_quoted() -> None:
    with pytest.raises(ConfigError, match="it returned set") as caught:
        tokens(lambda text: set(text.split())).count("private words")
    assert "private" not in str(caught.value)


class Encoder:
    """As a SentencePieceProcessor: not callable, with ``encode``."""

    def encode(self, text: str) -> list[int]:
        return [1] * len(text.split())


LISTS: dict[str, Any] = {
    "a list of ids": lambda text: [7] * len(text.split()),
    "a list of words": str.split,
    "a tuple": lambda text: tuple(text.split()),
    "an array": lambda text: np.array([7] * len(text.split())),
    "a batch of one": lambda text: np.array([[7] * len(text.split())]),
    "a BatchEncoding": lambda text: UserDict(input_ids=[7] * len(text.split()), attention_mask=[1]),
    "a number in an array": lambda text: np.array(len(text.split())),
    "get_tokenizer of LlamaIndex": partial(lambda text, allowed_special: text.split(), allowed_special="all"),
    "an object with encode": Encoder(),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_tokenizer_may_list_the_tokens_instead_of_counting_them(name: str) -> None:
    number = tokens(LISTS[name]).count("three small words")
    assert (number, type(number)) == (3, int)


@pytest.mark.parametrize(
    "output",
    [iter([1]), [[1, 2, 3]], np.zeros((2, 3)), {"ids": [1]}, b"abc", {1, 2}, np.array(1.5), np.True_, object()],
    ids=lambda output: type(output).__name__,
)
def test_an_output_that_is_no_list_of_tokens_is_refused(output: Any) -> None:
    with pytest.raises(ConfigError, match=r"^tokenizer: the function must .* or a list of them"):
        tokens(lambda _: output).count("four")


def test_the_tokenizer_of_llama_index_is_accepted() -> None:
    utils = pytest.importorskip("llama_index.core.utils")
    assert tokens(utils.get_tokenizer()).count("K2 is high.") == len(utils.get_tokenizer()("K2 is high."))


ESTIMATE = EstimatedTokens()


@pytest.mark.parametrize(
    ("text", "number"),
    [("", 0), ("K2 is high.", 6), ("a", 2), ("internationally", 5), ("123456", 4), ("世界", 4), ("мир", 4), ("😀", 4)],
)
def test_the_estimate_is_the_documented_rule(text: str, number: int) -> None:
    assert ESTIMATE.count(text) == number


def test_the_estimate_is_not_below_a_real_tokenizer() -> None:
    utils = pytest.importorskip("llama_index.core.utils")
    real = tokens(utils.get_tokenizer())
    for text in SAMPLES:
        assert 0.95 * real.count(text) <= ESTIMATE.count(text) <= 2.5 * real.count(text), text
    assert real.count(" ".join(SAMPLES)) < ESTIMATE.count(" ".join(SAMPLES))


@given(st.text(), st.text())
def test_the_estimate_grows_with_the_text_and_takes_any(first: str, second: str) -> None:
    assert ESTIMATE.count(first) <= ESTIMATE.count(first + second) + 1


def test_a_function_that_raises_is_named_with_what_it_raised() -> None:
    def failing(text: str) -> int:
        raise KeyError("no vocabulary")

    with pytest.raises(
        ConfigError, match=r"^packing\.tokenizer: the function raised KeyError; it must take any text(?m:$)"
    ):
        tokens(failing, path="packing.tokenizer").count("a")


@pytest.mark.parametrize("form", [Path, str])
@pytest.mark.parametrize("place", [EMBEDDED, EMBEDDED / "tokenizer.json"])
def test_a_tokenizer_json_is_found_by_file_or_folder(place: Path, form: Any) -> None:
    assert tokens(form(place)).count("How tall is K2?") == 6


def test_special_tokens_are_not_counted_and_truncation_is_switched_off(tmp_path: Path) -> None:
    cutting = Tokenizer.from_file(str(EMBEDDED / "tokenizer.json"))
    cutting.enable_truncation(8)
    cutting.enable_padding(length=8)
    cutting.save(str(tmp_path / "tokenizer.json"))
    for spec in (tmp_path, cutting):
        assert tokens(spec).count("word " * 50) == 50
        assert tokens(spec).count("word") == 1
        assert tokens(spec).count("") == 0
    assert cutting.truncation["max_length"] == 8  # the caller's own stays as it is


def test_a_file_is_read_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    definition = json.loads((EMBEDDED / "tokenizer.json").read_text(encoding="utf-8"))
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(definition), encoding="utf-8")
    before = tokens(file)
    assert tokens(str(file)) is before is tokens(tmp_path)
    del definition["model"]["vocab"]["mountain"]
    file.write_text(json.dumps(definition), encoding="utf-8")
    assert (before.count("mountain"), tokens(file).count("mountain")) == (1, 2)


def test_a_fast_tokenizer_of_transformers_is_taken_as_it_is() -> None:
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(EMBEDDED / "tokenizer.json"))
    assert tokens(fast).count("How tall is K2?") == 6


def test_an_encoding_of_tiktoken_is_taken_as_it_is_and_reads_special_words_as_text() -> None:
    counter = tokens(tiny_encoding())
    assert counter.count("hello.\n\n") == 3  # hell o .\n\n
    assert counter.count("<|end|>") == 7


def test_an_encoding_is_found_by_its_name_and_by_the_name_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: names.append(name) or tiny_encoding())
    assert [tokens(name).count("hello") for name in ("o200k_base", "gpt-4o")] == [2, 2]
    assert names == ["o200k_base", "o200k_base"]


def test_an_encoding_that_cannot_be_downloaded_is_a_typed_error_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(name: str) -> None:
        raise OSError("https://user:password@proxy refused")

    monkeypatch.setattr(tiktoken, "get_encoding", offline)
    with pytest.raises(ModelLoadError, match=r"'o200k_base'.*TIKTOKEN_CACHE_DIR") as caught:
        tokens("gpt-4o")
    assert "password" not in str(caught.value)


def test_an_encoding_that_cannot_be_downloaded_now_may_be_later(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    def offline(name: str) -> None:
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(tiktoken, "get_encoding", offline)
    with pytest.raises(ModelUnavailable, match="TIKTOKEN_CACHE_DIR"):
        tokens("gpt-4o")


def test_an_unknown_name_gets_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"^tokenizer: .*'o200k_bose'; did you mean 'o200k_base'"):
        tokens("o200k_bose")


def test_without_tiktoken_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tiktoken", None)
    with pytest.raises(MissingExtraError, match=r"rag-rerank\[tiktoken\]"):
        tokens("o200k_base")


@pytest.mark.parametrize("nothing", [3, None, 1.5, {"a": 1}])
def test_what_is_no_tokenizer_is_refused(nothing: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^tokenizer: expected .*got {type(nothing).__name__}"):
        tokens(nothing)


def test_absent_files_and_files_that_are_no_tokenizer_are_different_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^tokenizer: there is no file .*tokenizer\.json"):
        tokens(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {}}))
    with pytest.raises(ModelLoadError, match="cannot be read"):
        tokens(tmp_path)


ANY_TEXT = st.text(st.characters(codec=None) | st.sampled_from("\ud800\udc00"))


@pytest.mark.parametrize("spec", [EMBEDDED, tiny_encoding(), len], ids=["json", "tiktoken", "function"])
@given(text=ANY_TEXT)
def test_any_text_can_be_counted_and_its_places_lie_inside_it(spec: Any, text: str) -> None:
    counter = tokens(spec)
    spans = counter.spans(text)
    if spans is not None:
        assert len(spans) == counter.count(text)
        assert all(0 <= a < b <= len(text) for a, b in spans)
        assert spans == sorted(spans)


@pytest.mark.parametrize("text", ["höhe des K2", "漢字 und 🙂", "a\ud83d\ude42b", "a\ud83db"])
def test_the_places_of_a_byte_level_encoding_cover_the_text(text: str) -> None:
    spans = tokens(tiny_encoding()).spans(text)
    assert spans is not None
    assert {i for a, b in spans for i in range(a, b)} == set(range(len(text)))
