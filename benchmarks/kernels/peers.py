"""Ways to compute mean and variance per unit of a batch: fusiform's, libraries', hand-written.

Benchmarks time this table and tests check it. Every entry takes a batch ``x [stimulus, unit]``
(float32, numpy) and returns the work to time. One call adds the batch to the running state, if the
way streams, and returns a function that reads out mean and unbiased variance of everything added so
far. Entries whose library is not installed are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch

from fusiform.kernels import cpu, device
from fusiform.kernels.moments import merge, read_out, variance

Array = np.ndarray[Any, Any]
ReadOut = Callable[[], tuple[Array, Array]]


class Way(NamedTuple):
    """``start(x)`` gives the work to be timed.

    What does not stream reads out the last batch only; ``most_units`` is what it can be asked for.
    """

    start: Callable[[Array], Callable[[], ReadOut]]
    needs: str = "torch"
    streams: bool = True
    most_units: int | None = None


def _fusiform(x: Array, categories: int = 1) -> Callable[[], ReadOut]:
    groups, count = np.arange(len(x)) % categories, np.zeros(categories, np.int64)
    pivot, (s1, s2) = np.zeros_like(x[:categories]), np.zeros((2, categories, x.shape[1]))

    def work() -> ReadOut:
        cpu.fold_in(x, groups, count, pivot, s1, s2)
        moments = (
            read_out(int(n), p.astype(np.float64), a, b)
            for n, p, a, b in zip(count, pivot, s1, s2, strict=True)
        )
        return lambda: _of(reduce(merge, moments))

    return work


def _fusiform_torch(x: Array) -> Callable[[], ReadOut]:
    rows, groups, count = torch.from_numpy(x), np.zeros(len(x), np.int64), np.zeros(1, np.int64)
    pivot, s1 = torch.zeros_like(rows[:1]), torch.zeros(1, x.shape[1], dtype=torch.float64)
    s2 = torch.zeros_like(s1)

    def work() -> ReadOut:
        device.fold_in(rows, groups, count, pivot, s1, s2)
        return lambda: _of(read_out(int(count[0]), pivot[0].double(), s1[0], s2[0]))

    return work


def _of(moments: Any) -> tuple[Array, Array]:
    return np.asarray(moments.mean), np.asarray(variance(moments))


def _compiled(x: Array) -> Callable[[], ReadOut]:
    """The shifted sums, as torch.compile makes one loop of them."""
    rows, n = torch.from_numpy(x), 0
    pivot = rows[0].clone()
    s1, s2 = torch.zeros(2, x.shape[1], dtype=torch.float64)

    @torch.compile
    def add(rows: torch.Tensor, s1: torch.Tensor, s2: torch.Tensor) -> None:
        deviation = rows.double() - pivot.double()
        s1 += deviation.sum(0)
        s2 += (deviation * deviation).sum(0)

    def work() -> ReadOut:
        nonlocal n
        add(rows, s1, s2)
        n += len(x)
        return lambda: _of(read_out(n, pivot.double(), s1, s2))

    return work


def _welford(x: Array) -> Callable[[], ReadOut]:
    """Welford's update, stimulus by stimulus."""
    rows, n = torch.from_numpy(x), 0
    mean, m2 = torch.zeros(2, x.shape[1])

    def work() -> ReadOut:
        nonlocal n
        for row in rows:
            n += 1
            delta = row - mean
            mean.add_(delta / n)
            m2.add_(delta * (row - mean))
        return lambda: (mean.numpy(), (m2 / (n - 1)).numpy())

    return work


def _per_batch(x: Array) -> Callable[[], ReadOut]:
    """Mean and squared deviations of each batch, combined as Chan et al. have it: baukit's form."""
    rows, n = torch.from_numpy(x), 0
    mean, m2 = torch.zeros(2, x.shape[1])

    def work() -> ReadOut:
        nonlocal n
        batch_mean = rows.mean(0)
        centred = rows - batch_mean
        delta = batch_mean - mean
        total = n + len(rows)
        m2.add_(centred.pow(2).sum(0) + delta.pow(2) * (n * len(rows) / total))
        mean.add_(delta * (len(rows) / total))
        n = total
        return lambda: (mean.numpy(), (m2 / (n - 1)).numpy())

    return work


def _squares(x: Array) -> Callable[[], ReadOut]:
    """Sum and sum of squares: loses all digits where the mean is large."""
    rows, n = torch.from_numpy(x), 0
    total, squares = torch.zeros(2, x.shape[1])

    def work() -> ReadOut:
        nonlocal n
        total.add_(rows.sum(0))
        squares.add_((rows * rows).sum(0))
        n += len(x)
        return lambda: _of_sums(n, total, squares)

    return work


