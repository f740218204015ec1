"""The Triton kernel without a GPU: interpreted, and compiled for two kinds of GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fusiform.engine.moments import accumulate
from fusiform.kernels import device

pytest.importorskip("triton", reason="Triton is not installed")
from triton.backends.compiler import GPUTarget

from fusiform.kernels import cuda

# The fewest load instructions for a thread's four units of a row.
LOADS = {
    torch.float32: "ld.global.v4.b32",
    torch.float64: "ld.global.v2.b64",
    torch.float16: "ld.global.v2.b32",
    torch.bfloat16: "ld.global.v2.b32",
}
UNITS = 1024


@pytest.mark.slow
def test_triton_moments_in_the_interpreter() -> None:
    """The moments tests in a process that enables Triton's interpreter before importing it."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "cuda", "test_moments.py"],
        cwd=Path(__file__).parent,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(params=[80, 90])
def compiled(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> list[Any]:
    """Kernels that ``fold_in`` compiles for an absent GPU; nothing is launched."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("Triton interprets in this process, and does not compile")
    driver = SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", request.param, 32),
        get_current_device=lambda: request.param,
        get_current_stream=lambda _: 0,
    )
    monkeypatch.setattr("triton.runtime.jit.driver", SimpleNamespace(active=driver))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernels: list[Any] = []
    launch: Callable[..., Any] = cuda._add_rows.run

    def compile_only(*arguments: Any, warmup: bool, **options: Any) -> None:
        kernel = launch(*arguments, warmup=True, **options)
        if kernel not in kernels:
            kernels.append(kernel)

    monkeypatch.setattr(cuda._add_rows, "run", compile_only)
    return kernels


def fold_in(dtype: torch.dtype, groups: list[int], count: list[int], units: int = UNITS) -> None:
    shape = len(count), units
    state = torch.zeros(shape, dtype=dtype), *torch.zeros((2, *shape), dtype=torch.float64)
    x = torch.zeros(len(groups), units, dtype=dtype)
    cuda.fold_in(x, np.array(groups), np.array(count), *state)


@pytest.mark.parametrize("dtype", LOADS, ids=str)
@pytest.mark.parametrize("units", [1, 1000, UNITS])
def test_the_triton_kernel_compiles_to_float64_arithmetic(
    compiled: list[Any], dtype: torch.dtype, units: int
) -> None:
    fold_in(dtype, [0] * 32, [0], units)
    fold_in(dtype, [0, 1, 0, 2, 1], [0, 7, 1], units)
    assert len(compiled) == 2  # a block, and a mixed batch
    for kernel in compiled:
        ptx = kernel.asm["ptx"]
        assert "fma.rn.f64" in ptx
        assert not re.search(r"\b(add|sub|mul|fma)\.(rn\.)?(f32|f16|bf16)", ptx)
        assert ".ftz" not in ptx  # subnormals are kept
        if units == UNITS:
            assert LOADS[dtype] in ptx
            assert "cp.async" in ptx  # rows are prefetched
        offsets = re.findall(r"tt\.addptr .*, (?:tensor<\d+x)?(i\d+)", kernel.asm["ttir"])
        assert set(offsets) == {"i64"}
        assert kernel.asm["cubin"].startswith(b"\x7fELF")


def test_the_triton_kernel_is_not_specialised_per_batch(compiled: list[Any]) -> None:
    for groups in ([0], [0] * 16, [0] * 37, [1] * 32, [2] * 5 + [1] * 16 + [0]):
        for count in (0, 1, 16, 33, 2**33):
            fold_in(torch.float32, groups, [count] * 3)
    assert len(compiled) == 1
    for groups in ([0, 1, 0], [1, 2] * 16, list(range(3)) * 16):
        fold_in(torch.float32, groups, [0, 1, 16])
    assert len(compiled) == 2


def test_the_engine_uses_the_triton_kernel_where_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert accumulate.kernels_for(torch.device("cuda")) is device
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert accumulate.kernels_for(torch.device("cuda")) is cuda
    assert accumulate.kernels_for(torch.device("mps")) is device
    monkeypatch.setattr(accumulate, "find_spec", lambda _: None)
    assert accumulate.kernels_for(torch.device("cuda")) is device
