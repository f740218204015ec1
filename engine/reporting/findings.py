"""What the page's script is given: rows of analyses as columns, with digits that mean something.

A value of :func:`findings` is plain JSON. Layers and contrasts are places in their lists; a number
that is not there is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from string import ascii_uppercase
from typing import Any

import numpy as np

from ..analyses.analyse import Analysis
from ..analyses.shares import Share
from ..analyses.specificity import BINS
from ..values import in_json
from .palette import THEMES, of_category
from .thresholds import GRIDS, Beyond

# Significant digits: intervals of a thousand draws have no more.
_DIGITS = 4
# A map with more rows or columns is shown in blocks of places.
_MAP_SIDE = 64
Columns = dict[str, list[Any]]
Table = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Reported:
    """A store on the page: its analysis, its units beyond thresholds, what drives its units.

    ``letter`` tells it from the others, and is empty where it is alone. ``beyond`` has a
    :class:`.thresholds.Beyond` for every measure and layer; ``best`` rows of :mod:`.best`.
    """

    letter: str
    name: str
    analysis: Analysis
    beyond: Mapping[str, Sequence[Beyond]]
    facts: tuple[tuple[str, str], ...]
    best: tuple[Mapping[str, Any], ...] = ()

    @property
    def model(self) -> str:
        """The network and its weights, as the store names them."""
        said = self.analysis.provenance
        return f"{said['model']} ({said['weights']})"

    @property
    def label(self) -> str:
        """What it is called beside others: by the name of its store."""
        return f"{self.letter}: {self.short}" if self.letter else self.short

    @property
    def short(self) -> str:
        """The name of its store, without where it lies."""
        return self.name.rstrip("/").rsplit("/", 1)[-1].removesuffix(".zarr")

    @cached_property
    def peaks(self) -> dict[str, Share]:
        """Of every contrast the layer with the largest share of selective units."""
        found: dict[str, Share] = {}
        for row in self.analysis.shares:
            if row.contrast not in found or row.share > found[row.contrast].share:
                found[row.contrast] = row
        return found

    @property
    def peak(self) -> Share:
        """The largest share of any contrast and layer."""
        return max(self.peaks.values(), key=lambda row: row.share)

    def csi(self, layer: str, contrast: str) -> float | None:
        """Mean CSI of the selected on stimuli that did not select them."""
        for row in self.analysis.specificity:
            if (row.layer, row.contrast, row.measure) == (layer, contrast, "csi"):
                return row.mean
        return None


def letters(number: int) -> list[str]:
    """What stores are called: nothing where there is one, else A, B, C, ..."""
    return [""] if number == 1 else [letter_of(place) for place in range(number)]


def letter_of(place: int) -> str:
    """A to Z, then AA, AB, ..."""
    before, last = divmod(place, len(ascii_uppercase))
    return (letter_of(before - 1) if before else "") + ascii_uppercase[last]


def contrasts_of(stores: Sequence[Reported]) -> list[str]:
    """Contrasts of all stores, in the order of the first that has them: colours follow it."""
    return list(dict.fromkeys(name for one in stores for name in one.analysis.contrasts))


def findings(
    stores: Sequence[Reported], stimuli: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """All that the page's script draws from, as plain JSON values."""
    contrasts = contrasts_of(stores)
    return {
        "criterion": stores[0].analysis.criterion,
        "contrasts": [
            {"name": name, **of_category(place)} for place, name in enumerate(contrasts)
        ],
        "layer": _first_layer(stores[0]),
        "palette": THEMES,
        "edges": {name: _edges(name) for name in BINS},
        "thresholds": {name: GRIDS[name]._asdict() for name in GRIDS
                       if all(name in one.beyond for one in stores)},
        "stores": [_store(one, contrasts) for one in stores],
        "stimuli": list(stimuli),
    }  # fmt: skip


def _first_layer(one: Reported) -> str:
    """The layer to begin with: of those that have a map, the one with the largest share."""
    mapped = {row.layer for row in one.analysis.localisation if row.places > 1}
    rows = [row for row in one.analysis.shares if row.layer in mapped] or one.analysis.shares
    return max(rows, key=lambda row: row.share).layer


