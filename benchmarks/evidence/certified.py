"""Correct digits: NIST's certified sets, and error bounds against exact arithmetic.

Takes a minute. Sets, bounds and random streams are those of the tests.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import scipy.stats
import torch

from fusiform.kernels import jit
from fusiform.kernels.indices import one_way_anova
from fusiform.kernels.moments import Moments, variance
from tests.nist import ANOVA, UNIVARIATE, exact
from tests.nist.streams import REGIMES, Floats, cut, streamed
from tests.test_moments import Cpu

from ..shared import head, heading, row, save

RUNS, UNITS, PARTS = 20, 11, 6
SHAPE = (2000, 16)


def main() -> None:
    jit.use_threads(1)  # most batches are tiny
    lines = [
        *heading(__name__, "Digits"),
        "",
        *_text(f"""
            Digits that agree: the log relative error, at most 15. fusiform: the least of {RUNS}
            random streams through the CPU kernel, {UNITS} units with an order each, in random
            batches; in one group per set or treatment, or in {PARTS} that are merged in a random
            tree. The others see the values in NIST's order.
        """),
        *_univariate(),
        *_f(),
        *_activations(),
    ]
    save(__name__, lines)


def _univariate() -> Iterator[str]:
    yield from ("", "## NIST StRD, univariate", "")
    yield from _text("""
        Digits of the certified mean, and of the standard deviation. The doubles: what exact
        arithmetic finds for the doubles nearest to the decimals. numpy: `mean`, `std(ddof=1)`.
        statistics: `fmean`, `stdev`. Naive: from the sums of x and of x^2. To the right, digits of
        fusiform's M2 against that of the doubles.
    """)
    yield ""
    yield from head(
        "set", "values", "the doubles", "fusiform, one group", "merged", "numpy", "statistics",
        "naive", "M2 of the doubles, one group", "merged",
    )  # fmt: skip
    for name, (decimals, mean, sd) in UNIVARIATE.items():
        values = np.array(decimals, np.float64)
        doubles = exact.moments(values.tolist())
        in_parts = [_streams([values], parts) for parts in (1, PARTS)]

        def cell(found_mean: float, found_sd: float, mean: str = mean, sd: str = sd) -> str:
            return f"{exact.digits(found_mean, mean):.1f}, {exact.digits(found_sd, sd):.1f}"

        def least(runs: list[Moments], mean: str = mean, sd: str = sd) -> str:
            by_mean = _least(mean, *(found.mean for found in runs))
            return f"{by_mean}, {_least(sd, *(np.sqrt(variance(found)) for found in runs))}"

        yield row(
            name,
            f"{len(values):,}",
            cell(float(doubles.mean), math.sqrt(doubles.m2 / (doubles.count - 1))),
            *(least(runs) for runs in in_parts),
            cell(values.mean(), values.std(ddof=1)),
            cell(statistics.fmean(values), statistics.stdev(values.tolist())),
            cell(*_naive(values)),
            *(_least(doubles.m2, *(found.m2 for found in runs)) for runs in in_parts),
        )


def _f() -> Iterator[str]:
    yield from ("", "## NIST StRD, one-way analysis of variance", "")
    yield from _text("""
        Digits of the certified F. scipy: `f_oneway`, which has all values at once. Naive: from the
        sums of x and of x^2. To the right, digits of fusiform's F against exact arithmetic on the
        doubles, and how many are certain by the derivation in `tests/nist/exact.py`.
    """)
    yield ""
    yield from head(
        "set", "values", "the doubles", "fusiform, one group", "merged", "scipy", "naive",
        "of the doubles, one group", "certain", "merged", "certain",
    )  # fmt: skip
    for name, (decimals, certified, _) in ANOVA.items():
        treatments = [np.array(values, np.float64) for values in decimals]
        as_lists = [values.tolist() for values in treatments]
        doubles, _ = exact.one_way_anova([exact.moments(values) for values in as_lists])
        found, against_doubles = [], []
        for parts in (1, PARTS):
            f = [one_way_anova(moments)[0] for moments in _streams(treatments, parts)]
            found.append(_least(certified, *f))
            certain = max(0.0, -math.log10(exact.of_f(as_lists, parts)))
            against_doubles += [_least(doubles, *f), f"{certain:.1f}"]
        yield row(
            name,
            f"{sum(map(len, treatments)):,}",
            _least(certified, np.array([float(doubles)])),
            *found,
            _least(certified, scipy.stats.f_oneway(*treatments).statistic),
            _least(certified, np.array([_naive_f(treatments)])),
            *against_doubles,
        )
    yield ""
    yield from _text("""
        What fusiform loses here beyond the doubles goes with the mean of a group, which is read out
        as one double: at 1e12 a mean to 1e-4, where treatments differ by 1e-1. M2 of one group does
        not pay for it (above). F, and every merge, take differences of means and pay the first
        power of max |x| / sd, where sums of squares pay the second. To round a value to float32
        moves it 2^29 times farther. Where fusiform has more digits than the doubles, as in AtmWtAg,
        that is luck.
    """)


def _activations() -> Iterator[str]:
    stimuli, units = SHAPE
    yield from ("", "## Bounds for float32 and bfloat16 activations", "")
    of_mean, of_m2 = (2 * stimuli + 6) * 2.0**-53, (3 * stimuli + 6) * stimuli * 2.0**-53
    yield from _text(f"""
        {stimuli:,} stimuli, {units} units, one group, random batches, CPU kernel, against exact
        arithmetic on the float32 or bfloat16 values. Errors of the mean are relative to the unit's
        largest |x|, of M2 to M2: the largest bound, as derived in `tests/nist/exact.py` for any
        order of summation, and the largest error. Whatever the data, with u = 2^-53, no bound is
        above (2 n + 6) u = {of_mean:.1e} of means, (3 n + 6) n u = {of_m2:.1e} of M2.
    """)
    yield ""
    yield from head("activations", "type", "mean: bound", "error", "M2: bound", "error")
    for regime, draw in REGIMES.items():
        for dtype in (torch.float32, torch.bfloat16):
            rng = np.random.default_rng(0)
            x = torch.from_numpy(draw(rng, SHAPE)).to(dtype)
            found = Cpu.run([x[torch.from_numpy(rows)] for rows in cut(stimuli, rng)])
            worst = np.zeros(4)
            for unit in range(units):
                values = x[:, unit].double().tolist()
                expected, bounds = exact.moments(values), exact.of_group(values)
                largest = max(map(abs, values))
                mean_error = abs(Fraction(found.mean[unit]) - expected.mean)
                m2_bound = bounds.m2 / float(expected.m2) if expected.m2 else 0.0
                m2_error = exact.relative_error(found.m2[unit], expected.m2)
                one = (bounds.mean / largest, float(mean_error) / largest, m2_bound, m2_error)
                worst = np.maximum(worst, one)
            yield row(
                regime,
                str(dtype).removeprefix("torch."),
                *(f"{v:.1e}" if v else "0" for v in worst),
            )
    yield ""
    yield "Near 1e4 bfloat16 values lie 64 apart: all are the same one there, and M2 is 0."


def _streams(sets: list[Floats], parts: int) -> list[Moments]:
    return [
        streamed(sets, Cpu.run_groups, np.random.default_rng(seed), UNITS, parts)
        for seed in range(RUNS)
    ]


def _least(expected: Fraction | str, *found: Floats) -> str:
    return f"{min(exact.digits(value, expected) for value in np.ravel(found)):.1f}"


def _naive(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation from the sums of x and of x**2, one value after the other."""
    total, square = _sum(values), _sum(values**2)
    with np.errstate(invalid="ignore"):  # the root of what should not be negative
        sd = np.sqrt((square - total**2 / len(values)) / (len(values) - 1))
    return total / len(values), float(sd)


def _naive_f(treatments: list[Floats]) -> float:
    count = sum(map(len, treatments))
    total = _sum(np.concatenate(treatments))
    of_all = _sum(np.concatenate(treatments) ** 2) - total**2 / count
    between = sum(_sum(values) ** 2 / len(values) for values in treatments) - total**2 / count
    df = len(treatments) - 1
    return (between / df) / ((of_all - between) / (count - df - 1))


def _text(paragraph: str) -> list[str]:
    return textwrap.wrap(" ".join(paragraph.split()), 95)


def _sum(values: Floats) -> float:
    return float(np.cumsum(values)[-1])  # numpy's own sum works in pairs
