from pathlib import Path

import pytest

from rag_rerank import LearningToRank, Reranker
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.errors import BackendUnavailable
from rag_rerank.testing import RerankerContract, ScriptedReranker

pytest.importorskip("lightgbm", reason="needs the extra ltr")
from support.ltr_models import write_model  # noqa: E402


class TestLearningToRank(RerankerContract):
    """Without the place of arrival, which decides where nothing else does."""

    @pytest.fixture
    def reranker(self, tmp_path: Path) -> Reranker:
        inside = (LexicalReranker(), LexicalReranker(name="longer", b=0.75))
        return LearningToRank(model=write_model(tmp_path, inside, without=("first_stage_rank",)), rerankers=inside)


class TestLearningToRankWithoutAMember(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self, tmp_path: Path) -> Reranker:
        inside = (LexicalReranker(), ScriptedReranker(name="down", error=BackendUnavailable("gone")))
        return LearningToRank(model=write_model(tmp_path, inside, without=("first_stage_rank",)), rerankers=inside)
