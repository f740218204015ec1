"""Differences between networks, layer by layer, with intervals over feature maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from ...kernels.spatial import (
    entropy_of_numbers,
    gini,
    gini_of_numbers,
    normalised_entropy,
    share_of_numbers,
)
from ..analyses.census import Census, take_census
from ..analyses.resampling import generator, held_out_means, intervals, or_none, ratios
from ..analyses.spread import share_with_any
from ..contrasts.language.criterion import DEFAULT, Criterion
from ..errors import UserError, nearest, shortened
from ..layer import Layer
from ..limits import refuse_numbers, refuse_seed
from ..results import Result
from ..store.reader import require_complete
from ..store.store_reader import StoreReader
from ..table import Table
from ..values import listed
from . import frames
from .pairing import MISMATCHES, Pairing, allowed_mismatches, common_categories, pair_layers

Floats = NDArray[np.float64]
Against = Literal["first", "previous"]
# Feature maps drawn at a time.
_DRAWN = 2**22

# Measures as ratios of sums, means of held-out values, or statistics of the counts, over feature
# maps.
_RATIOS: dict[str, tuple[str, str]] = {
    "share": ("selective", "units"),
    "share_of_living": ("selective", "living"),
}
_HELD_OUT = ("csi", "d_prime")
_STATISTICS: dict[str, tuple[Callable[..., Floats], Callable[[Floats, Floats, int], Floats]]] = {
    "share_with_any": (share_with_any, share_of_numbers),
    "entropy": (normalised_entropy, entropy_of_numbers),
    "gini": (gini, gini_of_numbers),
}
MEASURED: dict[str, str] = {
    "share": "share of selective units",
    "share_of_living": "share of selective among living units",
    "csi": "held-out CSI of selective units",
    "d_prime": "held-out d' of selective units",
    "share_with_any": "share of feature maps with a selective unit",
    "entropy": "evenness of selective units over feature maps, normalised entropy",
    "gini": "unevenness of selective units over feature maps, Gini",
}


@dataclass(frozen=True)
class Difference:
    """A measure of one contrast in two networks, and its difference ``second`` - ``first``.

    ``first`` and ``second`` number the networks. ``low`` and ``high`` bound the middle 95 % of the
    difference over resampled feature maps, drawn separately for each network. Values are None where
    there is nothing to measure.
    """

    layer: str
    other_layer: str
    contrast: str
    measure: str
    first: int
    second: int
    value: float | None
    other_value: float | None
    difference: float | None
    low: float | None
    high: float | None


class Drawn(NamedTuple):
    """A layer's measures: values ``[contrast]`` and draws ``[resample, contrast]``."""

    contrasts: tuple[str, ...]
    measures: dict[str, tuple[Floats, Floats]]


class _Drawing:
    """Draws the layers of a store in its order, one at a time."""

    def __init__(
        self, censuses: Iterator[Census], measures: Sequence[str], resamples: int, seed: int
    ) -> None:
        self._censuses, self._measures = censuses, measures
        self._resamples, self._seed = resamples, seed
        self._layer, self._drawn = "", Drawn((), {})

    def of(self, layer: str) -> Drawn:
        """A layer, which is the last one or a later one."""
        while self._layer != layer:
            census = next(self._censuses)
            self._layer = census.layer.name
            self._drawn = Drawn((), {})  # two at a time would take twice the memory
            self._drawn = _draw(census, self._measures, self._resamples, self._seed)
        return self._drawn


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """Differences between networks.

    ``stores`` are their paths, in order, and ``provenance`` the attributes of each root;
    ``criterion`` is in words. ``warnings`` list allowed mismatches between the stores, and layers
    without a counterpart.
    """

    stores: tuple[str, ...]
    provenance: tuple[Mapping[str, Any], ...]
    criterion: str
    pairing: str
    against: str
    resamples: int
    seed: int
    warnings: tuple[str, ...]
    differences: tuple[Difference, ...]

    def tables(self) -> Iterator[Table]:
        """All values in long form, see :mod:`.frames`."""
        return frames.differences(self)


