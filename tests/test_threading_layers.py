"""Parallel kernels under every numba threading layer, called from many threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LAYERS = ("omp", "tbb", "workqueue")

# Two kernels, one of them accumulating batches; 40 concurrent calls from each of four threads.
CALLS = """
import hashlib
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from fusiform.kernels import contrast, cpu, jit

def work(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, (24, 20_011)).astype(np.float32)
    groups = np.repeat([0, 1, 2], 8)
    count = np.zeros(3, np.int64)
    pivot, s1, s2 = np.empty((3, 20_011), np.float32), *np.empty((2, 3, 20_011))
    cpu.fold_in(x, groups, count, pivot, s1, s2)
    mean = pivot + s1 / 8
    t, df = np.empty((2, 3, 20_011))
    contrast.against_rest(count, mean, s2 - s1 * s1 / 8, t, df)
    return hashlib.sha256(b"".join(a.tobytes() for a in (pivot, s1, s2, t, df))).hexdigest()

with ThreadPoolExecutor(4) as pool:
    results = list(pool.map(work, list(range(8)) * 20))
assert results[:8] * 20 == results
print(jit.threading_layer(), *results[:8])
"""

# Children forked while another thread runs a kernel call one themselves.
FORKS = """
import os, signal
from threading import Event, Thread
import numpy as np
from fusiform.kernels import contrast

def work():
    mean = np.random.default_rng(0).normal(3, 2, (3, 200_000))
    t, df = np.empty((2, 3, 200_000))
    contrast.against_rest(np.array([8, 8, 8]), mean, mean**2, t, df)

def working():
    while not stop.is_set():
        work()

work()
stop = Event()
thread = Thread(target=working)
thread.start()
for _ in range(10):
    child = os.fork()
    if not child:
        signal.alarm(20)
        work()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
"""


def run(layer: str, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer}
    result = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment
    )
    if layer != "workqueue" and "No threading layer could be loaded" in result.stderr:
        pytest.skip(f"numba cannot load {layer} here")  # workqueue comes with numba
    return result


@pytest.fixture(scope="module")
def one_by_one() -> list[str]:
    """Results of the kernels called from one thread."""
    result = run("default", "-c", CALLS.replace("ThreadPoolExecutor(4)", "ThreadPoolExecutor(1)"))
    return result.stdout.split()[1:]


@pytest.mark.smoke
@pytest.mark.parametrize("layer", LAYERS)
def test_kernels_called_from_many_threads_give_the_same_bits(
    layer: str, one_by_one: list[str]
) -> None:
    result = run(layer, "-c", CALLS)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [layer, *one_by_one]
    assert len(one_by_one) == 8


def test_an_unavailable_threading_layer_is_ignored_with_a_warning(one_by_one: list[str]) -> None:
    result = run("imaginary", "-c", CALLS)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[1:] == one_by_one
    assert result.stderr.count("NUMBA_THREADING_LAYER=imaginary is ignored: ") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_during_a_kernel_can_call_kernels() -> None:
    result = run("workqueue", "-W", "ignore", "-c", FORKS)
    assert result.returncode == 0, result.stderr


def query(layer: str, store: Path, output: Path) -> bytes:
    """CSV rows of every unit, written in a new process."""
    asked = ("-m", "fusiform", "query", str(store), "t > -1", "--list", "--format", "csv")
    result = run(layer, *asked, "-o", str(output))
    assert result.returncode == 0, result.stderr
    return output.read_bytes()


@pytest.fixture(scope="module")
def default_rows(made_path: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return query("default", made_path, tmp_path_factory.mktemp("rows") / "default.csv")


@pytest.mark.smoke
@pytest.mark.parametrize("layer", LAYERS)
def test_a_query_with_rows_gives_the_same_file_under_every_threading_layer(
    layer: str, made_path: Path, tmp_path: Path, default_rows: bytes
) -> None:
    written = query(layer, made_path, tmp_path / "here.csv")
    assert written.count(b"\n") > 100
    assert written == default_rows
