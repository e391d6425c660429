"""References to environment variables reach every field of a config, and what only looks like one is an error."""

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from rag_rerank import Cascade, ConfigError, Fallback, Reranker, Stage, build, load, to_config
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.backends.http import HttpReranker
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.backends.onnx import OnnxReranker

VARIABLES = {
    "KIND": "lexical",
    "MODEL": "cohere:rerank-v3.5",
    "NUMBER": "0.5",
    "COUNT": "3",
    "ON": "true",
    "OFF": "no",
    "HOST": "gpu-box",
    "NODE": '{"type": "lexical", "b": 0.5}',
    "NAMES": "CPUExecutionProvider, XnnpackExecutionProvider",
    "LIST": '["CPUExecutionProvider"]',
    "RETRY": '{"attempts": 3}',
    "EMPTY": "",
    "SECRET": "s3cret-value",
    "DOLLAR": "a$HOST ${COUNT}",
}


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ABSENT", raising=False)


TEI = {"type": "http", "dialect": "tei", "base_url": "http://gpu-box:8080"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("${KIND}", LexicalReranker()),
        ("${MODEL}", CohereReranker(model="rerank-v3.5")),
        ("${NODE}", LexicalReranker(b=0.5)),
        ("onnx:${ABSENT:-minilm}", OnnxReranker(model="minilm")),
        ({"type": "${KIND}", "b": "${NUMBER}"}, LexicalReranker(b=0.5)),
        ({"type": "lexical", "b": "${ABSENT:-0.5}"}, LexicalReranker(b=0.5)),
        ({"type": "lexical", "b": "${EMPTY:-0.5}"}, LexicalReranker(b=0.5)),
        ({"type": "lexical", "k1": "${COUNT}"}, LexicalReranker(k1=3.0)),
        ({"type": "lexical", "name": "${KIND} on ${HOST}"}, LexicalReranker(name="lexical on gpu-box")),
        ({"type": "lexical", "name": "${ABSENT:-}"}, LexicalReranker(name="")),
        ({"type": "lexical", "name": "${DOLLAR}"}, LexicalReranker(name="a$HOST ${COUNT}")),
        ({"type": "lexical", "name": "$${KIND} $$5"}, LexicalReranker(name="${KIND} $5")),
        ({"type": "onnx", "threads": "${COUNT}"}, OnnxReranker(threads=3)),
        ({"type": "onnx", "workers": "${ABSENT:-}"}, OnnxReranker()),
        ({"type": "onnx", "optimize": "${OFF}"}, OnnxReranker(optimize=False)),
        ({"type": "onnx", "optimize": "${ON}"}, OnnxReranker(optimize=True)),
        ({"type": "onnx", "precision": "${ABSENT:-int8}"}, OnnxReranker(precision="int8")),
        (
            {"type": "onnx", "providers": "${NAMES}"},
            OnnxReranker(providers=("CPUExecutionProvider", "XnnpackExecutionProvider")),
        ),
        ({"type": "onnx", "providers": "${LIST}"}, OnnxReranker()),
        ({"type": "onnx", "providers": ["${ABSENT:-CPUExecutionProvider}"]}, OnnxReranker()),
        (
            {"type": "fallback", "members": ["${MODEL}", "${NODE}", {"type": "${KIND}"}]},
            Fallback(members=(CohereReranker(), LexicalReranker(b=0.5), LexicalReranker())),
        ),
        (
            {"type": "cascade", "stages": [{"reranker": "${KIND}"}, {"reranker": "lexical", "depth": "${COUNT}"}]},
            Cascade(stages=(Stage(reranker=LexicalReranker()), Stage(reranker=LexicalReranker(), depth=3))),
        ),
        ({"type": "cohere", "retry": {"attempts": "${COUNT}"}}, CohereReranker(retry=RetryPolicy(attempts=3))),
        ({"type": "cohere", "retry": "${RETRY}"}, CohereReranker(retry=RetryPolicy(attempts=3))),
        (
            {**TEI, "base_url": "http://${HOST}:${ABSENT:-8080}"},
            HttpReranker(dialect="tei", base_url="http://gpu-box:8080"),
        ),
        (
            {**TEI, "extra_body": {"n": "${COUNT}", "on": "${ON}", "s": "${HOST}", "deep": ["${NUMBER}", "x"]}},
            HttpReranker(
                dialect="tei",
                base_url="http://gpu-box:8080",
                extra_body={"n": 3, "on": True, "s": "gpu-box", "deep": [0.5, "x"]},
            ),
        ),
    ],
)
def test_a_reference_becomes_a_value_of_the_fields_type(spec: Any, expected: Reranker, tmp_path: Path) -> None:
    assert build(spec) == expected
    (tmp_path / "config.yaml").write_text(json.dumps(spec))
    assert load(tmp_path / "config.yaml") == expected
    assert build({"type": "fallback", "members": [spec, "lexical"]}).children[0] == expected
    assert build(to_config(expected)) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("$KIND", "'$KIND' holds a reference that nothing replaced; write ${KIND}"),
        ("${ABSENT}", "${ABSENT} is not set in the environment"),
        ({"type": "${EMPTY}"}, "type: ${EMPTY} is empty in the environment"),
        ({"type": "%KIND%"}, "type: '%KIND%' holds a reference that nothing replaced; write ${KIND}"),
        ({"type": "lexical", "b": "$NUMBER"}, "b: '$NUMBER' holds a reference that nothing replaced"),
        ({"type": "lexical", "b": "${ABSENT}"}, "b: ${ABSENT} is not set in the environment"),
        ({"type": "lexical", "b": "${EMPTY}"}, "b: ${EMPTY} is empty in the environment"),
        ({"type": "lexical", "b": "${SECRET}"}, "b: Input should be a valid number"),
        ({"type": "lexical", "b": "${NUMBER}x"}, "b: Input should be a valid number"),
        ({"type": "lexical", "b": "${ABSENT:-7}"}, "b: b must be within 0..1"),
        ({"type": "onnx", "threads": "${NUMBER}"}, "threads: Input should be a valid integer"),
        ({"type": "onnx", "optimize": "${COUNT}"}, "optimize: Input should be a valid boolean"),
        ({"type": "lexical", "name": "${AB-SENT}"}, "name: '${AB-SENT}' is no reference; write ${VAR}"),
        ({"type": "lexical", "name": "${ABSENT"}, "name: '${ABSENT' is no reference"),
        ({"type": "onnx", "model": "$MODEL"}, "model: '$MODEL' holds a reference"),
        ({"type": "onnx", "model": "{{ MODEL }}"}, "model: '{{ MODEL }}' holds a reference"),
        ({**TEI, "base_url": "http://$HOST:80"}, "base_url: 'http://$HOST:80' holds a reference"),
        ({**TEI, "base_url": "http://%HOST%:80"}, "base_url: 'http://%HOST%:80' holds a reference"),
        ({**TEI, "base_url": "http://{{ HOST }}:80"}, "base_url: 'http://{{ HOST }}:80' holds a reference"),
        ({**TEI, "extra_body": {"a": ["$HOST"]}}, "extra_body.a[0]: '$HOST' holds a reference"),
        ({"type": "fallback", "members": ["lexical", "${ABSENT}"]}, "members[1]: ${ABSENT} is not set"),
        ({"type": "cascade", "stages": "${NODE}"}, "stages: "),
        ({"type": "cohere", "retry": "${KIND}"}, "retry: expected a mapping of RetryPolicy fields"),
        ({"type": "onnx", "providers": "${ABSENT:-[}"}, "providers: the value of ${ABSENT:-[} begins like JSON"),
    ],
)
def test_an_unusable_reference_is_named_with_its_field(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(spec)
    assert message in str(caught.value)
    assert VARIABLES["SECRET"] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "spec",
    [
        "${SECRET}",
        {"type": "${SECRET}"},
        {"type": "lexical", "b": "${SECRET}"},
        {"type": "torch", "template": "${SECRET}"},
        {"type": "recorded", "reranker": "lexical", "file": "x", "texts": "${SECRET}"},
        {**TEI, "base_url": "${SECRET}"},
        {**TEI, "path": "${SECRET}"},
        {"type": "fallback", "members": ["${SECRET}", "lexical"]},
    ],
)
def test_the_value_of_a_variable_is_in_no_error(spec: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        build(spec)
    assert VARIABLES["SECRET"] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "text", ["costs $5", "answer about $AAPL stock", "100 % of the %s", "50%", "http://x/%E4%B8%AD", "a {b} {{c", "$"]
)
def test_a_text_that_is_no_reference_stays(text: str) -> None:
    assert build({"type": "lexical", "name": text}) == LexicalReranker(name=text)


