"""For authors of rerankers: a scripted reranker for tests, and the contract tests that every reranker must pass.

The test of a backend is a subclass with one fixture::

    class TestMyReranker(RerankerContract):
        @pytest.fixture
        def reranker(self):
            return MyReranker()
"""

from __future__ import annotations

import asyncio
import copy
import json
import math
import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rag_rerank.base import PointwiseReranker, Reranker
from rag_rerank.config import build, to_config
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.execution.instruction import call_instruction
from rag_rerank.trace import Usage
from rag_rerank.types import Candidate, Ranking, Scale, Scores

__all__ = ["RerankerContract", "ScriptedReranker"]


@dataclass(frozen=True, kw_only=True)
class ScriptedReranker(PointwiseReranker):
    """A reranker that returns the scores of a script, or raises, and logs its calls.

    Args:
        by_text: Score by text; a text that is not listed scores ``default``.
        default: Score of all other texts.
        error: A copy of it is raised instead of an answer.
        answers_on: The scale of the scores.

    Its ``calls`` are the query and the texts of each call so far.
    """

    kind: ClassVar[str] = "scripted"

    by_text: Mapping[str, float] = field(default_factory=dict, hash=False)
    default: float = 0.0
    error: Exception | None = field(default=None, compare=False, metadata={"live": True})
    answers_on: Scale = "unbounded"
    calls: list[tuple[str, tuple[str, ...]]] = field(
        default_factory=list, init=False, repr=False, compare=False, metadata={"live": True}
    )

    @property
    def scale(self) -> Scale:
        """The scale of the script."""
        return self.answers_on

    @property
    def why_not_cacheable(self) -> None:
        """``None``: a score depends on its text alone."""

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Return the scores of the script."""
        self.calls.append((query, tuple(texts)))
        if self.error is not None:
            raise copy.copy(self.error)
        values = [self.by_text.get(text, self.default) for text in texts]
        return Scores(values, self.answers_on, Usage(texts=len(texts)))


class RerankerContract:
    """Tests that every reranker must pass, as a pytest class; give it a ``reranker`` fixture.

    Set ``in_registry = False`` for a class that no config can name.
    """

    in_registry: ClassVar[bool] = True
    query: ClassVar[str] = "how should a bearded dragon be kept warm?"
    texts: ClassVar[tuple[str, ...]] = (
        "Cranes migrate along the coast in autumn.",
        "A bearded dragon needs a warm basking spot of about forty degrees.",
        "How should the dragon be kept? Warm and dry.",
        "Преподаватель объяснил правило ещё раз.",
        "温度は重要です。",
        "x",
        "Keep the terrarium warm; a bearded dragon rests in the shade at noon. " * 3,
    )

    def ask(self, reranker: Reranker, candidates: Sequence[Candidate | str] | None = None, **options: Any) -> Ranking:
        """Rank the contract's texts, or other candidates."""
        return reranker.rerank(self.query, self.texts if candidates is None else candidates, **options)

    def test_same_candidates_come_out_once_each_as_the_callers_own_objects(self, reranker: Reranker) -> None:
        candidates = [Candidate(f"d{i}", t, metadata={"n": [i]}) for i, t in enumerate(self.texts)]
        before = copy.deepcopy(candidates)
        ranking = self.ask(reranker, candidates)
        assert sorted(hit.id for hit in ranking) == sorted(c.id for c in candidates)
        by_id = {c.id: c for c in candidates}
        assert all(hit.candidate is by_id[hit.id] for hit in ranking)
        assert candidates == before

    def test_ranks_count_from_one_and_scores_fall(self, reranker: Reranker) -> None:
        ranking = self.ask(reranker)
        assert [hit.rank for hit in ranking] == list(range(1, len(ranking) + 1))
        raw = [hit.raw_score for hit in ranking if hit.raw_score is not None]
        assert raw and raw == sorted(raw, reverse=True)

    def test_hits_without_a_score_stand_last(self, reranker: Reranker) -> None:
        unscored = [hit.raw_score is None for hit in self.ask(reranker, [" ", *self.texts])]
        assert unscored == sorted(unscored)

    def test_scores_are_plain_finite_floats_on_a_named_scale(self, reranker: Reranker) -> None:
        ranking = self.ask(reranker)
        for hit in ranking:
            assert (hit.score is None) == (hit.raw_score is None) == (hit.unscored is not None)
            if hit.score is not None and hit.raw_score is not None:
                assert type(hit.score) is float and type(hit.raw_score) is float
                assert math.isfinite(hit.score) and math.isfinite(hit.raw_score)
                if ranking.scale in ("sigmoid", "relevance", "calibrated"):
                    assert 0 <= hit.score <= 1

    def test_top_k_is_the_head_of_the_full_ranking(self, reranker: Reranker) -> None:
        full = [hit.id for hit in self.ask(reranker)]
        assert [hit.id for hit in self.ask(reranker, top_k=2)] == full[:2]
        assert [hit.id for hit in self.ask(reranker, top_k=99)] == full

    def test_order_of_arrival_moves_nothing_but_ties(self, reranker: Reranker) -> None:
        texts = {str(i): t for i, t in enumerate(self.texts)}
        first = self.ask(reranker, [Candidate(i, t) for i, t in texts.items()])
        again = self.ask(reranker, [Candidate(i, t) for i, t in reversed(texts.items())])
        scores = {hit.id: hit.raw_score for hit in first if hit.raw_score is not None}
        for hit in again:
            if hit.raw_score is not None and hit.id in scores:
                assert math.isclose(hit.raw_score, scores[hit.id], rel_tol=1e-5, abs_tol=1e-4)

    def test_equal_texts_keep_their_order(self, reranker: Reranker) -> None:
        assert [hit.id for hit in self.ask(reranker, [self.texts[1]] * 5)] == ["0", "1", "2", "3", "4"]

    def test_no_candidates_give_an_empty_ranking(self, reranker: Reranker) -> None:
        ranking = self.ask(reranker, [])
        assert len(ranking) == 0
        assert ranking.scale

    def test_one_candidate_is_ranked_and_scored(self, reranker: Reranker) -> None:
        (hit,) = self.ask(reranker, [self.texts[1]])
        assert hit.rank == 1
        assert hit.score is not None

    def test_blank_texts_stand_last_without_a_score(self, reranker: Reranker) -> None:
        ranking = self.ask(reranker, ["", self.texts[1], " \n\t", self.texts[0]])
        assert [hit.id for hit in ranking][2:] == ["0", "2"]
        assert [hit.unscored for hit in ranking][2:] == ["blank text"] * 2

    def test_only_blank_texts_give_unscored_hits(self, reranker: Reranker) -> None:
        assert [(hit.id, hit.score) for hit in self.ask(reranker, ["", " "])] == [("0", None), ("1", None)]

    def test_lone_surrogates_are_read_as_replacement_characters_and_noted(self, reranker: Reranker) -> None:
        text = "warm \ud800 dragon"
        ranking = self.ask(reranker, [text, self.texts[1]])
        assert {hit.text for hit in ranking} == {text, self.texts[1]}
        assert any("lone surrogates" in note for node in ranking.trace.walk() for note in node.notes)

    def test_bad_requests_are_input_errors(self, reranker: Reranker) -> None:
        twice = [Candidate("a", "x"), Candidate("a", "y")]
        for query, candidates, options in (
            ("", ["x"], {}),
            ("  ", ["x"], {}),
            (None, ["x"], {}),
            ("q", "x", {}),
            ("q", [1], {}),
            ("q", twice, {}),
            ("q", ["x"], {"top_k": 0}),
            ("q", ["x"], {"top_k": True}),
            ("q", ["x"], {"top_k": 1.5}),
        ):
            assert _raises(InputError, lambda q=query, c=candidates, o=options: reranker.rerank(q, c, **o))

    def test_an_instruction_is_followed_or_refused(self, reranker: Reranker) -> None:
        assert _raises(InputError, lambda: self.ask(reranker, instruction=" "))
        if not reranker.takes_instruction:
            assert _raises(ConfigError, lambda: self.ask(reranker, instruction="prefer warm places"))
            return
        ranking = self.ask(reranker, instruction="prefer warm places")
        assert sorted(hit.id for hit in ranking) == sorted(hit.id for hit in self.ask(reranker))
        if getattr(reranker, "why_not_cacheable", "composite") is None:
            with call_instruction("prefer warm places"):
                identity = reranker.identity
            assert identity != reranker.identity

    def test_async_gives_the_same_ranking(self, reranker: Reranker) -> None:
        async def ask() -> Ranking:
            try:
                return await reranker.arerank(self.query, self.texts)
            finally:
                await reranker.aclose()

        sync_ranking = self.ask(reranker)
        async_ranking = asyncio.run(ask())
        assert [(h.id, h.unscored) for h in async_ranking] == [(h.id, h.unscored) for h in sync_ranking]
        assert _close(sync_ranking, async_ranking)

    def test_async_survives_several_event_loops(self, reranker: Reranker) -> None:
        first = asyncio.run(reranker.arerank(self.query, self.texts))
        second = asyncio.run(reranker.arerank(self.query, self.texts))
        assert [hit.id for hit in first] == [hit.id for hit in second]

    def test_threads_may_share_it(self, reranker: Reranker) -> None:
        alone = self.ask(reranker)
        with ThreadPoolExecutor(8) as pool:
            rankings = list(pool.map(lambda _: self.ask(reranker), range(16)))
        assert all(_close(alone, ranking) for ranking in rankings)

    def test_a_closed_reranker_answers_again(self, reranker: Reranker) -> None:
        first = self.ask(reranker)
        reranker.close()
        reranker.close()
        reranker.warm_up()
        assert _close(first, self.ask(reranker))

    def test_trace_has_every_score_and_is_json(self, reranker: Reranker) -> None:
        ranking = self.ask(reranker)
        assert ranking.trace.seconds >= 0
        for hit in ranking:
            visits = ranking.trace.path(hit.id)
            assert visits
            if hit.raw_score is not None:
                assert hit.raw_score in [step_score.raw_score for step_score in visits]
        assert Ranking.from_dict(json.loads(json.dumps(ranking.to_dict()))) == ranking
        assert ranking.trace.step in ranking.trace.render()
        assert not any(text in json.dumps(ranking.trace.to_dict()) for text in self.texts if len(text) > 1)

    def test_usage_counts_the_texts(self, reranker: Reranker) -> None:
        usage = self.ask(reranker).usage
        assert usage.texts + usage.cached >= 1
        assert usage.seconds >= 0

    def test_config_round_trip(self, reranker: Reranker) -> None:
        if not self.in_registry:
            assert _raises(ConfigError, lambda: to_config(reranker))
            return
        node = to_config(reranker)
        assert build(node) == reranker
        assert build(json.loads(json.dumps(node))) == reranker

    def test_pickle_carries_the_config_only(self, reranker: Reranker) -> None:
        reranker.warm_up()
        twin = pickle.loads(pickle.dumps(reranker))
        assert twin == reranker
        assert copy.deepcopy(reranker) == reranker

    def test_it_is_frozen(self, reranker: Reranker) -> None:
        assert _raises(AttributeError, lambda: setattr(reranker, "name", "other"))


def _raises(kind: type[BaseException], call: Any) -> bool:
    try:
        call()
    except kind:
        return True
    return False


def _close(first: Ranking, second: Ranking) -> bool:
    return all(
        a.id == b.id
        and (
            a.raw_score == b.raw_score
            or (a.raw_score is not None and b.raw_score is not None and abs(a.raw_score - b.raw_score) <= 1e-4)
        )
        for a, b in zip(first, second, strict=True)
    )
