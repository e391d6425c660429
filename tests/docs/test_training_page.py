"""What docs/training.md says is so: commands parse, Python names what there is, messages are those that are given."""

import ast
import importlib
import inspect
import json
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from support.commands import COMMANDS

from rag_rerank import build, to_config
from rag_rerank.training.losses import FROM_TEACHER
from rag_rerank.training.settings import TrainingSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
NAMES = ("train", "distil")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def cells(table: str) -> list[list[str]]:
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("|---")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("")).replace("\\\n", " ").splitlines()
    shown = [line for line in lines if line.startswith("rag-rerank ")]
    inline = re.findall(r"`(rag-rerank \w+ -[^`]+|rag-rerank \w+ \w+\.\w+[^`]+)`", PAGE)
    return [shlex.split(line) for line in (*shown, *inline)]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_parses(words: list[str]) -> None:
    command = COMMANDS[words[1]]
    context = command.make_context(words[1], words[2:], resilient_parsing=False)
    assert context.params


def test_there_are_commands_of_both() -> None:
    assert {words[1] for words in commands()} >= set(NAMES)


def test_every_option_that_is_named_exists() -> None:
    options = [one for command in COMMANDS.values() for one in command.params]
    known = {name for one in options for name in (*one.opts, *one.secondary_opts)}
    ours = re.sub(r"`hf [^`]+`", "", PAGE)  # the hub's own command
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours))
    assert named
    assert named <= known, named - known


@pytest.mark.parametrize("only", NAMES)
def test_what_is_said_of_one_command_alone_is_an_option_of_it_alone(only: str) -> None:
    (other,) = set(NAMES) - {only}
    table = PAGE.split(f"| only `{only}` |")[1].split("\n\n")[0]
    named = {name for row in cells(table) for name in re.findall(r"--[a-z-]+", row[0])}
    own = {name for one in COMMANDS[only].params for name in one.opts}
    assert named and named <= own
    shared = {name for one in COMMANDS[other].params for name in one.opts}
    assert named & shared <= {"--depth"}, "it means something else in each, and has a default of its own"


def test_defaults_that_are_shown_beside_an_option_are_its_defaults() -> None:
    for name, tables in (("train", PAGE.split("| only `distil` |")[0]), ("distil", PAGE.split("| only `distil` |")[1])):
        options = {one.opts[-1]: one for one in COMMANDS[name].params if isinstance(one, click.Option)}
        shown = [pair for row in cells(tables) for pair in re.findall(r"`(--[a-z-]+) ([\d.e-]+|auto|fp32)`", row[0])]
        assert shown
        for option, value in shown:
            assert str(options[option].default) == str(type(options[option].default)(value)), option


def test_every_python_block_compiles_and_calls_what_there_is() -> None:
    for block in blocks("python"):
        tree = ast.parse(block)
        known = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                known |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
        called = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        of_ours = [node for node in called if isinstance(node.func, ast.Name) and node.func.id in known]
        assert of_ours
        for node in of_ours:
            given = {keyword.arg: None for keyword in node.keywords}
            inspect.signature(known[node.func.id]).bind(*node.args, **given)


def test_the_yaml_is_a_config_and_the_json_a_pair() -> None:
    for block in blocks("yaml"):
        reranker = build(yaml.safe_load(block))
        assert build(to_config(reranker)) == reranker
    for block in blocks("json"):
        assert json.loads(block).keys() <= {"query", "positive", "negatives", "title", "source", "licence"}


def test_the_table_of_losses_says_what_each_learns_from() -> None:
    (row, *rows) = [row for row in cells(section("Losses")) if row[0] != "---"]
    assert row[0] == "`--loss`"
    choices = next(one for one in COMMANDS["train"].params if one.name == "loss").type
    assert [row[0].strip("`") for row in rows] == list(choices.choices)  # type: ignore[attr-defined]
    assert {row[0].strip("`") for row in rows if "teacher" in row[2]} == set(FROM_TEACHER)
    assert f"`{TrainingSettings().loss}` is the default" in section("Losses")


def test_messages_that_are_quoted_are_those_that_are_given() -> None:
    sources = " ".join(
        re.sub(r'["\']\s*\n\s*(?:\+ \()?f?["\']', "", file.read_text(encoding="utf-8"))
        for file in sorted((ROOT / "rag_rerank").rglob("*.py"))
    )
    table = section("When something is wrong")
    quoted = [text for row in cells(table)[1:] for text in re.findall(r"`([^`]+)`", row[1])]
    assert len(quoted) > 10
    for text in quoted:
        assert text in sources, text
