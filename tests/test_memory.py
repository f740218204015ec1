"""Freed memory is kept for the next batch during a scan."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from fusiform.engine.bench import measure
from fusiform.engine.scanning import memory
from fusiform.engine.scanning.memory import recycled

# Page faults of eight consecutive tensors of 40 MB before and during recycling, memory returned
# at the end, and the memory left by a tensor of 400 MB that is freed after that.
CODE = """
import ctypes
import resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # no huge pages, where they come without being asked for
import torch
from fusiform.engine.scanning.memory import recycled

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.empty(10_000_000).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

faults()
print(faults())
with recycled():
    faults()
    print(faults())
    within = resident()
after = resident()
print(within - after)
torch.empty(100_000_000).fill_(1)
print(resident() - after)
print(resource.getpagesize())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_freed_memory_is_recycled_and_finally_returned() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    )
    before, within, given_back, left_behind, page = map(int, result.stdout.split())
    pages = 8 * 40_000_000 // page
    assert before > 0.9 * pages
    # Occasionally a small allocation in a freed block makes the next tensor grow the heap.
    assert within < 0.3 * pages
    assert given_back > 30_000_000
    assert left_behind < 100_000_000


def test_memory_is_returned_when_the_last_user_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Libc:
        def mallopt(self, parameter: int, value: int) -> None:
            calls.append("keep" if value in (-1, 0) else "ordinary")

        def malloc_trim(self, pad: int) -> None:
            calls.append("trim")

    monkeypatch.setattr(memory, "_glibc", Libc)
    with recycled():
        with pytest.raises(ZeroDivisionError), recycled():
            raise ZeroDivisionError
        assert set(calls) == {"keep"}
    assert calls[-1] == "trim"
    assert "ordinary" in calls


def test_allocator_settings_of_the_environment_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert memory._glibc() is None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_a_setting_of_the_number_of_heaps_does_not_disable_recycling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(memory.ARENAS, "1")
    assert memory._glibc() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="Linux says so itself")
def test_peak_memory_is_not_that_of_the_parent() -> None:
    # getrusage of a new process starts with its parent's peak.
    ballast = b"1" * 400_000_000
    code = "from fusiform.engine.scanning.memory import peak_memory; print(peak_memory())"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert 5_000_000 < int(result.stdout) < len(ballast)
    finished = measure.run_python("-c", "import time; time.sleep(0.5)")
    assert 1_000_000 < finished.anonymous_bytes <= finished.peak_bytes < 100_000_000
    fat = measure.run_python("-c", "import time; x = b'1' * 300_000_000; time.sleep(0.1)")
    assert 300_000_000 < fat.anonymous_bytes <= fat.peak_bytes < 400_000_000
