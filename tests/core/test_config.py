"""Configs: names, types and ranges are checked, and errors have the path of the wrong value."""

import json
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jsonschema
import pytest

from rag_rerank import Cascade, ConfigError, Fallback, Secret, Stage, build, json_schema, load, registry, to_config
from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.testing import ScriptedReranker

TREE = """
type: cascade
stages:
  - reranker: minilm
  - depth: 20
    reranker:
      type: fallback
      members:
        - {type: cohere, model: rerank-v3.5, api_key: "${MY_KEY}", timeout: 2}
        - onnx:BAAI/bge-reranker-base
"""


def test_a_tree_is_built_from_yaml_and_written_back(tmp_path: Path) -> None:
    file = tmp_path / "rerank.yaml"
    file.write_text(TREE)
    reranker = load(file)
    cohere = CohereReranker(model="rerank-v3.5", api_key="${MY_KEY}", timeout=2.0)
    assert reranker == Cascade(
        stages=(
            Stage(reranker=OnnxReranker(model="minilm")),
            Stage(reranker=Fallback(members=(cohere, OnnxReranker(model="BAAI/bge-reranker-base"))), depth=20),
        )
    )
    node = json.loads(json.dumps(to_config(reranker)))
    assert build(node) == reranker
    assert node["stages"][1]["reranker"]["members"][0]["api_key"] == "${MY_KEY}"
    again = tmp_path / "again.json"
    again.write_text(json.dumps(node))
    assert build(str(again)) == reranker


@pytest.mark.parametrize(
    ("spec", "reranker"),
    [
        ("lexical", LexicalReranker()),
        ("minilm", OnnxReranker(model="minilm")),
        ("embedded", LateInteractionReranker(model="embedded")),
        ("onnx:embedded", OnnxReranker(model="embedded")),
        ("onnx:BAAI/bge-reranker-base", OnnxReranker(model="BAAI/bge-reranker-base")),
        ({"type": "minilm", "max_length": 256}, OnnxReranker(model="minilm", max_length=256)),
        ({"type": "onnx", "model": "minilm", "name": "first"}, OnnxReranker(model="minilm", name="first")),
        ({"type": "lexical", "k1": 1}, LexicalReranker(k1=1.0)),
        (LexicalReranker(b=0.1), LexicalReranker(b=0.1)),
    ],
)
def test_names_nodes_and_rerankers_are_all_specs(spec: object, reranker: object) -> None:
    assert build(spec) == reranker


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("chohere:rerank-v3.5", "unknown type 'chohere'; did you mean 'cohere'?"),
        ("minlm", "unknown type 'minlm'; did you mean 'minilm'?"),
        ("", "unknown type ''"),
        ({}, "a reranker needs a 'type'; known: answerable, auto, bedrock, cached, calibrated"),
        ({"type": 3}, "a reranker needs a 'type'"),
        (7, "expected a name, a mapping, a config file or a Reranker, got int"),
        ({"type": "lexical", "k": 1}, "unknown key 'k' of type 'lexical'; did you mean 'k1'?"),
        (
            {"type": "onnx", "top_n": 5},
            "of type 'onnx'; the cutoff belongs to the call: rerank(..., top_k",
        ),
        ({"type": "lexical", "b": "0.4"}, "b: Input should be a valid number, got '0.4'"),
        ({"type": "lexical", "b": 3}, "b: b must be within 0..1, got 3.0"),
        ({"type": "onnx", "threads": 0}, "threads: threads must be at least 1, got 0"),
        ({"type": "onnx", "on_overflow": "cut"}, "on_overflow: Input should be 'truncate' or 'error', got 'cut'"),
        ({"type": "onnx:minilm", "model": "x/y"}, "already names a model; remove 'model'"),
        ({"type": "cascade"}, "type 'cascade' needs 'stages'"),
        ({"type": "cascade", "stages": "minilm"}, "stages: "),
        ({"type": "cascade", "stages": []}, "stages: a cascade needs at least one stage"),
        ({"type": "cascade", "stages": ["minilm"]}, r"stages[0]: expected a mapping of Stage fields, got str"),
        ({"type": "cascade", "stages": [{"reranker": "x.yaml"}]}, "stages[0].reranker: a config cannot name a file"),
        (
            {"type": "cascade", "stages": [{"reranker": "minilm"}, {"reranker": "minilm", "depth": 0}]},
            "stages[1].depth: depth must be at least 1, got 0",
        ),
        (
            {"type": "fallback", "members": ["lexical", {"type": "cascade", "stages": [{"reranker": "lexcal"}]}]},
            "members[1].stages[0].reranker: unknown type 'lexcal'; did you mean 'lexical'?",
        ),
        ({"type": "lexical", "b": "${RAG_RERANK_UNSET}"}, "b: ${RAG_RERANK_UNSET} is not set in the environment"),
        ({"type": "builtins.eval"}, "unknown type 'builtins.eval'"),
    ],
)
def test_mistakes_are_named_with_their_path_and_the_nearest_right_word(spec: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(spec)
    assert str(caught.value).startswith(message) or message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "type: [", "not valid YAML"),
        ("a.json", "{", "not valid JSON"),
        ("a.yaml", "- minilm", "expected one reranker"),
        ("a.yaml", "", "expected one reranker"),
        ("a.yaml", "a.yaml", "expected one reranker"),
        ("a.txt", "minilm", "a config file ends in .yaml, .yml, .json"),
        ("a.yaml", "type: lexical\nb: 0.1\nb: 0.2", "the key 'b' occurs twice"),
        ("a.yaml", "type: cascade\nstages: [{reranker: minilm, reranker: lexical}]", "the key 'reranker' occurs twice"),
        ("a.json", '{"type": "lexical", "b": 0.1, "b": 0.2}', "the key 'b' occurs twice"),
        ("a.yaml", "type: lexical\nname: 2024-99-99", "not valid YAML: month must be"),
        ("a.yaml", "type: !!bool lexical", "not valid YAML"),
        ("a.yaml", "type: !!timestamp lexical", "not valid YAML"),
        ("a.json", '{"type": "lexical", "b": NaN}', "not valid JSON: NaN is not JSON"),
        ("a.yaml", "&a\ntype: cascade\nstages: [{reranker: *a}]", "within itself by a YAML alias"),
        ("a.yaml", "type: lexical\nb: 3", "b: b must be within 0..1"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(file) in str(caught.value) and message in str(caught.value)


def test_a_key_in_a_broken_line_is_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text('type: cohere\napi_key: "s3cret\n')
    with pytest.raises(ConfigError, match="not valid YAML in line 3") as caught:
        load(file)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_anchors_and_merge_keys_are_plain_yaml(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "type: fallback\nmembers:\n"
        "- &first {type: lexical, k1: 1.2}\n- &second {<<: *first, b: 0.1}\n- {<<: *second, k1: 2}\n"
    )
    assert load(file) == Fallback(
        members=(LexicalReranker(k1=1.2), LexicalReranker(k1=1.2, b=0.1), LexicalReranker(k1=2.0, b=0.1))
    )


def test_absent_and_binary_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml"):
        load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"cannot read .*bad\.yaml"):
        load(tmp_path / "bad.yaml")


