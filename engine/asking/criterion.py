"""When a unit counts as selective: a test, a rule over what is measured, and how p is corrected.

    t > 5
    q <= 0.05 and csi > 1/3
    (p < 1e-4 or d_prime > 1) and preferred
    top 100 by t        top 1% by csi

    rule      = all { "or" all }
    all       = condition { "and" condition }
    condition = measure ("<" | "<=" | ">" | ">=") number | "top" number ["%"] ["by" measure]
              | "preferred" | "(" rule ")"

Rules are parsed, never evaluated as code.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, get_args

from ..errors import UserError, nearest
from ..spec import MEASURES
from .grammar import Tokens

Test = Literal["each", "rest", "weighted", "student"]
Correction = Literal["bh", "by", "bonferroni", "none"]
Family = Literal["layer", "model"]

_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_TESTS = {
    "each": "Welch t against each baseline category",
    "rest": "Welch t against the pooled baseline",
    "weighted": "t of weighted category means",
    "student": "Student's t against the pooled baseline",
}
# What a rule can compare: all but the index of a category.
COMPARED = tuple(measure for measure in MEASURES if measure != "preferred_category")
_PROBABILITIES = ("p", "log10_p", "q", "p_null", "p_f")
_CORRECTIONS = {
    "bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli", "bonferroni": "Bonferroni",
    "none": "uncorrected",
}  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """``measure sign value``; NaN meets none."""

    measure: str
    sign: str
    value: float

    def holds(self, values: Any) -> Any:
        """Where ``values [unit]`` meet it."""
        return _SIGNS[self.sign](values, self.value)


@dataclass(frozen=True)
class Top:
    """The ``size`` units of a layer, or per cent of them, that have the most of a ``measure``."""

    measure: str
    size: float
    percent: bool

    def of(self, units: int) -> int:
        """How many of a layer's units that are."""
        return math.floor(units * self.size / 100) if self.percent else int(self.size)


@dataclass(frozen=True)
class Preferred:
    """The unit's largest mean response is to a target category."""

    measure = "preferred"


Condition = Comparison | Top | Preferred


@dataclass(frozen=True)
class Rule:
    """Conditions and rules joined by ``and`` or ``or``."""

    joined_by: Literal["and", "or"]
    parts: tuple[Condition | Rule, ...]

    def conditions(self) -> Iterator[Condition]:
        """All conditions, at any depth."""
        for part in self.parts:
            if isinstance(part, Rule):
                yield from part.conditions()
            else:
                yield part

    def decide(self, met: Mapping[Condition, Any]) -> Any:
        """Where the rule holds, from where each of its conditions is met (boolean arrays)."""
        parts = [part.decide(met) if isinstance(part, Rule) else met[part] for part in self.parts]
        return reduce(operator.and_ if self.joined_by == "and" else operator.or_, parts)


@dataclass(frozen=True)
class Criterion:
    """When a unit counts as selective for the target of a contrast.

    Parameters
    ----------
    test : ``each`` (Welch t against each baseline category, of which the smallest counts), ``rest``
        (Welch t against all stimuli of the baseline pooled), ``weighted`` (t of the weighted sum of
        category means), ``student`` (as ``rest``, with one variance for both sides). A contrast
        that is written as a weighted sum is tested by ``weighted``.
    where : the rule; see the head of this module, and ``fusiform.engine.spec.MEASURES`` for what
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
        return parse_rule(self.where)

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


def parse_rule(text: str) -> Rule:
    """Read a rule; see the head of this module.

    Raises
    ------
    UserError : with a caret under the character where it cannot be read on
    """
    tokens = Tokens(text, "a rule")
    rule = _any(tokens)
    tokens.end()
    return rule


def _any(tokens: Tokens) -> Rule:
    parts = [_all(tokens)]
    while tokens.take("or"):
        parts.append(_all(tokens))
    return Rule("or", tuple(parts))


def _all(tokens: Tokens) -> Rule:
    parts = [_condition(tokens)]
    while tokens.take("and"):
        parts.append(_condition(tokens))
    return Rule("and", tuple(parts))


def _condition(tokens: Tokens) -> Condition | Rule:
    if tokens.take("("):
        rule = _any(tokens)
        tokens.expect(")", "to close its bracket")
        return rule
    if tokens.take("top"):
        return _top(tokens)
    if tokens.take("preferred"):
        return Preferred()
    measure = _measure(tokens)
    sign = tokens.take(*_SIGNS)
    if sign is None:
        tokens.refuse(f"a measure is compared by one of {' '.join(_SIGNS)}")
    return Comparison(measure, sign.text, _number(tokens))


def _top(tokens: Tokens) -> Top:
    start = tokens.current
    size = _number(tokens)
    percent = tokens.take("%") is not None
    if not (0 < size <= 100 if percent else size >= 1 and size == int(size)):
        tokens.refuse("top takes a number of units, or a percentage of a layer's", start)
    if not tokens.take("by"):
        return Top("t", size, percent)
    named = tokens.current
    measure = _measure(tokens)
    if measure in _PROBABILITIES:
        tokens.refuse("top are the units with the most, and of p the least counts: use t", named)
    return Top(measure, size, percent)


def _measure(tokens: Tokens) -> str:
    name = tokens.take(kind="name")
    if name is None:
        tokens.refuse("a rule goes on with a measure, top, preferred or a bracket")
    if name.text not in COMPARED:
        tokens.refuse(f"a rule asks for what is measured ({nearest(name.text, COMPARED)})", name)
    return name.text


def _number(tokens: Tokens) -> float:
    sign = -1 if tokens.take("-") else 1
    number = tokens.take(kind="number")
    if number is None:
        tokens.refuse("a number is needed here")
    value = float(number.text)
    if tokens.take("/"):  # csi > 1/3
        divisor = tokens.take(kind="number")
        if divisor is None or not float(divisor.text):
            tokens.refuse("a number other than 0 is needed here", divisor)
        value /= float(divisor.text)
    return sign * value


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
    "margalit2024": Criterion("rest", "t > 10"),
    "floc": Criterion("weighted", "t > 3"),
}
