"""The help texts: they fit a terminal, explain each option, and use one word for one thing in every command."""

import re
from collections import defaultdict
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.commands import COMMANDS, leaves

from rag_rerank.cli import app

LEAVES = {words: command for name in COMMANDS for words, command in leaves(name)}

VALUES = {
    *("FILE", "FILE|-", "FOLDER", "FILE|FOLDER", "OUT", "RERANKER", "MODEL", "SOURCE", "SHAPE|FOLDER", "NAME|FILE"),
    *("TEXT", "NAME", "ID", "N", "K", "GRADE", "MEASURE", "FIELD", "KIND", "SECONDS", "USD", "DATE", "NAME=N"),
    *("RATE", "SHARE", "STEPS", "TOKENS", "LAYERS", "HOST", "VAR", "URL"),
}
"""What a value may be called."""

OWN_WORDS = {
    *(
        "--out",
        "--query",
        "--top-k",
        "--depth",
        "--validation",
        "--records",
        "--licence",
        "--json",
        "--base",
        "--seed",
        "--html",
        "--timeout",
        "--port",
    ),
}
"""Options whose words differ between commands, because what they do there differs."""


def options(command: click.Command) -> list[click.Option]:
    return [one for one in command.params if isinstance(one, click.Option)]


@pytest.mark.parametrize("words", ["", "config", "trace", *LEAVES])
def test_help_fits_80_columns(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(app, [*words.split(), "--help"])
    assert result.exit_code == 0
    assert [line for line in result.output.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("words", LEAVES)
def test_each_option_says_what_it_does_and_what_its_value_is(words: str) -> None:
    for option in options(LEAVES[words]):
        assert option.help and option.help[0].isupper() and re.search(r"[.)]$", option.help), option.opts
        if not option.is_flag and not isinstance(option.type, click.Choice):
            assert option.metavar in VALUES, option.opts


@pytest.mark.parametrize("words", LEAVES)
def test_out_is_what_is_written_and_file_what_is_read(words: str) -> None:
    for option in options(LEAVES[words]):
        assert (option.metavar == "OUT") == isinstance(option.type, click.Path), option.opts


def test_an_option_has_the_same_words_in_every_command() -> None:
    helps = defaultdict(set)
    for command in LEAVES.values():
        for option in options(command):
            name = max(option.opts, key=len)
            helps[name].add((option.help or "", option.metavar))
    different = {name: texts for name, texts in helps.items() if len(texts) > 1 and name not in OWN_WORDS}
    # one reranker or several, and in some commands also as the argument
    assert {name for name in different if name != "--reranker"} == set()
    names = [re.search(r": (a name .*?\))", text) for text, _ in different["--reranker"]]
    assert len({match[1] for match in names if match}) == 1


def test_the_overview_has_every_command_once(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["--help"])
    listed = re.findall(r"^  ([a-z]+)  ", result.output.partition("Use a reranker:")[2], flags=re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


def test_without_a_command_the_first_step_is_shown() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "rag-rerank rank -r embedded" in result.output and "COMMAND --help" in result.output


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["evl"], "no command 'evl'; did you mean 'eval'?"),
        (["trace", "shw"], "no command 'shw'; did you mean 'show'?"),
        (["config", "chek"], "no command 'chek'; did you mean 'check'?"),
        (["nothing-like-it"], "known: batch, calibrate, config,"),
        (["rank", "--qury", "x"], "--query"),
    ],
)
def test_a_wrong_word_leads_to_the_right_one(words: list[str], hint: str) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert hint in result.stderr
    assert "--help" in result.stderr


def test_the_examples_are_the_end_of_the_help(tmp_path: Path) -> None:
    for words, command in LEAVES.items():
        output = CliRunner().invoke(app, [*words.split(), "--help"], env={"COLUMNS": "80"}).output
        assert re.search(rf"\n  Examples?:\n    rag-rerank {words}[^\n]*(\n    [^\n]+)*\n$", output), words
        assert command.epilog
