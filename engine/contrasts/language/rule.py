"""Rules: comparisons of measures, joined by ``and`` and ``or``. Parsed, never evaluated as code.

    t > 5
    q <= 0.05 and csi > 1/3
    (p < 1e-4 or d_prime > 1) and not dead
    top 100 by t        top 1% by csi        top 1% of model

    rule      = all { "or" all }
    all       = condition { "and" condition }
    condition = measure ("<" | "<=" | ">" | ">=" | "==") number | top
              | ["not"] flag | "(" rule ")"
    top       = "top" number ["%"] ["of" ("layer" | "model")] ["by" measure]

A :class:`Vocabulary` lists the measures and flags, and whether ``top`` is allowed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any, Literal, get_args

from ...errors import nearest
from .grammar import Tokens

_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
}  # fmt: skip
# Units that are corrected, or ranked, together.
Family = Literal["layer", "model"]
# Measures whose smallest values are the most extreme.
PROBABILITIES = ("p", "log10_p", "q", "q_each", "p_null", "p_f")


@dataclass(frozen=True)
class Vocabulary:
    """The names that a rule may use: measures, flags, and ``top``."""

    measures: tuple[str, ...]
    flags: tuple[str, ...]
    top: bool = True


@dataclass(frozen=True)
class Comparison:
    """``measure sign value``; never true for NaN."""

    measure: str
    sign: str
    value: float

    def holds(self, values: Any) -> Any:
        """Whether each of ``values [unit]`` meets the comparison."""
        return _SIGNS[self.sign](values, self.value)


@dataclass(frozen=True)
class Top:
    """The ``size`` units, or percent of units, of a family with the largest ``measure``."""

    measure: str
    size: Fraction
    percent: bool
    family: Family = "layer"

    def of(self, units: int) -> int:
        """Number of units; a percentage is exact and rounded down."""
        return math.floor(units * self.size / 100 if self.percent else self.size)


@dataclass(frozen=True)
class Flag:
    """A property that a unit has or, if ``negated``, lacks."""

    measure: str
    negated: bool

    def holds(self, values: Any) -> Any:
        """Whether each of the booleans ``values [unit]`` meets the condition."""
        return ~values if self.negated else values


Condition = Comparison | Top | Flag


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
        """Evaluate the rule from boolean arrays, one for each of its conditions."""
        parts = [part.decide(met) if isinstance(part, Rule) else met[part] for part in self.parts]
        return reduce(operator.and_ if self.joined_by == "and" else operator.or_, parts)


def parse_rule(text: str, known: Vocabulary, start: int = 0) -> Rule:
    """Parse a rule that begins at ``start``; the module describes the language.

    Raises
    ------
    UserError : the text cannot be parsed; a caret points at the character
    """
    tokens = Tokens(text, "a rule", start)
    rule = _any(tokens, known)
    tokens.end()
    return rule


def _any(tokens: Tokens, known: Vocabulary) -> Rule:
    parts = [_all(tokens, known)]
    while tokens.take("or"):
        parts.append(_all(tokens, known))
    return Rule("or", tuple(parts))


def _all(tokens: Tokens, known: Vocabulary) -> Rule:
    parts = [_condition(tokens, known)]
    while tokens.take("and"):
        parts.append(_condition(tokens, known))
    return Rule("and", tuple(parts))


def _condition(tokens: Tokens, known: Vocabulary) -> Condition | Rule:
    if tokens.take("("):
        rule = _any(tokens, known)
        tokens.expect(")", "to close its bracket")
        return rule
    if known.top and tokens.take("top"):
        return _top(tokens, known)
    negated = tokens.take("not")
    if flag := tokens.take(*known.flags):
        return Flag(flag.text, negated=negated is not None)
    if negated:
        tokens.refuse(f"not precedes one of {', '.join(known.flags)}")
    measure = _measure(tokens, known)
    sign = tokens.take(*_SIGNS)
    if sign is None:
        tokens.refuse(f"a measure is compared by one of {' '.join(_SIGNS)}")
    return Comparison(measure, sign.text, _number(tokens))


def _top(tokens: Tokens, known: Vocabulary) -> Top:
    start = tokens.current
    size: Fraction = _number(tokens, Fraction)  # exact: 0.57 % of 10,000 units are 57
    percent = tokens.take("%") is not None
    if not (0 < size <= 100 if percent else size >= 1 and size == int(size)):
        tokens.refuse("top takes a number of units, or a percentage of a layer or the model", start)
    family = _family(tokens)
    measure = _ranked(tokens, known)
    return Top(measure, size, percent, family or _family(tokens) or "layer")


def _family(tokens: Tokens) -> Family | None:
    """The units that a top is of, where they are named, before or after the measure."""
    if not tokens.take("of"):
        return None
    families: tuple[Family, ...] = get_args(Family)
    found = next((family for family in families if tokens.take(family)), None)
    if found is None:
        tokens.refuse("a top is of layer, the default, or of model")
    return found


def _ranked(tokens: Tokens, known: Vocabulary) -> str:
    """The measure that a top is by, t by default."""
    if not tokens.take("by"):
        return "t"
    named = tokens.current
    measure = _measure(tokens, known)
    if measure in PROBABILITIES:
        tokens.refuse("top takes the largest values, but small p count: use t", named)
    return measure


def _measure(tokens: Tokens, known: Vocabulary) -> str:
    name = tokens.take(kind="name")
    if name is None:
        flags = [*(["top"] if known.top else []), *known.flags]
        tokens.refuse(f"a rule continues with a measure, {', '.join(flags)} or a bracket")
    if name.text not in known.measures:
        names = (*known.measures, *known.flags)
        tokens.refuse(f"a rule names measures ({nearest(name.text, names)})", name)
    return name.text


def _number(tokens: Tokens, read: Callable[[str], Any] = float) -> Any:
    sign = -1 if tokens.take("-") else 1
    number = tokens.take(kind="number")
    if number is None:
        tokens.refuse("a number is needed here")
    value = read(number.text)
    if tokens.take("/"):  # csi > 1/3
        divisor = tokens.take(kind="number")
        if divisor is None or not read(divisor.text):
            tokens.refuse("a number other than 0 is needed here", divisor)
        value /= read(divisor.text)
    return sign * value
