"""Help in sections: options by the value they belong to, commands by what they are for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup


def _sections(formatter: Any, rows: Iterable[tuple[str, tuple[str, str]]]) -> None:
    """Write rows below the headings they name."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for heading, row in rows:
        sections.setdefault(heading, []).append(row)
    for heading, listed in sections.items():
        with formatter.section(heading):
            formatter.write_dl(listed)


def _options(self: TyperCommand | TyperGroup, ctx: Any, formatter: Any) -> None:
    rows = []
    for parameter in self.get_params(ctx):
        is_argument = parameter.param_type_name == "argument"
        heading = getattr(parameter, "rich_help_panel", None) or "Options"
        if row := parameter.get_help_record(ctx):
            rows.append(("Arguments" if is_argument else heading, row))
    _sections(formatter, rows)


class GroupedCommand(TyperCommand):
    """A command whose options stand below the headings they were declared with."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options."""
        _options(self, ctx, formatter)


class GroupedCommands(TyperGroup):
    """Commands that stand below the headings they were mounted with."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, and then the options."""
        rows = []
        for name, one in self.commands.items():
            width = formatter.width - 6 - max(map(len, self.commands))
            heading = getattr(one, "rich_help_panel", None) or "Commands"
            rows.append((heading, (name, one.get_short_help_str(width))))
        _sections(formatter, rows)
        _options(self, ctx, formatter)
