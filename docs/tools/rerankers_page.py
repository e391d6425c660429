"""The page ``docs/reference/rerankers.md``, made from docstrings: every type and every key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rag_rerank import registry
from rag_rerank.backends.api.dialects import DIALECTS
from rag_rerank.base import Reranker
from rag_rerank.config.docstrings import describe, first_sentence
from rag_rerank.config.fields import choices_of, config_fields, is_class_below, with_full_paths
from rag_rerank.config.schema import nested_classes
from rag_rerank.secret import Secret

DOCS = Path(__file__).parents[1]
PAGE = DOCS / "reference" / "rerankers.md"

GROUPS = {
    "Models on this machine": (
        *("onnx", "torch", "auto", "late_interaction", "sparse", "embedding"),
        *("lexical", "first_stage"),
    ),
    "Providers and servers": ("cohere", "voyage", "bedrock", "http", "decisions", "llm"),
    "Composites": (
        *("cascade", "fallback", "deadline", "windows", "spans", "guarded", "cached"),
        *("calibrated", "answerable", "template", "decay", "recorded", "ensemble", "ltr", "hedge", "shadow"),
    ),
}
"""The types in the order of the page."""

EXAMPLES = {
    "auto": "type: auto\nmodel: BAAI/bge-reranker-v2-m3",
    "bedrock": "type: bedrock\nmodel: cohere.rerank-v3-5:0\nregion: us-west-2",
    "cached": "type: cached\nreranker: minilm\npath: scores.db",
    "answerable": "type: answerable\nreranker: embedded\nmap: answerable.json  # by rag-rerank calibrate --answerable",
    "calibrated": "type: calibrated\nreranker: embedded\nmap: map.json  # written by rag-rerank calibrate",
    "cascade": """
type: cascade
stages:
  - reranker: lexical      # all candidates
  - reranker: embedded     # the best 50 of them
    depth: 50
  - reranker: bge          # the best 10 of these
    depth: 10
""",
    "cohere": """
type: cohere
model: rerank-v3.5
api_key: ${CO_API_KEY}
timeout: 3
limits:
  requests_per_minute: 1000
  cost_per_process: 5
""",
    "deadline": "type: deadline\nreranker: bge-base\nseconds: 0.8\non_late: partial",
    "decay": "type: decay\nreranker: embedded\nfield: published\nhalf_life: 90  # days",
    "decisions": "type: decisions\nprovider: typesafe\nmodel: jev-1.14.0\nask: rubric\ntimeout: 5",
    "ensemble": "type: ensemble\nmembers: [embedded, lexical]\nfusion: weighted\nweights: [2, 1]",
    "fallback": """
type: fallback
members:
  - type: deadline
    reranker: cohere:rerank-v3.5
    seconds: 1
    on_late: error
  - embedded
""",
    "guarded": "type: guarded\nreranker: minilm\nmargin: 2",
    "hedge": "type: hedge\nmembers: [cohere:rerank-v3.5, voyage:rerank-2.5]\nafter: 0.4",
    "http": """
