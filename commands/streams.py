"""The standard streams, which may be closed, full, or lose their reader."""

from __future__ import annotations

import atexit
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from fusiform.engine.urls import without_credentials

# The file that an error of the standard output names.
OUTPUT = "the standard output"


class _Notes(io.FileIO):
    """The raw error stream. A note that cannot be written is lost; the work continues."""

    def write(self, content: Any) -> int:
        """Write as much as can be written and claim the rest."""
        try:
            written = super().write(content)
        except OSError:  # a terminal that was closed, a full disk
            written = None
        return len(content) if written is None else written


class _Errors(io.TextIOWrapper):
    """The error stream, without the credentials in URLs."""

    def write(self, text: str) -> int:
        """Write the text without credentials."""
        super().write(without_credentials(text))
        return len(text)


class _Answers(io.FileIO):
    """The raw output stream, whose errors name it."""

    def write(self, content: Any) -> int:
        """Write as much as can be written; 0 where it has to wait."""
        try:
            return super().write(content) or 0
        except OSError as error:
            error.filename = OUTPUT
            raise


def open_streams() -> None:
    """Take over the standard streams, open or not, and let no name fail to be encoded."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # or the next file that is opened would take its place, and its output
            os.open(os.devnull, os.O_WRONLY if descriptor == 2 else os.O_RDONLY)
            os.set_inheritable(descriptor, True)
    for name, kind in (("stdout", _Answers), ("stderr", _Notes)):
        stream, first = getattr(sys, name), getattr(sys, f"__{name}__")
        if os.name == "posix" and stream is first:
            raw = kind(1 if name == "stdout" else 2, "w", closefd=False)
            encoding = stream.encoding if stream else "utf-8"
            on_terminal = raw.isatty() or name == "stderr"
            buffer = io.BufferedWriter(raw)
            text = io.TextIOWrapper if name == "stdout" else _Errors
            stream = text(buffer, encoding, line_buffering=on_terminal)
            setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def leave_output() -> None:
    """Discard the rest of an answer that nobody reads or that cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class Leaving:
    """Leaves the command line with ``code`` when the exit handlers of all libraries have run.

    Taking the modules of torch apart, object by object, takes half a second. Python leaves by
    itself where a handler was registered before (coverage does, at the start of Python), because it
    would be dropped, and where another program runs the command line and may go on after it.
    """

    def __init__(self) -> None:
        self.code: object = ""  # until it is known, and where it is a text, Python leaves
        registered = getattr(atexit, "_ncallbacks", None)  # private: without it Python leaves
        if registered and _is_the_program() and not registered():
            atexit.register(self._leave)  # the first that is registered runs last

    def _leave(self) -> None:
        if self.code is None or isinstance(self.code, int):
            leave_at_once(self.code or 0)


def _is_the_program() -> bool:
    """Whether the process runs ``python -m fusiform`` or the script of that name."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    name = spec.parent if spec else Path(getattr(main, "__file__", "")).stem
    return bool(name == "fusiform")


def leave_at_once(code: int) -> None:
    """Exit without the clean-up of libraries, which may wait for their threads for ever."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)
