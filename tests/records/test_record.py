"""The layout of a record: it goes through JSON unchanged, and the schema has each of its keys."""

import copy
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import rag_rerank
from rag_rerank import Coverage, Trace, Usage
from rag_rerank.records import SCHEMA, Entry, Record, schema
from rag_rerank.records.record import digest
from rag_rerank.testing import ScriptedReranker
from rag_rerank.trace import StepScore
from rag_rerank.types import SCALES

VALIDATOR = Draft202012Validator(schema())

text = st.text(max_size=8)
number = st.floats(allow_nan=False, allow_infinity=False)
size = st.integers(0, 2**40)
amount = st.floats(0, 1e9)
place = st.integers(1, 10_000)
words = st.lists(text, max_size=2).map(tuple)
scale = st.none() | st.sampled_from(SCALES)
hashes = text.map(digest)
json_values = st.recursive(
    st.none() | st.booleans() | size | number | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
tags = st.dictionaries(text, st.none() | st.booleans() | size | number | text, max_size=2)
coverages = st.builds(Coverage, total=size, seen=size)
usages = st.builds(
    Usage,
    texts=size,
    requests=size,
    tokens=st.none() | size,
    search_units=st.none() | amount,
    cost=st.none() | amount,
    cached=size,
    seconds=amount,
    estimated=words,
)
visits = st.builds(
    StepScore,
    step=text,
    rank=st.none() | place,
    raw_score=st.none() | number,
    unscored=st.none() | text,
    scale=scale,
    coverage=st.none() | coverages,
    cached=st.booleans(),
)


def traces_with(children: st.SearchStrategy[tuple[Trace, ...]]) -> st.SearchStrategy[Trace]:
    return st.builds(
        Trace,
        step=text,
        seconds=amount,
        scale=scale,
        kind=st.none() | text,
        model=st.none() | text,
        template=st.none() | text,
        scores=st.dictionaries(text, number, max_size=2),
        unscored=st.dictionaries(text, text, max_size=2),
        coverage=st.dictionaries(text, coverages, max_size=2),
        cached=words,
        usage=usages,
        attempts=size,
        failures=words,
        notes=words,
        error=st.none() | text,
        children=children,
    )


leaves = traces_with(st.just(()))
traces = leaves | traces_with(st.lists(leaves, max_size=2).map(tuple))
entries = st.builds(
    Entry,
    id=st.text(min_size=1, max_size=8),
    sha256=hashes,
    text=st.none() | text,
    metadata=st.none() | st.dictionaries(text, json_values, max_size=2),
    first_rank=place,
    first_score=st.none() | number,
    rank=st.none() | place,
    score=st.none() | number,
    raw_score=st.none() | number,
    coverage=st.none() | coverages,
    window=st.none() | st.tuples(size, size),
    dropped=st.none() | text,
    visits=st.lists(visits, max_size=2).map(tuple),
)
records = st.builds(
    Record,
    id=text,
    time=st.datetimes().map(lambda time: f"{time.isoformat()}+00:00"),
    version=text,
    reranker=text,
    query=st.none() | text,
    query_sha256=hashes,
    tags=tags,
    top_k=st.none() | place,
    scale=scale,
    seconds=amount,
    usage=usages,
    degraded=words,
    substituted=st.booleans(),
    error=st.none() | text,
    candidates=st.lists(entries, max_size=3).map(tuple),
    trace=traces,
)


@settings(max_examples=40)
@given(records)
def test_a_record_survives_its_json_and_fits_the_schema(record: Record) -> None:
    data = json.loads(json.dumps(record.to_dict(), allow_nan=False))
    assert Record.from_dict(data) == record
    assert Record.from_dict(data).to_dict() == record.to_dict()
    VALIDATOR.validate(data)


def test_a_record_of_a_whole_tree_survives_its_json(tmp_path: Any) -> None:
    windows = {"type": "windows", "reranker": {"type": "cached", "reranker": "embedded"}, "tokens": 6, "overlap": 1}
    stages = [{"reranker": "lexical"}, {"reranker": windows, "depth": 3}]
    reranker = rag_rerank.build({"type": "cascade", "stages": stages})
    file = tmp_path / "traces.jsonl"
    long = "K2 is 8,611 m high. Lake Garda is 346 m deep. " * 2
    with rag_rerank.recording(file, texts=True):
        ranking = reranker.rerank("how tall is K2?", [long, "K2", " ", "Garda", "K2 is tall"], top_k=2)
    (data,) = map(json.loads, file.read_text().splitlines())
    VALIDATOR.validate(data)
    record = Record.from_dict(data)
    assert record.to_dict() == data
    assert [entry.id for entry in record.candidates][:2] == [hit.id for hit in ranking]
    paths = {entry.id: entry.visits for entry in record.candidates}
    whole = ranking.trace.paths()
    assert all(paths[id] == whole[id] for id in paths)
    others = {id: visits for id, visits in whole.items() if id not in paths}
    of_windows = {id: visits for id, visits in record.trace.paths().items() if id not in paths}
    assert of_windows == others and "0#1" in others  # windows, each with its place and its score


def objects(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of the layout in a record, but those with free keys: tags, metadata, scores by id."""
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key not in ("tags", "metadata", "scores", "unscored") and not (key == "coverage" and "step" in node):
                yield from objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects(value)


def test_the_schema_refuses_a_key_too_many_and_a_key_too_few(tmp_path: Any) -> None:
    file = tmp_path / "traces.jsonl"
    with rag_rerank.recording(file, texts=True):
        rag_rerank.Fallback(members=(rag_rerank.build("embedded"), ScriptedReranker())).rerank("q", ["a"])
    data = json.loads(file.read_text())
    VALIDATOR.validate(data)
    places = list(objects(data))
    kinds = {frozenset(place) for place in places}
    assert len(kinds) == 6  # record, usage, candidate, visit, coverage, trace
    for place in places:
        for key in list(place):
            value = place.pop(key)
            assert not VALIDATOR.is_valid(data), key
            place[key] = value
        place["one more"] = 1
        assert not VALIDATOR.is_valid(data)
        del place["one more"]
    VALIDATOR.validate(data)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", "rag_rerank.record/2"),
        ("query_sha256", "abc"),
        ("scale", "points"),
        ("top_k", 0),
        ("seconds", "1"),
        ("tags", {"a": []}),
        ("degraded", "late"),
    ],
)
def test_the_schema_refuses_wrong_values(tmp_path: Any, key: str, value: object) -> None:
    with rag_rerank.recording(tmp_path / "traces.jsonl"):
        ScriptedReranker().rerank("q", ["a"])
    data = json.loads((tmp_path / "traces.jsonl").read_text())
    VALIDATOR.validate(data)
    assert not VALIDATOR.is_valid({**data, key: value})


def test_the_schema_is_one_and_describes_every_key() -> None:
    Draft202012Validator.check_schema(schema())
    assert schema()["properties"]["schema"]["const"] == SCHEMA
    assert schema()["properties"].keys() - {"schema"} == {f.name for f in fields(Record)}
    definitions = schema()["$defs"]
    for name, kind in (("candidate", Entry), ("coverage", Coverage), ("usage", Usage), ("trace", Trace)):
        assert definitions[name]["properties"].keys() == {f.name for f in fields(kind)}
    for part in (schema(), *definitions.values()):
        assert all("description" in value for value in part["properties"].values())


def test_what_schema_gives_is_the_callers_own() -> None:
    before = copy.deepcopy(schema())
    schema()["properties"].clear()
    assert schema() == before
