"""The README is true: its Python and YAML run as they stand, and the messages and names it shows are real."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import rag_rerank
from rag_rerank import ConfigError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_blocks_run_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rerank.yaml").write_text(blocks("yaml")[0])
    namespace: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    output = capsys.readouterr().out
    assert output.count("K2 is 8,611 m high.") == 3
    assert f"It prints `{output.splitlines()[0]}` first" in README
    assert namespace["reranker"] == rag_rerank.build("embedded")


def test_yaml_blocks_are_configs() -> None:
    for block in blocks("yaml"):
        reranker = rag_rerank.build(yaml.safe_load(block))
        assert rag_rerank.build(rag_rerank.to_config(reranker)) == reranker


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 150


def test_the_error_message_in_the_text_is_the_one_that_a_mistake_gives() -> None:
    message = re.search(r"name the place:\s`(.*?)`", README)
    config = yaml.safe_load(blocks("yaml")[1])
    member = config["stages"][1]["reranker"]["members"][0]
    member["modle"] = member.pop("model")
    with pytest.raises(ConfigError) as error:
        rag_rerank.build(config)
    assert str(error.value) == message[1]


def test_the_rank_command_runs() -> None:
    line = next(line for line in blocks("bash")[-1].splitlines() if "rag-rerank rank" in line)
    command = line.replace("rag-rerank rank", f"'{sys.executable}' -m rag_rerank rank")
    process = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert re.search(r"^ *1 +2 +↑1 .*K2 is 8,611 m high\.$", process.stdout, flags=re.MULTILINE)


def test_every_name_in_the_table_of_backends_exists() -> None:
    page = (DOCS / "reference" / "backends.md").read_text(encoding="utf-8")
    table_names = set(re.findall(r"`([a-z0-9-]+)`", page.split("**Not verified")[0]))
    existing = {*rag_rerank.registry.names(), *rag_rerank.registry.aliases()}
    assert table_names - {"type"} <= existing, table_names - existing
