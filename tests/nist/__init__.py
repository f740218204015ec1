"""NIST's Statistical Reference Datasets: univariate summaries and one-way analysis of variance.

Values are decimal strings, as NIST gives them, so that what is exact about them stays exact. Where
they come from is in README.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import mpmath

_FOLDER = Path(__file__).parent


class Univariate(NamedTuple):
    """A set of values with its certified mean and standard deviation (ddof 1)."""

    values: list[str]
    mean: str
    sd: str


class Anova(NamedTuple):
    """A set of treatments with its certified F and R squared, which is eta squared here."""

    treatments: list[list[str]]
    f: str
    r_squared: str


def _read(name: str) -> list[str]:
    return (_FOLDER / f"{name}.txt").read_text().split()


def _digits_of_pi(count: int) -> list[str]:
    with mpmath.workdps(count + 10):
        digits = list(mpmath.nstr(mpmath.pi, count + 5, strip_zeros=False).replace(".", "")[:count])
    digits[956] = "3"  # in NIST's file and its certified values; in pi it is 8
    return digits


def _accuracy(whole: str) -> list[str]:
    """NumAcc2 to 4 by their construction: a value, then two neighbours of it in turns."""
    return [f"{whole}.2", *[f"{whole}.1", f"{whole}.3"] * 500]


def _read_treatments(name: str) -> list[list[str]]:
    treatments: dict[str, list[str]] = {}
    words = _read(name)
    for treatment, value in zip(words[::2], words[1::2], strict=True):
        treatments.setdefault(treatment, []).append(value)
    return list(treatments.values())


def _simon_lesage(whole: str, replicates: int) -> list[list[str]]:
    """SmLs01 to 09 by their construction (Simon & Lesage 1989): nine treatments like NumAcc."""
    return [
        [f"{whole}.{tenth}", *[f"{whole}.{tenth - 1}", f"{whole}.{tenth + 1}"] * (replicates // 2)]
        for tenth in (4, 3, 5, 3, 5, 3, 5, 3, 5)
    ]


UNIVARIATE = {
    "PiDigits": Univariate(_digits_of_pi(5000), "4.53480000000000", "2.86733906028871"),
    "Lottery": Univariate(_read("Lottery"), "518.958715596330", "291.699727470969"),
    "Lew": Univariate(_read("Lew"), "-177.435000000000", "277.332168044316"),
    "Mavro": Univariate(_read("Mavro"), "2.00185600000000", "0.000429123454003053"),
    "Michelso": Univariate(_read("Michelso"), "299.852400000000", "0.0790105478190518"),
    "NumAcc1": Univariate(["10000001", "10000003", "10000002"], "10000002", "1"),
    "NumAcc2": Univariate(_accuracy("1"), "1.2", "0.1"),
    "NumAcc3": Univariate(_accuracy("1000000"), "1000000.2", "0.1"),
    "NumAcc4": Univariate(_accuracy("10000000"), "10000000.2", "0.1"),
}

ANOVA = {
    "SiRstv": Anova(_read_treatments("SiRstv"), "1.18046237440255", "0.190999039051129"),
    "AtmWtAg": Anova(_read_treatments("AtmWtAg"), "15.9467335677930", "0.257426544538321"),
} | {
    f"SmLs0{3 * level + size}": Anova(_simon_lesage(whole, replicates), str(replicates), r_squared)
    for level, whole in enumerate(("1", "1000000", "1000000000000"))
    for size, (replicates, r_squared) in enumerate(
        [(21, "0.482758620689655"), (201, "0.471830985915493"), (2001, "0.470712773465067")], 1
    )
}
