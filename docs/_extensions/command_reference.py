"""The reference of the commands: the help of the command line as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PAGE = "reference/commands"
# A help text, and what click appends to it: "Seed.  [default: 0]".
_RECORD = re.compile(r"(.*?)(?:\s\s\[(?:default: )?(.*)\])?", re.DOTALL)


class Markdown:
    """A formatter of click's that writes Markdown: usage, paragraphs, a table per group."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write_usage(self, program: str, arguments: str) -> None:
        """Write how a command is called, as a block of code."""
        self.lines += ["```text", f"{program} {arguments}", "```", ""]

    def write_text(self, text: str) -> None:
        """Write paragraphs, "word: its meaning" with the word as code; an example is a block."""
        for paragraph in text.split("\n\n"):
            said = " ".join(paragraph.split())
            if said.startswith("Example: "):
                self.lines += ["Example:", "", "```text", said.removeprefix("Example: "), "```", ""]
            else:
                said = re.sub(r"(?:^|(?<=\. ))([a-z]+): ", r"`\1`: ", said)
                self.lines += [escaped(said), ""]

    def write_dl(self, rows: Iterable[tuple[str, str]], **_: Any) -> None:
        """Write a table of options: flags and type, meaning, default."""
        self.lines += ["| name | meaning | default |", "|---|---|---|"]
        for flags, text in rows:
            meaning, default = _RECORD.fullmatch(text).groups("")  # type: ignore[union-attr]
            cells = code(flags), escaped(meaning), code(default) if default else ""
            self.lines.append(f"| {' | '.join(cells)} |")
        self.lines.append("")

    @contextmanager
    def section(self, heading: str) -> Iterator[None]:
        """Write the heading of a group of options."""
        self.lines += [f"**{heading}**", ""]
        yield

    @contextmanager
    def indentation(self) -> Iterator[None]:
        """Indent nothing: Markdown would take it for code."""
        yield

    def write_paragraph(self) -> None:
        """Write no line: there is one after every element."""


def escaped(text: str) -> str:
    """Text with Markdown's marks escaped; what stands in backticks, pages and flags, as code."""
    text = re.sub(r"(?<![`\w-])(docs/[\w/.-]+\.md|--[a-z][a-z-]+)", r"`\1`", text)
    parts = re.split(r"(`[^`]+`)", " ".join(text.split()))
    marks = re.compile(r"([\\*_{}\[\]<>|#~])")
    return "".join(part if part[:1] == "`" else marks.sub(r"\\\1", part) for part in parts)


def code(text: str) -> str:
    """Text as code in a cell of a table."""
    return f"`{' '.join(text.split())}`".replace("|", "\\|")


def reference() -> str:
    """Every command: an overview, and a section each, below the headings of the help."""
    from typer.main import get_command

    from fusiform.cli import app

    program = get_command(app)
    context = program.context_class(program, info_name="fusiform", **program.context_settings)
    overview, sections = [], []
    for heading, commands in _by_heading(_commands(context)).items():
        sections += [f"## {heading}", ""]
        overview += ["", f"**{heading}**", ""]
        for one in commands:
            path, purpose = one.command_path, one.command.help.partition("\n")[0]
            overview.append(f"- [`{path}`](#{path.replace(' ', '-')}): {escaped(purpose)}")
            help_text = Markdown()
            one.command.format_help(one, help_text)
            sections += [f"### {path}", "", *help_text.lines]
    own = Markdown()
    with own.section("Options of fusiform itself"):
        own.write_dl(filter(None, (one.get_help_record(context) for one in program.params)))
    return "\n".join([*overview, "", *own.lines, *sections])


def _commands(group: Any, heading: str = "Commands") -> Iterator[tuple[str, Any]]:
    """The context of every command, at any depth, with the heading it stands below."""
    for name, command in group.command.commands.items():
        if command.hidden:
            continue
        below = getattr(command, "rich_help_panel", None)
        below = below if isinstance(below, str) else heading
        context = command.context_class(command, info_name=name, parent=group)
        if hasattr(command, "commands"):
            yield from _commands(context, below)
        else:
            yield below, context


def _by_heading(commands: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for heading, context in commands:
        found.setdefault(heading, []).append(context)
    return found


def _fill(_: Sphinx, page: str, source: list[str]) -> None:
    if page == PAGE:
        source[0] += reference()


def setup(app: Sphinx) -> dict[str, bool]:
    """Append the reference to its page when Sphinx reads that."""
    app.connect("source-read", _fill)
    # The page depends on the command line, whose files Sphinx does not watch.
    app.connect("env-get-outdated", lambda *_: [PAGE])
    return {"parallel_read_safe": True}