type: http
dialect: tei
base_url: ${TEI_URL:-http://127.0.0.1:8080}
model: BAAI/bge-reranker-v2-m3
""",
    "embedding": "type: embedding\nmodel: sentence-transformers/all-MiniLM-L6-v2\nstore: {path: vectors}",
    "late_interaction": "type: late_interaction\nmodel: embedded\nprecision: int8\nstore: {path: vectors}",
    "first_stage": "type: first_stage",
    "lexical": "type: lexical\nk1: 1.2\nb: 0.75",
    "llm": """
type: llm
base_url: ${LLM_URL:-http://127.0.0.1:11434/v1}   # Ollama
model: qwen3:8b
window: 20
stride: 10
""",
    "ltr": "type: ltr\nmodel: ltr.json  # written by rag-rerank ltr train\nrerankers: [embedded]",
    "onnx": "type: onnx\nmodel: minilm\nmax_length: 256\nprecision: int8",
    "recorded": "type: recorded\nreranker: embedded\nfile: calls.jsonl\nshare: 0.1",
    "shadow": "type: shadow\nreranker: embedded\nother: minilm\nshare: 0.05",
    "sparse": "type: sparse\nmodel: opensearch-project/opensearch-neural-sparse-encoding-doc-v3-distill",
    "spans": "type: spans\nreranker: minilm\nby: embedded\ntop_k: 5",
    "template": "type: template\nreranker: embedded\ntext: [title]",
    "torch": "type: torch\nmodel: mxbai\ndevice: auto\ndtype: bfloat16",
    "voyage": "type: voyage\nmodel: rerank-2.5\napi_key: ${VOYAGE_API_KEY}\nretry:\n  attempts: 2",
    "windows": "type: windows\nreranker: embedded\noverlap: 32\npool: max",
}
"""A config of each type; the tests of the pages build it."""

EXTRAS = {
    "cohere": "type [`cohere`](#cohere)",
    "voyage": "type [`voyage`](#voyage)",
    "http": "types [`http`](#http), [`decisions`](#decisions); [names of providers](#names-of-providers-and-servers)",
    "bedrock": "type [`bedrock`](#bedrock)",
    "llm": "type [`llm`](#llm) with an OpenAI-compatible endpoint",
    "torch": "types [`torch`](#torch) and [`sparse`](#sparse), other models that `auto` runs; `rag-rerank export`",
    "tiktoken": "tokenizers by name, such as `gpt-4o`, in `pack` and in [`windows`](#windows)",
    "eval": "`rag-rerank eval` and `calibrate`",
    "datasets": "judged queries of ir_datasets",
    "train": "`rag-rerank train` and `distil`",
    "otel": "spans and metrics of OpenTelemetry",
    "store": (
        "`rag-rerank index`, and a folder for [`late_interaction`](#late_interaction), [`sparse`](#sparse) and "
        "[`embedding`](#embedding)"
    ),
    "serve": "[`rag-rerank serve`](../how-to/serve.md): any reranker over HTTP",
    "mcp": "[`rag-rerank mcp`](../how-to/mcp.md): any reranker as a tool of agents",
    "parquet": "Parquet files for [`rag-rerank batch`](../how-to/batch.md)",
    "ray": "[`rag-rerank batch --ray`](../how-to/batch.md#on-ray), and Ray Data",
    "ltr": "type [`ltr`](#ltr), and `rag-rerank ltr train`",
    "multilingual": "the model [`embedded-multilingual`](../explanation/multilingual-model.md): its files, 40 MB",
    "all": "all of these but `mcp`, `multilingual` and `ray`",
}
"""What each extra of pyproject.toml is for."""

INTRO = """\
<!-- Made by `make generate` from the docstrings; change those. -->

# Every type and every key

Each section is one `type` of a [config file](config.md): what it is for, an example, and a table of all its keys. In
Python, the keys are the arguments of the class, and of `rag_rerank.build(type, ...)`. Every value may be an
[environment variable](config.md#environment-variables), `${VAR}`. A relative path in a config file starts from the
folder of that file.

`rag-rerank config schema > rerank.schema.json` writes the same as a JSON Schema. An editor with a YAML language server
explains and completes keys if the first line of your config is `# yaml-language-server: $schema=rerank.schema.json`.
"""

WORDS: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def render() -> str:
    """Return the text of the page."""
    kinds = {name: registry.resolve(name) for names in GROUPS.values() for name in names}
    assert set(kinds) == set(registry.BUILT_IN) == set(EXAMPLES), "each type has a group and an example"
    nested = list(dict.fromkeys(inside for kind in kinds.values() for inside in nested_classes(kind)))
    parts = [INTRO, *_contents(kinds)]
    for title, names in GROUPS.items():
        parts += [f"## {title}", *(part for name in names for part in _section(name, kinds[name]))]
        parts += _providers() if "http" in names else ()
    parts.append("## Values with keys of their own")
    for inside in nested:
        users = list(_users(inside, {**kinds, **{kind.__name__: kind for kind in nested}}))
        summary, _, details = describe(inside).text.partition("\n\n")
        parts += [f"### {inside.__name__}", f"{_text(summary)} It is the value of {', '.join(users)}.", _table(inside)]
        parts += [_text(details)] if details else []
    return "\n\n".join([*parts, *_extras()]) + "\n"


def _users(inside: type[Any], kinds: dict[str, type[Any]]) -> Iterator[str]:
    """Yield the keys that have a value of this class, each with a link to the class that has the key."""
    for name, kind in kinds.items():
        hints = get_type_hints(kind)
        for f in config_fields(kind):
            if inside in (hints[f.name], *get_args(hints[f.name])):
                yield f"`{f.name}` in [`{name}`](#{name.lower()})"


def _contents(kinds: dict[str, type[Reranker]]) -> Iterator[str]:
    for title, names in GROUPS.items():
        rows = [f"| {title.lower()} | what it is | extra |", "|---|---|---|"]
        for name in names:
            _, extra = registry.EXTRAS.get(name, ("", ""))
            summary = _text(first_sentence(describe(kinds[name]).summary)).rstrip(".")
            rows.append(f"| [`{name}`](#{name}) | {summary} | {f'[`{extra}`](#extras)' if extra else ''} |")
        yield "\n".join(rows)


def _section(name: str, kind: type[Reranker]) -> Iterator[str]:
    summary, _, details = describe(kind).text.partition("\n\n")
    yield f"### {name}"
    yield _text(summary)
    yield f"```yaml\n{EXAMPLES[name].strip()}\n```"
    yield _table(kind)
    if details:
        yield _text(details)


def _table(kind: type[Any]) -> str:
    rows, hints, texts = (
        ["| key | value | default | meaning |", "|---|---|---|---|"],
        get_type_hints(kind),
        describe(kind),
    )
    for f in _by_importance(config_fields(kind)):
        meaning = re.sub(r"\n+- ", "<br>", _text(texts.keys[f.name])).replace("\n", " ")
        cells = (f"`{f.name}`", _value(kind, f, hints[f.name]), _default(f), meaning)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def _by_importance(keys: Sequence[Field[Any]]) -> list[Field[Any]]:
    """Return the keys: the needed ones first, the name last."""
    return sorted(keys, key=lambda f: (f.name == "name", _default(f) != "needed", f.name != "model"))


def _value(kind: type[Any], f: Field[Any], hint: Any) -> str:
    if is_path := with_full_paths(kind, f.name, "./x", "/conf") != "./x":
        always = with_full_paths(kind, f.name, "x", "/conf") != "x"
    parts = (_words(choice) for choice in choices_of(hint) if choice is not type(None))
    words = dict.fromkeys(
        ("path" if always else "name or path") if is_path and part == "text" else part for part in parts
    )
    return " or ".join(word for word in words if not (word == "text" and "key" in words))


def _words(hint: Any) -> str:
    """Return what may stand as a value, in words."""
    if get_origin(hint) in (tuple, Sequence):
        return f"list of {_words(get_args(hint)[0]).replace('number', 'numbers').replace('text', 'texts')}"
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(f"`{word}`" for word in get_args(hint))
    if is_class_below(hint, Reranker):
        return "[reranker](config.md)"
    if is_class_below(hint, Secret):
        return "key"
    if hint in WORDS:
        return WORDS[hint]
    return (
        f"[{hint.__name__}](#{hint.__name__.lower()})" if isinstance(hint, type) and not get_args(hint) else "mapping"
    )


def _default(f: Field[Any]) -> str:
    if f.default is MISSING:
        return "needed" if f.default_factory is MISSING else ""
    if isinstance(f.default, tuple):
        return f"`{json.dumps(list(f.default))}`" if f.default else ""
    return "" if f.default in (None, "") else f"`{f.default if isinstance(f.default, str) else json.dumps(f.default)}`"


def _text(markdown: str) -> str:
    """Return Markdown of a docstring for this page: names of types and values are links, those of modules go."""
    markdown = re.sub(r" \(see `rag_rerank\.[\w.]+`\)|; see `rag_rerank\.[\w.]+`", "", markdown)
    kinds = {registry.resolve(name).__name__: name for name in registry.BUILT_IN}
    nested = {kind.__name__ for name in registry.BUILT_IN for kind in nested_classes(registry.resolve(name))}
    targets = {**kinds, **{name: name.lower() for name in nested}}

    def link(match: re.Match[str]) -> str:
        return f"[`{match[1]}`](#{targets[match[1]]})" if match[1] in targets else match[0]

    return re.sub(r"(?<!\[)`(\w+)`", link, markdown)


def _providers() -> Iterator[str]:
    """Yield the section on the names of providers and servers, made from the table of dialects."""
    yield "### Names of providers and servers"
    yield (
        "Each dialect of [`http`](#http) is a name by itself, except `cohere`, which is a type of its own: `jina` means"
        " `http` with `dialect: jina`, and `jina:MODEL` names a model too. The keys are those of [`http`](#http). "
        "[Providers and servers by name](providers.md) has a config of each, and says where its wire format is from."
    )
    words = ", ".join(f"`{name}`" for name, kind in registry.providers().items() if kind.startswith("decisions:"))
    yield (
        f"The providers of [`decisions`](#decisions) that offer nothing else are names as well: {words}. "
        "[Decision models](../how-to/decisions.md) says more."
    )
    rows = [
        "| name | service | address | key | texts in a request | instruction | names its cost |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in DIALECTS.items():
        if name in registry.providers():
            cells = (
                f"`{name}`",
                row.title,
                f"`{row.default_url}`" if row.default_url else "`base_url`",
                " or ".join(f"`{key}`" for key in row.keys) or "none",
                f"{row.most_texts:,}",
                "yes" if row.instruction else "",
                "yes" if row.cost else "",
            )
            rows.append(f"| {' | '.join(cells)} |")
    yield "\n".join(rows)


def _extras() -> Iterator[str]:
    project = (DOCS.parent / "pyproject.toml").read_text(encoding="utf-8")
    table = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    names = re.findall(r"^([\w-]+) = ", table, re.MULTILINE)
    assert names == list(EXTRAS), "each extra of pyproject.toml is described, in its order"
    yield "## Extras"
    yield 'An extra installs the packages that a type or a command needs: `pip install "rag-rerank[cohere,eval]"`.'
    yield "\n".join(["| extra | needed for |", "|---|---|", *(f"| `{name}` | {EXTRAS[name]} |" for name in names)])