def _store(one: Reported, contrasts: Sequence[str]) -> dict[str, Any]:
    found = one.analysis
    places = {"layer": {name: i for i, name in enumerate(found.layers)},
              "contrast": {name: i for i, name in enumerate(contrasts)}}  # fmt: skip
    places |= {"other": places["contrast"], "category": places["contrast"]}

    def columns(rows: Iterable[Any], *names: str) -> Columns:
        read = [row if isinstance(row, dict) else asdict(row) for row in rows]
        return {
            name: [
                places[name][row[name]] if name in places else rounded(row[name]) for row in read
            ]
            for name in names
        }

    interval = ("low", "high")
    tables = {
        "shares": columns(
            found.shares, "layer", "contrast", "units", "living", "selective", "share", *interval,
            "share_of_living", "living_low", "living_high",
        ),
        "specificity": columns(
            found.specificity, "layer", "contrast", "measure", "units", "mean", *interval,
            "quantiles", "histogram",
        ),
        "spread": columns(
            map(_beside_chance, found.spread), "layer", "contrast", "channels", "with_any",
            "per_channel_median", "per_channel_largest", *_SPREAD,
            *(f"{name}_{part}" for name in _SPREAD for part in ("chance", *interval)),
        ),
        "localisation": columns(
            map(_in_blocks, found.localisation), "layer", "contrast", "grid", "places", "entropy",
            "moran_i", "expected", "p", "map", "block",
        ),
        "strength": columns(
            found.strength, "layer", "contrast", "units",
            *(f"{side}{end}" for side in ("preferred", "others") for end in ("", "_low", "_high")),
        ),
        "overlap": columns(
            found.overlap, "layer", "contrast", "other", "both", "either", "jaccard", "expected"
        ),
        "confusion": columns(
            # Preferred categories are drawn where categories are what contrasts are of.
            found.confusion if set(found.categories) <= set(contrasts) else (),
            "layer", "category", "other", "units", "share",
        ),
    }  # fmt: skip
    if one.best:
        named = ("layer", "contrast", "place", "auc", "lowest", "most", "least")
        tables["best"] = columns(one.best, *named)
    return {
        "letter": one.letter,
        "name": one.name,
        "model": one.model,
        "label": one.label,
        "layers": list(found.layers),
        "tables": tables,
        "thresholds": {name: _beyond(rows, found.contrasts, contrasts)
                       for name, rows in one.beyond.items()},
        "consistency": {} if found.consistency is None else {
            name: rounded(getattr(found.consistency, name))
            for name in _CONSISTENCY if getattr(found.consistency, name) is not None
        },
    }  # fmt: skip


_CONSISTENCY = [f"{name}{end}" for end in ("", "_folds") for name in ("spearman", "kendall", "cka")]
_SPREAD = ("share_with_any", "entropy", "gini")


def _beside_chance(row: Any) -> dict[str, Any]:
    """A row of spread with what is had at random beside each number."""
    told = asdict(row)
    for name in _SPREAD:
        chance = (told["random"] or {}).get(name) or {"mean": None, "low": None, "high": None}
        told |= {f"{name}_chance": chance["mean"], f"{name}_low": chance["low"],
                 f"{name}_high": chance["high"]}  # fmt: skip
    return told


def _in_blocks(row: Any) -> dict[str, Any]:
    """A row of localisation whose map has at most so many places a side: means of blocks."""
    told = asdict(row)
    side = max(len(row.map), *(len(cells) for cells in row.map))
    block = math.ceil(side / _MAP_SIDE)
    if block > 1:
        values = np.array(row.map, np.float64)  # None is NaN
        ends = [math.ceil(length / block) * block - length for length in values.shape]
        padded = np.pad(values, [(0, end) for end in ends], constant_values=np.nan)
        rows, columns = (length // block for length in padded.shape)
        blocks = (
            padded.reshape(rows, block, columns, block).swapaxes(1, 2).reshape(rows, columns, -1)
        )
        known = np.isfinite(blocks)
        number = known.sum(axis=-1)
        sums = np.where(known, blocks, 0).sum(axis=-1)
        told["map"] = np.where(number > 0, sums / np.maximum(number, 1), np.nan).tolist()
    return {**told, "block": block}


def _beyond(rows: Sequence[Beyond], own: Sequence[str], contrasts: Sequence[str]) -> list[Any]:
    """Of every layer and contrast of the page, units and margins at each threshold."""
    at = {name: place for place, name in enumerate(own)}
    return [
        [
            {"selective": row.selective[at[name]].tolist(),
             "margin": rounded(row.margin[at[name]].tolist())} if name in at else None
            for name in contrasts
        ]
        for row in rows
    ]  # fmt: skip


def _edges(measure: str) -> list[float]:
    first, last, bins = BINS[measure]
    return [round(first + (last - first) * i / bins, 6) for i in range(bins + 1)]


def rounded(value: Any) -> Any:
    """A value with four significant digits in every number, as JSON can hold it."""
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, float):
        if not math.isfinite(value):
            return in_json(value)
        short = float(f"{value:.{_DIGITS}g}")
        return int(short) if short.is_integer() and abs(short) < 2**53 else short
    return value
