"""The options are checked in the constructor, go through a config, and pickle without loaded state."""

import math
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from support.rankings import ranking_of
from support.tiny_tokenizers import EMBEDDED

from rag_rerank import ConfigError, Packing, pack

WRONG = [
    *[(name, value) for name in ("top_k", "max_tokens", "per_source") for value in (0, -1, 1.5, True, math.nan, "8")],
    *[("min_score", value) for value in (math.nan, math.inf, -math.inf, True, "0.5")],
    *[("diversity", value) for value in (-0.1, 1.1, math.nan, True, None, "much", 10**400)],
    *[("duplicates", value) for value in (-0.1, 0, 0.0, 1.1, math.nan, True, "near")],
    *[("order", value) for value in ("best", None, [])],
    *[("trim", "words"), ("merge", "neighbours"), ("min_score_scale", "logit"), ("similarity", "cosine")],
    *[("similarity", 3), ("source", 3), ("position", 3), ("separator", None)],
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: f"{value!r:.20}")
def test_a_wrong_value_is_refused_with_its_name_and_itself(name: str, value: Any) -> None:
    options = {"tokenizer": len, "source": "doc", "position": "chunk", name: value}
    if name == "min_score":
        options["min_score_scale"] = "sigmoid"
    with pytest.raises(ConfigError, match=rf"^{name}: (expected|must be|unknown)") as caught:
        Packing(**options)
    assert repr(value)[:20] in str(caught.value)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"trim": "sentences"}, "max_tokens"),
        ({"per_source": 1}, "source"),
        ({"order": "source"}, "source"),
        ({"merge": "chunks", "position": "chunk"}, "source"),
        ({"merge": "chunks", "source": "doc"}, "position"),
    ],
)
def test_an_option_without_the_one_that_it_needs_is_refused(options: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError, match=f"^{path}: .* needs {path}(?m:$)"):
        Packing(**options)


def test_what_goes_through_a_config_comes_back_equal() -> None:
    packing = Packing(
        top_k=8, max_tokens=100, tokenizer=EMBEDDED, duplicates=0.8, per_source=2, source="file", order="edges"
    )
    options = packing.to_dict()
    assert options == {
        "top_k": 8,
        "max_tokens": 100,
        "tokenizer": str(EMBEDDED),
        "duplicates": 0.8,
        "per_source": 2,
        "source": "file",
        "order": "edges",
    }
    assert Packing.from_dict(options).to_dict() == options
    assert Packing.from_dict({}) == Packing()


def test_a_folder_beside_us_stays_a_path_in_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").symlink_to(EMBEDDED)
    monkeypatch.chdir(tmp_path)
    options = Packing(max_tokens=9, tokenizer=Path("mine")).to_dict()
    assert options["tokenizer"] == "./mine"
    assert len(Packing.from_dict(options).pack(ranking_of(["K2"]))) == 1


def test_an_unknown_option_gets_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="unknown option 'max_token' of Packing; did you mean 'max_tokens'"):
        Packing.from_dict({"max_token": 3})


@pytest.mark.parametrize("option", ["tokenizer", "similarity", "source"])
def test_a_function_is_no_config(option: str) -> None:
    with pytest.raises(ConfigError, match=f"^{option}: function is a live object"):
        Packing(**{option: lambda text: 3}).to_dict()  # type: ignore[arg-type]


def test_copies_and_pickles_carry_the_options_and_nothing_that_was_loaded() -> None:
    packing = Packing(max_tokens=4, tokenizer=EMBEDDED)
    ranking = ranking_of(["K2 is tall.", "Garda is deep."])
    context = packing.pack(ranking)
    assert len(pickle.dumps(packing)) < 1_000
    for copy in (pickle.loads(pickle.dumps(packing)), deepcopy(packing)):
        assert copy == packing
        assert copy.pack(ranking) == context
    assert pickle.loads(pickle.dumps(context)) == context


def test_a_tokenizer_is_read_when_the_first_ranking_is_packed_and_named_when_it_is_wrong(tmp_path: Path) -> None:
    packing = Packing(max_tokens=4, tokenizer=tmp_path / "tokenizer.json")
    with pytest.raises(ConfigError, match=r"^tokenizer: there is no file"):
        packing.pack(ranking_of(["a"]))


def test_a_tokenizer_that_counts_the_same_text_in_two_ways_is_refused() -> None:
    counts = iter([0, 0, 0, 0, 100, 0, 0, 100])  # over the budget whenever the finished context is counted
    with pytest.raises(ConfigError, match=r"^tokenizer: .*the same each time"):
        pack(ranking_of(["a"]), max_tokens=9, tokenizer=lambda text: next(counts))


def test_without_a_tokenizer_nothing_is_counted_and_with_one_and_no_budget_all_is_kept() -> None:
    ranking = ranking_of(["a b", "c"])
    assert (pack(ranking).tokens, pack(ranking).tokens_before, pack(ranking).pieces[0].tokens) == (None, None, None)
    counted = pack(ranking, top_k=1, tokenizer=len)
    assert (counted.tokens, counted.tokens_before, counted.pieces[0].tokens) == (3, 6, 3)


def test_the_report_is_plain_json() -> None:
    import json

    context = pack(ranking_of(["One. Two. Three.", "b"]), max_tokens=9, tokenizer=len, trim="sentences")
    assert json.loads(json.dumps(context.to_dict())) == context.to_dict()
    assert context.to_dict()["pieces"] == [
        {"text": "One. Two.", "ids": ["d1"], "tokens": 9, "trimmed": [0, 9], "parts": []}
    ]
