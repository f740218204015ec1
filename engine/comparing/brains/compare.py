"""Networks against brain regions: selective units of a store, or units of a recording."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from ...contrasts.language.contrast import parse_contrasts
from ...contrasts.language.criterion import DEFAULT, Criterion
from ...errors import UserError
from ...limits import refuse_numbers, refuse_seed
from ...responses.recording import Recording, open_recording
from ...results import Result
from ...store.root import kind_at
from ...store.schema import RECORDING
from ...store.store_reader import StoreReader
from ...table import Table
from .. import frames
from .best_layers import BestLayer, usable_folds
from .controls import random_populations
from .correlations import Controls, LayerCorrelation, Values, correlate
from .domains import as_joined, domains
from .items import in_order, rows_of_stimuli
from .populations import Population, populations
from .recorded import recorded, upper
from .regions import Regions, read_regions
from .standard import Correlation, Floats


@dataclass(frozen=True, repr=False)
class BrainComparison(Result):
    """Result of :func:`fusiform.compare_regions`: a network against the regions of a table.

    Attributes
    ----------
    source : str
        Path of the store or recording.
    provenance : mapping
        Attributes of its root.
    regions : str
        Path of the table.
    compared : str
        The values compared, in words.
    chosen : str
        How units were chosen, in words.
    correlation : str
        ``pearson`` or ``spearman``.
    orders : int
        Number of permutations.
    held_out : bool
        Whether units were measured on other stimuli than those that selected them.
    ceilings : str
        Where noise ceilings come from: ``given`` (in the table), ``subjects`` (their differences),
        or nothing.
    notes : tuple of str
        Categories that were joined, and values that were left out.
    correlations : tuple of LayerCorrelation
        Correlations of every region, layer and population.
    best_layers : tuple of BestLayer
        The layer that fits each region best.
    """

    source: str
    provenance: Mapping[str, Any]
    regions: str
    compared: str
    chosen: str
    correlation: str
    orders: int
    held_out: bool
    ceilings: str
    notes: tuple[str, ...]
    correlations: tuple[LayerCorrelation, ...]
    best_layers: tuple[BestLayer, ...]

    _drawn_by = "fusiform.plot.regions(comparison, region)"

    def tables(self) -> Iterator[Table]:
        """All values in long form, see :mod:`..frames`."""
        return frames.correlations(self)


class _Compared(NamedTuple):
    """A table in the terms of a network, and the values of the network."""

    regions: Regions
    values: list[Values]
    notes: list[str]
    folds: NDArray[np.int64] | None = None


def compare_regions(
    source: StoreReader | Recording | Path | str,
    table: Path | str,
    criterion: Criterion = DEFAULT,
    layers: str | Sequence[str] = "*",
    contrasts: str | Sequence[str] | None = None,
    *,
    correlation: Correlation | None = None,
    rearrangements: int = 10_000,
    control_units: bool = False,
    seed: int = 0,
) -> BrainComparison:
    """Compare populations of units with brain regions, layer by layer.

    A store is compared on the categories of the table: the units that each contrast selects, and
    all units that vary. A recording is compared on single stimuli: the units of each choice, and
    all recorded units. ``docs/reference/definitions.md`` has the formulas and their sources.

    Parameters
    ----------
    source : Store, Recording, str or path
        A store or a recording, or its path.
    table : str or path
        A ``.csv`` file of regions. Columns are region, category (for a recording: stimulus) and
        response; or region, first, second and distance; optionally subject and ceiling.
    criterion : Criterion, optional
        The criterion that selects units of a store.
    layers : str or sequence of str, default "*"
        Names or globs of layers.
    contrasts : str or sequence of str, optional
        As in :func:`fusiform.summary`; by default every category, or the domains of a known
        localizer if the table has its categories.
    correlation : str, optional
        ``pearson`` or ``spearman``; by default ``pearson`` for responses, ``spearman`` for
        dissimilarity matrices.
    rearrangements : int, default 10000
        Number of permutations; all of them if there are fewer.
    control_units : bool, default False
        Also compare other units of the layer, and as many random units.
    seed : int, default 0
        Seed of the permutations, and of random units.

    Returns
    -------
    BrainComparison
        Correlations of every layer with every region, and the best layer of each region.

    Raises
    ------
    UserError
        The table cannot be read, or names categories or stimuli that the source lacks; a region
        responds to everything equally; a table of categories is compared with a recording, or one
        of stimuli with a store; as :func:`fusiform.summary` does.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> found = fusiform.compare_regions("r18.zarr", "regions.csv", top, contrasts="faces")
    >>> [(one.layer, one.population) for one in found.correlations[:2]]
    [('layer3.1', 'faces'), ('layer3.1', 'all units')]
    """
    regions = read_regions(table)
    correlation = correlation or ("spearman" if regions.are_rdms else "pearson")
    _require(correlation, rearrangements, seed)
    source = opened(source)
    if isinstance(source, Recording):
        if criterion != DEFAULT or contrasts is not None:
            raise UserError(
                "a criterion and `contrasts` select units of a store; the units of "
                f"{source.path} are chosen: leave them out, or record others"
            )
        compared = _with_recording(source, regions, layers, control_units)
        chosen = f"units of {source.path}: {', '.join(source.choices)}"
    else:
        asked = _Asked(criterion, contrasts, layers, seed if control_units else None)
        compared = _with_store(source, regions, asked)
        chosen = f"selective: {criterion}"
    regions = compared.regions
    found = list(
        correlate(regions, compared.values, correlation, rearrangements, seed, compared.folds)
    )
    items = "stimuli" if isinstance(source, Recording) else "categories"
    return BrainComparison(
        source=str(source.path),
        provenance=source.provenance,
        regions=regions.source,
        compared=f"dissimilarity of {items}" if regions.are_rdms else f"responses to {items}",
        chosen=chosen,
        correlation=correlation,
        orders=min(rearrangements, math.factorial(min(len(regions.items), 20))),
        held_out=isinstance(source, StoreReader) and source.folds > 1,
        ceilings=_ceilings(regions),
        notes=tuple(compared.notes),
        correlations=tuple(one for one in found if isinstance(one, LayerCorrelation)),
        best_layers=tuple(one for one in found if isinstance(one, BestLayer)),
    )


def opened(source: StoreReader | Recording | Path | str) -> StoreReader | Recording:
    """The store or recording at a path, or the one that is given."""
    if isinstance(source, Recording):
        return source
    if isinstance(source, Path | str) and kind_at(source) is RECORDING:
        return open_recording(source)
    return StoreReader.of(source)


def _require(correlation: str, rearrangements: int, seed: int) -> None:
    if correlation not in get_args(Correlation):
        raise UserError(
            f"a correlation is {' or '.join(get_args(Correlation))}; got {correlation!r}: "
            "choose one"
        )
    refuse_seed(seed)
    refuse_numbers(rearrangements=rearrangements)
    if rearrangements < 1:
        raise UserError(f"rearrangements is at least 1; got {rearrangements}")


def _ceilings(regions: Regions) -> str:
    if regions.regions[0].ceiling:
        return "given"
    return "subjects" if any(len(one.subjects) > 1 for one in regions.regions) else ""


class _Asked(NamedTuple):
    """Populations that are asked for; ``seed`` of random units is None without controls."""

    criterion: Criterion
    contrasts: str | Sequence[str] | None
    layers: str | Sequence[str]
    seed: int | None


def _with_store(store: StoreReader, regions: Regions, asked: _Asked) -> _Compared:
    """Populations of a store, on the categories of the table in their order."""
    if regions.of_stimuli:
        raise UserError(
            f"responses to single stimuli are compared with a recording; {regions.source} has "
            f"stimuli, and {store.path} is a store: record units, or give responses to categories"
        )
    regions, joined = as_joined(regions, store.categories, store.provenance.get("groups"))
    contrasts, said = asked.contrasts, ""
    if contrasts is None:
        contrasts, said = domains(regions, store.categories)
    indices = in_order(regions, store.categories)
    parsed = parse_contrasts(contrasts, store.categories)
    layers = store.layers_named(asked.layers)

    def of(one: Population) -> Floats:
        return upper(one.rdm, indices) if regions.are_rdms else one.profile[indices]

    values = []
    found = populations(
        store,
        asked.criterion,
        parsed,
        layers,
        rdms=regions.are_rdms,
        others=asked.seed is not None,
    )
    for layer, (selected, every) in zip(layers, found, strict=True):
        drawn: Sequence[Sequence[Population]] = [()] * len(selected)
        if asked.seed is not None:
            own = [one.own for one in selected]
            drawn = random_populations(store, layer, own, every, seed=asked.seed)
        for contrast, (one, others), draws in zip(parsed, selected, drawn, strict=True):
            target = frozenset(np.flatnonzero(np.isin(indices, contrast.target)).tolist())
            controls = Controls(of(others), np.array([*map(of, draws)])) if others else None
            values.append(Values(one.name, one.layer, one.units, of(one), target, controls))
        values.append(Values(every.name, every.layer, every.units, of(every)))
    return _Compared(regions, values, [note for note in (joined, said) if note])


def _with_recording(
    recording: Recording, regions: Regions, layers: str | Sequence[str], control_units: bool
) -> _Compared:
    """Units of a recording, on the stimuli of the table in their order."""
    if not (regions.are_rdms or regions.of_stimuli):
        raise UserError(
            "a recording is compared with single stimuli, or dissimilarities of them; "
            f"{regions.source} has responses to categories: compare it with a store"
        )
    if control_units:
        raise UserError(
            f"`control_units` needs all units of a layer; {recording.path} is a recording of some: "
            "record random units beside them, which are compared as a population"
        )
    shown = np.flatnonzero(recording.shown)
    paths = [str(path) for path in recording.stimulus_column("stimulus_path")[shown]]
    rows = shown[rows_of_stimuli(regions, paths, str(recording.path))]
    folds, notes = usable_folds(recording.fold_of[rows]), []
    if folds is None:
        notes.append(
            "layers are not chosen on other stimuli: that needs two folds or more, with 3 stimuli "
            "of the table in each"
        )
    values = [one for layer in recording.layers_named(layers)
              for one in recorded(recording, layer, regions, rows)]  # fmt: skip
    return _Compared(regions, values, notes, folds)
