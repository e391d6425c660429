"""The contract of rerankers, for those that need no network."""

from pathlib import Path

import pytest
from support import tiny_sparse

from rag_rerank import Cached, Cascade, Fallback, RateLimited, Reranker, Stage, build
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.testing import RerankerContract, ScriptedReranker


class TestLexical(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return LexicalReranker()


class TestFirstStage(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return build("first_stage")

    def test_order_of_arrival_moves_nothing_but_ties(self, reranker: Reranker) -> None:
        """Here the order of arrival is all that counts."""
        for texts in (self.texts, self.texts[::-1]):
            assert [hit.text for hit in self.ask(reranker, texts)] == [*texts]


@pytest.fixture(scope="module")
def embedded_tiny() -> Reranker:
    return build("embedded-tiny")


class TestEmbeddedTiny(RerankerContract):
    @pytest.fixture
    def reranker(self, embedded_tiny: Reranker) -> Reranker:
        return embedded_tiny


@pytest.fixture(scope="module")
def embedded() -> Reranker:
    return build("embedded")


class TestEmbedded(RerankerContract):
    @pytest.fixture
    def reranker(self, embedded: Reranker) -> Reranker:
        return embedded


@pytest.fixture(scope="module")
def late_interaction() -> Reranker:
    return build("late_interaction:embedded")


class TestLateInteraction(RerankerContract):
    @pytest.fixture
    def reranker(self, late_interaction: Reranker) -> Reranker:
        return late_interaction


class TestLateInteractionInAFolder(RerankerContract):
    @pytest.fixture
    def reranker(self, tmp_path: Path) -> Reranker:
        store = {"path": str(tmp_path / "vectors")}
        return build({"type": "late_interaction", "store": store, "precision": "int8"})


class TestSparseTable(RerankerContract):
    @pytest.fixture
    def reranker(self, tmp_path: Path) -> Reranker:
        return build({"type": "sparse", "model": str(tiny_sparse.idf(tmp_path / "idf")), "on_unreadable": "score"})


class TestScripted(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self) -> Reranker:
        return ScriptedReranker(by_text=dict.fromkeys(self.texts[:3], 2.5), answers_on="sigmoid")


class TestCascade(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return Cascade(stages=(Stage(reranker=LexicalReranker()), Stage(reranker=LexicalReranker(b=0.75))))


class TestCascadeWithADepth(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        better = Stage(reranker=LexicalReranker(b=0.75), depth=3)
        return Cascade(stages=(Stage(reranker=LexicalReranker()), better))


class TestFallback(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return Fallback(members=(LexicalReranker(), LexicalReranker(k1=1.2)))


class TestFallbackThatFellBack(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self) -> Reranker:
        down = ScriptedReranker(error=RateLimited("slow down", retry_after=2.0))
        inner = Cascade(stages=(Stage(reranker=LexicalReranker()),))
        return Fallback(members=(down, Fallback(members=(down, inner))))


class TestCachedInMemory(RerankerContract):
    @pytest.fixture
    def reranker(self, embedded: Reranker) -> Reranker:
        return build({"type": "cached", "reranker": embedded})


class TestCachedInAFile(RerankerContract):
    @pytest.fixture
    def reranker(self, embedded: Reranker, tmp_path: Path) -> Reranker:
        return build({"type": "cached", "reranker": embedded, "path": str(tmp_path / "scores.db")})


class TestCachedScripted(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self) -> Reranker:
        return Cached(reranker=ScriptedReranker(by_text=dict.fromkeys(self.texts[:3], 2.5), answers_on="sigmoid"))
