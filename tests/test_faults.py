"""Out of memory, failing GPUs, signals, kills and full disks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from fusiform.engine.errors import UserError
from fusiform.engine.networks.out_of_memory import explained
from fusiform.engine.preprocessing import Preprocessing

from . import flat
from .fuzz import commands, kills
from .fuzz.small import contents

SMALL = Preprocessing(resize=16, crop=16)
CPU = torch.device("cpu")
# Files, folders, stores and additions to a store; the long storm covers every command.
STORMED = ("query parquet", "report", "make", "scramble", "pack", "merge", "save")


class Hungry(nn.Module):
    """Raises an error for batches larger than ``most``, after its first layer."""

    def __init__(self, most: int, error: type[Exception], said: str) -> None:
        super().__init__()
        self.first = nn.Flatten()
        self.second = nn.Flatten()
        self.most, self.error, self.said = most, error, said

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.first(images)
        if len(images) > self.most:
            raise self.error(self.said)
        return self.second(hidden)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 20.00 MiB."),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"),
        (MemoryError, ""),
    ],
)
@pytest.mark.parametrize(("most", "remedy"), [(5, "`batch_size=4` fits"), (0, "not even one")])
def test_out_of_memory_names_a_batch_size_that_fits(
    error: type[Exception], said: str, most: int, remedy: str
) -> None:
    network = Hungry(most, error, said)
    with (
        pytest.raises(UserError, match=rf"out of memory at a batch of 32 .*{remedy}"),
        explained(network, (32, 3, 8, 8), torch.float32, CPU),
    ):
        network(torch.zeros(32, 3, 8, 8))


def test_a_failing_gpu_is_named() -> None:
    said = "CUDA error: an illegal memory access was encountered"
    network = Hungry(0, RuntimeError, said)
    with (
        pytest.raises(UserError, match=r"the GPU has failed .CUDA error: an illegal"),
        explained(network, (2, 3, 8, 8), torch.float32, CPU),
    ):
        network(torch.zeros(2, 3, 8, 8))


def test_errors_of_a_network_itself_are_raised_unchanged() -> None:
    network = Hungry(0, RuntimeError, "shapes do not match")
    with (
        pytest.raises(RuntimeError, match="shapes do not match"),
        explained(network, (2, 3, 8, 8), torch.float32, CPU),
    ):
        network(torch.zeros(2, 3, 8, 8))


def test_a_scan_that_runs_out_of_memory_keeps_its_progress(stimuli: Path, tmp_path: Path) -> None:
    network = Hungry(99, MemoryError, "")
    options = {"layers": ["first", "second"], "batch_size": 4, "preprocessing": SMALL}
    whole = flat.scan(network, stimuli, tmp_path / "whole.zarr", **options)
    batches = 0

    def shrink(*_: object) -> None:
        nonlocal batches
        batches += 1
        network.most = 2 if batches > 5 + 2 else 99  # after trial and probe

    hook = network.first.register_forward_pre_hook(shrink)
    with pytest.raises(UserError, match="`batch_size=2` fits") as caught:
        flat.scan(network, stimuli, tmp_path / "o.zarr", commit_every=0, **options)
    assert "resumes it" in caught.value.__notes__[0]
    hook.remove()
    network.most = 99
    store = flat.scan(network, stimuli, tmp_path / "o.zarr", **options)
    assert contents(store.path) == contents(whole.path)


# Whole programs


@pytest.fixture(scope="module")
def tiny_set(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Callable[..., Path]) -> Path:
    return draw_stimuli(tmp_path_factory.mktemp("set") / "stimuli")


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a deliberately slow network for the command line."""
    folder = tmp_path_factory.mktemp("module")
    (folder / "slow_net.py").write_text(
        "import time, torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Conv2d(3, 4, 5, stride=5)\n"
        "    def forward(self, images):\n"
        "        time.sleep(0.2)\n"
        "        return self.layer(images)\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    return Net()\n"
    )
    return folder