def test_a_file_may_hold_just_a_name(tmp_path: Path) -> None:
    file = tmp_path / "rerank.yml"
    file.write_text("onnx:minilm\n")
    assert load(file) == OnnxReranker(model="minilm")


def test_environment_variables_fill_plain_fields_at_once_and_keys_at_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_MODEL", "minilm")
    assert build({"type": "onnx", "model": "${MY_MODEL}"}) == OnnxReranker(model="minilm")
    monkeypatch.delenv("MY_KEY", raising=False)
    cohere = build({"type": "cohere", "api_key": "${MY_KEY}"})
    monkeypatch.setenv("MY_KEY", "s3cret")
    assert isinstance(cohere, CohereReranker) and isinstance(cohere.api_key, Secret)
    assert cohere.api_key.reveal() == "s3cret"


def test_a_wrong_value_in_a_variable_is_not_quoted_only_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    with pytest.raises(ConfigError, match=r"^b: .*got '\$\{MY_KEY\}'") as caught:
        build({"type": "lexical", "b": "${MY_KEY}"})
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("key", ["Bearer ${MY_KEY}", "${MY_KEY}\n", "${A}${B}"])
def test_a_reference_inside_a_longer_key_is_refused_instead_of_sent(key: str) -> None:
    with pytest.raises(ConfigError, match=r"^api_key: a .* reference to a key must be the whole value"):
        build({"type": "cohere", "api_key": key})


def test_a_key_given_as_itself_is_never_written() -> None:
    node = to_config(build({"type": "cohere", "api_key": "s3cret"}))
    assert "api_key" not in node and "s3cret" not in json.dumps(node)


def test_defaults_are_left_out_but_the_model_is_always_named() -> None:
    assert to_config(OnnxReranker()) == {"type": "onnx", "model": "minilm"}
    assert to_config(LexicalReranker()) == {"type": "lexical"}


def test_a_list_in_python_is_the_tuple_that_a_file_gives() -> None:
    reranker = OnnxReranker(providers=["CPUExecutionProvider", "XnnpackExecutionProvider"])
    assert build(to_config(reranker)) == reranker and hash(reranker)


def test_what_no_config_can_express_is_refused() -> None:
    with pytest.raises(ConfigError, match="client is a live object"):
        to_config(CohereReranker(client=object()))
    with pytest.raises(ConfigError, match="unknown type 'scripted'"):
        to_config(ScriptedReranker())


