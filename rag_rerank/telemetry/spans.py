"""A span for each call: the user's call as OpenInference's RERANKER, and what runs inside it below, as CHAIN."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Token
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_rerank._lazy import need
from rag_rerank._version import __version__
from rag_rerank.errors import RerankError
from rag_rerank.execution.calls import redacted_error_text
from rag_rerank.execution.observers import trace_of
from rag_rerank.execution.protocols import CallStarted, OnCallEnd
from rag_rerank.telemetry.attributes import KIND, documents, facts, gen_ai, request_attributes, tag_attributes
from rag_rerank.text.unicode import valid_unicode
from rag_rerank.types import Ranking

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["Spans"]

_INSIDE = "rag_rerank.inside"
"""Key in OpenTelemetry's context: a call of ours is around this one, be it a composite's or one that is shadowed."""


class Spans:
    """Watches calls, and makes a span of each.

    Viewers count RERANKER spans as rerankings, so a call has exactly one: its own, or that of a framework which traces
    the call itself; then ours would be the second, and what we know goes onto the framework's.
    """

    def __init__(
        self,
        provider: TracerProvider | None,
        *,
        texts: bool,
        gen_ai: bool,
        max_documents: int | None,
        tags: tuple[str, ...],
    ) -> None:
        self.texts = texts
        self.gen_ai = gen_ai
        self.max_documents = max_documents
        self.tags = tags
        self._context: Any = need("opentelemetry.context", extra="otel")
        self._trace: Any = need("opentelemetry.trace", extra="otel")
        self._tracer = self._trace.get_tracer("rag_rerank", __version__, provider)

    def on_call_start(self, asked: CallStarted) -> OnCallEnd | None:
        """Open a span and make it the current one, so that requests which are traced by others hang below it."""
        context = self._context
        if context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY):  # the key that all instrumentations look for
            return None
        outermost = context.get_value(_INSIDE) is None
        hosted = outermost and _traced_by_host(asked.tags)
        if hosted:
            span = self._trace.get_current_span()
        else:
            kind = {KIND: "RERANKER" if outermost else "CHAIN"}
            span = self._tracer.start_span(f"rerank {asked.reranker.label}", attributes=kind)
        token = context.attach(context.set_value(_INSIDE, True, self._trace.set_span_in_context(span)))
        return _Open(self, asked, span, token, outermost, hosted).ended

    def told(self, call: _Open, ranking: Ranking | None, error: BaseException | None) -> dict[str, Any]:
        """Return all attributes of a call, what matters most last: an SDK that keeps too few drops the first."""
        asked, trace = call.asked, trace_of(ranking, error)
        said: dict[str, Any] = {}
        if call.outermost and not call.hosted:
            said |= documents(asked, ranking, texts=self.texts, most=self.max_documents)
            said |= request_attributes(asked, trace, texts=self.texts)
        if call.outermost:
            said |= tag_attributes(asked, self.tags)
            if self.gen_ai:
                said |= gen_ai(asked, ranking, trace, most=self.max_documents)
        said |= facts(asked, ranking, trace)
        return {name: valid_unicode(value) if isinstance(value, str) else value for name, value in said.items()}

    def failed(self, span: Span, error: BaseException) -> None:
        """Say what was raised: of our own errors the message, which holds no text and no secret; of others the class.

        The stack is left out, because it shows the errors behind an error, which are not ours.
        """
        if not isinstance(error, Exception):  # cancelled, or the interpreter ends: nobody waits for an answer
            span.set_attribute("rag_rerank.cancelled", True)
            return
        name = type(error).__name__
        said = {"exception.type": name} | ({"exception.message": str(error)} if isinstance(error, RerankError) else {})
        span.add_event("exception", said)
        span.set_attribute("error.type", name)
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, redacted_error_text(error)))


@dataclass(frozen=True, slots=True)
class _Open:
    """A call whose span is open."""

    spans: Spans
    asked: CallStarted
    span: Span
    token: Token[Any]
    outermost: bool
    hosted: bool

    def ended(self, ranking: Ranking | None, error: BaseException | None) -> None:
        """Close the span, whatever there is to say."""
        with suppress(ValueError):  # an unfinished coroutine is closed by the garbage collector, in any context
            self.token.var.reset(self.token)  # opentelemetry.context.detach would log that as an error
        try:
            if self.span.is_recording():
                self.span.set_attributes(self.spans.told(self, ranking, error))
                if error is not None and not self.hosted:
                    self.spans.failed(self.span, error)
        finally:
            if not self.hosted:
                self.span.end()


def _traced_by_host(tags: Mapping[str, Any]) -> bool:
    """Whether the framework that makes this call traces it: its adapter says which, and its instrumentor is active."""
    if tags.get("rag_rerank.host") != "llama_index":
        return False
    module = sys.modules.get("openinference.instrumentation.llama_index")
    return module is not None and bool(module.LlamaIndexInstrumentor().is_instrumented_by_opentelemetry)
