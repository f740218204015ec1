"""Networks against brain regions: selective units of a store, or units of a recording."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ..contrasts.language.contrast import parse_contrasts
from ..contrasts.language.criterion import DEFAULT, Criterion
from ..errors import UserError
from ..limits import refuse_numbers, refuse_seed
from ..responses.geometry import products
from ..responses.recording import Recording
from ..results import Result
from ..store.root import kind_at
from ..store.schema import RECORDING
from ..store.store_reader import StoreReader
from ..table import Table
from . import frames
from .correlations import BestLayer, Correlation, Floats, LayerCorrelation, Values, correlate
from .populations import populations
from .regions import Regions, in_order, read_regions

RECORDED = "recorded units"


@dataclass(frozen=True, repr=False)
class BrainComparison(Result):
    """A network against the regions of a table.

    ``compared`` describes the values compared, ``orders`` is the number of permutations, ``chosen``
    describes how units were chosen, and ``held_out`` whether they were measured on other stimuli
    than those that selected them.
    """

    source: str
    provenance: Mapping[str, Any]
    regions: str
    compared: str
    chosen: str
    correlation: str
    orders: int
    held_out: bool
    correlations: tuple[LayerCorrelation, ...]
    best_layers: tuple[BestLayer, ...]

    def tables(self) -> Iterator[Table]:
        """All values in long form, see :mod:`.frames`."""
        return frames.correlations(self)


def compare_regions(
    source: StoreReader | Recording | Path | str,
    table: Path | str,
    criterion: Criterion = DEFAULT,
    layers: str | Sequence[str] = "*",
    contrasts: str | Sequence[str] | None = None,
    *,
    correlation: Correlation | None = None,
    rearrangements: int = 10_000,
    seed: int = 0,
) -> BrainComparison:
    """Compare populations of units with brain regions, layer by layer.

    A store is compared on the categories of the table: the units that each contrast selects, and
    all units that vary (:mod:`.populations`). A recording is compared on the stimuli of a table of
    dissimilarities, with all its units.

    Parameters
    ----------
    source : a store or a recording, or its path
    table : path of a table of regions, see :mod:`.regions`
    criterion : the criterion that selects units
    layers : names or globs of layers
    contrasts : see :mod:`..contrasts.language.contrast`; by default every category
    correlation : by default ``pearson`` for profiles, ``spearman`` for dissimilarity matrices
    rearrangements : number of permutations; all of them if there are fewer
    seed : seed of the permutations

    Raises
    ------
    UserError : the table cannot be read, or names categories or stimuli that the source lacks; a
        region responds to everything equally; a table of responses is compared with a recording;
        see also :func:`fusiform.summary`
    """
    regions = read_regions(table)
    correlation = correlation or ("spearman" if regions.are_rdms else "pearson")
    if correlation not in get_args(Correlation):
        raise UserError(
            f"a correlation is {' or '.join(get_args(Correlation))}; got {correlation!r}: "
            "choose one"
        )
    refuse_seed(seed)
    refuse_numbers(rearrangements=rearrangements)
    if rearrangements < 1:
        raise UserError(f"rearrangements is at least 1; got {rearrangements}")
    source = _opened(source)
    if isinstance(source, Recording):
        values = list(_of_recording(source, regions, layers))
        chosen = f"units of {source.path}: {', '.join(source.choices)}"
    else:
        values = list(_of_store(source, regions, criterion, contrasts, layers))
        chosen = f"selective: {criterion}"
    found = list(correlate(regions, values, correlation, rearrangements, seed))
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
        correlations=tuple(one for one in found if isinstance(one, LayerCorrelation)),
        best_layers=tuple(one for one in found if isinstance(one, BestLayer)),
    )


def _opened(source: StoreReader | Recording | Path | str) -> StoreReader | Recording:
    if isinstance(source, Recording):
        return source
    if isinstance(source, Path | str) and kind_at(source) is RECORDING:
        return Recording.open(source)
    return StoreReader.of(source)


def _of_store(
    store: StoreReader,
    regions: Regions,
    criterion: Criterion,
    contrasts: str | Sequence[str] | None,
    layers: str | Sequence[str],
) -> Iterator[Values]:
    """Populations of a store, on the categories of the table in their order."""
    indices = in_order(regions, store.categories, "categories")
    parsed = parse_contrasts(contrasts, store.categories)
    for one in populations(store, criterion, parsed, store.layers_named(layers)):
        own = _upper(one.rdm, indices) if regions.are_rdms else one.profile[indices]
        yield Values(one.name, one.layer, one.units, own)


def _of_recording(
    recording: Recording, regions: Regions, layers: str | Sequence[str]
) -> Iterator[Values]:
    """The recorded units of every layer, on the stimuli of the table in their order."""
    if not regions.are_rdms:
        raise UserError(
            "a recording is compared with dissimilarities of stimuli; "
            f"{regions.source} has responses to categories: compare it with a store"
        )
    rows = np.flatnonzero(recording.shown)
    paths = [str(path) for path in recording.stimulus_column("stimulus_path")[rows]]
    indices = in_order(regions, paths, "stimuli")
    for layer in recording.layers_named(layers):
        found = products(recording, layer.name)
        yield Values(RECORDED, layer.name, float(found.units), _upper(found.distances(), indices))


def _upper(matrix: Floats, rows: Any) -> Floats:
    """The pairs among some rows of a dissimilarity matrix, in the order of the rows."""
    return np.asarray(matrix[np.ix_(rows, rows)][np.triu_indices(len(rows), 1)])