def command(
    stimuli: Path, output: Path, folder: Path, *options: str, **popen: object
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "fusiform", "scan", "slow_net:net", str(stimuli)),
            *("-o", str(output), "--layers", "layer", "--resize", "16", "--crop", "16"),
            *("--batch-size", "2", *options),
        ],
        env={**os.environ, "PYTHONPATH": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
        **popen,  # type: ignore[call-overload]
    )


def until_first_batch(program: subprocess.Popen[str]) -> None:
    assert program.stderr
    for line in program.stderr:
        if line.startswith("scan "):
            return
    raise AssertionError("it never began")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_in_one_line_and_it_resumes(
    tiny_set: Path, tmp_path: Path, module_folder: Path, how: signal.Signals
) -> None:
    program = command(tiny_set, tmp_path / "o.zarr", module_folder)
    until_first_batch(program)
    program.send_signal(how)
    _, said = program.communicate(timeout=60)
    assert program.returncode == 128 + how
    assert "o.zarr.partial: the same command resumes it" in said
    assert "Traceback" not in said
    again = command(tiny_set, tmp_path / "o.zarr", module_folder)
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0
    assert "resuming an unfinished scan" in said


@pytest.mark.parametrize("what", [[], ["--record"]], ids=["scan", "recording"])
def test_a_scan_killed_at_random_resumes_to_the_same_bits(what: list[str]) -> None:
    storm = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.kills", "--count", "6", *what],
        cwd=Path(kills.__file__).parents[2], capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert storm.returncode == 0, storm.stderr
    assert "6 kills" in storm.stdout
    assert "0 of them with other bits" in storm.stdout


@pytest.fixture(scope="module")
def disturbed() -> str:
    """Table printed by a storm over the writing commands."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    storm = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.commands", "--count", str(len(STORMED)),
         "--only", *STORMED],
        cwd=Path(commands.__file__).parents[2], env={**os.environ, **one}, capture_output=True,
        text=True, timeout=400,
    )  # fmt: skip
    assert storm.stdout, storm.stderr
    return storm.stdout


@pytest.mark.parametrize("name", STORMED)
def test_killed_commands_damage_nothing_and_succeed_when_repeated(
    name: str, disturbed: str
) -> None:
    (row,) = [line for line in disturbed.splitlines() if line.startswith(f"| {name} |")]
    _, killed, full, wrong = row.strip("| ").split(" | ")
    assert (int(killed) >= 1, int(full) >= 1, int(wrong)) == (True, True, 0), disturbed


@pytest.mark.parametrize("kib", [8, 60, 150, 250, 330, 400])
def test_a_full_disk_stops_the_scan_in_one_line_and_it_resumes(
    stimuli: Path, tmp_path: Path, small_disk: Callable[[str], Path], kib: int
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())
    options = {"layers": "0", "batch_size": 4, "preprocessing": SMALL, "commit_every": 0}
    whole = contents(flat.scan(network, stimuli, tmp_path / "whole.zarr", **options).path)
    place = small_disk(f"{kib}k")
    with pytest.raises(UserError, match=r"cannot write .*No space left on device.*make room"):
        flat.scan(network, stimuli, place / "o.zarr", **options)
    subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
    store = flat.scan(network, stimuli, place / "o.zarr", **options)
    assert contents(store.path) == whole
    assert [path.name for path in place.iterdir()] == ["o.zarr"]


def test_a_disk_that_may_be_too_small_gives_a_note(
    stimuli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusiform.engine.scanning.progress import Listener

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1))  # type: ignore[attr-defined]
    notes: list[str] = []
    flat.scan(
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()), stimuli, tmp_path / "o.zarr", layers="0",
        preprocessing=SMALL, progress=Listener(notes.append),
    )  # fmt: skip
    assert any(note.startswith("warning: ") and "GiB are free there" in note for note in notes)
