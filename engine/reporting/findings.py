"""The data behind the figures of page and print, as plain JSON values.

Tables of analyses become columns. Layers and contrasts are indices into their lists, numbers are
rounded to meaningful digits, and a missing number is None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_uppercase
from typing import Any

import numpy as np

from ..analyses.analyse import Analysis
from ..analyses.consistency import SIMILARITIES
from ..analyses.localisation import Localisation
from ..analyses.shares import Share
from ..analyses.specificity import BINS, Specificity
from ..analyses.spread import Spread
from ..registry import UNTRAINED
from ..values import in_json
from .excerpts import first_layer, peaks_of, placeless
from .palette import THEMES, of_category
from .thresholds import GRIDS, ThresholdCounts

# Words of a store's name that say it is a control.
_CONTROL = re.compile(r"(?<![a-z])(untrained|random|control)(?![a-z])", re.IGNORECASE)
# Intervals from a thousand draws have no more significant digits.
_DIGITS = 4
# Larger maps are averaged over blocks, and so are those of more cells together.
_MAP_SIDE, _MAP_CELLS = 64, 2_000_000
Columns = dict[str, list[Any]]


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
        return self.name.rstrip("/").rsplit("/", 1)[-1].removesuffix(".zip").removesuffix(".zarr")

    @cached_property
    def placeless(self) -> tuple[str, ...]:
        """See :func:`.excerpts.placeless`."""
        return placeless(self.analysis)

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
    stores: Sequence[Reported], stimuli: Sequence[Mapping[str, Any]] = ()
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
        "edges": {name: _edges(name) for name in BINS},
        "thresholds": {name: GRIDS[name]._asdict() for name in GRIDS
                       if all(name in one.beyond for one in stores)},
        "stores": [_store(one, contrasts) for one in stores],
        "stimuli": list(stimuli),
    }  # fmt: skip


_SPREAD = ("share_with_any", "entropy", "gini")
_CONSISTENCY = [f"{name}{end}" for end in ("", "_folds") for name in SIMILARITIES]
# Columns of the tables that figures are drawn from.
_COLUMNS: dict[str, tuple[str, ...]] = {
    "shares": (
        "layer", "contrast", "units", "living", "selective", "share", "low", "high",
        "share_of_living", "living_low", "living_high",
    ),
    "specificity": (
        "layer", "contrast", "measure", "units", "mean", "low", "high", "quantiles", "histogram",
    ),
    "spread": (
        "layer", "contrast", "channels", "with_any", "per_channel_median", "per_channel_largest",
        *_SPREAD, *(f"{name}_{part}" for name in _SPREAD for part in ("chance", "low", "high")),
    ),
    "localisation": (
        "layer", "contrast", "grid", "places", "entropy", "moran_i", "expected", "p", "map",
        "block",
    ),
    "strength": (
        "layer", "contrast", "units",
        *(f"{side}{end}" for side in ("preferred", "others") for end in ("", "_low", "_high")),
    ),
    "overlap": (
        "layer", "contrast", "other", "both", "either", "jaccard", "expected", "exclusive",
    ),
    "confusion": ("layer", "category", "other", "units", "share"),
    "best": (
        "layer", "contrast", "place", "auc", "held_out", "selected", "lowest", "most", "least",
    ),
}  # fmt: skip


def _store(one: Reported, contrasts: Sequence[str]) -> dict[str, Any]:
    found = one.analysis
    return {
        "letter": one.letter,
        "name": one.name,
        "model": one.model,
        "label": one.label,
        "control": one.control,
        "categories": len(found.categories),
        "layers": list(found.layers),
        "placeless": [found.layers.index(name) for name in one.placeless],
        "detailed": [found.layers.index(name) for name in one.detailed],
        "tables": _tables(one, contrasts),
        "thresholds": {name: _threshold_counts(rows, found.contrasts, contrasts)
                       for name, rows in one.beyond.items()},
        "consistency": _consistency(one),
    }  # fmt: skip


def _consistency(one: Reported) -> dict[str, Any]:
    """Similarities between the detailed layers, by measure."""
    found = one.analysis.consistency
    if found is None:
        return {}
    own = [found.layers.index(name) for name in one.detailed]
    matrices = {name: getattr(found, name) for name in _CONSISTENCY}
    return {
        name: [[rounded(matrix[i][j]) for j in own] for i in own]
        for name, matrix in matrices.items()
        if matrix is not None
    }


def _tables(one: Reported, contrasts: Sequence[str]) -> dict[str, Columns]:
    """The tables of a store as columns; layers, contrasts and categories are indices."""
    found, own = one.analysis, set(one.detailed)
    layers = {name: i for i, name in enumerate(found.layers)}
    names = {name: i for i, name in enumerate(contrasts)}
    indices = {"layer": layers, "contrast": names, "other": names, "category": names}
    maps = [row for row in found.localisation if row.layer in own]
    side = min(_MAP_SIDE, max(8, math.isqrt(_MAP_CELLS // max(1, len(maps)))))
    # Preferred categories are drawn only if every category is a contrast.
    confusion = found.confusion if set(found.categories) <= set(contrasts) else ()
    tables: dict[str, Iterable[Mapping[str, Any]]] = {
        "shares": map(vars, found.shares),
        "specificity": (vars(row) if row.layer in own else
                        vars(row) | {"histogram": None, "quantiles": None}
                        for row in found.specificity),
        "spread": map(_with_chance, found.spread),
        "localisation": (_in_blocks(row, side) for row in maps),
        "strength": map(vars, found.strength),
        "overlap": (vars(row) for row in found.overlap if row.layer in own),
        "confusion": (vars(row) for row in confusion if row.layer in own),
    }  # fmt: skip
    if one.best:
        tables["best"] = one.best
    return {table: _columns(rows, _COLUMNS[table], indices) for table, rows in tables.items()}


def _columns(
    rows: Iterable[Mapping[str, Any]],
    names: Sequence[str],
    indices: Mapping[str, Mapping[str, int]],
) -> Columns:
    read = list(rows)
    return {
        name: [indices[name][row[name]] if name in indices else rounded(row[name]) for row in read]
        for name in names
    }


def _with_chance(row: Spread) -> dict[str, Any]:
    """A row of spread with the value expected by chance, and its interval, for each number."""
    columns = dict(vars(row))
    for name in _SPREAD:
        chance = row.random[name] if row.random else None
        known = (chance.mean, chance.low, chance.high) if chance else (None, None, None)
        for part, value in zip(("chance", "low", "high"), known, strict=True):
            columns[f"{name}_{part}"] = value
    return columns


def _in_blocks(row: Localisation, most: int) -> dict[str, Any]:
    """A row of localisation whose map is averaged over blocks if a side is longer than ``most``."""
    columns = dict(vars(row))
    side = max(len(row.map), *(len(cells) for cells in row.map))
    block = math.ceil(side / most)
    if block > 1:
        values = np.array(row.map, np.float64)  # None is NaN
        ends = [math.ceil(length / block) * block - length for length in values.shape]
        padded = np.pad(values, [(0, end) for end in ends], constant_values=np.nan)
        high, wide = (length // block for length in padded.shape)
        blocks = padded.reshape(high, block, wide, block).swapaxes(1, 2).reshape(high, wide, -1)
        known = np.isfinite(blocks)
        number = known.sum(axis=-1)
        sums = np.where(known, blocks, 0).sum(axis=-1)
        columns["map"] = np.where(number > 0, sums / np.maximum(number, 1), np.nan).tolist()
    return {**columns, "block": block}


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


def _edges(measure: str) -> list[float]:
    first, last, bins = BINS[measure]
    return [round(first + (last - first) * i / bins, 6) for i in range(bins + 1)]


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
