"""Contrasts that exclude each other: no unit can be selective for both, whatever its responses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .contrast import Contrast
from .criterion import Criterion
from .rule import Comparison, Condition, Rule

# One-sided p below these mean a larger response to the target; q is never below p.
_EVEN = {"p": 0.5, "q": 0.5, "log10_p": math.log10(0.5)}


def exclusive(criterion: Criterion, contrasts: Sequence[Contrast]) -> NDArray[np.bool_]:
    """Pairs ``[contrast, contrast]`` that exclude each other under a criterion.

    A criterion that asks for a larger response to the target than to each baseline category selects
    no unit for two contrasts if each has the other's target in its baseline: the unit would have to
    respond more to either target than to the other.
    """
    number = len(contrasts)
    found = np.zeros((number, number), bool)
    apart = criterion.test == "each" or criterion.pairwise
    if not apart or not _asks_for_more(criterion.rule(), criterion.sides):
        return found
    for i, one in enumerate(contrasts):
        for j, other in enumerate(contrasts[:i]):
            found[i, j] = found[j, i] = _against(one, other) and _against(other, one)
    return found


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


def _against(one: Contrast, other: Contrast) -> bool:
    """Whether the baseline of one contrast has all target categories of the other."""
    if one.weighted or other.weighted:
        return False
    if one.named is None:
        return not set(one.target) & set(other.target)
    return set(other.target) <= set(one.named)
