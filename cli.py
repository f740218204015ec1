"""The command line: mounts the commands, and turns errors into a line and an exit code."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from fusiform.commands import (
    analysing,
    asking,
    comparing,
    demo,
    errors,
    lesioning,
    machine,
    notes,
    plotting,
    scanning,
    stimuli,
    stores,
    streams,
)
from fusiform.commands.help import group, mount

app = group("Find category-selective units in vision networks, in one pass.", complete=True)
mount(app, "Scan", [demo.demo, scanning.layers, scanning.plan, scanning.scan, scanning.record])
mount(app, "Ask", [asking.summary, asking.select, asking.query, asking.responses])
mount(
    app,
    "Analyse",
    [analysing.analyse, comparing.compare, lesioning.lesion, plotting.plot, analysing.report],
)
mount(app, "Stores", [stores.info, stores.check, stores.archive, stores.merge])
mount(app, "Machine", [machine.doctor, machine.bench])
sets = group("Make, scramble, check and pack stimulus sets.")
mount(sets, None, [stimuli.make, stimuli.scramble, stimuli.check, stimuli.pack])
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
    sys.exit(errors.exit_code(app))


def program() -> None:
    """Run the command line as a program of its own."""
    ended = streams.Leaving()
    try:
        main()
    except SystemExit as left:
        # Threads of obstore that still wait for a server may abort a program that ends.
        if isinstance(left.code, int) and left.code and "obstore.store" in sys.modules:
            streams.leave_at_once(left.code)
        ended.code = left.code
        raise
    except KeyboardInterrupt:  # after the answer, or the line of an error
        ended.code = 128 + signal.SIGINT
        sys.exit(ended.code)
