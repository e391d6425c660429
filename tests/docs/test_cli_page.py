"""docs/reference/cli.md is what the commands are, and the examples in their help run in the folder of the samples."""

import importlib.util
import json
import re
import shutil
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner
from support.commands import COMMANDS, examples, leaves
from support.doc_pages import DOCS, SAMPLES

import rag_rerank
from rag_rerank.cli import app

PAGE = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
EXAMPLES = [
    (words, command, example) for name in COMMANDS for words, command in leaves(name) for example in examples(command)
]

CHEAP = ("embedded", "lexical", "schema", "traces.jsonl", "models")
"""Words of the examples that run here in a moment, without a hub or a provider."""

SLOW = ("tune", "--check", "calibrate", "eval", "ltr", "serve", "mcp")
"""Words of examples that take longer, or run until they are stopped; three of their pages run them."""

RUNNABLE = [example for *_, example in EXAMPLES if {*CHEAP} & {*example} and not {*SLOW} & {*example}]


@pytest.fixture
def generator() -> ModuleType:
    """The script that writes the page."""
    spec = importlib.util.spec_from_file_location("cli_page", DOCS / "tools" / "cli_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_page_without_markers_is_refused(generator: ModuleType) -> None:
    with pytest.raises(ValueError, match="once each"):
        generator.page_with("part", "a page")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_a_section_for_each_command_with_each_of_its_options(name: str) -> None:
    for words, command in leaves(name):
        heading = f"## `rag-rerank {words}`\n"
        section = PAGE.split(heading)[1].split("## `rag-rerank ")[0]
        options = [option for option in command.params if isinstance(option, click.Option)]
        for option in options:
            assert re.search(rf"^\| .*`{re.escape(option.opts[-1])}`", section, flags=re.MULTILINE), option.opts


@pytest.mark.parametrize(("words", "command", "example"), EXAMPLES, ids=[" ".join(row[2]) for row in EXAMPLES])
def test_each_example_is_accepted(words: str, command: click.Command, example: list[str]) -> None:
    length = 1 + len(words.split())
    assert " ".join(example[:length]) == f"rag-rerank {words}"
    command.make_context(words, example[length:])


@pytest.mark.parametrize("example", RUNNABLE, ids=" ".join)
def test_cheap_examples_run_in_the_folder_of_the_samples(
    example: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SAMPLES, tmp_path / "samples")
    monkeypatch.chdir(tmp_path / "samples")
    rows = [json.loads(line) for line in Path("passages.jsonl").read_text(encoding="utf-8").splitlines()]
    with rag_rerank.recording("traces.jsonl", texts=True):
        rag_rerank.build("lexical").rerank(
            "Who voices Po?", [rag_rerank.Candidate(row["id"], row["text"]) for row in rows]
        )
    result = CliRunner().invoke(app, example[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.stdout


def test_several_commands_have_an_example_that_runs() -> None:
    assert {example[1] for example in RUNNABLE} >= {"rank", "probe", "trace", "models", "config"}
