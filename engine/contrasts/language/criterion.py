"""When a unit counts as selective: a test, a rule over what is measured, and how p is corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ...errors import UserError, nearest, shortened
from ...variables import MEASURES
from .contrast import parse_contrasts
from .rule import Rule, Vocabulary, parse_rule

Test = Literal["each", "rest", "weighted", "student"]
Correction = Literal["bh", "by", "bonferroni", "none"]
Family = Literal["layer", "model"]

_TESTS = {
    "each": "Welch t against each baseline category",
    "rest": "Welch t against the pooled baseline",
    "weighted": "t of weighted category means",
    "student": "Student's t against the pooled baseline",
}
# What a rule can compare: all but the index of a category.
COMPARED = tuple(measure for measure in MEASURES if measure != "preferred_category")
_VOCABULARY = Vocabulary(COMPARED, ("preferred",))
_CORRECTIONS = {
    "bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli", "bonferroni": "Bonferroni",
    "none": "uncorrected",
}  # fmt: skip


@dataclass(frozen=True)
class Criterion:
    """When a unit counts as selective for the target of a contrast.

    Parameters
    ----------
    test : ``each`` (Welch t against each baseline category, of which the smallest counts), ``rest``
        (Welch t against all stimuli of the baseline pooled), ``weighted`` (t of the weighted sum of
        category means), ``student`` (as ``rest``, with one variance for both sides). A contrast
        that is written as a weighted sum is tested by ``weighted``.
    where : the rule, as :mod:`.rule` reads it; see ``fusiform.engine.variables.MEASURES`` for what
        can be asked
    sides : 1, p that the target's response is larger; 2, p that it differs
    correction : of p for many tests, which gives q: ``bh``, ``by``, ``bonferroni`` or ``none``
    family : the tests that count as many: those of a ``layer``, or of all layers (``model``)
    pairwise : the rule has to hold against each baseline category by itself: a test, a correction
        and a decision for each

    Raises
    ------
    UserError : a value is none of these, or the rule cannot be read
    """

    test: Test = "each"
    where: str = "q <= 0.05"
    sides: Literal[1, 2] = 1
    correction: Correction = "bh"
    family: Family = "layer"
    pairwise: bool = False

    def __post_init__(self) -> None:
        _one_of("test", self.test, get_args(Test))
        _one_of("correction", self.correction, get_args(Correction))
        _one_of("family", self.family, get_args(Family))
        _one_of("sides", self.sides, (1, 2))
        self.rule()

    def rule(self) -> Rule:
        """``where``, parsed."""
        return parse_rule(self.where, _VOCABULARY)

    def __str__(self) -> str:
        parts = [_TESTS[self.test] + (", two-sided" if self.sides == 2 else ""), self.where]
        if any(condition.measure == "q" for condition in self.rule().conditions()):
            parts.append(f"q: {_CORRECTIONS[self.correction]} in the {self.family}")
        if self.pairwise:
            parts.append("against each baseline category by itself")
        return "; ".join(parts)


def preset(name: str) -> Criterion:
    """The criterion of a publication.

    Raises
    ------
    UserError : there is no such preset
    """
    if name not in PRESETS:
        raise UserError(f"a preset names a publication; got {name!r}: {nearest(name, PRESETS)}")
    return PRESETS[name]


def require_criterion(criterion: object) -> None:
    """Refuse what is no criterion, such as the name of a preset or a contrast in its place."""
    if not isinstance(criterion, Criterion):
        raise UserError(f"a criterion is fusiform.Criterion(...); got {criterion!r}")


def remarks(
    criterion: Criterion, categories: Sequence[str], contrasts: str | Sequence[str] | None = None
) -> list[str]:
    """Notes on steps of a preset's authors that its criterion does not include."""
    if criterion != PRESETS["margalit2024"]:
        return []
    sides = [(*one.target, *one.baseline) for one in parse_contrasts(contrasts, categories)]
    used = [categories[k] for k in sorted({k for side in sides for k in side})]
    scrambled = [name for name in used if "scrambl" in name.casefold()]
    if not scrambled:
        return []
    return [
        "margalit2024: the authors left scrambled pictures out; here are "
        f"{shortened(scrambled)}: name contrasts without them, or scan without them (--group)"
    ]


def _one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        listed = ", ".join(map(str, known))
        raise UserError(f"a criterion's {name} is one of {listed}; got {value!r}")


DEFAULT = Criterion()

# Criteria of publications. docs/definitions.md says what each implies, and what differs.
PRESETS: dict[str, Criterion] = {
    "prince2024": Criterion(
        "student", "q <= 0.05 and t > 0", sides=2, correction="by", pairwise=True
    ),
    "margalit2024": Criterion("rest", "t >= 10"),
    "floc": Criterion("weighted", "t > 3"),
}