def test_what_no_config_can_express_is_named_with_its_path() -> None:
    for reranker, message in (
        (CohereReranker(client=object()), "stages[1].reranker.members[0].client: client is a live object"),
        (ScriptedReranker(), "stages[1].reranker.members[0]: unknown type 'scripted'"),
        (LexicalReranker(name="{{ HOME }}"), "stages[1].reranker.members[0].name: loading the config would take"),
    ):
        inner = Fallback(members=(reranker, LexicalReranker()))
        with pytest.raises(ConfigError) as caught:
            to_config(Cascade(stages=(Stage(reranker=LexicalReranker()), Stage(reranker=inner))))
        assert str(caught.value).startswith(message)


def test_a_subclass_needs_a_name_of_its_own() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Special(LexicalReranker):
        kind: ClassVar[str] = "lexical"

    with pytest.raises(ConfigError, match="Special needs its own name"):
        to_config(Special())


def test_plugins_are_found_by_entry_point_and_cannot_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    points = [
        metadata.EntryPoint("scripted", "rag_rerank.testing:ScriptedReranker", registry.PLUGIN_GROUP),
        metadata.EntryPoint("lexical", "rag_rerank.testing:ScriptedReranker", registry.PLUGIN_GROUP),
        metadata.EntryPoint("minilm", "rag_rerank.testing:ScriptedReranker", registry.PLUGIN_GROUP),
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points if group == registry.PLUGIN_GROUP else [])
    assert "scripted" in registry.names() and "minilm" not in registry.names()
    assert build({"type": "scripted", "default": 2}) == ScriptedReranker(default=2.0)
    assert build("lexical") == LexicalReranker()


def test_the_name_of_a_composite_of_the_package_stands_for_its_config() -> None:
    reranker = build("Embedded-Tiny")
    static = {"type": "late_interaction", "model": "embedded-static"}
    assert reranker == build({"type": "embedded-tiny"}) == build(to_config(reranker))
    assert to_config(reranker) == {
        "type": "cascade",
        "stages": [
            {"reranker": {"type": "ensemble", "members": [{"type": "first_stage"}, static]}},
            {"reranker": to_config(build("embedded")), "depth": 15},
        ],
    }
    validate = jsonschema.Draft202012Validator(json_schema()).is_valid
    assert validate("embedded-tiny") and validate({"type": "embedded-tiny", "name": "fast"})
    assert not validate({"type": "embedded-tiny", "depth": 3})
    with pytest.raises(ConfigError, match="type 'embedded-tiny' already names a stages; remove 'stages'"):
        build({"type": "embedded-tiny", "stages": []})
    with pytest.raises(ConfigError, match="did you mean 'embedded-tiny'"):
        build("embeded-tiny")


def test_the_schema_knows_the_same_names_in_a_node_as_build() -> None:
    definitions = json_schema()["$defs"]
    for name in ("lexical", "embedded", "minilm", "bge", "cohere:rerank-v3.5", "onnx:org/name"):
        kind = build({"type": name}).kind
        types = definitions[kind]["properties"]["type"]["anyOf"]
        assert any(
            name in (*t.get("enum", ()), t.get("const")) or ("pattern" in t and re.search(t["pattern"], name))
            for t in types
        ), name
    assert len(definitions["lexical"]["properties"]["type"]["anyOf"]) == 1  # "lexical:x" is nothing: it has no model


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_package.rerank:Mine", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("rag_rerank.testing:Misspelt", "AttributeError: "),
        ("rag_rerank.testing:json", "is no Reranker class"),
    ],
)
def test_a_broken_plugin_is_named(monkeypatch: pytest.MonkeyPatch, target: str, message: str) -> None:
    from importlib import metadata

    point = metadata.EntryPoint("mine", target, registry.PLUGIN_GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point])
    with pytest.raises(ConfigError) as caught:
        build({"type": "fallback", "members": ["lexical", "mine"]})
    assert str(caught.value).startswith(f"members[1]: the plugin 'mine' ({target})") and message in str(caught.value)


def test_the_schema_has_a_definition_for_every_name_and_no_live_field() -> None:
    schema = json_schema()
    values = {
        "StoreSettings",
        "Stage",
        "Limits",
        "RetryPolicy",
        "Breaker",
        "Price",
        "AnswerabilityMap",
        "CalibrationMap",
        "FalseAccepts",
        "Provenance",
        "FitQuality",
        "SpanLimits",
    }
    assert set(schema["$defs"]) == {"reranker", "provider", "preset", *registry.names(), *values}
    cohere = schema["$defs"]["cohere"]
    assert "client" not in cohere["properties"] and cohere["additionalProperties"] is False
    assert schema["$defs"]["cascade"]["required"] == ["type", "stages"]
    json.dumps(schema)
