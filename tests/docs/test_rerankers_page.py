"""docs/reference/rerankers.md has every type and every key."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import rag_rerank
from rag_rerank import json_schema, registry
from rag_rerank.backends.api.dialects import DIALECTS
from rag_rerank.config.fields import config_fields
from rag_rerank.config.schema import nested_classes

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reference" / "rerankers.md").read_text(encoding="utf-8")
KINDS = {name: registry.resolve(name) for name in registry.BUILT_IN}
CLASSES: dict[str, type[Any]] = {
    **KINDS,
    **{inside.__name__: inside for kind in KINDS.values() for inside in nested_classes(kind)},
}


def section(name: str) -> str:
    return re.split(r"^##", PAGE.split(f"\n### {name}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("name", CLASSES)
def test_each_type_has_a_section_with_a_row_for_each_key(name: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \| .* \| (.+) \|$", section(name), re.MULTILINE)
    assert sorted(key for key, _ in rows) == sorted(f.name for f in config_fields(CLASSES[name]))
    assert all(re.search(r"[a-z].*\.(<br>|$)", meaning) for _, meaning in rows)


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    """A validator for the schema, which is one itself."""
    content = json_schema()
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


@pytest.mark.parametrize("name", KINDS)
def test_each_type_has_an_example_that_the_schema_accepts(name: str, schema: Draft202012Validator) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", section(name), re.DOTALL)
    node = yaml.safe_load(example)
    assert node["type"] == name
    assert isinstance(rag_rerank.build(node), KINDS[name])
    assert [error.message for error in schema.iter_errors(node)] == []


def test_no_markup_of_docstrings_is_left() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    assert "``" not in prose and "::" not in prose and "rag_rerank.backends" not in prose
    sections = {*(name.lower() for name in CLASSES), "extras", "names-of-providers-and-servers"}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= sections


def test_each_provider_has_a_row() -> None:
    text = section("Names of providers and servers")
    for name, kind in registry.providers().items():
        if kind.startswith("http:"):
            assert f"\n| `{name}` | {DIALECTS[name].title} | " in text  # type: ignore[index]
        else:
            assert f"`{name}`" in text.partition("\n| ")[0]


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("additionalProperties") is False:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def test_each_key_in_the_schema_has_a_title_and_a_description_of_a_sentence(schema: Draft202012Validator) -> None:
    found = list(objects(schema.schema))
    assert {item["title"] for item in found} == {*CLASSES, "preset", "provider"}
    for item in found:
        assert item["description"].split("\n")[0].endswith(".")
        for key, value in item["properties"].items():
            assert re.match(r"[A-Z].{15,}\.", value["description"], re.DOTALL), (item["title"], key)
            assert key == "type" or value["title"] == key


def test_the_schema_says_what_words_mean_what_is_the_default_and_what_a_type_is_for() -> None:
    definitions = json_schema()["$defs"]
    on_late = definitions["deadline"]["properties"]["on_late"]
    meanings = {choice["const"]: choice["description"] for choice in on_late["anyOf"] if "const" in choice}
    assert on_late["default"] == "first_stage" and set(meanings) == {"error", "first_stage", "partial"}
    assert all(meaning.endswith(".") and "\n" not in meaning for meaning in meanings.values())
    assert definitions["cascade"]["properties"]["stages"]["anyOf"][0]["items"] == {"$ref": "#/$defs/Stage"}
    assert definitions["onnx"]["properties"]["type"]["anyOf"][0]["description"].startswith(
        "A cross-encoder run by ONNX"
    )
    assert definitions["torch"]["properties"]["on_long_query"] == definitions["auto"]["properties"]["on_long_query"]
    dialects = definitions["http"]["properties"]["dialect"]["anyOf"]
    assert all("description" in choice for choice in dialects) and len(dialects) == len(DIALECTS) + 1  # and a variable
