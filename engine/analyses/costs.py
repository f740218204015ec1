"""The costs of analyses of all pairs, told before they are computed.

Most analyses grow with the number of contrasts. Three grow with its square, or with that of the
number of categories: at thousands they need a choice.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from .. import blocks
from ..errors import UserError
from ..layer import Layer
from ..store.store_reader import StoreReader
from ..texts import duration, in_bytes
from .consistency import MOST_VALUES, SIMILARITIES

# Bytes of a row of results, and of a value; seconds per value and level of a merge sort.
_ROW, _VALUE, _LEVEL = 300, 32, 6e-9
# Costs worth a line; and seconds that need a choice.
_WORTH, _WORTH_SECONDS, _LONG = 2**28, 20, 60


class Cost(NamedTuple):
    """Bytes and seconds of an analysis, what it counts in words, and how to spend less."""

    bytes: int
    seconds: float
    counted: str
    remedy: str

    def __str__(self) -> str:
        time = f" and {duration(self.seconds)}" if self.seconds > 2 else ""
        return f"{self.counted} take about {in_bytes(self.bytes)}{time}"


def cost_of(
    analysis: str,
    store: StoreReader,
    layers: Sequence[Layer],
    contrasts: int,
    similarities: Sequence[str] = SIMILARITIES,
) -> Cost | None:
    """The cost of an analysis of all pairs; None for any other."""
    number, categories = len(layers), len(store.categories)
    if analysis == "overlap":
        pairs = number * contrasts * (contrasts - 1) // 2
        what = f"{pairs:,} pairs of contrasts"
        return Cost(_ROW * pairs, 2e-6 * pairs, what, "choose fewer contrasts or layers")
    if analysis == "confusion":
        pairs = number * categories**2 if store.folds > 1 else 0
        what = f"{pairs:,} pairs of categories"
        return Cost(_ROW * pairs, 2e-6 * pairs, what, "choose fewer layers")
    return _of_consistency(store, layers, similarities) if analysis == "consistency" else None


def _of_consistency(
    store: StoreReader, layers: Sequence[Layer], similarities: Sequence[str]
) -> Cost:
    number, categories = len(layers), len(store.categories)
    samples = store.folds + 1 if store.folds > 1 else 1
    pairs = categories * (categories - 1) // 2
    held = number * samples * 4 * pairs + 2 * len(SIMILARITIES) * _VALUE * number**2
    if any(one.startswith("cka") for one in similarities):
        held += samples * sum(8 * categories * min(one.units, categories) for one in layers)
    if number * categories**2 <= MOST_VALUES:
        held += _VALUE * number * categories**2
    wide = any(one.units > categories for one in layers)
    working = 8 * categories**2 * (2 * samples + 3 if wide else 2)
    between = number * (number + 1) // 2
    between += number**2 * math.comb(store.folds, 2)
    sorts = number * samples + ("kendall" in similarities) * between
    seconds = sorts * pairs * math.log2(pairs + 2) * _LEVEL / (os.cpu_count() or 1)
    what = f"{pairs:,} distances of {number:,} layers"
    remedy = "choose fewer layers" + (
        ", or similarities without kendall" if "kendall" in similarities else ""
    )
    return Cost(held + working, seconds, what, remedy)


def affordable(
    analyses: Iterable[str],
    cost: Callable[[str], Cost | None],
    chosen: bool,
    note: Callable[[str], None],
) -> tuple[list[str], list[str]]:
    """Analyses to compute, and a line about each that is left out because of its cost.

    Analyses that were not ``chosen`` by name are left out if they take more than questions do by
    default, or a minute. Those that were are computed if memory allows, after a line about a large
    cost.

    Raises
    ------
    UserError : a chosen analysis takes more than the memory budget, or than the free memory
    """
    kept, left_out = [], []
    for name in analyses:
        own = cost(name)
        room = blocks.room(chosen)
        if own and own.bytes > room and chosen:
            raise UserError(
                f"{name} must fit {in_bytes(room)} of memory{blocks.whose()}; {own}: {own.remedy}"
            )
        if own and (own.bytes > room or own.seconds > _LONG) and not chosen:
            left_out.append(f"{name} is left out: {own}: ask for it by name, or {own.remedy}")
            continue
        if own and (own.bytes > _WORTH or own.seconds > _WORTH_SECONDS):
            note(f"{name}: {own}")
        kept.append(name)
    return kept, left_out
