"""Spans: one for each call, the user's as OpenInference's RERANKER, and those inside it below, as CHAIN."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Token
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rag_rerank._lazy import need
from rag_rerank._version import __version__
from rag_rerank.context.result import Context
from rag_rerank.errors import RerankError
from rag_rerank.execution.calls import redacted_error_text
from rag_rerank.execution.observers import trace_of
from rag_rerank.execution.protocols import CallStarted, OnCallEnd, OnContext
from rag_rerank.telemetry.attributes import (
    KIND,
    context_attributes,
    document_attributes,
    outcome_attributes,
    request_attributes,
    tag_attributes,
)
from rag_rerank.text.unicode import valid_unicode
from rag_rerank.types import Ranking

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["Spans"]

_INSIDE = "rag_rerank.inside"
"""Key in OpenTelemetry's context, set inside the call of a composite or of a `Shadow`."""


class Spans:
    """An observer that makes a span of each call.

    Viewers count RERANKER spans as rerankings, so a user's call must have exactly one. If a framework traces the call
    itself, its span gets the attributes, and no second one is made.
    """

    def __init__(
        self,
        provider: TracerProvider | None,
        *,
        texts: bool,
        max_documents: int | None,
        tags: tuple[str, ...],
    ) -> None:
        self.texts = texts
        self.max_documents = max_documents
        self.tags = tags
        self._context: Any = need("opentelemetry.context", extra="otel")
        self._trace: Any = need("opentelemetry.trace", extra="otel")
        self._tracer = self._trace.get_tracer("rag_rerank", __version__, provider)

    def on_call_start(self, call: CallStarted) -> OnCallEnd | None:
        """Open a span and make it the current one, so that traced HTTP requests become its children."""
        context = self._context
        if context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY):  # the key that all instrumentations check
            return None
        outermost = context.get_value(_INSIDE) is None
        hosted = outermost and _traced_by_host(call.tags)
        if hosted:
            span = self._trace.get_current_span()
            # the instrumentor's stand-in becomes another span when the host's call ends; a shadow may start after that
            span = getattr(span, "__wrapped__", span)
        else:
            kind = {KIND: "RERANKER" if outermost else "CHAIN"}
            span = self._tracer.start_span(f"rerank {call.reranker.label}", attributes=kind)
        token = context.attach(context.set_value(_INSIDE, True, self._trace.set_span_in_context(span)))
        return _OpenSpan(self, call, span, token, outermost, hosted).end

    def attributes(self, open_span: _OpenSpan, ranking: Ranking | None, error: BaseException | None) -> dict[str, Any]:
        """Return all attributes of a call, the most important last: an SDK with a limit drops the first ones."""
        call, trace = open_span.call, trace_of(ranking, error)
        attributes: dict[str, Any] = {}
        if open_span.outermost and not open_span.hosted:
            attributes |= document_attributes(call, ranking, texts=self.texts, most=self.max_documents)
            attributes |= request_attributes(call, trace, texts=self.texts)
        if open_span.outermost:
            attributes |= tag_attributes(call, self.tags)
        attributes |= outcome_attributes(call, ranking, trace)
        return _valid(attributes)

    def add_context(self, parent: Span, context: Context) -> None:
        """Make a span of a context that was packed from the ranking of a call; the call's own span has ended."""
        if self._context.get_value(self._context._SUPPRESS_INSTRUMENTATION_KEY):
            return
        attributes = _valid(context_attributes(context, texts=self.texts, most=self.max_documents))
        inside = self._trace.set_span_in_context(parent)
        self._tracer.start_span("pack context", context=inside, attributes=attributes).end()

    def record_error(self, span: Span, error: BaseException) -> None:
        """Add an exception to a span: class and message of this package's errors, and the class of all others.

        Messages of this package hold no text and no secret. The stack is left out, because it shows foreign errors.
        """
        if not isinstance(error, Exception):  # cancelled, or the interpreter ends
            span.set_attribute("rag_rerank.cancelled", True)
            return
        name = type(error).__name__
        facts = {"exception.type": name} | ({"exception.message": str(error)} if isinstance(error, RerankError) else {})
        span.add_event("exception", facts)
        span.set_attribute("error.type", name)
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, redacted_error_text(error)))


@dataclass(frozen=True, slots=True)
class _OpenSpan:
    """A call whose span is open."""

    spans: Spans
    call: CallStarted
    span: Span
    token: Token[Any]
    outermost: bool
    hosted: bool

    def end(self, ranking: Ranking | None, error: BaseException | None) -> OnContext:
        """Add the attributes, and end the span even if that fails. Return what makes spans of its contexts."""
        with suppress(ValueError):  # an unfinished coroutine is closed by the garbage collector, in any context
            self.token.var.reset(self.token)  # opentelemetry.context.detach would log that as an error
        try:
            if self.span.is_recording():
                self.span.set_attributes(self.spans.attributes(self, ranking, error))
                if error is not None and not self.hosted:
                    self.spans.record_error(self.span, error)
        finally:
            if not self.hosted:
                self.span.end()
        return partial(self.spans.add_context, self.span)


def _valid(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes without lone surrogates, which no exporter can encode."""
    return {name: valid_unicode(value) if isinstance(value, str) else value for name, value in attributes.items()}


def _traced_by_host(tags: Mapping[str, Any]) -> bool:
    """Whether the calling framework traces this call: its adapter sets the tag, and its instrumentor is active."""
    if tags.get("rag_rerank.host") != "llama_index":
        return False
    module = sys.modules.get("openinference.instrumentation.llama_index")
    return module is not None and bool(module.LlamaIndexInstrumentor().is_instrumented_by_opentelemetry)
