"""Properties of packing that hold for every ranking, tokenizer and option."""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rankings import ranking_of
from support.tiny_tokenizers import EMBEDDED, tiny_encoding

from rag_rerank import Context, ContextWarning, Packing, Ranking, RelevantSpan
from rag_rerank.text.sentences import sentences
from rag_rerank.text.tokenizers import Tokens, tokens
from rag_rerank.text.unicode import is_blank

pytestmark = pytest.mark.filterwarnings("ignore::rag_rerank.ContextWarning")

REAL = tokens(EMBEDDED)
BYTES = tokens(tiny_encoding())


def unruly(text: str) -> int:
    """Return a count that neither adds up nor grows with the text."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:1], "big") if text else 0


WORDS = [
    "K2",
    "Garda",
    "tall",
    "deep",
    "8,611",
    "m.",
    "漢字。",
    "how?",
    "e.g.",
    "\n\n",
    "höher",
    "🙂",
    "[SEP]",
    "\ud800",
]
words = st.sampled_from(WORDS)
texts = st.one_of(st.lists(words, max_size=30).map(" ".join), st.text(max_size=60))


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    passages = draw(st.lists(texts, max_size=12))
    if passages and draw(st.booleans()):
        passages += passages[:2]
    scored = draw(st.integers(0, len(passages)))
    scores = [1 - i / 20 if i < scored else None for i in range(len(passages))]
    places = [{"doc": draw(st.sampled_from("abc")), "chunk": draw(st.integers(0, 3))} for _ in passages]
    ranking = ranking_of(passages, scores=scores, metadata=places, degraded=("so that nobody must ask for spans",))
    if not draw(st.booleans()):
        return ranking
    numbers = st.floats(-5, 5)
    hits = (
        replace(hit, spans=tuple(RelevantSpan(a, b, (raw := draw(numbers)), raw) for a, b in spans_in(hit.text)))
        for hit in ranking
    )
    return replace(ranking, hits=tuple(hits))


def spans_in(text: str) -> list[tuple[int, int]]:
    spans = [(end - len(text[start:end].lstrip()), len(text[:end].rstrip())) for start, end in sentences(text)]
    return [(a, b) for a, b in spans if a < b and not is_blank(text[a:b])]


options = st.fixed_dictionaries(
    {"max_tokens": st.integers(1, 120)},
    optional={
        "separator": st.sampled_from(["\n\n", "", " ", ". "]),
        "top_k": st.integers(1, 6),
        "duplicates": st.sampled_from(["exact", 0.5]),
        "diversity": st.sampled_from([0.3, 1.0]),
        "order": st.sampled_from(["edges", "source"]),
        "trim": st.sampled_from(["best", "sentences", "relevant", None]),
        "per_source": st.integers(1, 2),
        "merge": st.sampled_from(["chunks", "characters"]),
        "min_score": st.just(0.6),
    },
).map(
    lambda o: o | {"source": "doc", "position": "chunk"} | ({"min_score_scale": "sigmoid"} if "min_score" in o else {})
)

tokenizers = st.sampled_from([REAL, BYTES, tokens(unruly), tokens(len), tokens(lambda text: len(text.split()))])


def pack_with(ranking: Ranking, tokenizer: Tokens, options_used: dict[str, Any]) -> Context:
    return Packing(tokenizer=tokenizer.count, **options_used).pack(ranking)


@settings(max_examples=1_000)
@given(ranking=rankings(), options_used=options)
def test_the_budget_is_never_exceeded_over_a_thousand_inputs_and_a_real_tokenizer(
    ranking: Ranking, options_used: dict[str, Any]
) -> None:
    context = Packing(tokenizer=REAL.count, **options_used).pack(ranking)
    assert context.tokens == REAL.count(context.text) <= options_used["max_tokens"]


@settings(max_examples=1_000)
@given(ranking=rankings(), options_used=options, tokenizer=tokenizers)
def test_the_budget_holds_for_any_tokenizer(ranking: Ranking, options_used: dict[str, Any], tokenizer: Tokens) -> None:
    context = pack_with(ranking, tokenizer, options_used)
    assert context.tokens == (tokenizer.count(context.text) if context.pieces else 0)
    assert context.tokens <= options_used["max_tokens"]


@settings(max_examples=300)
@given(ranking=rankings(), options_used=options, tokenizer=tokenizers)
def test_every_hit_is_kept_or_dropped_exactly_once_and_is_the_rankings_own(
    ranking: Ranking, options_used: dict[str, Any], tokenizer: Tokens
) -> None:
    before = ranking.to_dict()
    context = pack_with(ranking, tokenizer, options_used)
    hits = [*context, *(dropped.hit for dropped in context.dropped)]
    assert sorted(id(hit) for hit in hits) == sorted(id(hit) for hit in ranking)
    assert len(context) == len(context.hits) == len(list(context))
    assert ranking.to_dict() == before


@settings(max_examples=300)
@given(ranking=rankings(), options_used=options, tokenizer=tokenizers)
def test_the_same_ranking_gives_the_same_context(
    ranking: Ranking, options_used: dict[str, Any], tokenizer: Tokens
) -> None:
    assert pack_with(ranking, tokenizer, options_used) == pack_with(ranking, tokenizer, options_used)


@settings(max_examples=300)
@given(ranking=rankings(), options_used=options, tokenizer=st.sampled_from([REAL, BYTES]))
def test_packing_the_kept_hits_again_keeps_them(
    ranking: Ranking, options_used: dict[str, Any], tokenizer: Tokens
) -> None:
    options_used = {name: value for name, value in options_used.items() if name not in ("diversity", "merge")}
    options_used["trim"] = None
    first = pack_with(ranking, tokenizer, options_used)
    again = pack_with(replace(ranking, hits=tuple(sorted(first, key=lambda hit: hit.rank))), tokenizer, options_used)
    assert (again.text, again.dropped) == (first.text, ())


@settings(max_examples=300)
@given(ranking=rankings(), limit=st.integers(1, 120), tokenizer=st.sampled_from([REAL, BYTES]))
def test_nothing_that_would_still_fit_is_left_out(ranking: Ranking, limit: int, tokenizer: Tokens) -> None:
    context = pack_with(ranking, tokenizer, {"max_tokens": limit, "trim": None})
    for dropped in context.dropped:
        if dropped.reason == "max_tokens":
            hits = sorted([*context, dropped.hit], key=lambda hit: hit.rank)
            assert tokenizer.count("\n\n".join(hit.text for hit in hits)) > limit


@settings(max_examples=300)
@given(ranking=rankings(), options_used=options, tokenizer=tokenizers)
def test_a_duplicate_names_a_hit_in_the_context_with_a_better_rank(
    ranking: Ranking, options_used: dict[str, Any], tokenizer: Tokens
) -> None:
    context = pack_with(ranking, tokenizer, options_used | {"duplicates": "exact", "diversity": 0.0})
    ranks = {hit.id: hit.rank for hit in context}
    for dropped in context.dropped:
        assert (dropped.duplicate_of is not None) == (dropped.reason == "duplicates")
        if dropped.duplicate_of is not None:
            assert ranks[dropped.duplicate_of] < dropped.hit.rank


@settings(max_examples=300)
@given(ranking=rankings(), options_used=options, tokenizer=tokenizers)
def test_a_piece_is_the_text_of_its_hit_or_has_the_characters_left(
    ranking: Ranking, options_used: dict[str, Any], tokenizer: Tokens
) -> None:
    context = pack_with(ranking, tokenizer, options_used)
    assert context.text == context.separator.join(piece.text for piece in context.pieces)
    for piece in context.pieces:
        if piece.trimmed is not None:
            text = piece.hits[0].text
            parts = piece.parts or (piece.trimmed,)
            assert piece.text == " … ".join(text[start:end] for start, end in parts) != text
            assert (parts[0][0], parts[-1][1]) == piece.trimmed
            assert all(a < b for a, b in parts) and all(b < a for (_, b), (a, _) in pairwise(parts))
        elif len(piece.hits) == 1:
            assert piece.text == piece.hits[0].text
        assert piece.tokens == tokenizer.count(piece.text)
        assert all(hit.text in piece.text for hit in piece.hits) or piece.trimmed
    if options_used.get("trim", "best") != "relevant":
        trimmed = sum(piece.trimmed is not None for piece in context.pieces)
        assert trimmed <= (options_used.get("trim", "best") is not None)
        assert not any(piece.parts for piece in context.pieces)


@settings(max_examples=300)
@given(ranking=rankings(), options_used=options, tokenizer=tokenizers)
def test_the_best_hit_is_never_replaced_in_silence(
    ranking: Ranking, options_used: dict[str, Any], tokenizer: Tokens
) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        context = pack_with(ranking, tokenizer, options_used)
    other_reasons = {drop.hit.id for drop in context.dropped if drop.reason != "max_tokens"}
    usable = [hit for hit in ranking if hit.id not in other_reasons and not is_blank(hit.text)]
    best = usable[0] if usable else None
    is_out = best is not None and best.id not in {hit.id for hit in context}
    assert is_out == any(w.category is ContextWarning for w in seen)
    assert is_out == any("is not in the context" in note for note in context.notes)
    trimmed = [piece for piece in context.pieces if piece.trimmed is not None]
    if options_used.get("trim", "best") == "best":
        assert all(piece.best is best for piece in trimmed)
        assert bool(trimmed) == any("was trimmed to" in note for note in context.notes)
    if options_used.get("trim", "best") is None:
        assert not trimmed


@pytest.mark.parametrize("count", [len, unruly])
def test_an_empty_ranking_is_an_empty_context(count: Callable[[str], int]) -> None:
    context = Packing(tokenizer=count, max_tokens=1, duplicates=0.5, diversity=0.5).pack(ranking_of([]))
    assert (context.text, context.dropped, context.tokens, context.tokens_before) == ("", (), 0, 0)
