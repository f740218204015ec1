"""The command line: mounts the commands, and turns errors into a line and an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from fusiform.commands import (
    analysing,
    asking,
    demo,
    machine,
    notes,
    planning,
    scanning,
    stimuli,
    stores,
    streams,
)
from fusiform.commands.fields import Command
from fusiform.commands.help import GroupedCommand, GroupedCommands
from fusiform.engine.errors import UserError, fault_of, is_of_limits


def _group(text: str, complete: bool = False) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(
        cls=GroupedCommands,
        help=text,
        no_args_is_help=True,
        add_completion=complete,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def _mount(group: typer.Typer, heading: str | None, commands: Iterable[Command]) -> None:
    for one in commands:
        group.command(one.__name__, cls=GroupedCommand, rich_help_panel=heading)(one)


app = _group("Find category-selective units in vision networks, in one pass.", complete=True)
_mount(app, "Scan", [demo.demo, planning.layers, planning.plan, scanning.scan, scanning.record])
_mount(app, "Ask", [asking.summary, asking.select, asking.query, asking.responses])
_mount(app, "Analyse", [analysing.analyse, analysing.compare, analysing.report])
_mount(app, "Stores", [stores.info, stores.check, stores.merge])
_mount(app, "Machine", [machine.doctor, machine.bench])
sets = _group("Make, scramble, check and pack stimulus sets.")
_mount(sets, None, [stimuli.make, stimuli.scramble, stimuli.check, stimuli.pack])
app.add_typer(sets, name="stimuli", rich_help_panel="Stimuli")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("fusiform"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line. A user's mistake is one line on stderr and exit code 2."""
    # A cluster's signal when time is up, and a closed terminal's: leave as from an error, so that
    # nothing is left behind.
    for asked in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(asked) is not signal.SIG_IGN:  # nohup ignores it
            signal.signal(asked, lambda number, _: sys.exit(128 + number))
    streams.open_streams()
    if sys.modules["fusiform"].__file__ is None:
        hiding = Path(next(iter(sys.modules["fusiform"].__path__))).resolve()
        sys.exit(notes.say(f"the folder {hiding} hides the package fusiform: start elsewhere"))
    sys.exit(_exit_code())


def _exit_code() -> int:
    """Run a command, print its error in a line, and return the exit code."""
    try:
        try:
            return app(standalone_mode=False) or 0
        finally:
            print(end="", flush=True)
    except typer.TyperException as error:
        return notes.say_misuse(error)
    except typer.Abort:  # the input ended
        return 1
    except UserError as error:
        return notes.say(*error.lines, *getattr(error, "__notes__", ()))
    except BrokenPipeError:  # the reader of the answer has seen enough
        streams.leave_output()
        return 1
    except Exception as error:
        said = fault_of(error)
        if said is None:  # a bug
            raise
        if getattr(error, "filename", None) == streams.OUTPUT:
            streams.leave_output()
        code = notes.say(said, *getattr(error, "__notes__", ()))
        if is_of_limits(error):
            streams.leave_at_once(code)
        return code


def program() -> None:
    """Run the command line as a program of its own, which ends with it."""
    try:
        main()
    except SystemExit as left:
        # Threads of obstore that still wait for a server may abort a program that ends.
        if isinstance(left.code, int) and left.code and "obstore.store" in sys.modules:
            streams.leave_at_once(left.code)
        raise
