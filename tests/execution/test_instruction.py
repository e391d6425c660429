"""The instruction of a call: it reaches every reranker that takes one, wherever it runs, and no other call."""

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from support.calibration_maps import map_for
from support.instructed import InstructedReranker

import rag_rerank
from rag_rerank import (
    Cached,
    Calibrated,
    Cascade,
    ConfigError,
    Deadline,
    Ensemble,
    Fallback,
    Hedge,
    InputError,
    Ranking,
    Recorded,
    RelevantSpans,
    Reranker,
    Shadow,
    Stage,
    Windows,
    build,
)
from rag_rerank.execution.instruction import call_instruction
from rag_rerank.records import read
from rag_rerank.testing import ScriptedReranker

TEXTS = ["ruby ruby ruby", "opal opal", "jade"]
LEXICAL = build("lexical")


def follower(**options: Any) -> InstructedReranker:
    return InstructedReranker(**options)


COMPOSITES: Mapping[str, Callable[[], Reranker]] = {
    "alone": follower,
    "cached": lambda: Cached(reranker=follower()),
    "cascade": lambda: Cascade(stages=(Stage(reranker=LEXICAL), Stage(depth=3, reranker=follower()))),
    "deadline": lambda: Deadline(reranker=follower(), seconds=30, on_late="first_stage"),
    "ensemble": lambda: Ensemble(members=(follower(), follower(name="second"))),
    "fallback": lambda: Fallback(members=(follower(), LEXICAL)),
    "hedge": lambda: Hedge(members=(follower(), follower(name="second")), after=30),
    "nested": lambda: Fallback(members=(Cached(reranker=follower()), Cascade(stages=(Stage(reranker=LEXICAL),)))),
    "shadow": lambda: Shadow(reranker=follower(), other=LEXICAL, share=1.0),
    "spans": lambda: RelevantSpans(reranker=follower()),
    "windows": lambda: Windows(reranker=follower()),
}


def best(ranking: Ranking) -> str:
    return ranking[0].text.split()[0]


@pytest.mark.parametrize("timeout", [None, 30.0])
@pytest.mark.parametrize("name", COMPOSITES)
def test_it_reaches_the_reranker_inside_and_nothing_is_left_of_it(name: str, timeout: float | None) -> None:
    with COMPOSITES[name]() as reranker:
        assert reranker.takes_instruction
        for words in ("jade", "opal", "jade", "ruby"):
            assert best(reranker.rerank("opal", TEXTS, instruction=words, timeout=timeout)) == words
        assert best(reranker.rerank("opal", TEXTS, timeout=timeout)) == "opal"


@pytest.mark.parametrize("timeout", [None, 30.0])
@pytest.mark.parametrize("name", COMPOSITES)
def test_calls_side_by_side_on_an_event_loop_keep_their_own(name: str, timeout: float | None) -> None:
    async def ask() -> list[Ranking]:
        async with COMPOSITES[name]() as reranker:
            calls = (reranker.arerank("q", TEXTS, instruction=w, timeout=timeout) for w in ("jade", "opal", "ruby"))
            return await asyncio.gather(*calls)

    assert [best(ranking) for ranking in asyncio.run(ask())] == ["jade", "opal", "ruby"]


@pytest.mark.parametrize("name", COMPOSITES)
def test_threads_keep_their_own(name: str) -> None:
    words = ["jade", "opal", "ruby"] * 5
    with COMPOSITES[name]() as reranker, ThreadPoolExecutor(6) as pool:
        rankings = pool.map(lambda word: reranker.rerank("q", TEXTS, instruction=word), words)
        assert [best(ranking) for ranking in rankings] == words


def test_it_goes_before_that_of_the_config() -> None:
    reranker = follower(instruction="opal")
    assert best(reranker.rerank("q", TEXTS)) == "opal"
    assert best(reranker.rerank("q", TEXTS, instruction="jade")) == "jade"


def test_within_a_call_it_is_part_of_the_identity() -> None:
    reranker = follower(instruction="opal")
    with call_instruction("jade"):
        identity = reranker.identity
    assert identity == follower(instruction="jade").identity != reranker.identity


def test_what_takes_none_keeps_its_identity() -> None:
    reranker = ScriptedReranker()
    identity = reranker.identity
    with call_instruction("jade"):
        assert reranker.identity == identity


