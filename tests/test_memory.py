"""Freed memory is kept for the next batch, while a scan lasts."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Page faults of eight tensors of 40 MB each, one after the other: before, within and after.
CODE = """
import resource
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
print(within - resident())
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_memory_is_recycled_and_given_back() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    )
    before, within, given_back, after = map(int, result.stdout.split())
    pages = 8 * 40_000_000 // 4096
    assert before > 0.9 * pages
    assert within < 0.1 * pages
    assert given_back > 30_000_000
    assert after > 0.9 * pages
