"""Closed stdout and terminals: scans continue, unwritable answers are one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fusiform
from fusiform.engine.querying.store import open_store

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shells and terminals of POSIX")

NETWORKS = """
import time
from torch import nn
from fusiform import Preprocessing

class Slow(nn.Sequential):
    def forward(self, x):
        time.sleep(0.2)
        return super().forward(x)

def make():
    return nn.Sequential(nn.Conv2d(3, 2, 5), nn.ReLU()), Preprocessing(16, 16)

def slow():
    return Slow(nn.Conv2d(3, 2, 5), nn.ReLU()), Preprocessing(16, 16)
"""
PACKAGE = str(Path(__file__).parents[2])


@pytest.fixture
def folder(tmp_path: Path, draw_stimuli: Callable[..., Path]) -> Path:
    draw_stimuli(tmp_path / "stimuli")
    (tmp_path / "networks.py").write_text(NETWORKS)
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{PACKAGE}:{folder}"}


def shell(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m fusiform {command}"],
        cwd=folder, capture_output=True, text=True, env=environment(folder),
    )  # fmt: skip


@pytest.mark.smoke
@pytest.mark.parametrize(
    "streams", ["2>/dev/full", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", ">&- 2>/dev/full"]
)
def test_a_scan_continues_when_its_output_is_closed(streams: str, folder: Path) -> None:
    result = shell(folder, f"scan networks:make stimuli -o a.zarr {streams}")
    assert result.returncode == 0, result.stderr
    assert fusiform.check(folder / "a.zarr").problems == ()


def scanning(folder: Path, way: Any) -> tuple[subprocess.Popen[bytes], int]:
    """A slow scan running on a terminal, and the other end of that terminal."""
    import pty

    try:
        ours, its = pty.openpty()
    except OSError:  # a container without /dev/pts
        pytest.skip("this machine gives no terminals")
    command = [sys.executable, "-m", "fusiform", "scan", "networks:slow", "stimuli", "-o", "a.zarr"]
    job = subprocess.Popen(
        [*command, "--batch-size", "2", "--commit-every", "0"],
        cwd=folder, stdin=its, stdout=its, stderr=its, env=environment(folder),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, way),
    )  # fmt: skip
    os.close(its)
    shown, began = b"", time.monotonic()
    while b"scan " not in shown and time.monotonic() < began + 120:
        shown += os.read(ours, 4096)
    return job, ours


def test_a_scan_continues_when_its_terminal_is_closed(folder: Path) -> None:
    job, terminal = scanning(folder, signal.SIG_IGN)
    os.close(terminal)
    assert job.wait(120) == 0
    assert fusiform.check(folder / "a.zarr").problems == ()


def test_a_scan_whose_terminal_hangs_up_keeps_its_progress(folder: Path) -> None:
    job, terminal = scanning(folder, signal.SIG_DFL)
    os.close(terminal)
    job.send_signal(signal.SIGHUP)
    assert job.wait(120) == 128 + signal.SIGHUP
    assert (folder / "a.zarr.partial" / "zarr.json").is_file()
    assert shell(folder, "scan networks:slow stimuli -o a.zarr --batch-size 2 -q").returncode == 0
    assert open_store(folder / "a.zarr").counts.sum() == 18


@pytest.mark.smoke
@pytest.mark.parametrize("command", ["summary", "info --json", "query", "--help"])
@pytest.mark.parametrize("stream", [">/dev/full", ">&-"])
def test_an_answer_that_cannot_be_written_is_one_line(
    command: str, stream: str, made_path: Path, tmp_path: Path
) -> None:
    asked = f"{command} {made_path}" if command != "--help" else command
    asked += " 't > -9' --list --format csv" if command == "query" else ""
    result = shell(tmp_path, f"{asked} {stream}")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: cannot read or write the standard output (")


def test_a_closed_pipe_is_not_an_error(made_path: Path, tmp_path: Path) -> None:
    for command in (f"query {made_path} 't > -9' --list --format csv", f"summary {made_path}"):
        result = shell(tmp_path, f"{command} | head -1")
        assert result.stdout.count("\n") == 1
        assert result.stderr == ""


def test_a_mistake_with_closed_stderr_still_exits_with_its_code(
    made_path: Path, tmp_path: Path
) -> None:
    for streams in ("2>/dev/full", "2>&-", ">&- 2>&-"):
        result = shell(tmp_path, f"query {made_path} nonsense {streams}")
        assert (result.returncode, result.stdout, result.stderr) == (2, "", "")
