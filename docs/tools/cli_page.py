"""The part of ``docs/reference/cli.md`` that comes from the commands themselves.

Everything between `BEGIN` and `END` is replaced: the overview, and for each command its text, usage, options and
examples, all from click.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import click

from rag_rerank.cli import app

__all__ = ["BEGIN", "END", "PAGE", "generated_part", "page_with"]

PAGE = Path(__file__).parents[1] / "reference" / "cli.md"

BEGIN = "<!-- begin: written by make generate -->"
END = "<!-- end: written by make generate -->"


def generated_part() -> str:
    """Return the generated part of the page, without its markers."""
    context = click.Context(app, info_name="rag-rerank", help_option_names=["-h", "--help"])
    return "\n".join([*_overview(context), *_commands(app, context)])


def page_with(part: str, page: str) -> str:
    """Return a page with its generated part replaced.

    Raises:
        ValueError: The page does not have each marker once.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"the page must have {BEGIN!r} and {END!r} once each")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{part}\n{END}{rest.partition(END)[2]}"


def _overview(context: click.Context) -> Iterator[str]:
    """Yield a table of all commands, under the headings that the help gives them."""
    formatter = click.HelpFormatter(width=1000, max_width=1000)
    app.format_commands(context, formatter)
    yield "| | command | what it does |"
    yield "|---|---|---|"
    heading = ""
    for line in formatter.getvalue().splitlines():
        if line.endswith(":"):
            heading = line[:-1]
        elif line:
            name, words = line.split(None, 1)
            yield f"| {heading} | [`{name}`](#rag-rerank-{name}) | {words} |"
            heading = ""
    yield ""


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        child = click.Context(command, info_name=name, parent=context)
        yield f"{'#' * (len(child.command_path.split()) + 1)} `{child.command_path}`"
        yield ""
        yield from _text(command)
        if isinstance(command, click.Group):
            yield from _commands(command, child)
            continue
        yield "```"
        yield f"{child.command_path} {' '.join(command.collect_usage_pieces(child))}"
        yield "```"
        yield ""
        rows = [_row(option, child) for option in command.params if isinstance(option, click.Option)]
        if rows:
            yield "| option | value | default | meaning |"
            yield "|---|---|---|---|"
            yield from rows
            yield ""
        examples = cleandoc((command.epilog or "").replace("\b", "")).partition("\n")[2]
        yield "```"
        yield cleandoc(examples)
        yield "```"
        yield ""


def _text(command: click.Command) -> Iterator[str]:
    """Yield the paragraphs of a command's help as Markdown."""
    for paragraph in cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            items = re.sub(r"\n +", " ", paragraph.lstrip("\b\n"))
            yield re.sub(r"\{.*\}", lambda match: f"`{match[0]}`", _cell(items))
        else:
            yield _cell(" ".join(paragraph.split()))
        yield ""


def _row(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    choices = option.type.choices if isinstance(option.type, click.Choice) else ()
    value = ", ".join(f"`{choice}`" for choice in choices) or ("" if option.is_flag else f"`{option.metavar}`")
    extra = option.get_help_extra(context)
    default = "required" if option.required else extra.get("default", "").strip("()")
    return f"| {names} | {_cell(value)} | {_cell(default)} | {_cell(option.help or '')} |"


def _cell(text: str) -> str:
    """Return a text in which nothing is Markdown but code: words with dashes in front are options."""
    text = text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*)", r"`\1`", text)
