"""Errors of a command as a line and an exit code."""

from __future__ import annotations

import sys

import typer

from fusiform.engine.errors import UserError, describe_failure, is_resource_limit

from . import streams
from .notes import say


def exit_code(app: typer.Typer) -> int:
    """Run the command of ``sys.argv``, print its error in a line, and return the exit code."""
    try:
        try:
            return app(standalone_mode=False) or 0
        finally:
            print(end="", flush=True)
    except typer.TyperException as error:
        return _say_misuse(error)
    except typer.Abort:  # the input ended
        return 1
    except UserError as error:
        return say(*error.lines, *getattr(error, "__notes__", ()))
    except BrokenPipeError:  # the reader of the answer has seen enough
        streams.leave_output()
        return 1
    except Exception as error:
        said = describe_failure(error)
        if said is None:  # a bug
            raise
        if getattr(error, "filename", None) == streams.OUTPUT:
            streams.leave_output()
        code = say(said, *getattr(error, "__notes__", ()))
        if is_resource_limit(error):
            streams.leave_at_once(code)
        return code


def _say_misuse(error: typer.TyperException) -> int:
    """Print why the words of a command were not understood; return the exit code."""
    ctx, said = getattr(error, "ctx", None), error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        print(said, file=sys.stderr)
        return 2
    said = said.replace("Value error, ", "").rstrip(".?")
    if (options := " (Possible options: ") in said:
        said = said.removesuffix(")").replace(options, ", did you mean ")
    said = said.replace(". Did you mean ", ", did you mean ")
    if said == "No such option: --json":
        said += ", did you mean --format json"
    if said.startswith("Got unexpected extra argument"):
        said += ", quote names that contain spaces"
    path = ctx.command_path if ctx else "fusiform"
    return say(f"{said[:1].lower()}{said[1:]}: see '{path} --help'")
