"""Moments of batches on every back end, exact where possible, in any order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fusiform.kernels import cpu, device
from fusiform.kernels.moments import Moments, merge, read_out, variance

from . import reference


class Cpu:
    """The numba kernels: runs batches through a back end, as one group or several."""

    name = "cpu"
    kernels = cpu
    place = "cpu"

    @classmethod
    def run_groups(
        cls, batches: Sequence[np.ndarray | torch.Tensor], groups: list[np.ndarray], n_groups: int
    ) -> Moments:
        """Moments ``[group]``, ``[group, unit]`` of batches with rows of several groups."""
        tensors = [torch.as_tensor(batch, device=cls.place) for batch in batches]
        pivot = tensors[0].new_empty(n_groups, tensors[0].shape[1])
        s1, s2 = pivot.new_empty((2, *pivot.shape), dtype=torch.float64)
        for part in (pivot, s1, s2):
            part.fill_(np.nan)  # a state's content before its group starts is ignored
        count, state = np.zeros(n_groups, np.int64), [cls.array(part) for part in (pivot, s1, s2)]
        with np.errstate(invalid="ignore"):  # infinity minus infinity in some tests
            for batch, members in zip(tensors, groups, strict=True):
                cls.kernels.fold_in(cls.array(batch), members, count, *state)
            sums = (part.double().cpu().numpy() for part in (pivot, s1, s2))
            return read_out(count[:, None], *sums)

    @classmethod
    def run(cls, batches: Sequence[np.ndarray | torch.Tensor]) -> Moments:
        groups = [np.zeros(len(batch), np.int64) for batch in batches]
        count, mean, m2 = cls.run_groups(batches, groups, 1)
        return Moments(count.item(), mean[0], m2[0])

    @staticmethod
    def array(x: torch.Tensor) -> Any:
        """``x`` as kernel input, without a copy; half precision as raw bits."""
        raw = {torch.bfloat16: torch.int16, torch.float16: torch.uint16}
        return x.view(raw.get(x.dtype, x.dtype)).numpy()


class Device(Cpu):
    """The torch kernels (for any device) on the CPU."""

    name = "device"
    kernels = device

    @staticmethod
    def array(x: torch.Tensor) -> torch.Tensor:
        return x


AVAILABLE = [Cpu, Device]
# Triton's interpreter must be enabled before Triton is imported: see test_cuda.py.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if find_spec("triton") and (INTERPRETED or torch.cuda.is_available()):
    from fusiform.kernels import cuda

    class Cuda(Device):
        """The Triton kernels, on a GPU or interpreted."""

        name = "cuda"
        kernels = cuda
        place = "cpu" if INTERPRETED else "cuda"

    AVAILABLE.append(Cuda)

BACK_ENDS = pytest.mark.parametrize("back_end", AVAILABLE, ids=lambda b: b.name)


def split(x: np.ndarray, *at: int) -> list[np.ndarray]:
    return [np.ascontiguousarray(part) for part in np.split(x, at) if len(part)]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.max(np.abs(found - expected) / np.abs(expected)))


@pytest.mark.smoke
@BACK_ENDS
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 33])
@pytest.mark.parametrize("units", [1, 3, 8191, 8193])
def test_moments_equal_plain_loops(back_end: type[Cpu], rows: int, units: int) -> None:
    x = np.random.default_rng(rows).normal(3, 2, (rows, units)).astype(np.float32)
    found = back_end.run(split(x, 5))
    for unit in {0, units // 2, units - 1}:
        count, mean, m2 = reference.moments(x[:, unit])
        assert found.count == count
        assert found.mean[unit] == pytest.approx(mean, rel=1e-13, abs=1e-13)
        assert found.m2[unit] == pytest.approx(m2, rel=1e-12, abs=1e-12)


@BACK_ENDS
@pytest.mark.parametrize(
    ("mean", "sd", "dtype"),
    [
        (1000, 1, np.float32),  # numbagg's group_nanvar 0.9.6 gives a variance of -302
        (1e8, 1, np.float64),  # fast-array-utils 1.3.1 gives 2.00 for 1.00
        (1e4, 1e-2, np.float32),
        (1e8, 1e-2, np.float64),
    ],
)
def test_large_means_cause_no_cancellation(
    back_end: type[Cpu], mean: float, sd: float, dtype: type
) -> None:
    x = np.random.default_rng(0).normal(mean, sd, (64 * 32, 50)).astype(dtype)
    found = back_end.run(np.split(x, 64))
    assert relative_error(found.m2, reference.m2_longdouble(x)) < 1e-12


@BACK_ENDS
def test_a_drifting_mean_is_not_lost(back_end: type[Cpu]) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (64 * 32, 50)).astype(np.float32)
    x[32:] += np.float32(1e4)  # the pivot was fixed before the jump
    found = back_end.run(np.split(x, 64))
    assert relative_error(found.m2, reference.m2_longdouble(x)) < 1e-12


@BACK_ENDS
def test_an_outlier_as_pivot_loses_few_digits(back_end: type[Cpu]) -> None:
    # The pivot is the first stimulus, ten standard deviations from the mean here.
    x = np.random.default_rng(2).normal(1, 1, (64 * 32, 50)).astype(np.float32)
    x[0] = 11
    found = back_end.run(np.split(x, 64))
    assert relative_error(found.m2, reference.m2_longdouble(x)) < 1e-12


@BACK_ENDS
@pytest.mark.parametrize("units", [5, 8200])
def test_mixed_batches_give_the_moments_of_their_groups(back_end: type[Cpu], units: int) -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(100, 3, (90, units)).astype(np.float32)
    groups = rng.integers(0, 6, 90)
    groups[groups == 4] = 5  # no rows of group 4, and none of group 3 in the first batch
    groups[:30][groups[:30] == 3] = 0
    found = back_end.run_groups(np.split(x, 3), np.split(groups, 3), 6)
    np.testing.assert_array_equal(found.count[:, 0], np.bincount(groups, minlength=6))
    for group in (0, 1, 2, 3, 5):
        members = x[groups == group]
        np.testing.assert_allclose(found.mean[group], members.mean(0, np.float64), rtol=1e-14)
        assert relative_error(found.m2[group], reference.m2_longdouble(members)) < 1e-12


@BACK_ENDS
def test_moments_for_any_number_of_rows(back_end: type[Cpu]) -> None:
    """Every number of rows up to two kernel passes and one, in one group or several."""
    x = np.random.default_rng(9).normal(2, 1, (17 * 18 // 2, 40)).astype(np.float32)
    groups = np.repeat(np.arange(17), np.arange(1, 18))
    order = np.random.default_rng(10).permutation(len(x))
    found = back_end.run_groups([x[order]], [groups[order]], 17)
    for group in range(17):
        expected = reference.m2_longdouble(x[groups == group])
        np.testing.assert_allclose(found.m2[group], expected, rtol=1e-12, atol=1e-30)
        alone = back_end.run([x[order][groups[order] == group]])
        np.testing.assert_allclose(found.mean[group], alone.mean, rtol=1e-15)


@BACK_ENDS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_units_have_exactly_no_variance(back_end: type[Cpu], dtype: type) -> None:
    values = np.array([0, -0.0, 1 / 3, 0.1, 1e-30, -7e20, 16777217.3], dtype)
    found = back_end.run(split(np.tile(values, (29, 1)), 8, 20))
    assert (found.m2 == 0).all()
    assert (found.mean == values.astype(np.float64)).all()


@BACK_ENDS
def test_nonfinite_values_poison_their_own_unit_only(back_end: type[Cpu]) -> None:
    x = np.random.default_rng(3).normal(size=(20, 6)).astype(np.float32)
    clean = back_end.run(split(x, 8))
    x[2, 1], x[12, 3], x[15, 5] = np.nan, np.inf, -np.inf
    found = back_end.run(split(x, 8))
    assert np.isnan(found.m2[[1, 3, 5]]).all()
    assert (found.m2[[0, 2, 4]] == clean.m2[[0, 2, 4]]).all()


@BACK_ENDS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_exactly(back_end: type[Cpu], dtype: torch.dtype) -> None:
    every_value = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    if INTERPRETED and dtype == torch.bfloat16:  # Triton's interpreter misreads subnormal ones
        magnitude = every_value.abs()
        subnormal = (magnitude > 0) & (magnitude < torch.finfo(dtype).tiny)
        every_value = every_value[~subnormal]
    found = back_end.run([torch.stack([torch.zeros_like(every_value), every_value])])
    with np.errstate(invalid="ignore"):  # signalling NaNs become quiet
        np.testing.assert_array_equal(2 * found.mean, every_value.double().numpy())

    rows = (100 + torch.randn(19, 300, generator=torch.Generator().manual_seed(0))).to(dtype)
    found = back_end.run([rows])
    assert relative_error(found.m2, reference.m2_longdouble(rows.float().numpy())) < 1e-12


@BACK_ENDS
def test_all_back_ends_agree(back_end: type[Cpu]) -> None:
    x = np.random.default_rng(4).normal(5, 3, (41, 1000)).astype(np.float32)
    a, b = Cpu.run(split(x, 16, 32)), back_end.run(split(x, 16, 32))
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-14)
    np.testing.assert_allclose(a.m2, b.m2, rtol=1e-13)


@pytest.mark.parametrize("back_end", AVAILABLE[1:], ids=lambda b: b.name)
def test_tensors_of_any_memory_layout_are_accepted(back_end: type[Cpu]) -> None:
    x = torch.randn(30, 12, generator=torch.Generator().manual_seed(0))
    found, expected = back_end.run([x.T[:, 3::2]]), back_end.run([x.T[:, 3::2].contiguous()])
    np.testing.assert_array_equal(found.m2, expected.m2)


def test_the_device_kernel_processes_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(5).normal(size=(23, 40)).astype(np.float32)
    whole = Device.run([x])
    monkeypatch.setattr(device, "_SCRATCH", 8 * 40 * 3)
    np.testing.assert_allclose(Device.run([x]).m2, whole.m2, rtol=1e-13)


samples = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 40), st.just(3)),
    elements=st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda value: round(value, 3)),
)


@settings(max_examples=150, deadline=None)
@given(x=samples, seed=st.integers(0, 2**31))
def test_any_split_order_and_merge_tree_gives_the_same_moments(x: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(x)
    groups = [
        Cpu.run(split(part, len(part) // 2))
        for part in split(shuffled, *sorted(rng.integers(0, len(x), 4)))
    ]
    while len(groups) > 1:
        a, b = groups.pop(rng.integers(len(groups))), groups.pop(rng.integers(len(groups)))
        groups.append(merge(a, b))
    expected = reference.m2_longdouble(x).astype(np.float64)
    scale = np.abs(x).max(axis=0)
    assert groups[0].count == len(x)
    np.testing.assert_allclose(groups[0].mean, x.astype(np.longdouble).mean(0).astype(float),
                               rtol=1e-12, atol=1e-14 * scale.max() + 1e-300)  # fmt: skip
    error = np.abs(groups[0].m2 - expected)
    assert (error <= 1e-12 * expected + 1e-26 * len(x) * scale**2 + 1e-300).all()


_SIZES = st.sampled_from([1, 2, 3, 15, 16, 17, 40, 255, 257, 300])


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    """Sums of a group, in any memory order and precision, and its moments from earlier shards."""
    shape: tuple[int, ...] = ()
    for size in draw(st.lists(_SIZES, min_size=1, max_size=4)):
        shape += (size if size * np.prod(shape, dtype=int) < 40_000 else 1,)
    rng, units = np.random.default_rng(draw(st.integers(0, 2**31))), int(np.prod(shape))
    count = draw(st.integers(1, 50))
    s1 = rng.normal(0, 10, units)
    s2 = s1**2 / count * (1 + rng.normal(0, 1e-15, units))  # rounding makes some M2 negative
    for sums in (s1, s2):
        sums[rng.random(units) < 0.05] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0, 1e300]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]))
    earlier = Moments(draw(st.integers(1, 50)), rng.normal(0, 1, units), rng.chisquare(3, units))
    return {
        "count": count,
        "pivot": torch.from_numpy(rng.normal(0, 1, units)).to(dtype),
        "s1": s1,
        "s2": s2,
        "earlier": earlier if draw(st.booleans()) else None,
        "shape": shape,
        "order": draw(st.permutations(range(1, len(shape) + 1))),
    }


@pytest.mark.parametrize("back_end", AVAILABLE[:2], ids=lambda b: b.name)
@settings(max_examples=150, deadline=None)
@given(state=states())
@example(state={"count": 0, "pivot": torch.zeros(6), "s1": np.zeros(6), "s2": np.zeros(6),
                "earlier": Moments(3, np.arange(6.0), np.array([np.nan, 1, 2, np.inf, 4, 5])),
                "shape": (1, 2, 3), "order": (3, 1, 2)})  # fmt: skip
def test_reading_out_gives_the_bits_of_the_formulas_in_the_order_of_the_layer(
    back_end: type[Cpu], state: dict[str, Any]
) -> None:
    count, pivot, s1, s2, earlier, shape, order = state.values()
    with np.errstate(all="ignore"):
        moments = read_out(count, pivot.double().numpy(), s1, s2) if count else earlier
        if count and earlier:
            moments = merge(earlier, moments)
    given = earlier and Moments(earlier.count, *(back_end.array(torch.from_numpy(part))
                                                 for part in earlier[1:]))  # fmt: skip
    sums = (back_end.array(part) for part in (pivot, torch.from_numpy(s1), torch.from_numpy(s2)))
    packed = np.asarray(back_end.kernels.read_out(count, *sums, given, shape, order))
    in_memory, back = [shape[axis - 1] for axis in order], np.argsort(order)
    for found, values in zip(packed[:-1].reshape(2, -1), moments[1:], strict=True):
        expected = values.reshape(in_memory).transpose(back).ravel()
        number = ~np.isnan(expected)  # bits of NaN differ between compilers
        np.testing.assert_array_equal(np.isnan(found), ~number)
        np.testing.assert_array_equal(found[number].view("i8"), expected[number].view("i8"))
    assert packed[-1] == np.count_nonzero(~np.isfinite(moments.m2))


def test_merging_constant_units_is_exact() -> None:
    parts = [Cpu.run([np.full((n, 1), 0.1)]) for n in (3, 7, 11)]
    merged = merge(merge(parts[0], parts[1]), parts[2])
    assert merged.m2[0] == 0
    assert merged.mean[0] == 0.1


def test_variance_takes_ddof() -> None:
    x = np.random.default_rng(6).normal(size=(12, 4))
    found = Cpu.run([x])
    for ddof in (0, 1):
        np.testing.assert_allclose(variance(found, ddof), x.var(0, ddof=ddof), rtol=1e-13)
