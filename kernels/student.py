"""Upper tail of Student's distribution, P(T >= t), and its logarithm (numba).

With ``a = df / 2`` and ``s = log(1 + t**2 / df)``,

    P = gamma(a + 1/2) / gamma(a) / sqrt(4 pi) * integral from s of exp(-a u) / sqrt(1 - exp(-u)) du

for t of at least 0, half the regularised incomplete beta function I_x(a, 1/2) at ``x = exp(-s)``.
With ``b = a - 1/4`` the integrand is ``exp(-b u) / sqrt(u)`` times an even function of u close to
1. Its polynomial leads to incomplete gamma functions, and their values at s = 0 the ratio of gammas
(even, too: DLMF 5.11.14), so no gamma function is evaluated and nothing cancels. Compare the
expansion for large a of Temme, DLMF 8.18(ii), in powers of u - s.
"""

from __future__ import annotations

import math

import numpy as np

from .jit import exact

# sqrt((u / 2) / sinh(u / 2)) as a polynomial in u**2, to 2e-17 for u up to 3.
_CORRECTION = (
    1.0, -0.020833333333333034, 0.0003906249999981322, -7.879670961015093e-06,
    1.696766520303547e-07, -3.805059685122503e-09, 8.748155076894098e-11, -2.0437821292133087e-12,
    4.8162799388030804e-14, -1.1249956393805944e-15, 2.4596369236904043e-17, -4.337870372929709e-19,
    4.3392780296948266e-21,
)  # fmt: skip
# (1 + 2 x) exp(x**2) erfc(x) as a polynomial in (x - 3.5) / (x + 3.5), to 1e-16 for x from 0 on
# (Shepherd & Laframboise 1981, Math. Comp. 36(153)).
_ERFCX = (
    1.2423492448711544, -0.14000918013761943, -0.010555596332221952, 0.09751909515326224,
    -0.11508959816001958, 0.08798315382467885, -0.0488233258310565, 0.019099330945601945,
    -0.004215019878405747, -0.00030226790250868746, 0.0005643842605299897, -0.00012151232760165049,
    -4.2781721628905614e-05, 2.4260839884956625e-05, 2.3272968965569266e-06, -3.814933907984698e-06,
    -4.3051702801470573e-08, 6.025096057081062e-07, -8.641744973204816e-09, -9.711971328975727e-08,
    6.778448793564802e-10, 1.3911592311296799e-08, 5.811094619015422e-11, -1.2155186967957756e-09,
)  # fmt: skip
_CENTRE = 3.5
# The polynomials serve a from here on, up to this s; beyond it the series in x has so many terms.
_LARGE, _FAR, _TERMS = 9.25, 2.0, 18


@exact
def upper_tail_of(t: float, df: float) -> float:
    """One-sided p, ``P(T >= t)``, of one t.

    The relative error is at most 2e-15 - 6e-16 log(p): 5e-13 at the smallest normal double, where
    p changes as much between neighbouring t. For df NaN (no variance) p is 0 for a t above 0, else
    1.
    """
    if np.isnan(t) or not df > 0:
        constant = np.isnan(df) and not np.isnan(t)
        return (0.0 if t > 0 else 1.0) if constant else np.nan
    exponent, factor = _tail(abs(t), df)
    p = math.exp(-exponent) * factor
    return p if t > 0 else 1 - p


@exact
def log10_upper_tail_of(t: float, df: float) -> float:
    """log10 of :func:`upper_tail_of`, also for a p too small for a double.

    The relative error is at most 3e-15; for a t below 0, that of the other tail.
    """
    if t > 0 and df > 0:
        exponent, factor = _tail(t, df)
        return (math.log(factor) - exponent) / math.log(10.0)
    if df > 0:
        return float(np.log1p(-upper_tail_of(-t, df))) / math.log(10.0)
    return float(np.log10(upper_tail_of(t, df)))


@exact
def _tail(t: float, df: float) -> tuple[float, float]:
    """Exponent and factor of ``P(T >= t) = factor exp(-exponent)``, for t of at least 0."""
    a = min(df, 1e150) / 2  # so many are endless, and no square of them overflows
    ratio = t * t / (2 * a)
    s = float(np.log1p(ratio)) if ratio < 1e300 else 2 * math.log(t) - math.log(2 * a)
    if s > _FAR:
        return a * s, _far(a, 1 / (1 + ratio))
    if a < _LARGE:
        return a * s, _few(a, s, ratio)
    return (a - 0.25) * s, _many(a - 0.25, s)


@exact
def _many(b: float, s: float) -> float:
    """``P exp(b s)`` for many degrees of freedom: that of the normal distribution, corrected."""
    total, correction = _expansion(b, s)
    root = math.sqrt(b * s)
    q = (root - _CENTRE) / (root + _CENTRE)
    square, even, odd = q * q, 0.0, 0.0
    for k in range(len(_ERFCX) - 2, -1, -2):
        even, odd = even * square + _ERFCX[k], odd * square + _ERFCX[k + 1]
    normal = (even + odd * q) / (2 + 4 * root)
    return normal + root * correction / (math.sqrt(4 * math.pi) * total)


@exact
def _expansion(b: float, s: float) -> tuple[float, float]:
    """Integrals of ``exp(-b u) / sqrt(u)`` times the even function.

    From 0 on, the first is ``sqrt(pi / b) total``. From s on it is ``sqrt(pi / b) total erfc(root)
    + sqrt(s) correction exp(-b s)`` with ``root = sqrt(b s)``, by ``gamma(c + 1, y) = c gamma(c, y)
    + y**c exp(-y)`` (DLMF 8.8.2), from the last coefficient to the first.
    """
    inverse, square = 1 / (b * b), s * s
    total, correction = _CORRECTION[-1], 0.0
    for k in range(len(_CORRECTION) - 2, -1, -1):
        low, high = 2 * k + 0.5, 2 * k + 1.5
        correction = (high * inverse + s / b) * total + square * correction
        total = low * high * inverse * total + _CORRECTION[k]
    return total, correction


@exact
def _few(a: float, s: float, ratio: float) -> float:
    """``P exp(a s)`` for few degrees of freedom, from more of them.

    ``I_x(a, 1/2) = I_x(a + 1, 1/2) + x**a sqrt(1 - x) / (a B(a, 1/2))``, DLMF 8.17(iv), so often
    that the expansion holds; the terms are summed from the last to the first, as one fraction.
    """
    x = 1 / (1 + ratio)
    steps = math.ceil(_LARGE - a)
    series, below, above = 1.0, 1.0, a + steps - 0.5
    for j in range(steps - 2, -1, -1):
        series = (a + j + 1) * below + (a + j + 0.5) * x * series
        below *= a + j + 1
        above *= a + j + 0.5
    b = a + steps - 0.25
    total, _ = _expansion(b, 0.0)
    first = math.sqrt(ratio * x * b / (4 * math.pi)) / (total * above)
    return math.exp(-(steps - 0.25) * s) * _many(b, s) + first * series


@exact
def _far(a: float, x: float) -> float:
    """``P exp(a s)`` for large t: the hypergeometric series in x, DLMF 8.17(ii)."""
    gammas, b = 1 / a, a
    while b < _LARGE:
        gammas *= b / (b + 0.5)
        b += 1
    total, _ = _expansion(b - 0.25, 0.0)
    series = 0.0
    for k in range(_TERMS, 0, -1):
        series = x * (k - 0.5) / k * (a / (a + k) + series)
    return gammas * math.sqrt((b - 0.25) / (4 * math.pi)) / total * (1 + series)