@pytest.mark.parametrize("text", ["${HOME}", "$HOME", "$$", "a $$ b", "$HOME and ${X}", "$5", "plain", "$${X}", "%a"])
def test_any_text_with_dollars_is_written_and_read_back(text: str) -> None:
    reranker = LexicalReranker(name=text)
    assert build(to_config(reranker)) == reranker


def test_a_file_may_be_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text("type: lexical\n")
    monkeypatch.setenv("CONFIG", str(tmp_path / "config.yaml"))
    assert build("${CONFIG}") == LexicalReranker()
    with pytest.raises(ConfigError, match="a config cannot name a file"):
        build({"type": "fallback", "members": ["${CONFIG}", "lexical"]})


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_byte_order_mark_is_no_part_of_a_config(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"config{suffix}"
    file.write_bytes(b'\xef\xbb\xbf{"type": "lexical", "b": 0.5}')
    assert load(file) == LexicalReranker(b=0.5)
    file.write_text('{"type": "lexical"}', encoding="utf-16")
    with pytest.raises(ConfigError, match=r"is not UTF-8 .*save it as UTF-8"):
        load(file)


def test_the_schema_allows_a_reference_where_a_number_is_needed() -> None:
    from jsonschema import Draft202012Validator

    import rag_rerank

    validator = Draft202012Validator(rag_rerank.json_schema())
    for node in (
        {"type": "onnx", "threads": "${COUNT}", "optimize": "${ON}", "providers": ["${LIST}"]},
        {"type": "${KIND}", "b": "${NUMBER}"},
        {"type": "cascade", "stages": [{"reranker": "BAAI/bge-reranker-v2-m3", "depth": "${COUNT}"}]},
        {"type": "BAAI/bge-reranker-v2-m3", "device": "cpu"},
        {"type": "./small"},
    ):
        validator.validate(node)
    assert not validator.is_valid({"type": "onnx", "threads": "three"})
