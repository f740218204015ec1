"""Run command lines one after the other in one new process, so that torch is imported once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_COMMANDS = """
import sys
from fusiform.cli import main
for line in sys.stdin.read().strip().splitlines():
    print("running", line, file=sys.stderr)
    sys.argv = ["fusiform", *line.split()]
    try:
        main()
        code = 0
    except SystemExit as left:
        code = left.code or 0
    print("exit", code, line)
"""


def run(lines: str, folder: Path, **environment: str) -> tuple[list[str], str]:
    """Run the lines in ``folder``; returns ``exit CODE LINE`` of each, and all of stderr."""
    result = _run(lines, folder, environment)
    exits = [line for line in result.stdout.splitlines() if line.startswith("exit ")]
    return exits, result.stderr


def output(lines: str, folder: Path) -> str:
    """Run the lines in ``folder``; returns all that they print, and ``exit CODE LINE`` of each."""
    return _run(lines, folder, {}).stdout


def _run(lines: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    paths = [environment.pop("PYTHONPATH", ""), str(Path(__file__).parents[2])]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return subprocess.run(
        [sys.executable, "-c", _COMMANDS],
        cwd=folder, capture_output=True, text=True, input=lines,
        env={**os.environ, **environment},
    )  # fmt: skip
