"""What users may lean on: the front door, frozen rerankers, and a registry that keeps its word."""

import asyncio
import doctest
import inspect
import types
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

import rag_rerank
from rag_rerank import registry
from rag_rerank.base import Reranker
from rag_rerank.diagnostics.health.packages import PURPOSES
from rag_rerank.testing import ScriptedReranker

PUBLIC = {name: getattr(rag_rerank, name) for name in rag_rerank.__all__}
CLASSES = {
    name: thing for name, thing in PUBLIC.items() if type(thing) is not types.GenericAlias and inspect.isclass(thing)
}

EXAMPLES = {
    "auto": {"type": "auto", "model": "org/name", "max_length": 256},
    "cached": {"type": "cached", "reranker": "onnx:minilm", "path": "~/scores.db", "max_entries": 10, "ttl": 60.0},
    "answerable": {"type": "answerable", "reranker": "embedded", "map": "answerable.json"},
    "ltr": {"type": "ltr", "model": "ltr.json", "rerankers": ["embedded"]},
    "calibrated": {"type": "calibrated", "reranker": "embedded", "map": "map.json"},
    "cascade": {
        "type": "cascade",
        "stages": [{"reranker": "lexical", "depth": 50}, {"reranker": {"type": "onnx", "model": "minilm"}}],
    },
    "bedrock": {"type": "bedrock", "model": "amazon.rerank-v1:0", "region": "us-west-2"},
    "cohere": {"type": "cohere", "model": "rerank-v3.5", "api_key": "${CO_API_KEY}"},
    "decay": {"type": "decay", "reranker": "embedded", "field": "published", "half_life": 90.0, "shape": "linear"},
    "deadline": {"type": "deadline", "reranker": "embedded", "seconds": 0.5, "on_late": "partial"},
    "decisions": {"type": "decisions", "provider": "ollama", "model": "nimble", "ask": "yesno", "state_tokens": 4096},
    "embedding": {"type": "embedding", "model": "intfloat/e5-small-v2", "query_prompt": "", "dimensions": 128},
    "ensemble": {
        "type": "ensemble",
        "members": ["embedded", "lexical"],
        "fusion": "weighted",
        "normalise": "z-score",
        "weights": [2.0, 1.0],
    },
    "fallback": {"type": "fallback", "members": ["cohere:rerank-v3.5", "embedded"]},
    "guarded": {"type": "guarded", "reranker": "embedded", "margin": 2.5},
    "hedge": {"type": "hedge", "members": ["cohere:rerank-v3.5", "voyage:rerank-2.5"], "after": 0.3},
    "http": {"type": "http", "dialect": "tei", "base_url": "http://gpu-box:8080", "extra_body": {"truncate": False}},
    "late_interaction": {
        "type": "late_interaction",
        "model": "embedded",
        "store": {"path": "~/vectors", "max_bytes": 1000},
        "precision": "int8",
    },
    "first_stage": {"type": "first_stage", "name": "bm25"},
    "lexical": {"type": "lexical", "k1": 1.2, "b": 0.75, "name": "bm25"},
    "llm": {
        "type": "llm",
        "model": "qwen3:8b",
        "base_url": "http://127.0.0.1:11434/v1",
        "price": {"per_million_tokens": 0},
    },
    "onnx": {"type": "onnx", "model": "minilm"},
    "recorded": {"type": "recorded", "reranker": "embedded", "file": "~/traces.jsonl", "share": 0.01, "texts": True},
    "shadow": {"type": "shadow", "reranker": "embedded", "other": "cohere:rerank-v3.5", "share": 0.01, "keep": 100},
    "sparse": {"type": "sparse", "model": "./splade", "store": {"path": "~/weights"}, "max_active_dims": 64},
    "spans": {"type": "spans", "reranker": "embedded", "by": "lexical", "top_k": 5},
    "torch": {"type": "torch", "model": "minilm"},
    "voyage": {"type": "voyage", "model": "rerank-2.5"},
    "template": {"type": "template", "reranker": "embedded", "text": "{title}: {text}"},
    "windows": {"type": "windows", "reranker": "embedded", "tokens": 100, "overlap": 20, "pool": "top", "top_m": 2},
}
"""One config for each row of the registry."""


