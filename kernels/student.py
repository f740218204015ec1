"""Upper tail of Student's t (numba): P(T >= t) and its logarithm, for real degrees of freedom."""

from __future__ import annotations

import math

import numpy as np

from .jit import inner

# sqrt((s / 2) / sinh(s / 2)) as a polynomial in s**2, to 1e-17 for s up to 3.
_DENSITY = (
    1.0, -0.020833333333333034, 0.0003906249999981322, -7.879670961015093e-06,
    1.696766520303547e-07, -3.805059685122503e-09, 8.748155076894098e-11, -2.0437821292133087e-12,
    4.8162799388030804e-14, -1.1249956393805944e-15, 2.4596369236904043e-17, -4.337870372929709e-19,
    4.3392780296948266e-21,
)  # fmt: skip
# (1 + 2 x) exp(x**2) erfc(x) as a polynomial in (x - 3.5) / (x + 3.5), to 4e-17 for x from 0
# (Shepherd & Laframboise 1981, Math. Comp. 36(153)).
_ERFCX = (
    1.2423492448711544, -0.14000918013761943, -0.010555596332221952, 0.09751909515326224,
    -0.11508959816001958, 0.08798315382467885, -0.0488233258310565, 0.019099330945601945,
    -0.004215019878405747, -0.00030226790250868746, 0.0005643842605299897, -0.00012151232760165049,
    -4.2781721628905614e-05, 2.4260839884956625e-05, 2.3272968965569266e-06, -3.814933907984698e-06,
    -4.3051702801470573e-08, 6.025096057081062e-07, -8.641744973204816e-09, -9.711971328975727e-08,
    6.778448793564802e-10, 1.3911592311296799e-08, 5.811094619015422e-11, -1.2155186967957756e-09,
)  # fmt: skip
_MIDDLE = 3.5
# Terms of the series in x = df / (df + t**2), to 1e-17 from here on.
_FAR, _TERMS = 2.0, 18
# The expansion for many degrees of freedom holds from df / 2 - 1 / 4 of this on.
_MANY = 16.0


@inner
def upper_tail_of(t: float, df: float) -> float:
    """One-sided p, ``P(T >= t)``.

    Units without variance have no degrees of freedom (NaN): their p is 0 for a t above 0, else 1.
    """
    if not df > 0:
        if np.isnan(df) and not np.isnan(t):
            return 0.0 if t > 0 else 1.0
        return np.nan
    if np.isnan(t):
        return np.nan
    exponent, factor = _tail(abs(t), df)
    p = math.exp(-exponent) * factor
    return p if t > 0 else 1 - p


@inner
def log10_upper_tail_of(t: float, df: float) -> float:
    """log10 of :func:`upper_tail_of`, also for a p too small for a double."""
    if not df > 0 or not t > 0:
        return float(np.log1p(upper_tail_of(t, df) - 1) / math.log(10.0))
    exponent, factor = _tail(t, df)
    return (math.log(factor) - exponent) / math.log(10.0)


@inner
def _tail(t: float, df: float) -> tuple[float, float]:
    """Exponent and factor of ``P(T >= t) = factor exp(-exponent)``, for ``t`` of at least 0.

    With a = df / 2, s0 = log(1 + t**2 / df), and s = log(1 + u**2 / df), P is the integral of
    ``exp(-a s) / sqrt(1 - exp(-s))`` from s0 on, times ``gamma(a + 1/2) / gamma(a) / sqrt(4 pi)``.
    """
    df = min(df, 1e300)
    a = df / 2
    ratio = t * t / df
    s0 = math.log1p(ratio) if ratio < 1e300 else 2 * math.log(t) - math.log(df)
    x = 1 / (1 + ratio)
    steps = 0 if a >= _MANY + 0.25 else int(_MANY + 0.25 - a) + 1
    many = a + steps - 0.25
    # gamma(a + 1/2) / gamma(a) at a + steps, then down to a.
    total, polynomial = _expansion(many, s0)
    series, below, above = 1.0, 1.0, 1.0
    for j in range(steps - 1, -1, -1):
        above *= a + j + 0.5
        if j < steps - 1:
            series = (a + j + 1) * below + (a + j + 0.5) * x * series
            below *= a + j + 1
    if steps == 0:
        below = 1 / a
    scale = math.sqrt(many / math.pi) / (2 * total)
    if s0 > _FAR:
        power = 0.0
        for k in range(_TERMS, 0, -1):
            power = x * (k - 0.5) / k * (1 / (a + k) + power)
        return a * s0, scale * below / above * (1 + a * power)
    y = many * s0
    root = math.sqrt(y)
    q = (root - _MIDDLE) / (root + _MIDDLE)
    erfcx = 0.0
    for k in range(len(_ERFCX) - 1, -1, -1):
        erfcx = erfcx * q + _ERFCX[k]
    factor = erfcx / (2 + 4 * root) + root * polynomial / (2 * math.sqrt(math.pi) * total)
    if steps == 0:
        return y, factor
    first = math.sqrt(ratio * x) * scale / above
    return a * s0, math.exp(-(steps - 0.25) * s0) * factor + first * series


@inner
def _expansion(a: float, s0: float) -> tuple[float, float]:
    last = len(_DENSITY) - 1
    total, polynomial = _DENSITY[last], 0.0
    inverse, square = 1 / a, s0 * s0
    for k in range(last - 1, -1, -1):
        high = (2 * k + 1.5) * inverse
        polynomial = inverse * (high + s0) * total + square * polynomial
        total = (2 * k + 0.5) * inverse * high * total + _DENSITY[k]
    return total, polynomial
