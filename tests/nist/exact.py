"""Mean, M2 and F in rational arithmetic, and how far from them floating point may end.

A float is a rational number: nothing is rounded here until two results are compared. The bounds are
for sums about a pivot that is a value of its group, as :mod:`fusiform.kernels.cpu` has them, in any
order of summation, as long as nothing overflows or underflows, which float32 and bfloat16 values
cannot make a double do. With u = 2**-53 and gamma(k) = k u / (1 - k u), the largest relative error
of k roundings (Higham 2002, "Accuracy and Stability of Numerical Algorithms", 3.1):

One group of n values x about the pivot p has the mean to ``gamma(n + 2) D + u |mean|``, where
D = sum |x - p| / n. A deviation is rounded once, its sum with others at most n - 1 times, the
division once; adding it to the pivot rounds the mean itself.

It has M2 to ``gamma(3 n + 5) S2``, where S2 = sum (x - p)**2. S2 comes out to ``gamma(n + 2) S2``:
deviations are rounded, squared and summed. S1 (S1 / n) comes out to ``gamma(2 n + 2) n D**2``, and
n D**2 <= S2 (Cauchy and Schwarz). Their difference is rounded once more. How large the values
themselves are does not enter: S2 = M2 + n (p - mean)**2, at most n M2, as p is one of the n.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from fusiform.kernels.moments import Moments

_U = 2.0**-53


def moments(values: Iterable[str | float]) -> Moments:
    """Count, mean and M2 of decimals or floats, as rational numbers."""
    times = {Fraction(value): n for value, n in Counter(values).items()}
    count = sum(times.values())
    total = sum((n * value for value, n in times.items()), Fraction())
    square = sum((n * value**2 for value, n in times.items()), Fraction())
    return Moments(count, total / count, square - total**2 / count)


def one_way_anova(treatments: Sequence[Moments]) -> tuple[Fraction, Fraction]:
    """F and eta squared of exact moments."""
    between, within = _sums_of_squares(treatments)
    df = len(treatments) - 1
    df_within = sum(group.count for group in treatments) - len(treatments)
    return between / df / (within / df_within), between / (between + within)


def _sums_of_squares(treatments: Sequence[Moments]) -> tuple[Fraction, Fraction]:
    count = sum(group.count for group in treatments)
    grand = sum((group.count * group.mean for group in treatments), Fraction()) / count
    between = sum((group.count * (group.mean - grand) ** 2 for group in treatments), Fraction())
    return between, sum((group.m2 for group in treatments), Fraction())


def relative_error(found: float, expected: Fraction) -> float:
    """``|found - expected| / |expected|``; 0 where both are 0."""
    error = abs(Fraction(found) - expected)
    return float(error / abs(expected)) if error else 0.0


def digits(found: float, expected: Fraction | str) -> float:
    """The log relative error, ``-log10(|found - expected| / |expected|)``, from 0 to 15.

    McCullough (1998), "Assessing the reliability of statistical software: part I", The American
    Statistician 52(4).
    """
    error = relative_error(found, Fraction(expected)) if math.isfinite(found) else 1.0
    return min(15.0, max(0.0, -math.log10(error))) if error else 15.0


class Bounds(NamedTuple):
    """The largest absolute errors of a mean and an M2."""

    mean: float
    m2: float


def of_group(values: Sequence[float]) -> Bounds:
    """Bounds of one group whose pivot is the first of ``values``."""
    count, mean, m2 = moments(values)
    pivot = Fraction(values[0])
    distance = sum((abs(Fraction(value) - pivot) for value in values), Fraction()) / count
    s2 = m2 + count * (pivot - mean) ** 2
    return Bounds(
        _gamma(count + 2) * float(distance) + _U * abs(float(mean)),
        _gamma(3 * count + 5) * float(s2),
    )


def of_parts(values: Sequence[float], parts: int) -> Bounds:
    """Bounds of ``values`` in any order, dealt to ``parts`` groups that are merged in any order.

    Let r be the largest ``|x - mean|``. In any group D <= 2 r, and all S2 together are at most
    ``2 M2 + 2 n r**2``. So a group's mean is known to ``e = gamma(n + 2) 2 r + u max |x|``. A merge
    weights the errors of two means and adds no more than e: any mean is known to ``parts e``, to
    first order in u.

    A merge adds ``d**2 w`` to M2, with ``w = n_a n_b / (n_a + n_b) <= (n_a + n_b) / 4``, and d is
    known to ``E = 2 parts e``. Over a tree of at most ``parts - 1`` levels, sum w <= n (parts - 1)
    / 4, and sum d**2 w <= M2: by Cauchy and Schwarz the sum of ``|2 d E + E**2| w`` is at most
    ``2 a sqrt(M2) + a**2`` with ``a = parts e sqrt(n (parts - 1))``. This is where the size of the
    values does enter, to the first power of ``max |x| / sd``: a mean is one float64, and merging
    takes the difference of two. The arithmetic of a level costs 7 roundings of M2.
    """
    count, mean, m2 = moments(values)
    spread = float(m2)
    farthest = float(max(abs(Fraction(value) - mean) for value in set(values)))
    known = _gamma(count + 2) * 2 * farthest + _U * max(map(abs, values))
    a = parts * known * math.sqrt(count * (parts - 1))
    groups = _gamma(3 * count + 5) * 2 * (spread + count * farthest**2)
    merges = _gamma(7 * (parts - 1)) * spread + 2 * a * math.sqrt(spread) + a**2
    return Bounds(parts * known, groups + merges)


def of_f(treatments: Sequence[Sequence[float]], parts: int) -> float:
    """The largest relative error of F, every treatment's moments being as :func:`of_parts` has it.

    Between treatments, ``B = sum n_k (m_k - M)**2`` is the squared length of a projection of the
    means: if they are known to e, sqrt(B) is known to ``e sqrt(N)``. Shifts, and the K products of
    the mean of all, cost ``gamma(K + 3)`` of the range of the means. Within, the worst treatment
    counts. Some K roundings more make F of the two.
    """
    groups = [moments(values) for values in treatments]
    bounds = [of_parts(values, parts) for values in treatments]
    between, _ = _sums_of_squares(groups)
    means = [group.mean for group in groups]
    e = max(bound.mean for bound in bounds)
    e += _gamma(len(groups) + 3) * float(max(means) - min(means))
    b = e * math.sqrt(sum(group.count for group in groups) / between)
    within = max(bound.m2 / float(group.m2) for group, bound in zip(groups, bounds, strict=True))
    return (1 + b) ** 2 * (1 + _gamma(3 * len(groups))) / (1 - within) - 1


def _gamma(roundings: int) -> float:
    return roundings * _U / (1 - roundings * _U)
