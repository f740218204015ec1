"""Criteria of selectivity: a test, a rule over measures, and a correction of p."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ...errors import UserError, nearest, shortened
from ...registry import MEASURES
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
# The measures that rules compare: all but the index of a category.
COMPARED = tuple(measure for measure in MEASURES if measure != "preferred_category")
_VOCABULARY = Vocabulary(COMPARED, ("preferred",))
_CORRECTIONS = {
    "bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli", "bonferroni": "Bonferroni",
    "none": "uncorrected",
}  # fmt: skip


@dataclass(frozen=True)
class Criterion:
    """The criterion by which a unit is selective for the target of a contrast.

    Parameters
    ----------
    test : ``each``, ``rest``, ``weighted`` or ``student``. ``each`` is the smallest Welch's t
        against any baseline category; ``rest`` Welch's t against the pooled baseline; ``weighted``
        the t of weighted category means; ``student`` is ``rest`` with equal variances. A weighted
        contrast is always tested by ``weighted``.
    where : Rule that a unit must meet, such as ``q <= 0.05 and csi > 1/3``: measures are compared
        with numbers and joined by ``and``, ``or`` and brackets; or ``top 100 by csi``, ``top 1%``,
        ``preferred``. See ``fusiform.engine.registry.MEASURES``.
    sides : 1 (the target's response is larger) or 2 (it differs).
    correction : Correction of p for multiple tests, giving q: ``bh``, ``by``, ``bonferroni`` or
        ``none``.
    family : Correct p over the units of a ``layer`` or of the ``model``.
    pairwise : Require the rule against each baseline category separately, each with its own test,
        correction and decision.

    Raises
    ------
    UserError : a value is unknown, or the rule cannot be parsed
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
        """The parsed rule ``where``."""
        return parse_rule(self.where, _VOCABULARY)

    def __str__(self) -> str:
        parts = [_TESTS[self.test] + (", two-sided" if self.sides == 2 else ""), self.where]
        if any(condition.measure == "q" for condition in self.rule().conditions()):
            parts.append(f"q: {_CORRECTIONS[self.correction]} in the {self.family}")
        if self.pairwise:
            parts.append("against each baseline category separately")
        return "; ".join(parts)


def preset(name: str) -> Criterion:
    """The criterion of a publication.

    Raises
    ------
    UserError : the preset is unknown
    """
    if name not in PRESETS:
        raise UserError(f"a preset names a publication; got {name!r}: {nearest(name, PRESETS)}")
    return PRESETS[name]


def require_criterion(criterion: object) -> None:
    """Raise a ``UserError`` for anything but a criterion, such as the name of a preset."""
    if not isinstance(criterion, Criterion):
        raise UserError(f"a criterion is fusiform.Criterion(...); got {criterion!r}")


def remarks(
    criterion: Criterion, categories: Sequence[str], contrasts: str | Sequence[str] | None = None
) -> list[str]:
    """Notes on steps of a preset's authors that the criterion does not include."""
    if criterion != PRESETS["margalit2024"]:
        return []
    sides = [(*one.target, *one.baseline) for one in parse_contrasts(contrasts, categories)]
    used = [categories[k] for k in sorted({k for side in sides for k in side})]
    scrambled = [name for name in used if "scrambl" in name.casefold()]
    if not scrambled:
        return []
    return [
        "margalit2024: the authors left scrambled images out; this store has "
        f"{shortened(scrambled)}: name contrasts without them, or scan without them (`groups`)"
    ]


def _one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        listed = ", ".join(map(str, known))
        raise UserError(f"a criterion's {name} is one of {listed}; got {value!r}")


DEFAULT = Criterion()

# Criteria of publications; docs/definitions.md describes them and their differences.
PRESETS: dict[str, Criterion] = {
    "prince2024": Criterion(
        "student", "q <= 0.05 and t > 0", sides=2, correction="by", pairwise=True
    ),
    "margalit2024": Criterion("rest", "t >= 10"),
    "floc": Criterion("weighted", "t > 3"),
}
