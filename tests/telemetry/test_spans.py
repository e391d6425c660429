"""Spans: their attributes, their parents, and what is never in them."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from openinference.semconv.trace import (
    DocumentAttributes,
    OpenInferenceMimeTypeValues,
    OpenInferenceSpanKindValues,
    RerankerAttributes,
    SpanAttributes,
)
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from support.slow_rerankers import Timed

from rag_rerank import (
    AllFailed,
    AuthenticationError,
    Candidate,
    Cascade,
    ConfigError,
    Coverage,
    Ensemble,
    Fallback,
    Hedge,
    MissingExtraError,
    PointwiseReranker,
    RateLimited,
    Scale,
    Scores,
    Shadow,
    Stage,
    Usage,
    _lazy,
    tagged,
    telemetry,
)
from rag_rerank.testing import ScriptedReranker

KIND = SpanAttributes.OPENINFERENCE_SPAN_KIND
RERANKER = OpenInferenceSpanKindValues.RERANKER.value
CHAIN = OpenInferenceSpanKindValues.CHAIN.value
QUERY = "query-that-nobody-may-read"
SECRET = "text-that-nobody-may-read"


@dataclass(frozen=True, kw_only=True)
class Billed(PointwiseReranker):
    """Like a provider: reads texts in part, and returns a usage with a cost; or raises an error."""

    kind: ClassVar[str] = "billed"
    model: str = "m-1"
    error: Any = None

    @property
    def scale(self) -> Scale:
        return "relevance"

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        if self.error is not None:
            raise self.error
        usage = Usage(texts=len(texts), requests=1, tokens=40, cost=0.002, estimated=("cost",))
        return Scores([1 / (2 + i) for i in range(len(texts))], "relevance", usage)


def scripted(name: str, **options: Any) -> ScriptedReranker:
    return ScriptedReranker(name=name, **options)


def document(way: str, i: int, name: str) -> str:
    return f"{way}.{i}.{name}"


async def by(how: str, reranker: Any, *args: Any, **options: Any) -> Any:
    return reranker.rerank(*args, **options) if how == "sync" else await reranker.arerank(*args, **options)


@pytest.mark.parametrize("how", ["sync", "async"])
async def test_a_call_is_one_reranker_span_with_the_names_of_openinference(observed: Any, how: str) -> None:
    observed.instrument()
    candidates = [Candidate("x", "one", 3.5), Candidate("y", "two"), Candidate("z", " ")]
    await by(how, Billed(), "q", candidates, top_k=1)
    ins, outs = RerankerAttributes.RERANKER_INPUT_DOCUMENTS, RerankerAttributes.RERANKER_OUTPUT_DOCUMENTS
    assert observed.attributes("rerank billed:m-1") == {
        KIND: RERANKER,
        RerankerAttributes.RERANKER_MODEL_NAME: "m-1",
        RerankerAttributes.RERANKER_TOP_K: 1,
        document(ins, 0, DocumentAttributes.DOCUMENT_ID): "x",
        document(ins, 0, DocumentAttributes.DOCUMENT_SCORE): 3.5,
        document(ins, 1, DocumentAttributes.DOCUMENT_ID): "y",
        document(ins, 2, DocumentAttributes.DOCUMENT_ID): "z",
        document(outs, 0, DocumentAttributes.DOCUMENT_ID): "x",
        document(outs, 0, DocumentAttributes.DOCUMENT_SCORE): 0.5,
        "rag_rerank.reranker": "billed:m-1",
        "rag_rerank.kind": "billed",
        "rag_rerank.model": "m-1",
        "rag_rerank.candidates": 3,
        "rag_rerank.scale": "relevance",
        "rag_rerank.substituted": False,
        "rag_rerank.unscored": 1,
        "rag_rerank.attempts": 0,
        "rag_rerank.usage.texts": 2,
        "rag_rerank.usage.cached": 0,
        "rag_rerank.usage.requests": 1,
        "rag_rerank.usage.tokens": 40,
        "rag_rerank.usage.cost": 0.002,
        "rag_rerank.usage.estimated": ("cost",),
    }
    [span] = observed.spans
    assert span.status.status_code is StatusCode.UNSET and span.instrumentation_scope.name == "rag_rerank"


def test_texts_query_and_metadata_are_in_spans_with_texts_only(observed: Any) -> None:
    candidates = [Candidate("d", SECRET, metadata={"source": "s-1", "tuple": ("keys", 1)})]
    observed.instrument(tags=("tenant",))
    with tagged(tenant="t", user="user-that-nobody-may-know"):
        Cascade(stages=(Stage(reranker=scripted("a")), Stage(reranker=Billed()))).rerank(QUERY, candidates)
    for secret in (QUERY, SECRET, "s-1", "user-that-nobody-may-know"):
        assert secret not in observed.everything
    observed.instrument(texts=True)
    Billed().rerank(QUERY, candidates, top_k=1)
    attributes = dict(observed.spans[-1].attributes)
    assert attributes[RerankerAttributes.RERANKER_QUERY] == attributes[SpanAttributes.INPUT_VALUE] == QUERY
    assert attributes[SpanAttributes.INPUT_MIME_TYPE] == OpenInferenceMimeTypeValues.TEXT.value
    for way in (RerankerAttributes.RERANKER_INPUT_DOCUMENTS, RerankerAttributes.RERANKER_OUTPUT_DOCUMENTS):
        assert attributes[document(way, 0, DocumentAttributes.DOCUMENT_CONTENT)] == SECRET
        metadata = json.loads(attributes[document(way, 0, DocumentAttributes.DOCUMENT_METADATA)])
        assert metadata == {"source": "s-1", "tuple": ["keys", 1]}


def test_texts_that_no_exporter_could_encode_are_repaired(observed: Any) -> None:
    observed.instrument(texts=True)
    scripted("r").rerank("q \ud800", [Candidate("d\udfff", "t \udc80")])
    assert all(value.encode() for value in observed.attributes("rerank r").values() if isinstance(value, str))
    assert observed.attributes("rerank r")["reranker.query"] == "q \ufffd"


def test_documents_beyond_the_bound_are_counted(observed: Any) -> None:
    observed.instrument(max_documents=2)
    scripted("r").rerank("q", ["a", "b", "c", "d", "e"], top_k=3)
    attributes = observed.attributes("rerank r")
    assert sorted(name for name in attributes if name.endswith("document.id")) == [
        f"reranker.{way}_documents.{i}.document.id" for way in ("input", "output") for i in (0, 1)
    ]
    assert attributes["rag_rerank.input_documents.not_listed"] == 3
    assert attributes["rag_rerank.output_documents.not_listed"] == 1


def test_what_an_sdk_keeps_by_default_is_enough_for_everything(observed: Any) -> None:
    observed.instrument(texts=True, tags=("tenant",))
    many = [Candidate(f"d{i}", "text", 1.0, {"n": i}) for i in range(50)]
    with tagged(tenant="t"):
        Billed().rerank("q", many, top_k=20)
    [span] = observed.spans
    assert span.dropped_attributes == 0
    assert span.attributes["reranker.input_documents.0.document.id"] == "d0"
    assert span.attributes["rag_rerank.tag.tenant"] == "t"


def test_a_bound_that_an_sdk_cannot_keep_costs_documents_first(observed: Any) -> None:
    observed.instrument(max_documents=None)
    Billed().rerank("q", [Candidate(f"d{i}", "text", 1.0) for i in range(200)])
    [span] = observed.spans
    assert span.dropped_attributes > 0
    assert span.attributes[KIND] == RERANKER and span.attributes["rag_rerank.candidates"] == 200


@pytest.mark.parametrize("how", ["sync", "async"])
async def test_steps_inside_hang_below_and_only_the_users_call_is_a_reranker(observed: Any, how: str) -> None:
    observed.instrument()
    limited = scripted("limited", error=RateLimited("too many requests"))
    fused = Ensemble(members=(scripted("left"), scripted("right")))
    tree = Cascade(stages=(Stage(reranker=fused), Stage(reranker=Fallback(members=(limited, scripted("spare"))))))
    with observed.tracer.start_as_current_span("application"):
        await by(how, tree, "q", ["a", "b"])
    assert observed.parents == {
        "application": None,
        "rerank cascade": "application",
        "rerank ensemble": "rerank cascade",
        "rerank left": "rerank ensemble",
        "rerank right": "rerank ensemble",
        "rerank fallback": "rerank cascade",
        "rerank limited": "rerank fallback",
        "rerank spare": "rerank fallback",
    }
    kinds = {span.name: span.attributes.get(KIND) for span in observed.spans if span.name != "application"}
    assert [name for name, kind in kinds.items() if kind == RERANKER] == ["rerank cascade"]
    assert set(kinds.values()) == {RERANKER, CHAIN}
    failed = observed.span("rerank limited")
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.status.description == "RateLimited: too many requests"
    assert failed.attributes["error.type"] == "RateLimited"
    assert [(event.name, dict(event.attributes)) for event in failed.events] == [
        ("exception", {"exception.type": "RateLimited", "exception.message": "too many requests"})
    ]
    root = observed.attributes("rerank cascade")
    assert root["rag_rerank.substituted"] is True
    assert root["rag_rerank.degraded"] == ("spare answered in place of limited (RateLimited)",)


def test_the_span_is_the_current_one_for_traced_requests(observed: Any) -> None:
    class Requesting(ScriptedReranker):
        def score(self, query: str, texts: Sequence[str]) -> Scores:
            with observed.tracer.start_as_current_span("POST"):
                return super().score(query, texts)

    observed.instrument()
    Requesting(name="api").rerank("q", ["a"], timeout=60)  # with a limit, the work is done on another thread
    assert observed.parents == {"POST": "rerank api", "rerank api": None}
    assert not trace.get_current_span().get_span_context().is_valid


def test_of_a_foreign_error_only_the_class_is_in_the_span(observed: Any) -> None:
    observed.instrument()
    with pytest.raises(ZeroDivisionError):
        Billed(error=ZeroDivisionError(f"{SECRET} sk-key")).rerank("q", ["a"])
    try:
        raise ValueError(f"{SECRET} sk-key")
    except ValueError as cause:
        ours = AuthenticationError("the key was refused")
        ours.__cause__ = cause
    with pytest.raises(AuthenticationError):
        Billed(error=ours).rerank("q", ["a"])
    foreign, own = observed.spans
    assert (foreign.status.status_code, foreign.status.description) == (StatusCode.ERROR, "ZeroDivisionError")
    assert [dict(event.attributes) for event in foreign.events] == [{"exception.type": "ZeroDivisionError"}]
    assert own.status.description == "AuthenticationError: the key was refused"
    assert own.attributes["rag_rerank.model"] == "m-1"
    assert SECRET not in observed.everything and "sk-key" not in observed.everything


def test_a_failed_call_has_its_input_documents(observed: Any) -> None:
    observed.instrument()
    with pytest.raises(AllFailed):
        Fallback(members=(Billed(error=RateLimited("no")), Billed(error=RateLimited("no")))).rerank("q", ["a"])
    attributes = dict(observed.spans[-1].attributes)
    assert attributes["reranker.input_documents.0.document.id"] == "0" and attributes["error.type"] == "AllFailed"
    assert not [name for name in attributes if name.startswith("reranker.output") or name == "rag_rerank.scale"]


def test_a_hedge_that_lost_ends_its_span_once_however_late(observed: Any, world: Any, caplog: Any) -> None:
    observed.instrument()
    slow, quick = Timed(name="slow", seconds=60.0), Timed(name="quick", seconds=1.0)
    world.rank(Hedge(members=(slow, quick), after=2))
    world.settle()
    assert observed.parents == {"rerank hedge": None, "rerank slow": "rerank hedge", "rerank quick": "rerank hedge"}
    late = observed.attributes("rerank slow")
    assert late.get("rag_rerank.cancelled", False) == (world.loop is not None)
    assert observed.span("rerank slow").status.status_code is StatusCode.UNSET
    assert not caplog.records and not trace.get_current_span().get_span_context().is_valid


async def test_a_cancelled_call_ends_its_spans(observed: Any, caplog: Any) -> None:
    observed.instrument()
    started = asyncio.Event()

    class Waiting(ScriptedReranker):
        async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
            started.set()
            await asyncio.Event().wait()
            raise AssertionError

    call = asyncio.ensure_future(Cascade(stages=(Stage(reranker=Waiting(name="w")),)).arerank("q", ["a"]))
    await started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert {span.name: span.attributes["rag_rerank.cancelled"] for span in observed.spans} == {
        "rerank w": True,
        "rerank cascade": True,
    }
    assert not caplog.records


def test_a_call_that_is_closed_in_another_context_ends_its_span_in_silence(observed: Any, caplog: Any) -> None:
    class Suspended:
        def __await__(self) -> Generator[None, None, None]:
            yield

    class Waiting(ScriptedReranker):
        enforces_deadline: ClassVar[bool] = True

        async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
            await Suspended()
            raise AssertionError

    observed.instrument()
    call = Waiting(name="w").arerank("q", ["a"])
    contextvars.copy_context().run(call.send, None)
    try:
        call.close()  # as the garbage collector does with what an event loop left behind
    except ValueError as error:  # the library's own context variables say it this way
        assert "different Context" in str(error)
    assert observed.attributes("rerank w")["openinference.span.kind"] == RERANKER
    assert not caplog.records


async def test_calls_side_by_side_do_not_mix(observed: Any) -> None:
    observed.instrument()

    def rank_in_thread(n: int) -> None:
        with observed.tracer.start_as_current_span(f"thread {n}"):
            Cascade(name=f"c{n}", stages=(Stage(reranker=scripted(f"leaf {n}")),)).rerank("q", ["a"])

    async def aasked(n: int) -> None:
        with observed.tracer.start_as_current_span(f"task {n}"):
            await Cascade(name=f"c{n}", stages=(Stage(reranker=scripted(f"leaf {n}")),)).arerank("q", ["a"])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(rank_in_thread, range(30)))
    await asyncio.gather(*map(aasked, range(30, 60)))
    for n in range(60):
        assert observed.parents[f"rerank leaf {n}"] == f"rerank c{n}"
        assert observed.parents[f"rerank c{n}"] == f"{'thread' if n < 30 else 'task'} {n}"


def test_each_of_several_event_loops_has_its_own_current_span(observed: Any) -> None:
    observed.instrument()
    tree = Ensemble(members=(scripted("left"), scripted("right")))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: asyncio.run(tree.arerank("q", ["a", "b"])), range(8)))
    roots = [span.context.span_id for span in observed.spans if span.parent is None]
    inside = [span.parent.span_id for span in observed.spans if span.parent is not None]
    assert len(roots) == 8 and sorted(inside) == sorted(roots * 2)


def test_a_shadow_hangs_below_the_call_and_is_no_second_reranking(observed: Any) -> None:
    observed.instrument()
    with Shadow(reranker=scripted("live"), other=scripted("new"), share=1.0) as shadow:
        shadow.rerank("q", ["a"])
    assert observed.parents["rerank new"] == "rerank shadow(live)"
    assert [span.name for span in observed.spans if span.attributes[KIND] == RERANKER] == ["rerank shadow(live)"]


def test_the_number_of_truncated_texts_is_there_where_it_is_known(observed: Any) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Cutting(ScriptedReranker):
        def score(self, query: str, texts: Sequence[str]) -> Scores:
            scores = super().score(query, texts)
            return Scores(scores.values, scores.scale, scores.usage, [Coverage(9, 9), Coverage(9, 4)])

    observed.instrument()
    with pytest.warns(UserWarning, match="read only the beginning"):
        Cutting(name="c").rerank("q", ["a", "b"])
    assert observed.attributes("rerank c")["rag_rerank.truncated"] == 1
    assert observed.values("rag_rerank.coverage", "truncated") == {(False,): 1, (True,): 1}


def test_instrumenting_again_replaces_and_uninstrumenting_ends_it(observed: Any) -> None:
    telemetry.uninstrument()
    observed.instrument(texts=True)
    observed.instrument()
    scripted("r").rerank(QUERY, ["a"])
    assert len(observed.spans) == 1 and QUERY not in observed.everything
    telemetry.uninstrument()
    telemetry.uninstrument()
    scripted("r").rerank(QUERY, ["a"])
    assert len(observed.spans) == 1


def test_wrong_settings_are_refused_and_leave_the_old_ones(observed: Any) -> None:
    observed.instrument()
    with pytest.raises(ConfigError, match="max_documents"):
        observed.instrument(max_documents=-1)
    with pytest.raises(ConfigError, match="tags"):
        observed.instrument(tags="tenant")
    scripted("r").rerank("q", ["a"])
    assert len(observed.spans) == 1


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: str) -> Any:
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr(_lazy.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"rag-rerank\[otel\]"):
        telemetry.instrument()


def test_suppressed_instrumentation_is_respected(observed: Any) -> None:
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    observed.instrument()
    with suppress_instrumentation():
        scripted("r").rerank("q", ["a"])
    assert observed.spans == ()


def test_a_span_that_is_not_sampled_costs_no_attributes(observed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    from rag_rerank.telemetry import spans

    monkeypatch.setattr(spans, "outcome_attributes", lambda *_: pytest.fail("nobody records this"))
    telemetry.instrument(tracer_provider=TracerProvider(sampler=ALWAYS_OFF), meter_provider=observed.meters)
    assert len(scripted("r").rerank("q", ["a"])) == 1


@pytest.mark.parametrize("part", ["start_span", "on_end", "attributes"])
def test_what_fails_in_tracing_does_not_reach_the_call(
    observed: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any, part: str
) -> None:
    from opentelemetry.sdk import trace as sdk

    from rag_rerank.telemetry import spans

    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("tracing is broken")

    if part == "attributes":
        monkeypatch.setattr(spans, "outcome_attributes", fails)
    else:
        owner = sdk.Tracer if part == "start_span" else type(observed.tracers._active_span_processor)
        monkeypatch.setattr(owner, part, fails)
    observed.instrument()
    with caplog.at_level(logging.ERROR, "rag_rerank"):
        ranking = scripted("r", by_text={"b": 1.0}).rerank("q", ["a", "b"])
    assert [hit.text for hit in ranking] == ["b", "a"]
    assert [record.message for record in caplog.records] == ["an observer of calls raised"]
    assert not trace.get_current_span().get_span_context().is_valid
    assert observed.values("rag_rerank.candidates") == {(): 2}
    if part == "attributes":
        assert observed.attributes("rerank r") == {KIND: RERANKER}
