"""The embedded model against the checkpoint that it was exported from, on real text; needs that checkpoint."""

import json
from pathlib import Path

import pytest

from rag_rerank import build
from rag_rerank.backends.torch import TorchReranker

SHARED = Path(__file__).parents[3] / "shared"
CHECKPOINT = SHARED / "models" / "starter-cross-encoder"
COLLECTION = SHARED / "collections" / "xquad-en"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not CHECKPOINT.is_dir(), reason="the starter's checkpoint is not beside this checkout"),
]


def test_the_embedded_model_agrees_with_its_fp32_checkpoint() -> None:
    corpus = [json.loads(line)["text"] for line in (COLLECTION / "corpus.jsonl").read_text().splitlines()]
    queries = [json.loads(line)["text"] for line in (COLLECTION / "queries.jsonl").read_text().splitlines()]
    embedded, original = build("embedded"), TorchReranker(model=str(CHECKPOINT), max_length=128)
    worst, agreed = 0.0, 0
    for i, query in enumerate(queries[:200:40]):
        texts = corpus[i * 8 : i * 8 + 8]
        given, wanted = embedded.score(query, texts), original.score(query, texts)
        assert [c.seen for c in given.coverage] == [c.seen for c in wanted.coverage]
        worst = max(worst, *(abs(a - b) for a, b in zip(given.values, wanted.values, strict=True)))
        agreed += given.values.index(max(given.values)) == wanted.values.index(max(wanted.values))
    # logits of this model spread over about 20; int8 weights moved none by more than this when it was made
    assert worst < 0.5
    assert agreed == 5
