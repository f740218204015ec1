"""Criteria of selectivity: a test, a rule over measures, and a correction of p."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ...errors import UserError
from ...registry import MEASURES
from .contrast import Contrast
from .rule import Family, Rule, Top, Vocabulary, parse_rule

Test = Literal["each", "rest", "weighted", "glm", "student"]
Correction = Literal["bh", "by", "bonferroni", "none"]

_TESTS = {
    "each": "Welch t against each baseline category",
    "rest": "Welch t against the pooled baseline",
    "weighted": "t of weighted category means",
    "glm": "t of weighted category means, with one residual variance",
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

    ``docs/reference/definitions.md`` has the formulas of tests, corrections and measures, and
    their sources. As text, a criterion is in words.

    Parameters
    ----------
    test : str, default "each"
        ``each``, ``rest``, ``weighted``, ``glm`` or ``student``. ``each`` is the smallest Welch's t
        against any baseline category; ``rest`` Welch's t against the pooled baseline; ``weighted``
        the t of weighted category means; ``glm`` is ``weighted`` with one residual variance over
        all categories, as in a linear model; ``student`` is ``rest`` with equal variances. A
        weighted contrast is tested by ``glm`` if that is the test, otherwise by ``weighted``.
    where : str, default "q <= 0.05"
        Rule that a unit must meet, such as ``q <= 0.05 and csi > 1/3``: measures are compared with
        numbers and joined by ``and``, ``or`` and brackets; or ``top 100 by csi``, ``top 1%`` of a
        layer, ``top 1% of model``, ``preferred``.
    sides : int, default 1
        1 (the target's response is larger) or 2 (it differs).
    correction : str, default "bh"
        Correction of p for multiple tests, giving q: ``bh``, ``by``, ``bonferroni`` or ``none``.
    family : str, default "layer"
        Correct p over the units of a ``layer`` or of the ``model``.
    pairwise : bool, default False
        Require the rule against each baseline category separately, each with its own test,
        correction and decision.

    Raises
    ------
    UserError
        A value is unknown, or the rule cannot be parsed.

    Examples
    --------
    >>> print(fusiform.Criterion("rest", "q <= 0.01 and csi > 1/3"))
    Welch t against the pooled baseline; q <= 0.01 and csi > 1/3; q: Benjamini-Hochberg in the layer
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

    @property
    def spans_model(self) -> bool:
        """Whether a unit may be compared with units of other layers."""
        tops = (one for one in self.rule().conditions() if isinstance(one, Top))
        return self.family == "model" or any(top.family == "model" for top in tops)

    def __str__(self) -> str:
        parts = [_TESTS[self.test] + (", two-sided" if self.sides == 2 else ""), self.where]
        if any(condition.measure == "q" for condition in self.rule().conditions()):
            parts.append(f"q: {_CORRECTIONS[self.correction]} in the {self.family}")
        if self.pairwise:
            parts.append("against each baseline category separately")
        return "; ".join(parts)


def test_of(contrast: Contrast, criterion: Criterion) -> Test:
    """The test of a contrast: the criterion's, or ``weighted`` for a sum that it cannot test."""
    if contrast.weighted and criterion.test != "glm":
        return "weighted"
    return criterion.test


def require_criterion(criterion: object) -> None:
    """Raise a ``UserError`` for anything but a criterion, such as the name of a preset."""
    if not isinstance(criterion, Criterion):
        raise UserError(f"a criterion is fusiform.Criterion(...); got {criterion!r}")


def _one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        listed = ", ".join(map(str, known))
        raise UserError(f"a criterion's {name} is one of {listed}; got {value!r}")


DEFAULT = Criterion()
