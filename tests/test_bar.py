"""Progress from the first moment: a bar on a terminal and in a notebook, lines elsewhere."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from torch import nn

from fusiform.commands.progress import listening as of_command
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.scanning.bar import described, listening
from fusiform.engine.scanning.progress import Listener, Progress

from . import flat

CONTROL = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[\?25[hl]|\r|\n|[^\x1b\r\n]+")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        """The lines that are left to see, after the cursor's moves and erasures."""
        lines, at = [""], 0
        for found in CONTROL.finditer(self.getvalue()):
            number, letter = found.groups()
            if letter == "A":
                at -= int(number or 1)
            elif letter == "K":
                lines[at] = ""
            elif found[0] == "\n":
                at += 1
                lines += [""] * (at == len(lines))
            elif found[0] != "\r" and not letter and not found[0].startswith("\x1b"):
                lines[at] += found[0]
        return [line.rstrip() for line in lines if line.strip()]


def opened(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as stderr. Not a fixture: pytest sets streams again between fixtures and test."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    return terminal


class Cell:
    """What a notebook shows below a cell."""

    def __init__(self) -> None:
        self.html = ""
        self.updates = 0

    def update(self, shown: Any) -> None:
        self.html, self.updates = shown, self.updates + 1


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    """The cell of a kernel, as IPython has it."""
    shown, ipython, display = Cell(), ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    display.HTML = str  # type: ignore[attr-defined]
    display.display = lambda *_, display_id: shown  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown


def some(told: Listener, *, ends: bool) -> None:
    """The events of a scan that is stopped, unless it ends."""
    told.begin("trying the network")
    for done in (10, 60, *([100] if ends else [])):
        told.progress(Progress("scan", done, 100, done / 10, 2**20))


def stopped(told: Listener) -> None:
    some(told, ends=False)
    raise KeyboardInterrupt


def test_a_bar_says_what_is_done_and_how_long_the_rest_takes() -> None:
    assert described(Progress("building the network", 0, 0, 0.0, 2**20)) == ""
    assert described(Progress("scan", 30, 100, 2.0, 2**20, before=10)) == (
        "30/100, 10.0 images/s, 7 s left, peak 1 MiB"
    )
    assert described(Progress("scan", 30, 0, 3.0, 2**20)) == "30, 10.0 images/s, peak 1 MiB"
    assert described(Progress("contrasts", 0, 9, 0.0, 2**20)) == "0/9, peak 1 MiB"


def test_a_terminal_keeps_the_bars_of_finished_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = opened(monkeypatch)
    with listening(True) as told:
        some(told, ends=True)
    (line,) = terminal.screen
    assert line.startswith("scan ")
    assert line.endswith("100/100, 10.0 images/s, 0 s left, peak 1 MiB")


def overlapping(told: Listener) -> None:
    """Two stages at a time, as of workers: both are counted, and the first ends last."""
    told.progress(Progress("scan", 1, 3, 0.1, 2**20))
    told.progress(Progress("contrasts", 1, 2, 0.1, 2**20))
    told.progress(Progress("scan", 2, 3, 0.2, 2**20))
    told.begin("publishing")
    told.progress(Progress("contrasts", 2, 2, 0.2, 2**20))
    told.begin("publishing")
    told.progress(Progress("scan", 3, 3, 0.3, 2**20))


def test_stages_may_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = opened(monkeypatch)
    with listening(True) as told:
        overlapping(told)
    assert [line.split()[0] for line in terminal.screen] == ["scan", "contrasts"]
    assert "3/3" in terminal.screen[0]


def test_stages_may_overlap_in_a_notebook(cell: Cell) -> None:
    with listening(True) as told:
        overlapping(told)
    assert re.findall(r"</progress> (\w+) (\d)/", cell.html) == [("scan", "3"), ("contrasts", "2")]


def test_no_line_is_left_of_a_stage_that_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = opened(monkeypatch)
    with pytest.raises(KeyboardInterrupt), listening(True) as told:
        stopped(told)
    assert terminal.screen == []
    assert terminal.getvalue().endswith("\x1b[?25h")  # the cursor is shown again


def test_notes_stand_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = opened(monkeypatch)
    with listening(True) as told:
        told.begin("loading libraries")
        told.note("a note\x1b[2J of a file")
        some(told, ends=True)
    assert terminal.screen[0] == r"a note\x1b[2J of a file"
    assert terminal.screen[1].startswith("scan ")


def test_a_notebook_shows_a_bar(cell: Cell) -> None:
    with listening(True) as told:
        told.begin("loading <libraries>")
        assert cell.html == "<progress ></progress> loading &lt;libraries&gt; "
        told.progress(Progress("scan", 50, 100, 5.0, 2**20))
        assert '<progress value="50" max="100"></progress> scan 50/100' in cell.html
        assert "libraries" not in cell.html
        told.progress(Progress("scan", 100, 100, 9.0, 2**20))
    assert '<progress value="100" max="100"></progress> scan 100/100' in cell.html


def test_a_notebook_is_not_updated_more_often_than_can_be_seen(cell: Cell) -> None:
    with listening(True) as told:
        for done in range(10_000):
            told.progress(Progress("scan", done, 10_000, 1.0, 2**20))
    assert cell.updates < 1000
    assert cell.html == ""  # it was not finished


def test_nobody_is_told_anything_where_nobody_looks_on(
    cell: Cell, capfd: pytest.CaptureFixture[str]
) -> None:
    with listening(False) as told:
        some(told, ends=True)
        told.note("a note")
    sys.modules["IPython"].get_ipython = lambda: None
    with listening(True) as told:
        some(told, ends=True)
        told.note("a note")
    assert cell.updates == 0
    assert capfd.readouterr() == ("", "")


def test_a_listener_hears_all() -> None:
    own = Listener()
    with listening(own) as told:
        assert told is own


def test_a_command_says_at_once_that_it_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = opened(monkeypatch)
    with of_command(False) as told:
        assert "loading libraries" in terminal.getvalue()
        some(told, ends=True)
    (line,) = terminal.screen
    assert line.startswith("scan ")


def test_a_command_prints_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with of_command(False) as told:
        some(told, ends=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["scan 10/100", "scan 100/100"]


def test_a_scan_in_python_shows_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, stimuli: Path, tmp_path: Path
) -> None:
    terminal = opened(monkeypatch)
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
    small = {"layers": "leaf", "preprocessing": Preprocessing(16, 16)}
    flat.scan(net, stimuli, tmp_path / "o.zarr", **small)
    assert any(line.startswith("scan ") for line in terminal.screen)
    assert any(line.startswith("contrasts ") for line in terminal.screen)
    shown = len(terminal.getvalue())
    flat.scan(net, stimuli, tmp_path / "quiet.zarr", progress=False, **small)
    assert len(terminal.getvalue()) == shown
