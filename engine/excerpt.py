"""Excerpts of long results for people: the leading contrasts, and layers at even steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")

# Rows of a table that is shown whole. A longer one has fewer contrasts and, if it is still too
# long, fewer layers.
MOST_ROWS, MOST_CONTRASTS = 200, 10
# Columns of a matrix, or of categories, that fit on a page.
MOST_COLUMNS = 20

# How the contrasts of an excerpt are chosen, in words.
RANKED = "those that peak highest"


@dataclass(frozen=True)
class Excerpt:
    """Layers and contrasts of a table that are shown; ``said`` counts them, empty if all are."""

    layers: frozenset[str]
    contrasts: frozenset[str]
    said: str

    def has(self, layer: str, contrast: str) -> bool:
        """Whether a row is shown."""
        return layer in self.layers and contrast in self.contrasts


def excerpt(
    values: Mapping[tuple[str, str], float], rows: int = MOST_ROWS, noun: str = "contrasts"
) -> Excerpt:
    """The leading contrasts, at even steps over the layers, of a table with too many rows.

    Contrasts lead by their largest value in any layer. The layers of these peaks are shown too.

    Parameters
    ----------
    values : what contrasts are ranked by, such as the share of selective units, by layer and
        contrast in the order of the table
    rows : number of rows of a table that is shown whole
    noun : the contrasts in words
    """
    layers = list(dict.fromkeys(layer for layer, _ in values))
    peaks: dict[str, tuple[float, str]] = {}
    for (layer, contrast), value in values.items():
        if contrast not in peaks or value > peaks[contrast][0]:
            peaks[contrast] = value, layer
    number = len(peaks)
    if len(values) > rows:
        number = min(number, max(MOST_CONTRASTS, rows // len(layers)))
    led = leading({name: value for name, (value, _) in peaks.items()}, number)
    shown, said = layers, []
    if len(layers) * len(led) > rows:
        peaking = {peaks[name][1] for name in led}
        step = step_over(len(layers), rows // len(led) - len(peaking))
        chosen = peaking.union(at_steps(layers, step))
        shown = [layer for layer in layers if layer in chosen]
        said.append(f"{len(shown):,} of {len(layers):,} layers (one in {step:,}, and the peaks)")
    if len(led) < len(peaks):
        said.append(f"{len(led):,} of {len(peaks):,} {noun} ({RANKED})")
    return Excerpt(frozenset(shown), frozenset(led), ", ".join(said))


def leading(values: Mapping[str, float], most: int) -> list[str]:
    """The ``most`` names of the largest values, in their order in ``values``; ties by that order.

    All are kept if they are no more than ``most``.
    """
    ranked = sorted(values, key=lambda name: -values[name])[:most]
    kept = set(ranked)
    return [name for name in values if name in kept]


def at_steps(items: Sequence[_T], step: int) -> list[_T]:
    """Every ``step``-th item from the first on, and the last."""
    return [item for i, item in enumerate(items) if i % step == 0 or i == len(items) - 1]


def step_over(number: int, most: int) -> int:
    """The smallest step at which :func:`at_steps` keeps at most ``most`` of ``number`` items."""
    return max(1, math.ceil((number - 1) / max(most - 1, 1)))