def _one_hot(x: Array) -> Callable[[], ReadOut]:
    """Sums and sums of squares of six categories at once, as matrix products."""
    rows, n = torch.from_numpy(x), 0
    member = torch.nn.functional.one_hot(torch.arange(len(x)) % 6).float().T
    total, squares = torch.zeros(2, 6, x.shape[1])

    def work() -> ReadOut:
        nonlocal n
        total.add_(member @ rows)
        squares.add_(member @ rows.square())
        n += len(x)
        return lambda: _of_sums(n, total.sum(0), squares.sum(0))

    return work


def _of_sums(n: int, total: torch.Tensor, squares: torch.Tensor) -> tuple[Array, Array]:
    mean = total / n
    return mean.numpy(), ((squares - n * mean * mean) / (n - 1)).numpy()


def _var_mean(x: Array) -> Callable[[], ReadOut]:
    rows = torch.from_numpy(x)

    def work() -> ReadOut:
        var, mean = torch.var_mean(rows, dim=0)
        return lambda: (mean.numpy(), var.numpy())

    return work


def _scikit_learn(x: Array) -> Callable[[], ReadOut]:
    from sklearn.preprocessing import StandardScaler

    scaler, n = StandardScaler(), 0

    def work() -> ReadOut:
        nonlocal n
        scaler.partial_fit(x)
        n += len(x)
        return lambda: (scaler.mean_, scaler.var_ * (n / (n - 1)))

    return work


def _numbagg(x: Array) -> Callable[[], ReadOut]:
    import numbagg

    def work() -> ReadOut:
        mean, var = numbagg.nanmean(x, axis=0), numbagg.nanvar(x, axis=0, ddof=1)
        return lambda: (mean, var)

    return work


def _flox(x: Array) -> Callable[[], ReadOut]:
    import flox

    units_first, labels = x.T, np.zeros(len(x), np.int64)

    def work() -> ReadOut:
        mean, *_ = flox.groupby_reduce(units_first, labels, func="mean")
        var, *_ = flox.groupby_reduce(units_first, labels, func="var", finalize_kwargs={"ddof": 1})
        return lambda: (mean[:, 0], var[:, 0])

    return work


def _dask(x: Array) -> Callable[[], ReadOut]:
    import dask.array
    from dask.array.stats import moment

    rows = dask.array.from_array(x, chunks=(len(x), 262_144))

    def work() -> ReadOut:
        mean, central = dask.compute(rows.mean(axis=0), moment(rows, 2))
        return lambda: (mean, central * (len(x) / (len(x) - 1)))

    return work


def _scanpy(x: Array) -> Callable[[], ReadOut]:
    """The function that scanpy calls for the mean and variance of its genes."""
    from fast_array_utils.stats import mean_var

    def work() -> ReadOut:
        mean, var = mean_var(x, axis=0, correction=1)
        return lambda: (mean, var)

    return work


def _river(x: Array) -> Callable[[], ReadOut]:
    """A Python object for every unit."""
    from river.stats import Var

    units = [Var() for _ in range(x.shape[1])]

    def work() -> ReadOut:
        for row in x.tolist():
            for unit, value in zip(units, row, strict=True):
                unit.update(value)
        return lambda: (np.array([u.mean.get() for u in units]), np.array([u.get() for u in units]))

    return work


WAYS = {
    "fusiform, CPU kernel": Way(_fusiform),
    "fusiform, CPU kernel, 6 categories": Way(partial(_fusiform, categories=6)),
    "torch.compile, shifted sums": Way(_compiled),
    "Welford per stimulus, torch": Way(_welford),
    "fusiform, torch kernel": Way(_fusiform_torch),
    "sum and sum of squares, torch": Way(_squares),
    "one-hot matmul, 6 categories, torch": Way(_one_hot),
    "per batch and combined (baukit's form), torch": Way(_per_batch),
    "scanpy (fast_array_utils.stats.mean_var)": Way(_scanpy, "fast_array_utils", streams=False),
    "numbagg nanmean and nanvar": Way(_numbagg, "numbagg", streams=False),
    "scikit-learn StandardScaler.partial_fit": Way(_scikit_learn, "sklearn"),
    "torch.var_mean": Way(_var_mean, streams=False),
    "dask.array mean and stats.moment": Way(_dask, "dask", streams=False),
    "flox groupby_reduce mean and var": Way(_flox, "flox", streams=False),
    "river stats.Var, 2,000 units": Way(_river, "river", most_units=2000),
}
INSTALLED = {name: way for name, way in WAYS.items() if find_spec(way.needs)}