@pytest.mark.parametrize("wrap", [lambda r: r, lambda r: Recorded(reranker=r, file="calls.jsonl")])
def test_a_cache_never_gives_the_score_of_another_instruction(
    wrap: Callable[[Reranker], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def hits(call: str | None, **options: Any) -> int:
        with wrap(Cached(reranker=follower(**options), path=str(tmp_path / "scores.db"))) as cached:
            return cached.rerank("q", TEXTS, instruction=call).usage.cached

    assert [hits(None), hits("opal"), hits("jade"), hits("opal"), hits(None)] == [0, 0, 0, 3, 3]
    assert hits(None, instruction="opal") == 3  # the same words, in the config
    assert hits("jade", instruction="opal") == 3


def test_a_note_names_those_that_take_none() -> None:
    cascade = Cascade(stages=(Stage(reranker=LEXICAL), Stage(depth=3, reranker=follower())))
    ranking = cascade.rerank("q", TEXTS, instruction="jade")
    notes = {node.step: node.notes for node in ranking.trace.walk()}
    assert "lexical takes no instruction" in notes["lexical"]
    assert notes["instructed"] == ()
    assert not any("instruction" in note for n in cascade.rerank("q", TEXTS).trace.walk() for note in n.notes)


@pytest.mark.parametrize(
    "reranker",
    [
        LEXICAL,
        Cascade(stages=(Stage(reranker=LEXICAL),), name="two steps"),
        Shadow(reranker=LEXICAL, other=follower(), share=1.0),
        build("minilm"),
        build("bge-gemma"),
        build("cohere"),
        build("voyage:rerank-2"),
        build({"type": "auto", "model": "./nowhere"}),
    ],
    ids=lambda reranker: reranker.label,
)
def test_an_instruction_that_nothing_takes_is_a_config_error(reranker: Reranker) -> None:
    assert not reranker.takes_instruction
    with pytest.raises(ConfigError, match="takes no instruction, so this one would") as caught:
        reranker.rerank("q", TEXTS, instruction="find gems")
    assert reranker.label in str(caught.value)
    assert caught.value.page == "how-to/instructions/"
    with pytest.raises(ConfigError, match="takes no instruction"):
        asyncio.run(reranker.arerank("q", TEXTS, instruction="find gems"))


@pytest.mark.parametrize("name", ["qwen3", "mxbai", "voyage", "voyage:rerank-3-lite", "auto:Qwen/Qwen3-Reranker-4B"])
def test_models_that_follow_one_are_known_before_anything_is_loaded(name: str) -> None:
    assert build(name).takes_instruction


@pytest.mark.parametrize(
    ("instruction", "problem"),
    [(" ", "is blank"), ("\u200b\n", "is blank"), (3, "must be a string, got int"), ("\ud800x", "surrogate")],
)
def test_a_bad_instruction_is_an_input_error_in_a_call_and_a_config_error_in_a_config(
    instruction: Any, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        follower().rerank("q", TEXTS, instruction=instruction)
    for node in ({"type": "torch", "model": "qwen3"}, {"type": "voyage"}):
        with pytest.raises(ConfigError, match=problem if isinstance(instruction, str) else ".") as caught:
            build({**node, "instruction": instruction})
        assert caught.value.path == "instruction"


def test_an_old_voyage_model_takes_none_in_its_config() -> None:
    with pytest.raises(ConfigError, match=r"rerank-2 takes no instruction; rerank-2\.5 and later do"):
        build({"type": "voyage", "model": "rerank-2", "instruction": "find gems"})


def test_a_shadow_is_told_too() -> None:
    reports: list[Any] = []
    compared = Event()

    def note(report: Any) -> None:
        reports.append(report)
        compared.set()

    with Shadow(reranker=follower(), other=follower(name="other"), share=1.0, on_report=note) as shadow:
        shadow.rerank("q", TEXTS, instruction="jade")
        assert compared.wait(60)
    assert reports[0].tau == 1.0


def test_a_call_inside_a_call_keeps_the_outer_one() -> None:
    with call_instruction("jade"):
        assert best(follower().rerank("q", TEXTS)) == "jade"
        assert best(follower().rerank("q", TEXTS, instruction="opal")) == "opal"
        assert LEXICAL.rerank("q", TEXTS).trace.notes[:1] == ("lexical takes no instruction",)


def test_a_calibration_map_says_that_it_was_fitted_without_it(tmp_path: Path) -> None:
    reranker = follower()
    calibrated = Calibrated(reranker=reranker, map=map_for(reranker))
    first = calibrated.rerank("q", TEXTS, instruction="jade")
    assert any("without the instruction of this call" in note for note in first.trace.notes)
    assert calibrated.rerank("q", TEXTS).trace.notes == ()
    same = Calibrated(reranker=reranker, map=map_for(follower(instruction="jade")))
    with pytest.warns(rag_rerank.CalibrationWarning):
        assert not any("of this call" in note for note in same.rerank("q", TEXTS, instruction="jade").trace.notes)


@pytest.mark.parametrize("texts", [True, False])
def test_a_record_treats_it_as_the_query(tmp_path: Path, texts: bool) -> None:
    file = tmp_path / "calls.jsonl"
    with rag_rerank.recording(file, texts=texts):
        follower().rerank("q", TEXTS, instruction="find a secret jade")
        follower().rerank("q", TEXTS)
    with_it, without = (json.loads(line) for line in file.read_text().splitlines())
    assert ("secret" in file.read_text()) == texts
    assert with_it["instruction"] == ("find a secret jade" if texts else None)
    assert len(with_it["instruction_sha256"]) == 64
    assert "instruction" not in without and "instruction_sha256" not in without
    records = list(read(file))
    assert [record.to_dict() for record in records] == [with_it, without]
