"""The demo as a newcomer runs it: in a new environment, again, and without network access.

Installs a clone of the last commit with its extra ``demo``, by uv where there is one. Also takes
the picture of its report, ``docs/pictures/demo.png``. Needs a Chromium, and Linux with user
namespaces.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import sync_playwright

from fusiform.engine.texts import in_bytes

from ..shared import files_of, head, heading, row, save

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
WITHOUT_NETWORK = ["unshare", "--map-root-user", "--net"]


class Run(NamedTuple):
    """A run of the demo: seconds, those of processors, its output, its largest resident memory."""

    seconds: float
    busy: float
    output: str
    peak: str


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = _installed(folder)
        runs = {
            "the first": _run([program], folder / "first"),
            "another": _run([program], folder / "again"),
            "another, without network": _run([*WITHOUT_NETWORK, program], folder / "offline"),
        }
        files = folder / "first" / "fusiform-demo"
        disk = sum(files_of(files))
        _picture(files / "report.html")
    outputs = {one.output for one in runs.values()}
    assert len(outputs) == 1, "the runs differ"
    save(
        __name__,
        [
            *heading(__name__, "The demo"),
            "",
            f"In a new environment with empty caches. All files take {in_bytes(disk)}.",
            "",
            *head("run", "seconds", "of processors", "memory"),
            *(
                row(which, f"{one.seconds:.0f}", f"{one.busy:.0f}", one.peak)
                for which, one in runs.items()
            ),
            "",
            "```",
            "$ fusiform demo",
            *outputs.pop().splitlines(),
            "```",
        ],
    )


def _installed(folder: Path) -> str:
    """Install a clone into an environment of its own; returns the program."""
    clone, venv = folder / "fusiform", folder / "venv"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = str(venv / "bin" / "python")
    by_pip = [python, "-m", "pip", "install", "--quiet"]
    by_uv = ["uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
    subprocess.run([*(by_uv if shutil.which("uv") else by_pip), f"{clone}[demo]"], check=True)
    return str(venv / "bin" / "fusiform")


def _run(program: list[str], folder: Path) -> Run:
    folder.mkdir()
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    own |= {"HOME": str(folder.parent), "XDG_CACHE_HOME": str(folder.parent / "cache")}
    started, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [*program, "demo"], cwd=folder, env=own, capture_output=True, text=True, check=True
    )
    seconds, after = time.perf_counter() - started, os.times()
    busy = sum(after[2:4]) - sum(before[2:4])  # of children
    return Run(seconds, busy, done.stdout, re.findall("peak (.*)", done.stderr)[-1])


def _picture(page: Path) -> None:
    """Save the head of the report as ``docs/pictures/demo.png``."""
    path = ROOT / "docs" / "pictures" / "demo.png"
    with sync_playwright() as running:
        own = Path(running.chromium.executable_path).exists()
        browser = running.chromium.launch(
            executable_path=None if own else next(filter(None, map(shutil.which, BROWSERS))),
            args=["--no-sandbox"] if os.geteuid() == 0 else [],
        )
        tab = browser.new_page(viewport={"width": 1200, "height": 1440})
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-ready]")
        tab.screenshot(path=path)
        browser.close()
    Image.open(path).convert("RGB").save(path, optimize=True)
