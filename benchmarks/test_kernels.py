"""``pytest benchmarks``: one batch into the moments of every unit, by everyone who can; t to p.

``--benchmark-group-by param`` and the rest of pytest-benchmark's options apply. The committed
tables come from ``kernels.cost``, in which the ways take turns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import stdtr

from fusiform.kernels import cpu, pvalues

from .kernels.peers import INSTALLED

UNITS, BATCH = 800_000, 32
TAILS = {"compiled": pvalues.upper_tail, "scipy": lambda t, df: stdtr(df, -t)}


@pytest.mark.parametrize("name", INSTALLED)
def test_batch_to_moments(benchmark: Any, name: str) -> None:
    way = INSTALLED[name]
    units = min(UNITS, way.most_units or UNITS)
    x = np.random.default_rng(0).normal(2, 1, (BATCH, units)).astype(np.float32)
    work = way.start(x)
    benchmark.extra_info["bytes"] = x.nbytes
    mean, var = benchmark.pedantic(work, rounds=7, warmup_rounds=1)()
    np.testing.assert_allclose(mean, x.mean(0, np.float64), rtol=1e-3)
    assert np.isfinite(var).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("batch", [1, 8, 32, 128])
def test_cpu_kernel(benchmark: Any, dtype: str, groups: int, batch: int) -> None:
    raw = {"bfloat16": "int16", "float16": "uint16"}.get(dtype, dtype)
    row = torch.randn(1, UNITS, dtype=getattr(torch, dtype))
    x = row.view(getattr(torch, raw)).numpy().repeat(batch, axis=0)
    pivot, (s1, s2) = np.zeros((groups, UNITS), raw), np.zeros((2, groups, UNITS))
    members, count = np.arange(batch) % groups, np.ones(groups, np.int64)
    benchmark.extra_info["bytes"] = x.nbytes
    benchmark.pedantic(cpu.fold_in, (x, members, count, pivot, s1, s2), rounds=7, warmup_rounds=1)


@pytest.mark.parametrize("df", [3, 20, 100, 1e6])
@pytest.mark.parametrize("name", TAILS)
def test_upper_tail(benchmark: Any, name: str, df: float) -> None:
    rng = np.random.default_rng(0)
    t, freedom = np.abs(rng.normal(0, 4, UNITS)), df * rng.uniform(0.9, 1.1, UNITS)
    p = benchmark.pedantic(TAILS[name], (t, freedom), rounds=7, warmup_rounds=1)
    np.testing.assert_allclose(p, stdtr(freedom, -t), rtol=1e-12)
