"""Differences between networks, layer by layer, with intervals over feature maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..analyses.resampling import intervals, or_none
from ..contrasts.language.criterion import DEFAULT, Criterion, require_criterion
from ..errors import UserError, nearest, shortened
from ..layer import Layer
from ..limits import refuse_numbers, refuse_seed
from ..results import Result
from ..store.reader import require_complete
from ..store.store_reader import StoreReader
from ..table import Table
from ..values import listed
from . import frames
from .draws import MEASURED, Drawn, Draws, censuses
from .pairing import MISMATCHES, Pairing, allowed_mismatches, common_categories, pair_layers
from .training import Onset, Onsets, in_order

Against = Literal["first", "previous"]


@dataclass(frozen=True)
class Difference:
    """A measure of one contrast in two networks, and its difference.

    Values are None where there is nothing to measure.

    Attributes
    ----------
    layer : str
        Layer of the first network.
    other_layer : str
        The corresponding layer of the second.
    contrast : str
        The contrast.
    measure : str
        The measure.
    first, second : int
        Numbers of the networks, from 1.
    value : float or None
        Value in the first network.
    other_value : float or None
        Value in the second.
    difference : float or None
        Value of the second minus that of the first.
    low, high : float or None
        Middle 95 % of the difference over feature maps, drawn separately for each network.
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


