"""The embedded model against its original checkpoint, assembled again, on real text; needs the encoder."""

import json
import sys
from pathlib import Path

import pytest

from rag_rerank import build
from rag_rerank.backends.torch import TorchReranker

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
ENCODER = SHARED / "models" / "all-MiniLM-L6-v2"
IDF = SHARED / "models" / "opensearch-sparse-idf" / "idf.json"
COLLECTION = SHARED / "collections" / "xquad-en"
SCALE, OFFSET = 0.286, -3.99

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not ENCODER.is_dir(), reason="the encoder is not beside this checkout"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``benchmarks/embedded/assemble.py`` makes."""
    sys.path.insert(0, str(ROOT / "benchmarks" / "embedded"))
    try:
        from assemble import assemble, tokenizer
    finally:
        sys.path.pop(0)
    folder = tmp_path_factory.mktemp("late")
    assemble(ENCODER, json.loads(IDF.read_text()), SCALE, OFFSET).save_pretrained(folder)
    tokenizer(ENCODER).save_pretrained(folder)
    return folder


def test_the_embedded_model_agrees_with_its_fp32_checkpoint(checkpoint: Path) -> None:
    corpus = [json.loads(line)["text"] for line in (COLLECTION / "corpus.jsonl").read_text().splitlines()]
    queries = [json.loads(line)["text"] for line in (COLLECTION / "queries.jsonl").read_text().splitlines()]
    embedded, original = build("embedded"), TorchReranker(model=str(checkpoint))
    worst, agreed = 0.0, 0
    for i, query in enumerate(queries[:200:40]):
        texts = corpus[i * 8 : i * 8 + 8]
        scores, expected = embedded.score(query, texts), original.score(query, texts)
        assert [c.seen for c in scores.coverage] == [c.seen for c in expected.coverage]
        worst = max(worst, *(abs(a - b) for a, b in zip(scores.values, expected.values, strict=True)))
        agreed += scores.values.index(max(scores.values)) == expected.values.index(max(expected.values))
    # logits of this model spread over about 5; int8 weights moved none by more than this when it was made
    assert worst < 0.1
    assert agreed == 5


def test_with_weight_on_one_signal_alone_the_model_is_the_encoders_own_cosine(checkpoint: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    from rag_rerank.backends.local.model_files import ModelFolder
    from rag_rerank.backends.local.pair_encoding import PairTokenizer
    from rag_rerank.backends.local.torch_models.checkpoint import CrossEncoderModel

    query, texts = (
        "how tall is K2?",
        ["K2 is 8,611 m high.", "K2 was first climbed in 1954.", "Bananas are yellow. " * 9],
    )
    folder = ModelFolder(checkpoint, "late", None, None)
    model = CrossEncoderModel(folder, "cpu", torch.float32)
    with torch.no_grad():
        model.module.transformers_model.classifier.weight.copy_(torch.tensor([[1.0, 0, 0, 0, 0, 0, 0]]))
        model.module.transformers_model.classifier.bias.zero_()
        _, arrays = next(PairTokenizer(folder, 256).encode(query, texts, "truncate").batch_arrays(10**6))
        scores = model.logits(arrays)
    encoder = SentenceTransformer(str(ENCODER), device="cpu")
    query_vectors, read = encoder.encode([query]), encoder.encode(texts)
    expected = encoder.similarity(query_vectors, read)[0]
    assert sorted(scores.tolist()) == pytest.approx(sorted(expected.tolist()), abs=1e-5)
