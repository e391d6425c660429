"""Spans and metrics of what was packed from a ranking."""

from typing import Any

from opentelemetry import context as otel_context

from rag_rerank import Candidate, Cascade, Stage, pack
from rag_rerank.testing import ScriptedReranker

LONG = "K2 is 8,611 metres high. It was first climbed in 1954."
SCRIPTED = ScriptedReranker(by_text={LONG: 3.0, "Garda": 2.0, "Lake Como": 1.0})
CANDIDATES = [Candidate(f"doc-{i}", text) for i, text in enumerate([LONG, "Garda", "Lake Como", " "])]


def words(text: str) -> int:
    return len(text.split())


def test_a_context_is_a_span_below_its_call(observed: Any) -> None:
    observed.instrument()
    with observed.tracer.start_as_current_span("request"):
        ranking = SCRIPTED.rerank("q", CANDIDATES)
    pack(ranking, max_tokens=6, tokenizer=words)
    assert observed.parents["pack context"] == "rerank scripted"
    attributes = observed.attributes("pack context")
    note = attributes.pop("rag_rerank.context.notes")[0]
    assert "was trimmed to characters 0 to 24" in note
    assert attributes == {
        "openinference.span.kind": "CHAIN",
        "rag_rerank.context.whole": 1,
        "rag_rerank.context.trimmed": 1,
        "rag_rerank.context.max_tokens": 1,
        "rag_rerank.context.blank": 1,
        "rag_rerank.context.pieces": 2,
        "rag_rerank.context.ids": ("doc-0", "doc-1"),
        "rag_rerank.context.dropped": ("doc-2: max_tokens", "doc-3: blank"),
        "rag_rerank.context.tokens": 6,
        "rag_rerank.context.tokens_before": 14,
        "rag_rerank.context.tokens_estimated": False,
    }


def test_texts_are_in_the_span_only_when_asked_for_and_ids_have_a_limit(observed: Any) -> None:
    observed.instrument(texts=False, max_documents=1)
    pack(SCRIPTED.rerank("q", CANDIDATES))
    assert "Garda" not in observed.everything
    assert observed.attributes("pack context")["rag_rerank.context.ids"] == ("doc-0",)


def test_with_texts_the_span_has_the_context(observed: Any) -> None:
    observed.instrument(texts=True)
    context = pack(SCRIPTED.rerank("q", CANDIDATES))
    assert observed.attributes("pack context")["output.value"] == context.text


def test_a_context_of_a_composite_has_one_span(observed: Any) -> None:
    observed.instrument()
    pack(Cascade(stages=(Stage(reranker=SCRIPTED), Stage(reranker=SCRIPTED))).rerank("q", CANDIDATES), top_k=1)
    assert [span.name for span in observed.spans].count("pack context") == 1
    assert observed.parents["pack context"] == "rerank cascade"


def test_hits_are_counted_by_what_became_of_them(observed: Any) -> None:
    observed.instrument()
    for _ in range(2):
        pack(SCRIPTED.rerank("q", CANDIDATES), max_tokens=6, tokenizer=words)
    assert observed.values("rag_rerank.context.hits", "context.outcome") == {
        ("whole",): 2,
        ("trimmed",): 2,
        ("max_tokens",): 2,
        ("blank",): 2,
    }


def test_suppressed_instrumentation_makes_no_span(observed: Any) -> None:
    observed.instrument()
    ranking = SCRIPTED.rerank("q", CANDIDATES)
    token = otel_context.attach(otel_context.set_value(otel_context._SUPPRESS_INSTRUMENTATION_KEY, True))
    pack(ranking)
    otel_context.detach(token)
    assert "pack context" not in [span.name for span in observed.spans]
