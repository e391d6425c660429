"""The stand-ins for providers, servers and hub models answer a page's code; and a page that does not run fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.api.rerank_server import RerankServer
from support.api.wire_formats import name_of
from support.doc_pages import ROOT
from support.doc_runner import run_page

Run = Callable[[str], None]

RANK = """
import rag_rerank
reranker = rag_rerank.load("{}")
texts = ["K2 was first climbed in 1954.", "K2 is 8,611 m high."]
print([texts.index(hit.text) for hit in reranker.rerank("how high is K2?", texts)])
"""
PROVIDERS = {
    "cohere": '{"type": "cohere", "model": "rerank-v3.5"}',
    "voyage": '{"type": "voyage"}',
    "jina": '{"type": "http", "dialect": "jina", "model": "jina-reranker-v2-base-multilingual"}',
    "openrouter": '{"type": "openrouter", "model": "cohere/rerank-v3.5"}',
    "google": '{"type": "google", "model": "semantic-ranker-default-004"}',
    "mixedbread": '{"type": "http", "dialect": "mixedbread", "model": "mixedbread-ai/mxbai-rerank-large-v1"}',
    "systemone": '{"type": "typesafe"}',
    "openai": '{"type": "decisions", "provider": "openai"}',
    "tei": '{"type": "http", "dialect": "tei", "base_url": "${TEI_URL:-http://127.0.0.1:8080}"}',
    "vllm": '{"type": "http", "dialect": "vllm", "base_url": "${VLLM_URL:-http://127.0.0.1:8000}"}',
    "infinity": '{"type": "http", "dialect": "infinity", "base_url": "${INFINITY_URL}"}',
}


@pytest.fixture
def run_text(tmp_path: Path, rerank_server: RerankServer, hub_cache: Callable[[], Path]) -> Run:
    """Run the blocks of a page with this text."""

    def run(text: str) -> None:
        page = tmp_path / "page.md"
        page.write_text(text, encoding="utf-8")
        run_page(page, tmp_path, rerank_server, hub_cache)

    return run


def python(code: str, output: str) -> str:
    return f"```python\n{code}\n```\n\n```output\n{output}\n```\n"


@pytest.mark.parametrize("service", PROVIDERS)
def test_a_provider_answers_in_python_and_on_the_command_line(
    service: str, run_text: Run, rerank_server: RerankServer
) -> None:
    command = "rag-rerank rank -r rerank.yaml -q 'how high is K2?' -k 1 passages.jsonl > ranks.txt"
    load = f'```yaml title="rerank.yaml"\n{PROVIDERS[service]}\n```\n'
    run_text(load + python(RANK.format("rerank.yaml"), "[1, 0]") + f"\n```bash\n{command}\n```\n")
    requests = rerank_server.received
    assert {name_of(request.path) for request in requests} == {service}
    assert {len(request.texts) for request in requests} >= {2}
    assert sum(len(request.texts) for request in requests) == 2 + 113
    if service in ("cohere", "voyage", "jina", "mixedbread", "systemone", "openai"):
        assert all(request.headers["authorization"].startswith("Bearer ") for request in requests)


def test_the_models_of_the_hub_are_there(run_text: Run) -> None:
    pytest.importorskip("torch")
    code = """
import rag_rerank
for model in "minilm", "bge-base", "bge", "mxbai", "BAAI/bge-reranker-v2-m3":
    print(len(rag_rerank.build(model).rerank("how high is K2?", ["K2", "a lake"])))
"""
    run_text(python(code, "2\n2\n2\n2\n2") + "\n```bash\nrag-rerank pull mxbai --no-verify\n```\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\n1 / 0\n```\n", r"page\.md:1:(?s:.*)ZeroDivisionError"),
        ("```python\n>>> 1 + 1\n3\n```\n", "Expected"),
        ("```python\nraise SystemExit\n```\n", "SystemExit"),
        ("```python\nprint(1)\n```\n\n```output\n2\n```\n", "shows"),
        ("```bash\nfalse | true\n```\n", "exit code 1"),
        ("```yaml\ntype: embeded\n```\n", "ConfigError"),
        ("```python\nimport support\n```\n", "No module named 'support'"),
        ('```python\nimport socket\nsocket.create_connection(("192.0.2.1", 80))\n```\n', "reach no other machine"),
        (
            "```python\nimport urllib.request\nurllib.request.urlopen('http://example.org')\n```\n",
            "reach no other machine",
        ),
    ],
)
def test_a_page_that_does_not_run_fails(text: str, message: str, run_text: Run) -> None:
    with pytest.raises(AssertionError, match=message):
        run_text(text)


def test_blocks_of_a_page_share_a_namespace_and_a_folder(run_text: Run) -> None:
    run_text(
        "```python\nfrom dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n```\n"
        '```json title="point.json"\n{"x": 3}\n```\n'
        + python('import json\nprint(Point(**json.load(open("point.json"))))', "Point(x=3)")
        + "\n```bash\nmv point.json other.json\n```\n"
        + python('import os\nprint(os.path.exists("point.json"), os.path.exists("passages.jsonl"))', "False True")
    )


def test_a_page_leaves_this_process_alone(run_text: Run) -> None:
    before = (Path.cwd(), dict(os.environ))
    run_text("```python\nimport os\nos.chdir('/')\nos.environ['SET_BY_A_PAGE'] = '1'\n```\n")
    assert (Path.cwd(), dict(os.environ)) == before
    assert not (ROOT / "point.json").exists()