@dataclass(frozen=True)
class Value:
    """A measure of one contrast in one layer of a network.

    Attributes
    ----------
    network : int
        Number of the network, from 1.
    layer : str
        Name of the layer.
    contrast : str
        The contrast.
    measure : str
        The measure.
    value : float or None
        Its value; None where there is nothing to measure.
    low, high : float or None
        Its middle 95 % over resampled feature maps.
    """

    network: int
    layer: str
    contrast: str
    measure: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """Result of :func:`fusiform.compare`: networks side by side.

    Attributes
    ----------
    stores : tuple of str
        Paths of the stores, in order.
    provenance : tuple of mapping
        Attributes of each root.
    criterion : str
        The criterion in words.
    pairing : str
        How layers were paired: by ``name`` or ``depth``.
    against : str
        The network that others are compared with: ``first`` or ``previous``.
    axis : str or None
        Kind of the positions, such as ``epoch``; None without positions.
    at : tuple of float, or None
        Positions of checkpoints.
    resamples : int
        Number of draws of feature maps.
    seed : int
        Their seed.
    warnings : tuple of str
        Allowed mismatches between the stores, layers without a counterpart, a changed order.
    values : tuple of Value
        Measures of each network.
    differences : tuple of Difference
        Differences between two networks.
    onsets : tuple of Onset
        Positions from which a share exceeds a reference; exploratory. Empty without positions.
    """

    stores: tuple[str, ...]
    provenance: tuple[Mapping[str, Any], ...]
    criterion: str
    pairing: str
    against: str
    axis: str | None
    at: tuple[float, ...] | None
    resamples: int
    seed: int
    warnings: tuple[str, ...]
    values: tuple[Value, ...]
    differences: tuple[Difference, ...]
    onsets: tuple[Onset, ...]

    @property
    def _drawn_by(self) -> str:
        return "" if self.at is None else "fusiform.plot.training(comparison, layer)"

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
    at: float | Sequence[float] | None = None,
    allow: str | Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare networks that were shown the same stimuli, layer by layer.

    Intervals are bootstrap percentiles over feature maps, drawn separately for each network;
    ``docs/reference/definitions.md`` has the formulas.

    Parameters
    ----------
    stores : sequence of Store, str or path
        Two or more stores or their paths, such as checkpoints of a training run.
    criterion : Criterion, optional
        The criterion that selects units.
    layers : str or sequence of str, default "*"
        Names or globs of layers of the first store.
    contrasts : str or sequence of str, optional
        As in :func:`fusiform.summary`; by default every category.
    measures : str or sequence of str, optional
        Some of ``share``, ``share_of_living``, ``replicated``, ``csi``, ``d_prime``,
        ``share_with_any``, ``entropy``, ``gini``; by default all.
    pairing : str, default "name"
        Pair layers by ``name``, or by relative ``depth``.
    against : str, default "first"
        Compare every network with the ``first``, or with the ``previous`` one.
    at : float or sequence of float, optional
        Positions of checkpoints, such as epochs, which are put in this order; by default, with
        ``against="previous"``, the number in which the names of the stores differ.
    allow : str or sequence of str, optional
        Mismatches to allow: ``stimuli``, ``preprocessing``, ``units``.
    resamples : int, default 1000
        Number of draws of feature maps.
    seed : int, default 0
        Seed of the draws.

    Returns
    -------
    Comparison
        Values, differences, and onsets of checkpoints.

    Raises
    ------
    UserError
        There are fewer than two stores, or they cannot be compared; no layers correspond; a
        measure, pairing or contrast is unknown; positions are not one for each store, or two are
        alike; a scan has not finished.

    See Also
    --------
    compare_localizers : Two stimulus sets on one network.
    compare_regions : A network beside regions of the brain.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> found = fusiform.compare(["r18.zarr", "r18-seed1.zarr"], top, measures="gini", resamples=20)
    >>> difference = found.differences[0]
    >>> difference.layer, difference.contrast, difference.measure
    ('layer3.1', 'bodies', 'gini')
    >>> list(found.frame().columns[:5])
    ['store', 'at', 'other_store', 'criterion', 'layer']
    """
    require_criterion(criterion)
    measures, allow = listed(measures), listed(allow)
    refuse_seed(seed)
    results: list[StoreReader] = [StoreReader.of(store) for store in listed(stores)]
    _require_known(results, measures, pairing, against, allow, resamples)
    results, axis, warnings = in_order(results, at, against == "previous")
    first = results[0]
    warnings += [text for other in results[1:] for text in allowed_mismatches(first, other, allow)]
    contrasts = common_categories(results) if contrasts is None else contrasts
    selected = first.layers_named(layers)
    paired = [{layer.name: layer.name for layer in selected}]
    for other in results[1:]:
        paired.append(_paired(first, other, selected, pairing))
        if alone := [layer.name for layer in selected if layer.name not in paired[-1]]:
            warnings.append(f"{other.path} has no {shortened(alone)}")
    seeds = np.random.SeedSequence(seed).generate_state(len(results)).tolist()
    networks = []
    for store, names, own_seed in zip(results, paired, seeds, strict=True):
        own = list(dict.fromkeys(names.values()))
        taken = censuses(store, criterion, own, contrasts, measures)
        networks.append(Draws(taken, names, measures, resamples, own_seed))
    onsets = None
    if axis and "share" in measures:
        onsets = Onsets(results, axis, criterion, contrasts, paired)
        warnings += onsets.remarks
    values, differences = _measured(networks, selected, against, onsets)
    return Comparison(
        stores=tuple(str(store.path) for store in results),
        provenance=tuple(store.provenance for store in results),
        criterion=str(criterion),
        pairing=pairing,
        against=against,
        axis=axis.name if axis else None,
        at=axis.at if axis else None,
        resamples=resamples,
        seed=seed,
        warnings=tuple(warnings),
        values=values,
        differences=differences,
        onsets=onsets.found if onsets else (),
    )


def _measured(
    networks: Sequence[Draws], layers: Sequence[Layer], against: Against, onsets: Onsets | None
) -> tuple[tuple[Value, ...], tuple[Difference, ...]]:
    """Values of networks side by side, and their differences; draws of one layer are in memory.

    Of these, only those of the networks that others are compared with are kept.
    """
    values: list[Value] = []
    known: set[tuple[int, str]] = set()  # two layers may be paired with one
    rows: list[list[Difference]] = [[] for _ in networks]
    for layer in layers:
        base: Drawn | None = None
        found: list[list[Value]] = []
        for number, network in enumerate(networks):
            own = network.of(layer.name)
            if own is not None:
                if (number, own.layer) not in known:
                    found.append(list(_values(number + 1, own)))
                    known.add((number, own.layer))
                if base is not None:
                    compared = (1 if against == "first" else number), number + 1
                    rows[number] += _rows(compared, base, own)
                if onsets is not None:
                    onsets.add(number, own)
            if number == 0 or against == "previous":
                base = own
            own = None  # it may be large
        values += [one for beside in zip(*found, strict=True) for one in beside]
    return tuple(values), tuple(row for own in rows for row in own)


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


def _values(network: int, own: Drawn) -> Iterator[Value]:
    for measure, (values, draws) in own.measures.items():
        ends = intervals(draws)
        for contrast, value, (low, high) in zip(own.contrasts, values, ends, strict=True):
            yield Value(network, own.layer, contrast, measure, or_none(value), low, high)


def _rows(numbers: tuple[int, int], own: Drawn, its: Drawn) -> Iterator[Difference]:
    for measure, (values, draws) in own.measures.items():
        other_values, other_draws = its.measures[measure]
        paired = min(len(draws), len(other_draws))
        ends = intervals(other_draws[:paired] - draws[:paired])
        for index, contrast in enumerate(own.contrasts):
            value, other = float(values[index]), float(other_values[index])
            low, high = ends[index]
            yield Difference(
                layer=own.layer,
                other_layer=its.layer,
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
