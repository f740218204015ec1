"""Contrasts that exclude each other: no unit can be selective for both, whatever its responses.

They do if the criterion asks for a larger response to the target than to each baseline category,
and each contrast has the other's target in its baseline: a unit would have to respond more to
either target than to the other.
"""

from __future__ import annotations

import math

from .contrast import Contrast
from .criterion import Criterion, require_criterion
from .rule import Comparison, Condition, Rule

# One-sided p below these mean a larger response to the target; q is never below p.
_EVEN = {"p": 0.5, "q": 0.5, "log10_p": math.log10(0.5)}


def exceeds_each(criterion: Criterion) -> bool:
    """Whether a selected unit always responds more to the target than to each baseline category."""
    require_criterion(criterion)
    each = criterion.test == "each" or criterion.pairwise
    return each and _asks_for_more(criterion.rule(), criterion.sides)


def are_opposed(one: Contrast, other: Contrast) -> bool:
    """Whether two contrasts have each other's target in their baseline; weighted sums have none."""
    if one.weighted or other.weighted:
        return False
    return _is_against(one, other) and _is_against(other, one)


def _asks_for_more(part: Rule | Condition, sides: int) -> bool:
    """Whether only units with t above 0 can meet a rule."""
    if isinstance(part, Rule):
        asked = (_asks_for_more(one, sides) for one in part.parts)
        return any(asked) if part.joined_by == "and" else all(asked)
    if not isinstance(part, Comparison):
        return False
    if part.measure == "t":
        return (part.sign == ">" and part.value >= 0) or (part.sign == ">=" and part.value > 0)
    even = _EVEN.get(part.measure, -math.inf)
    return sides == 1 and part.sign in ("<", "<=") and part.value < even


def _is_against(one: Contrast, other: Contrast) -> bool:
    """Whether the baseline of one contrast has all target categories of the other."""
    if one.named is None:
        return not set(one.target) & set(other.target)
    return set(other.target) <= set(one.named)
