"""The pages on training are true: commands parse, Python names exist, messages are in the package."""

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
PAGE = "\n".join(
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("how-to/train.md", "reference/training.md")
)
NAMES = ("train", "distil")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def cells(table: str) -> list[list[str]]:
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("|---")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    in_blocks = [line for line in lines if line.startswith("rag-rerank ")]
    inline = re.findall(r"`(rag-rerank \w+ -[^`]+|rag-rerank \w+ \w+\.\w+[^`]+)`", PAGE)
    return [shlex.split(line) for line in (*in_blocks, *inline)]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_parses(words: list[str]) -> None:
    command = COMMANDS[words[1]]
    context = command.make_context(words[1], words[2:], resilient_parsing=False)
    assert context.params


def test_both_commands_are_shown() -> None:
    assert {words[1] for words in commands()} >= set(NAMES)


def test_every_option_on_the_page_exists() -> None:
    parameters = [one for command in COMMANDS.values() for one in command.params]
    options = {name for one in parameters for name in (*one.opts, *one.secondary_opts)}
    ours = re.sub(r"`hf [^`]+`", "", PAGE)  # the hub's own command
    on_page = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours))
    assert on_page
    assert on_page <= options, on_page - options


@pytest.mark.parametrize("only", NAMES)
def test_options_in_the_table_of_one_command_belong_to_it_alone(only: str) -> None:
    (other,) = set(NAMES) - {only}
    table = PAGE.split(f"| only `{only}` |")[1].split("\n\n")[0]
    in_table = {name for row in cells(table) for name in re.findall(r"--[a-z-]+", row[0])}
    own = {name for one in COMMANDS[only].params for name in one.opts}
    assert in_table and in_table <= own
    shared = {name for one in COMMANDS[other].params for name in one.opts}
    assert in_table & shared <= {"--depth"}, "it means something else in each, and has a default of its own"


def test_the_default_beside_an_option_is_its_default() -> None:
    settings = section("Settings")
    for name, tables in zip(NAMES, settings.split("| only `distil` |"), strict=True):
        options = {one.opts[-1]: one for one in COMMANDS[name].params if isinstance(one, click.Option)}
        defaults = [pair for row in cells(tables) for pair in re.findall(r"`(--[a-z-]+) ([\d.e-]+|auto|fp32)`", row[0])]
        assert defaults
        for option, value in defaults:
            assert str(options[option].default) == str(type(options[option].default)(value)), option


def test_every_python_block_compiles_and_calls_existing_functions() -> None:
    for block in blocks("python"):
        tree = ast.parse(block)
        functions = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                functions |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        ours = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id in functions]
        assert ours
        for node in ours:
            keywords = {keyword.arg: None for keyword in node.keywords}
            inspect.signature(functions[node.func.id]).bind(*node.args, **keywords)


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


def test_quoted_messages_are_in_the_package() -> None:
    sources = " ".join(
        re.sub(r'["\']\s*\n\s*(?:\+ \()?f?["\']', "", file.read_text(encoding="utf-8"))
        for file in sorted((ROOT / "rag_rerank").rglob("*.py"))
    )
    table = section("When something is wrong")
    quotes = [text for row in cells(table)[1:] for text in re.findall(r"`([^`]+)`", row[1])]
    assert len(quotes) > 10
    for text in quotes:
        assert text in sources, text
