"""Windows: a long text is read whole, and its hit says which windows were scored."""

import asyncio
import json
import math
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import rag_rerank
from rag_rerank import (
    BackendUnavailable,
    Cached,
    Candidate,
    Cascade,
    ConfigError,
    Coverage,
    Deadline,
    DeadlineExceeded,
    Ensemble,
    Fallback,
    InputTooLong,
    PointwiseReranker,
    QueryTruncationWarning,
    Ranking,
    ReadabilityWarning,
    Reranker,
    Scores,
    Stage,
    TruncationWarning,
    Windows,
    build,
    to_config,
)
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.compose.windows import SplitText
from rag_rerank.testing import RerankerContract, ScriptedReranker
from rag_rerank.text.tokenizers import HuggingFaceTokens, TextLimit, Tokens, tokens
from rag_rerank.text.unicode import in_surrogate_pair, is_blank, may_cut

Ask = Callable[..., Ranking]

EMBEDDED = str(Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1" / "tokenizer.json")
LONG = " ".join(f"Sentence number {i} says that the lake is {i} metres deep and cold." for i in range(60))
MIXED = "温度は重要です。" * 9 + " 👩‍👩‍👧‍👦 e\u0301" * 20 + "x" * 300 + "\u200b \n\t" * 40 + "\ud800 end 😀\udfff" * 5


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    if request.param == "sync":
        return lambda reranker, texts, **options: reranker.rerank("how deep?", texts, **options)
    return lambda reranker, texts, **options: asyncio.run(reranker.arerank("how deep?", texts, **options))


@pytest.fixture(scope="module")
def embedded() -> Reranker:
    """A model that scores windows in every script, because the texts here mix scripts."""
    return build({"type": "onnx:embedded", "max_length": 128, "on_unreadable": "score"})


def windows(reranker: Reranker, tokens: int = 12, overlap: int = 4, **options: Any) -> Windows:
    return Windows(reranker=reranker, tokens=tokens, overlap=overlap, tokenizer=EMBEDDED, **options)


@cache
def wordpiece() -> Tokens:
    return tokens(EMBEDDED)


@cache
def byte_level() -> Tokens:
    """A byte-level BPE with some merges: several tokens a character, white space inside tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([LONG], trainer)
    return HuggingFaceTokens(tokenizer)


PIECES = (
    *("lake", " ", "  \n", "深い湖", "👩‍👩‍👧", "e\u0301\u0302\u0303", "\u200b", "\ud83d", "\ude00"),
    *("x" * 70, "1,234.5", ".", "\x00"),
)
TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(st.sampled_from(PIECES), max_size=60).map("".join),
)


@settings(max_examples=300)
@given(
    text=TEXTS,
    room=st.integers(4, 40),
    overlap=st.integers(0, 20),
    counters=st.sampled_from([(wordpiece,), (byte_level,), (wordpiece, byte_level), (byte_level, wordpiece)]),
)
@example(text=MIXED, room=10, overlap=5, counters=(wordpiece,))
@example(text=LONG, room=30, overlap=10, counters=(byte_level,))
def test_windows_cover_the_whole_text_in_order_and_each_alone_fits(
    text: str, room: int, overlap: int, counters: Sequence[Callable[[], Tokens]]
) -> None:
    rooms = [TextLimit(room, counter()) for counter in counters]
    spans = SplitText(text, rooms, overlap).windows
    assert (spans[0][0], spans[-1][1]) == (0, len(text)) if text else not spans
    for (start, end), (next_start, next_end) in pairwise(spans):
        assert start < next_start <= end < next_end
    for start, end in spans:
        assert not any(r.excess(text[start:end]) for r in rooms)
        if start:
            assert not ("\ud800" <= text[start - 1] <= "\udbff" and "\udc00" <= text[start] <= "\udfff")


@pytest.mark.parametrize("counter", [wordpiece, byte_level])
def test_windows_are_cut_between_words_and_share_whole_words(counter: Callable[[], Tokens]) -> None:
    spans = SplitText(LONG, [TextLimit(40, counter())], 12).windows
    words = set(LONG.split())
    assert all(set(LONG[start:end].split()) <= words for start, end in spans)
    assert all(later < end for (_, end), (later, _) in pairwise(spans))


def test_windows_are_filled() -> None:
    spans = SplitText(LONG, [TextLimit(40, wordpiece())], 10).windows
    assert len(spans) <= math.ceil(wordpiece().count(LONG) / 25)


def test_no_window_begins_with_a_combining_mark() -> None:
    text = "e\u0301\u0302" * 50 + "👩\u200d👧" * 30
    spans = SplitText(text, [TextLimit(9, byte_level())], 3).windows
    assert len(spans) > 10
    assert not any(text[start] in "\u0301\u0302\u200d" for start, _ in spans)


@settings(max_examples=200)
@given(
    text=TEXTS,
    room=st.integers(4, 12),
    overlap=st.integers(0, 6),
    counters=st.sampled_from([(wordpiece, byte_level), (byte_level, wordpiece), (wordpiece,), (byte_level,)]),
)
@example(text="\ud83d\ude00lake", room=4, overlap=0, counters=(wordpiece, byte_level))
@example(text="lake\ud83d\ude00\ud83d\ude00lake", room=4, overlap=2, counters=(wordpiece, byte_level))
def test_no_window_parts_a_surrogate_pair_or_a_character_that_fits(
    text: str, room: int, overlap: int, counters: Sequence[Callable[[], Tokens]]
) -> None:
    rooms = [TextLimit(room, counter()) for counter in counters]
    places = [0, *(place for place in range(1, len(text)) if may_cut(text, place)), len(text)]
    for start, end in SplitText(text, rooms, overlap).windows:
        for place in (start, end):
            assert place in (0, len(text)) or not in_surrogate_pair(text, place)
            parted = [text[a:b] for a, b in pairwise(places) if a < place < b]
            assert not parted or any(r.excess(parted[0]) for r in rooms)


def test_a_character_that_fits_no_window_is_refused() -> None:
    with pytest.raises(InputTooLong, match="not even a single character"):
        SplitText("😀😀", [TextLimit(2, byte_level())], 0)


def test_coverage_counts_a_shared_token_once() -> None:
    text = "one two three four five six seven eight"
    document = SplitText(text, [TextLimit(4, wordpiece())], 2)
    whole = [(window, None) for window in document.windows]
    assert len(whole) > 2
    assert document.coverage(whole) == Coverage(8, 8)
    assert document.coverage(whole[:1]) == Coverage(8, 4)
    assert document.coverage([whole[1], whole[0]]).seen == wordpiece().count(text[: document.windows[1][1]])
    assert document.coverage([(document.windows[0], Coverage(4, 1))]) == Coverage(8, 1)
    assert document.coverage([]) == Coverage(8, 0)


# The real model: its own tokenizer says what fits.


@pytest.mark.parametrize("pool", ["max", "mean", "top"])
def test_a_local_model_reads_long_texts_whole(ask: Ask, embedded: Reranker, pool: Any) -> None:
    texts = ["The lake is 346 m deep.", LONG, MIXED * 3, " "]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ReadabilityWarning)
        ranking = ask(Windows(reranker=embedded, pool=pool), texts)
    hits = {hit.id: hit for hit in ranking}
    assert set(hits) == {"0", "1", "2", "3"}
    assert hits["0"].window is None and hits["3"].unscored == "blank text"
    for id in "12":
        window, coverage = hits[id].window, hits[id].coverage
        assert window is not None and coverage is not None and not coverage.truncated
        (alone,) = embedded.rerank("how deep?", [hits[id].text[slice(*window)]])
        assert alone.coverage is not None and not alone.coverage.truncated
        if pool == "max":
            assert alone.raw_score == pytest.approx(hits[id].raw_score, abs=1e-4)
        assert coverage.total == wordpiece().count(hits[id].text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # it comes once a reranker, and other tests share this one
        cut = {hit.id for hit in ask(embedded, texts) if hit.coverage is not None and hit.coverage.truncated}
    assert cut == {"1", "2"}


def test_the_window_is_what_the_query_leaves(embedded: Reranker) -> None:
    (short,), (long,) = embedded.text_limits("lake"), embedded.text_limits("how deep is the lake " * 10)
    assert (short.tokens, long.tokens) == (128 - 4 - 1, 128 - 4 - 50)
    with pytest.warns(QueryTruncationWarning):
        ranking = Windows(reranker=embedded).rerank("deep " * 200, [LONG])
    coverage = ranking[0].coverage
    assert embedded.text_limits("deep " * 200)[0].tokens == (128 - 4) // 2
    assert ranking.degraded and coverage is not None and not coverage.truncated
    strict = build({"type": "onnx", "model": "embedded", "max_length": 128, "on_long_query": "error"})
    with pytest.raises(InputTooLong, match="no room"):
        Windows(reranker=strict).rerank("deep " * 200, [LONG])


def test_fewer_tokens_may_be_asked_for_but_never_more_than_fit(embedded: Reranker) -> None:
    def widest(tokens: int | None) -> int:
        ranking = Windows(reranker=embedded, tokens=tokens, overlap=0).rerank("lake", [LONG])
        return max(c.total for c in ranking.trace.children[0].coverage.values())

    assert widest(20) <= 20 < widest(None) <= 123
    assert widest(10_000) == widest(None)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda r: Cached(reranker=r),
        lambda r: Fallback(members=(r, LexicalReranker())),
        lambda r: Ensemble(members=(r, LexicalReranker())),
        lambda r: Deadline(reranker=r, seconds=100, on_late="partial"),
        lambda r: Cascade(stages=(Stage(reranker=LexicalReranker()), Stage(reranker=r))),
    ],
)
def test_composites_and_caches_pass_on_what_their_parts_have_room_for(
    embedded: Reranker, wrap: Callable[[Reranker], Reranker]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranking = Windows(reranker=wrap(embedded)).rerank("how deep?", [LONG, "a lake"])
    hit = next(hit for hit in ranking if hit.id == "0")
    assert hit.score is not None
    assert hit.window is not None and hit.coverage is not None and not hit.coverage.truncated


def test_windows_of_windows_point_into_the_text(embedded: Reranker) -> None:
    inner = Windows(reranker=embedded, tokens=20, overlap=5)
    (hit,) = windows(inner, tokens=60, overlap=10).rerank("lake 41", [LONG])
    assert hit.window is not None and wordpiece().count(LONG[slice(*hit.window)]) <= 20
    (alone,) = embedded.rerank("lake 41", [LONG[slice(*hit.window)]])
    assert alone.raw_score == pytest.approx(hit.raw_score, abs=1e-4)


def test_a_prompt_counts_a_text_with_the_prefix_before_it(tmp_path: Path) -> None:
    from rag_rerank.backends.local.torch_models.causal import _WithPrefix

    inner = byte_level()
    assert isinstance(inner, HuggingFaceTokens)
    led = _WithPrefix(inner, "document: ")
    text = "the lake is cold"
    assert led.count(text) == inner.count("document: " + text) - inner.count("document: ")
    spans = led.spans(text)
    assert (spans[0][0], spans[-1][1]) == (0, len(text))


# Any other reranker: a tokenizer is named.


def test_windows_keep_ids_metadata_and_first_stage_scores_whatever_the_ids_are(ask: Ask) -> None:
    received: list[Candidate] = []

    @dataclass(frozen=True, kw_only=True)
    class Watching(rag_rerank.Composite):
        kind: ClassVar[str] = "watching"
        inner: Reranker

        scale = property(lambda self: self.inner.scale)

        def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Any:
            from rag_rerank.execution.plan import Call, PlanResult

            received.extend(candidates)
            ranking = yield Call(self.inner, query, candidates)
            return PlanResult(ranking.hits, ranking.scale)

    ids = ["a", "a#1", "a##1", "a#", "#"]
    candidates = [Candidate(id, LONG if id != "a#1" else "short", 0.5, {"source": id}) for id in ids]
    ranking = ask(windows(Watching(inner=ScriptedReranker())), candidates)
    assert len({c.id for c in received}) == len(received) > 50
    assert all(c.score == 0.5 for c in received)
    assert {c.metadata["source"] for c in received} == set(ids)
    assert [hit.candidate for hit in ranking] == candidates
    assert all(hit.candidate is own for hit, own in zip(ranking, candidates, strict=True))
    assert next(c for c in received if c.text == "short") is candidates[1]


def scored(reranker: Reranker, text: str) -> list[str]:
    return [text[a:b] for a, b in SplitText(text, [TextLimit(12, wordpiece())], 4).windows]


@pytest.mark.parametrize(
    ("pool", "options", "expected"),
    [
        ("max", {}, 7.0),
        ("mean", {}, None),
        ("top", {}, 4.0),
        ("top", {"top_m": 2}, 6.0),
        ("top", {"top_m": 500}, None),
    ],
)
def test_scores_are_pooled_as_raw_scores(ask: Ask, pool: Any, options: dict[str, Any], expected: float | None) -> None:
    pieces = scored(ScriptedReranker(), LONG)
    inner = ScriptedReranker(by_text={pieces[3]: 5.0, pieces[8]: 7.0}, answers_on="sigmoid")
    (hit,) = ranking = ask(windows(inner, pool=pool, **options), [LONG])
    assert hit.raw_score == pytest.approx(12 / len(pieces) if expected is None else expected)
    assert hit.raw_score is not None and hit.score == pytest.approx(1 / (1 + math.exp(-hit.raw_score)))
    assert ranking.scale == "sigmoid"
    assert hit.window is not None and LONG[slice(*hit.window)] == pieces[8]
    assert ranking.trace.scores == {"0": hit.raw_score}
    assert ranking.trace.notes == (f"1 of 1 texts were split into {len(pieces)} windows",)
    assert ranking.usage.texts == len(pieces)


def test_ties_keep_the_incoming_order_and_point_to_the_first_window(ask: Ask) -> None:
    ranking = ask(windows(ScriptedReranker(default=1.0), pool="mean"), ["short", LONG, "also short"])
    assert [hit.id for hit in ranking] == ["0", "1", "2"]
    assert ranking[1].window is not None and ranking[1].window[0] == 0


def test_blank_windows_are_not_scored_and_leave_nothing_unread(ask: Ask) -> None:
    text = "the lake " + "\u200b" * 400 + " is deep"
    inner = ScriptedReranker()
    counter = TextLimit(12, byte_level())
    assert any(is_blank(text[a:b]) for a, b in SplitText(text, [counter], 4).windows)

    @dataclass(frozen=True, kw_only=True)
    class Measured(ScriptedReranker):
        knows_text_limit = True

        def text_limits(self, query: str) -> tuple[TextLimit, ...]:
            return (counter,)

    inner = Measured(by_text={text: 3.0})
    (hit,) = ask(Windows(reranker=inner, overlap=4), [text])
    assert hit.score is not None and hit.coverage is not None and not hit.coverage.truncated
    assert not any(is_blank(piece) for _, texts in inner.calls for piece in texts)


def test_windows_without_a_score_lower_the_coverage_and_a_text_without_any_gets_their_reason(ask: Ask) -> None:
    pieces = scored(ScriptedReranker(), LONG)
    first = ScriptedReranker(by_text={pieces[0]: 9.0, pieces[4]: 8.0})
    cascade = Cascade(stages=(Stage(reranker=first), Stage(reranker=ScriptedReranker(default=2.0), depth=2)))
    ranking = ask(windows(cascade, pool="mean"), ["a lake", LONG, "Of the lake: " + LONG])
    read, *others = ranking
    assert (read.id, read.raw_score) == ("1", 2.0)
    assert read.coverage is not None and 0 < read.coverage.seen <= 24 < read.coverage.total
    assert {hit.unscored for hit in others} == {"stopped before stage 2 (depth 2)"}
    (note,) = ranking.trace.notes
    assert note.startswith("2 of 3 texts were split into ") and note.endswith(" of which got no score")
    assert [hit.score for hit in others] == [None, None]


def test_a_partial_answer_stays_marked(ask: Ask) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Slow(ScriptedReranker):
        def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> int:
            return 5 if not self.calls else 0

    ranking = ask(windows(Deadline(reranker=Slow(), seconds=100, on_late="partial")), [LONG, "a lake"])
    assert ranking.degraded and "were scored in 100 s" in ranking.degraded[0]
    assert ranking[0].coverage is not None and ranking[0].coverage.truncated
    assert ranking[1].unscored == "not reached in 100 s"


def test_what_is_substituted_or_on_another_scale_inside_is_so_outside(ask: Ask) -> None:
    down = ScriptedReranker(error=BackendUnavailable("gone"), answers_on="sigmoid")
    ranking = ask(windows(Fallback(members=(down, ScriptedReranker(default=3.0)))), [LONG])
    assert ranking.substituted and ranking.degraded
    assert (ranking.scale, ranking[0].score) == ("unbounded", 3.0)


def test_nothing_to_read_loads_nothing(ask: Ask) -> None:
    unloadable = Windows(reranker=build({"type": "onnx", "model": "/no/such/model"}))
    assert len(ask(unloadable, [])) == 0
    assert [hit.unscored for hit in ask(unloadable, ["", "\u200b"])] == ["blank text"] * 2


def test_texts_are_divided_away_from_the_event_loop() -> None:
    threads = []

    @dataclass(frozen=True, kw_only=True)
    class Measured(ScriptedReranker):
        knows_text_limit = True

        def text_limits(self, query: str) -> tuple[TextLimit, ...]:
            threads.append(threading.current_thread())
            return (TextLimit(12, wordpiece()),)

    asyncio.run(Windows(reranker=Measured(), overlap=4).arerank("q", [LONG]))
    assert threads and threading.main_thread() not in threads


def test_many_windows_are_pooled_away_from_the_event_loop_with_the_same_result(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = ScriptedReranker(by_text={text: i / 7 for i, text in enumerate(scored(ScriptedReranker(), LONG))})
    few = ask(windows(inner, pool="mean"), [LONG, "a lake", LONG + " too"])
    monkeypatch.setattr("rag_rerank.compose.windows._MANY", 3)
    many = ask(windows(inner, pool="mean"), [LONG, "a lake", LONG + " too"])
    assert (many.hits, many.scale) == (few.hits, few.scale)


@pytest.mark.parametrize("world", ["sync", "async"])
def test_dividing_keeps_the_time_of_the_call(world: str) -> None:
    never = threading.Event()

    @dataclass(frozen=True, kw_only=True)
    class Stuck(ScriptedReranker):
        knows_text_limit = True

        def text_limits(self, query: str) -> tuple[TextLimit, ...]:
            never.wait(30)
            return ()

    async def ask() -> None:
        try:
            if world == "sync":
                Windows(reranker=Stuck()).rerank("q", [LONG], timeout=0.01)
            else:
                await Windows(reranker=Stuck()).arerank("q", [LONG], timeout=0.01)
        finally:
            never.set()

    with pytest.raises(DeadlineExceeded):
        asyncio.run(ask())


@dataclass(frozen=True, kw_only=True)
class Cutting(PointwiseReranker):
    """Reads the first half of every text."""

    kind: ClassVar[str] = "cutting"
    scale = "relevance"  # type: ignore[assignment]
    seen: list[str] = field(default_factory=list, compare=False, metadata={"live": True})

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        lengths = [wordpiece().count(text) for text in texts]
        return Scores([0.5] * len(texts), "relevance", coverage=[Coverage(n, n // 2) for n in lengths])


def test_a_window_that_is_truncated_all_the_same_lowers_the_coverage() -> None:
    with pytest.warns(TruncationWarning):
        (hit,) = windows(Cutting(), overlap=0).rerank("q", [LONG])
    assert hit.coverage is not None
    assert 0.3 < hit.coverage.seen / hit.coverage.total <= 0.5


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "tokenizer"),
        ({"tokens": 100}, "tokenizer"),
        ({"tokenizer": EMBEDDED}, "tokens"),
        ({"tokenizer": EMBEDDED, "tokens": 0, "overlap": 0}, "tokens"),
        ({"tokenizer": EMBEDDED, "tokens": 40}, "tokens"),
        ({"tokenizer": EMBEDDED, "tokens": 100, "overlap": -1}, "overlap"),
        ({"tokenizer": EMBEDDED, "tokens": 100, "pool": "sum"}, "pool"),
        ({"tokenizer": EMBEDDED, "tokens": 100, "top_m": 2}, "top_m"),
        ({"tokenizer": EMBEDDED, "tokens": 100, "pool": "top", "top_m": 0}, "top_m"),
    ],
)
def test_what_makes_no_sense_is_a_config_error(options: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Windows(reranker=ScriptedReranker(), **options)
    assert caught.value.path == path


def test_other_mistakes_are_config_errors_too() -> None:
    with pytest.raises(ConfigError, match="expected a Reranker"):
        Windows(reranker="embedded")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="any length"):
        Windows(reranker=LexicalReranker()).rerank("q", ["x"])
    with pytest.raises(ConfigError, match="there is no file"):
        Windows(reranker=ScriptedReranker(), tokens=100, tokenizer="/no/such.json").warm_up()


def test_it_is_built_from_a_config() -> None:
    node = {"type": "windows", "reranker": "embedded", "tokens": 100, "pool": "top", "top_m": 2}
    reranker = build(node)
    assert build(json.loads(json.dumps(to_config(reranker)))) == reranker
    assert reranker.scale == "sigmoid" and reranker.label == "windows(late_interaction:embedded)"


class TestWindowsOfAModel(RerankerContract):
    @pytest.fixture
    def reranker(self, embedded: Reranker) -> Reranker:
        return Windows(reranker=embedded, tokens=10, overlap=3)


class TestWindowsUnderANamedTokenizer(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        both = Ensemble(members=(LexicalReranker(), LexicalReranker(b=0.75)), fusion="combsum")
        return windows(both, tokens=10, pool="mean")