def compare(
    stores: StoreReader | Path | str | Sequence[StoreReader | Path | str],
    criterion: Criterion = DEFAULT,
    layers: str | Sequence[str] = "*",
    contrasts: str | Sequence[str] | None = None,
    *,
    measures: str | Sequence[str] = tuple(MEASURED),
    pairing: Pairing = "name",
    against: Against = "first",
    allow: str | Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare networks that were shown the same stimuli, layer by layer.

    Parameters
    ----------
    stores : two or more stores or their paths, such as checkpoints of a training run in order
    criterion : the criterion that selects units
    layers : names or globs of layers of the first store
    contrasts : see :mod:`..contrasts.language.contrast`; by default every category
    measures : keys of :data:`MEASURED`
    pairing : pair layers by ``name``, or by relative ``depth``
    against : compare every network with the ``first``, or with the ``previous`` one
    allow : mismatches to allow: ``stimuli``, ``preprocessing``, ``units``
    resamples : number of draws of feature maps
    seed : seed of the draws

    Raises
    ------
    UserError : fewer than two stores, or stores that cannot be compared; no corresponding layers;
        an unknown measure, pairing or contrast; an unfinished scan
    """
    measures, allow = listed(measures), listed(allow)
    refuse_seed(seed)
    results: list[StoreReader] = [StoreReader.of(store) for store in listed(stores)]
    _require_known(results, measures, pairing, against, allow, resamples)
    first = results[0]
    warnings = [text for other in results[1:] for text in allowed_mismatches(first, other, allow)]
    contrasts = common_categories(results) if contrasts is None else contrasts
    selected = first.layers_named(layers)
    paired = [{layer.name: layer.name for layer in selected}]
    for other in results[1:]:
        paired.append(_paired(first, other, selected, pairing))
        if alone := [layer.name for layer in selected if layer.name not in paired[-1]]:
            warnings.append(f"{other.path} has no {shortened(alone)}")
    seeds = np.random.SeedSequence(seed).generate_state(len(results)).tolist()
    parts = ("held_out",) if set(_HELD_OUT) & set(measures) else ()
    streams = []
    for store, names, own_seed in zip(results, paired, seeds, strict=True):
        named = list(dict.fromkeys(names.values()))
        censuses = take_census(store, criterion, named, contrasts, parts)
        streams.append(_Drawing(censuses, measures, resamples, own_seed))
    rows: list[list[Difference]] = [[] for _ in results]
    for layer in selected:
        # Layers of all stores correspond in order, and only those of one layer are in memory.
        drawn = [
            stream.of(names[layer.name]) if layer.name in names else None
            for stream, names in zip(streams, paired, strict=True)
        ]
        for second in range(1, len(results)):
            base = 0 if against == "first" else second - 1
            own, its = drawn[base], drawn[second]
            if own is not None and its is not None:
                both = paired[base][layer.name], paired[second][layer.name]
                rows[second] += _rows((base + 1, second + 1), both, own, its)
    return Comparison(
        stores=tuple(str(store.path) for store in results),
        provenance=tuple(store.provenance for store in results),
        criterion=str(criterion),
        pairing=pairing,
        against=against,
        resamples=resamples,
        seed=seed,
        warnings=tuple(warnings),
        differences=tuple(row for own in rows for row in own),
    )


def _require_known(
    stores: Sequence[StoreReader],
    measures: Sequence[str],
    pairing: str,
    against: str,
    allow: Sequence[str],
    resamples: int,
) -> None:
    if len(stores) < 2:
        raise UserError(f"a comparison needs at least two stores; got {len(stores)}")
    known = {"measures": MEASURED, "pairing": get_args(Pairing), "against": get_args(Against),
             "allow": MISMATCHES}  # fmt: skip
    given = {"measures": measures, "pairing": [pairing], "against": [against], "allow": allow}
    for option, values in given.items():
        for value in values:
            if value not in known[option]:
                raise UserError(
                    f"{option} of a comparison: {', '.join(known[option])}; got {value!r}: "
                    f"{nearest(value, known[option])}"
                )
    refuse_numbers(resamples=resamples)
    if resamples < 1:
        raise UserError(f"resamples is a number of random draws, at least 1; got {resamples}")
    for store in stores:
        require_complete(store)


def _paired(
    first: StoreReader, other: StoreReader, selected: Sequence[Layer], pairing: Pairing
) -> dict[str, str]:
    """Names of the selected layers of the first store and of their counterparts."""
    pairs = pair_layers(first.layers, other.layers, pairing)
    wanted = {layer.name for layer in selected}
    names = {own.name: its.name for own, its in pairs if own.name in wanted}
    if not names:
        raise UserError(
            f"layers are compared with those of the same name; {other.path} has none of "
            f"{shortened(layer.name for layer in selected)}: pair them by depth"
        )
    return names


def _draw(census: Census, measures: Sequence[str], resamples: int, seed: int) -> Drawn:
    """Measures of a layer, and their values over draws of its feature maps.

    A layer with one feature map has no draws; a store with one fold has no held-out values.
    """
    several = resamples if len(census.channel_units) > 1 else 0
    contrasts, channels = census.by_channel.shape
    counts = {
        "selective": census.by_channel,
        "units": np.broadcast_to(census.channel_units, (contrasts, channels)),
        "living": np.broadcast_to(census.channel_living, (contrasts, channels)),
    }
    found: dict[str, tuple[Floats, Floats]] = {}
    for name in measures:
        if name in _HELD_OUT:
            own = getattr(census, name)
            with np.errstate(all="ignore"):
                value = own.sums / own.units
            draws = np.full((several, contrasts), np.nan)
            known, (draws[:, known],) = held_out_means(census, [own], several, seed)
            found[name] = value, draws
        elif name in _RATIOS:
            above, below = (counts[part] for part in _RATIOS[name])
            with np.errstate(all="ignore"):
                value = above.sum(axis=1) / below.sum(axis=1)
            found[name] = value, ratios(census, above, below, several, seed)
        else:
            found[name] = _draw_spread(census, name, several, seed)
    return Drawn(census.contrasts, found)


def _draw_spread(census: Census, name: str, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """A statistic of the numbers of selective units per feature map, and its draws.

    Drawn maps are counted by their number of selective units, of which there are few kinds.
    """
    statistic, of_numbers = _STATISTICS[name]
    rng, channels = generator(seed, census), len(census.channel_units)
    values = statistic(census.by_channel)
    draws = np.empty((resamples, len(census.contrasts)))
    draws[:] = statistic(np.zeros(channels, np.int64))
    kinds = [(row, *_by_count(census.by_channel[row])) for row in np.flatnonzero(census.selective)]
    step = max(1, _DRAWN // channels)
    for start in range(0, resamples, step):
        part = draws[start : start + step]
        drawn = rng.integers(channels, size=(len(part), channels))
        drawn += np.arange(0, drawn.size, channels)[:, np.newaxis]
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        for row, counts, maps, begins in kinds:
            numbers = np.add.reduceat(times[:, maps], begins, axis=1)
            part[:, row] = of_numbers(counts, numbers.astype(np.float64), channels)
    return values, draws


def _by_count(counts: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Counts above 0 that occur; the maps that have any, by count; where each count begins."""
    maps = np.flatnonzero(counts)
    maps = maps[np.argsort(counts[maps], kind="stable")]
    values, begins = np.unique(counts[maps], return_index=True)
    return values.astype(np.float64), maps, begins


def _rows(
    numbers: tuple[int, int], layers: tuple[str, str], own: Drawn, its: Drawn
) -> Iterator[Difference]:
    for measure, (values, draws) in own.measures.items():
        other_values, other_draws = its.measures[measure]
        paired = min(len(draws), len(other_draws))
        ends = intervals(other_draws[:paired] - draws[:paired])
        for index, contrast in enumerate(own.contrasts):
            value, other = float(values[index]), float(other_values[index])
            low, high = ends[index]
            yield Difference(
                layer=layers[0],
                other_layer=layers[1],
                contrast=contrast,
                measure=measure,
                first=numbers[0],
                second=numbers[1],
                value=or_none(value),
                other_value=or_none(other),
                difference=or_none(other - value),
                low=low,
                high=high,
            )
