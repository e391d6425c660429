"""The pages name every command and every option of the commands that have a page, and their links lead somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.commands import COMMANDS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "eval": "how-to/evaluate.md",
    "calibrate": "how-to/thresholds.md",
    "probe": "how-to/probe.md",
    "trace": "how-to/records.md",
    "train": "how-to/train.md",
    "distil": "how-to/train.md",
}


def test_the_page_of_the_command_line_lists_every_command() -> None:
    block = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8").split("```")[1]
    commands = [line.split()[1] for line in block.strip().splitlines()]
    assert sorted(commands) == sorted(COMMANDS)


def leaves(name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command, or the commands of a group, with the words that call it."""
    command = COMMANDS[name]
    if isinstance(command, click.Group):
        yield from ((f"{name} {inner}", child) for inner, child in command.commands.items())
    else:
        yield name, command


@pytest.mark.parametrize("name", PAGES)
def test_a_commands_own_page_names_each_of_its_options(name: str) -> None:
    text = (DOCS / PAGES[name]).read_text(encoding="utf-8")
    options = [option for _, command in leaves(name) for option in command.params if isinstance(option, click.Option)]
    assert options
    for option in options:
        assert any(re.search(rf"(?<![\w-]){re.escape(o)}\b", text) for o in option.opts), (name, option.opts)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_ends_in_an_example_that_it_accepts(name: str) -> None:
    for words, command in leaves(name):
        example = shlex.split((command.epilog or "").splitlines()[-1].partition(" > ")[0])
        name_length = 1 + len(words.split())
        assert " ".join(example[:name_length]) == f"rag-rerank {words}"
        command.make_context(words, example[name_length:])
