"""Help in sections: options by the value they belong to, commands by what they are for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from .fields import Command

# Headings in this order; others stand between them.
_FIRST = (
    *("Arguments", "Options", "Layers and contrasts", "Network", "Preprocessing", "Stimuli"),
    *("Lesions", "Units", "Design"),
)
_LAST = ("Resources", "Output")
# Columns of a flag and its metavar; a longer one has a line of its own.
_WIDTH = 28
# Columns of a line on a wider terminal: longer lines are hard to read.
_WIDEST = 120


def _sections(formatter: Any, rows: Iterable[tuple[str, tuple[str, str]]]) -> None:
    """Write rows below the headings they name."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for heading, row in rows:
        sections.setdefault(heading, []).append(row)
    for heading, listed in sections.items():
        with formatter.section(heading):
            formatter.write_dl(listed, col_max=_WIDTH)


def _place(heading: str) -> int:
    name = heading.partition(",")[0]
    if name in _FIRST:
        return _FIRST.index(name) - len(_FIRST)
    return _LAST.index(name) + 1 if name in _LAST else 0


class GroupedCommand(TyperCommand):
    """A command whose options stand below the headings they were declared with."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options."""
        rows = []
        for parameter in self.get_params(ctx):
            heading = getattr(parameter, "rich_help_panel", None)
            if row := parameter.get_help_record(ctx):
                if parameter.param_type_name == "argument":
                    heading, row = "Arguments", (row[0].partition(" <")[0], row[1])
                elif parameter.name == "help":
                    heading = "Output"
                rows.append((heading or "Options", row))
        _sections(formatter, sorted(rows, key=lambda row: _place(row[0])))


class GroupedCommands(TyperGroup):
    """Commands that stand below the headings they were mounted with."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, and then the options."""
        rows = []
        for name, one in self.commands.items():
            heading = getattr(one, "rich_help_panel", None) or "Commands"
            rows.append((heading, (name, (one.help or "").partition("\n")[0].rstrip("."))))
        options = [("Options", one.get_help_record(ctx)) for one in self.get_params(ctx)]
        _sections(formatter, [*rows, *((heading, row) for heading, row in options if row)])


def group(text: str, complete: bool = False) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(
        cls=GroupedCommands,
        help=text,
        no_args_is_help=True,
        add_completion=complete,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDEST},
    )


def mount(into: typer.Typer, heading: str | None, commands: Iterable[Command]) -> None:
    """Add commands to a group, below a heading of its help."""
    for one in commands:
        into.command(one.__name__, cls=GroupedCommand, rich_help_panel=heading)(one)
