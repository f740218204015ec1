"""The data behind the figures of page and print, as plain JSON values.

Tables of analyses become columns. Layers and contrasts are indices into their lists, numbers are
rounded to meaningful digits, and a missing number is None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_uppercase
from typing import Any

from ..analyses.analyse import Analysis
from ..analyses.peaks import first_layer, peaks_of
from ..analyses.shares import Share
from ..analyses.specificity import BINS, Specificity
from ..plotting.palette import THEMES, of_category
from ..plotting.tables import columns, edges, network, short
from ..registry import UNTRAINED
from ..values import in_json
from .results import Section
from .thresholds import GRIDS, ThresholdCounts

# Words of a store's name that say it is a control.
_CONTROL = re.compile(r"(?<![a-z])(untrained|random|control)(?![a-z])", re.IGNORECASE)
# Intervals from a thousand draws have no more significant digits.
_DIGITS = 4
# Larger maps are averaged over blocks, and so are those of more cells together.
_MAP_SIDE, _MAP_CELLS = 64, 2_000_000
# Columns of the table of strongest units.
_BEST = ("layer", "contrast", "place", "auc", "held_out", "selected", "lowest", "most", "least")


@dataclass(frozen=True)
class Reported:
    """A store on the page, with its analysis.

    ``letter`` identifies it among several stores, and is empty for a single one. ``detailed`` are
    the layers that are shown one by one. ``beyond`` has :class:`.thresholds.ThresholdCounts` by
    measure and detailed layer, ``best`` the rows of :mod:`.best`.
    """

    letter: str
    name: str
    analysis: Analysis
    beyond: Mapping[str, Sequence[ThresholdCounts]]
    facts: tuple[tuple[str, str], ...]
    detailed: tuple[str, ...]
    best: tuple[Mapping[str, Any], ...] = ()

    @property
    def model(self) -> str:
        """The network and its weights, as named in the store."""
        provenance = self.analysis.provenance
        return f"{provenance['model']} ({provenance['weights']})"

    @property
    def label(self) -> str:
        """Letter and short name of the store, and whether it is a control."""
        name = f"{self.letter}: {self.short}" if self.letter else self.short
        known = not self.control or self.control in self.short.lower()
        return name if known else f"{name} ({self.control})"

    @property
    def control(self) -> str:
        """``untrained`` if the weights are, else the word of its name for a control, or none."""
        if str(self.analysis.provenance["weights"]).startswith(UNTRAINED):
            return "untrained"
        named = _CONTROL.search(self.short)
        return named[1].lower() if named else ""

    @property
    def short(self) -> str:
        """The store's name without its folder and suffix."""
        return short(self.name)

    @cached_property
    def _peaks(self) -> dict[tuple[str, bool], Share]:
        return peaks_of(self.analysis)

    def peaks(self, placeless: bool = False) -> dict[str, Share]:
        """The layer with the largest share of selective units, by contrast."""
        return {name: row for (name, own), row in self._peaks.items() if own == placeless}

    def peak(self, placeless: bool = False) -> Share | None:
        """The largest share of any contrast and layer; None without such layers."""
        return max(self.peaks(placeless).values(), key=lambda row: row.share, default=None)

    def csi(self, layer: str, contrast: str) -> Specificity | None:
        """Held-out CSI of units selected on one fold; None if there was no other."""
        for row in self.analysis.specificity:
            if (row.layer, row.contrast, row.measure) == (layer, contrast, "csi"):
                return row if self.analysis.folds > 1 else None
        return None


def letters(number: int) -> list[str]:
    """Letters of stores: A, B, C, ..., Z, AA, ...; empty for a single store."""
    return [""] if number == 1 else [_letter(place) for place in range(number)]


def _letter(place: int) -> str:
    before, last = divmod(place, len(ascii_uppercase))
    return (_letter(before - 1) if before else "") + ascii_uppercase[last]


def contrasts_of(stores: Sequence[Reported]) -> list[str]:
    """Contrasts of all stores in order of first appearance, which determines their colours."""
    return list(dict.fromkeys(name for one in stores for name in one.analysis.contrasts))


def findings(
    stores: Sequence[Reported],
    stimuli: Sequence[Mapping[str, Any]] = (),
    sections: Sequence[Section] = (),
) -> dict[str, Any]:
    """The data of all figures as plain JSON values."""
    contrasts = contrasts_of(stores)
    return {
        "criterion": stores[0].analysis.criterion,
        "contrasts": [
            {"name": name, **of_category(place)} for place, name in enumerate(contrasts)
        ],
        "layer": first_layer(stores[0].analysis),
        "palette": THEMES,
        "edges": {name: edges(name) for name in BINS},
        "thresholds": {name: GRIDS[name]._asdict() for name in GRIDS
                       if all(name in one.beyond for one in stores)},
        "stores": [_store(one, contrasts) for one in stores],
        "stimuli": list(stimuli),
        "results": [one.data | {"tables": rounded(one.data["tables"])} for one in sections],
    }  # fmt: skip


def _store(one: Reported, contrasts: Sequence[str]) -> dict[str, Any]:
    found = one.analysis
    maps = sum(row.layer in one.detailed for row in found.localisation)
    side = min(_MAP_SIDE, max(8, math.isqrt(_MAP_CELLS // max(1, maps))))
    shown = network(found, one.label, contrasts, one.detailed, letter=one.letter, side=side)
    if one.best:
        indices = {
            name: {own: i for i, own in enumerate(names)}
            for name, names in (("layer", found.layers), ("contrast", contrasts))
        }
        shown["tables"]["best"] = columns(one.best, _BEST, indices)
    return {
        **rounded(shown),
        "name": one.name,
        "model": one.model,
        "control": one.control,
        "categories": len(found.categories),
        "thresholds": {name: _threshold_counts(rows, found.contrasts, contrasts)
                       for name, rows in one.beyond.items()},
    }  # fmt: skip


def _threshold_counts(
    rows: Sequence[ThresholdCounts], own: Sequence[str], contrasts: Sequence[str]
) -> list[Any]:
    """Units and margins at each threshold, for every layer and contrast of the page."""
    index = {name: i for i, name in enumerate(own)}
    return [
        [
            {"selective": row.selective[index[name]].tolist(),
             "margin": rounded(row.margin[index[name]].tolist())} if name in index else None
            for name in contrasts
        ]
        for row in rows
    ]  # fmt: skip


def rounded(value: Any) -> Any:
    """A JSON value whose numbers are rounded to four significant digits."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return in_json(value)
        short = float(f"{value:.{_DIGITS}g}")
        if abs(value) < 1 == abs(short):
            short = math.copysign(1 - 10**-_DIGITS, value)  # almost 1 is not 1
        return int(short) if short.is_integer() and abs(short) < 2**53 else short
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return value
