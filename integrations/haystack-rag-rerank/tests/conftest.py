from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # read when Haystack is imported

import haystack  # noqa: E402
from haystack import Pipeline, tracing  # noqa: E402

Run = Callable[..., Any]
"""Calls a component, or a pipeline with its data, in one of the two worlds."""


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    """Return what calls ``run`` or ``run_async`` of a component or a pipeline."""
    if request.param == "sync":
        return lambda target, *args, **kwargs: target.run(*args, **kwargs)
    return lambda target, *args, **kwargs: asyncio.run(_async_pipeline(target).run_async(*args, **kwargs))


def _async_pipeline(target: Any) -> Any:
    """Return a target that has ``run_async``; Haystack 2 has a class of its own for such pipelines."""
    if hasattr(target, "run_async"):
        return target
    return haystack.AsyncPipeline.loads(target.dumps())


class Spans(tracing.Tracer):
    """Keeps the tags of each span, by the name of the component or of the operation."""

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, Any]] = {}
        self.stack: list[Any] = []

    @contextlib.contextmanager
    def trace(self, operation_name: str, tags: dict[str, Any] | None = None, parent_span: Any = None) -> Iterator[Any]:
        name = (tags or {}).get("haystack.component.name", operation_name)
        span = _Span(self.tags.setdefault(name, dict(tags or {})))
        self.stack.append(span)
        yield span
        self.stack.pop()

    def current_span(self) -> Any:
        return self.stack[-1] if self.stack else None


class _Span(tracing.Span):
    def __init__(self, tags: dict[str, Any]) -> None:
        self.tags = tags

    def set_tag(self, key: str, value: Any) -> None:
        self.tags[key] = value


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Return the spans that Haystack makes while a test runs."""
    spans = Spans()
    tracing.enable_tracing(spans)
    yield spans
    tracing.disable_tracing()


@pytest.fixture
def pipeline() -> Callable[..., Pipeline]:
    """Return what makes a pipeline of components, each connected to the next by ``documents``."""

    def make(**components: Any) -> Pipeline:
        made = Pipeline()
        names = list(components)
        for name, component in components.items():
            made.add_component(name, component)
        for sender, receiver in itertools.pairwise(names):
            made.connect(f"{sender}.documents", f"{receiver}.documents")
        return made

    return make