def test_the_public_names_are_sorted_complete_and_there() -> None:
    assert rag_rerank.__all__ == sorted(rag_rerank.__all__)
    bound = {
        name
        for name, thing in vars(rag_rerank).items()
        if not name.startswith("_") and not isinstance(thing, types.ModuleType)
    }
    assert bound == set(rag_rerank.__all__)


def test_every_public_thing_says_what_it_is_for() -> None:
    silent = [
        name
        for name, thing in PUBLIC.items()
        if (name in CLASSES or inspect.isroutine(thing)) and not inspect.getdoc(thing)
    ]
    silent += [
        f"{name}.{member}"
        for name, kind in {**CLASSES, **{name: registry.resolve(name) for name in registry.BUILT_IN}}.items()
        for member, thing in vars(kind).items()
        if not member.startswith("_")
        and (inspect.isfunction(thing) or isinstance(thing, (property, classmethod)))
        and not inspect.getdoc(getattr(kind, member))
    ]
    assert not silent


@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if is_dataclass(kind)])
def test_public_dataclasses_are_frozen(name: str) -> None:
    assert CLASSES[name].__dataclass_params__.frozen


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_every_row_of_the_registry_leads_to_a_frozen_keyword_only_reranker_of_that_name(name: str) -> None:
    kind = registry.resolve(name)
    assert issubclass(kind, Reranker)
    assert kind.kind == name
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(f.kw_only for f in fields(kind))


@pytest.fixture(scope="module")
def schema() -> Any:
    """A validator for the schema, which is one itself."""
    from jsonschema import Draft202012Validator

    content = rag_rerank.json_schema()
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_the_schema_accepts_what_to_config_writes_and_refuses_an_unknown_key(name: str, schema: Any) -> None:
    node = rag_rerank.to_config(rag_rerank.build(EXAMPLES[name]))
    for accepted in (node, EXAMPLES[name]):
        assert [error.message for error in schema.iter_errors(accepted)] == []
    assert not schema.is_valid({**node, "no such key": 1})


def test_the_composite_of_the_docstring_runs_on_threads_and_on_an_event_loop() -> None:
    world = {**{name: getattr(rag_rerank, name) for name in rag_rerank.__all__}, "dataclass": dataclass}
    world["ClassVar"] = ClassVar
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    docstring = inspect.getdoc(rag_rerank.Composite)
    assert docstring is not None
    example = parser.get_doctest(docstring, world, "Composite", None, None)
    assert runner.run(example, clear_globs=False).failed == 0
    weak, strong = ScriptedReranker(name="weak", default=0.1), ScriptedReranker(name="strong", default=0.9)
    second_opinion = example.globs["SecondOpinion"]
    for first, calls in ((weak, ["weak", "strong"]), (strong, ["strong"])):
        reranker = second_opinion(first=first, second=strong)
        for ranking in (reranker.rerank("q", ["a"]), asyncio.run(reranker.arerank("q", ["a"]))):
            assert [child.step for child in ranking.trace.children] == calls
            assert ranking[0].score == 0.9


def test_every_alias_builds() -> None:
    for alias in registry.aliases():
        assert isinstance(rag_rerank.build(alias), Reranker)


def test_every_extra_that_the_registry_names_can_be_installed() -> None:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(PURPOSES) == {*project["optional-dependencies"]} - {"all"}
    for kind, (package, extra) in registry.EXTRAS.items():
        assert kind in registry.BUILT_IN
        wanted = [requirement.replace("-", "_") for requirement in project["optional-dependencies"][extra]]
        assert any(requirement.startswith(package) for requirement in wanted)
