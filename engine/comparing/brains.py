"""Networks against regions of brains: by their selective units, or by units that were recorded."""

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
from ..store.kinds import RECORDING
from ..store.reading import Store
from ..store.root import kind_at
from .likeness import BestLayer, Correlation, Floats, Likeness, Values, likeness
from .populations import populations
from .regions import Regions, in_order, read_regions

# The population of a recording: whichever units were chosen for it.
RECORDED = "recorded units"


@dataclass(frozen=True)
class BrainComparison:
    """A network against the regions of a table.

    ``compared`` says what was, ``orders`` of how many rearrangements p is the share; ``chosen`` by
    what units were; ``held_out`` whether they were measured on stimuli that did not select them.
    """

    source: str
    provenance: Mapping[str, Any]
    regions: str
    compared: str
    chosen: str
    correlation: str
    orders: int
    held_out: bool
    likeness: tuple[Likeness, ...]
    best_layers: tuple[BestLayer, ...]


def compare_regions(
    source: Store | Recording | Path | str,
    table: Path | str,
    criterion: Criterion = DEFAULT,
    layers: str | Sequence[str] = "*",
    contrasts: str | Sequence[str] | None = None,
    *,
    correlation: Correlation | None = None,
    rearrangements: int = 10_000,
    seed: int = 0,
) -> BrainComparison:
    """Compare populations of the units of layers with regions of brains.

    Of a store, on the categories of the table: the units that each contrast selects, and all that
    vary (:mod:`.populations`). Of a recording, on the stimuli of a table of dissimilarities: all
    that were recorded.

    Parameters
    ----------
    source : a store or a recording, or its path
    table : as :mod:`.regions` reads it
    layers : names or globs, one or several
    contrasts : as :mod:`..contrasts.language.contrast` reads them; by default every category
    correlation : by default ``pearson`` of profiles, ``spearman`` of dissimilarity matrices
    rearrangements : that p is the share of; all there are, if they are fewer
    seed : of those that are drawn

    Raises
    ------
    UserError : the table cannot be read, or names what the source has not; a region responds to
        everything alike; a table of responses is put beside a recording; see also
        :func:`fusiform.summary`
    """
    regions = read_regions(table)
    how = correlation or ("spearman" if regions.are_rdms else "pearson")
    if how not in get_args(Correlation):
        raise UserError(
            f"a correlation is {' or '.join(get_args(Correlation))}; got {how!r}: choose one"
        )
    refuse_seed(seed)
    refuse_numbers(rearrangements=rearrangements)
    if rearrangements < 1:
        raise UserError(f"rearrangements are 1 or more; got {rearrangements}")
    source = _opened(source)
    if isinstance(source, Recording):
        values = list(_of_recording(source, regions, layers))
        chosen = f"units of {source.path}: {', '.join(source.choices)}"
    else:
        values = list(_of_store(source, regions, criterion, contrasts, layers))
        chosen = f"selective: {criterion}"
    found = list(likeness(regions, values, how, rearrangements, seed))
    of = "stimuli" if isinstance(source, Recording) else "categories"
    return BrainComparison(
        source=str(source.path),
        provenance=source.provenance,
        regions=regions.source,
        compared=f"dissimilarity of {of}" if regions.are_rdms else f"responses to {of}",
        chosen=chosen,
        correlation=how,
        orders=min(rearrangements, math.factorial(min(len(regions.items), 20))),
        held_out=isinstance(source, Store) and source.folds > 1,
        likeness=tuple(one for one in found if isinstance(one, Likeness)),
        best_layers=tuple(one for one in found if isinstance(one, BestLayer)),
    )


def _opened(source: Store | Recording | Path | str) -> Store | Recording:
    if isinstance(source, Recording):
        return source
    if isinstance(source, Path | str) and kind_at(source) is RECORDING:
        return Recording.open(source)
    return Store.of(source)


def _of_store(
    store: Store,
    regions: Regions,
    criterion: Criterion,
    contrasts: str | Sequence[str] | None,
    layers: str | Sequence[str],
) -> Iterator[Values]:
    """Populations of a store, on the categories of the table in its order."""
    places = in_order(regions, store.categories, "categories")
    asked = parse_contrasts(contrasts, store.categories)
    for one in populations(store, criterion, asked, store.layers_named(layers)):
        own = _upper(one.rdm, places) if regions.are_rdms else one.profile[places]
        yield Values(one.name, one.layer, one.units, own)


def _of_recording(
    recording: Recording, regions: Regions, layers: str | Sequence[str]
) -> Iterator[Values]:
    """The recorded units of every layer, on the stimuli of the table in its order."""
    if not regions.are_rdms:
        raise UserError(
            "a recording is compared with dissimilarities of stimuli; "
            f"{regions.source} has responses to categories: compare them with a store"
        )
    rows = np.flatnonzero(recording.shown)
    paths = [str(path) for path in recording.stimulus_column("stimulus_path")[rows]]
    places = in_order(regions, paths, "stimuli")
    for layer in recording.layers_named(layers):
        found = products(recording, layer.name)
        yield Values(RECORDED, layer.name, float(found.units), _upper(found.distances(), places))


def _upper(matrix: Floats, places: Any) -> Floats:
    """The pairs of some rows of a dissimilarity matrix, in their order."""
    return np.asarray(matrix[np.ix_(places, places)][np.triu_indices(len(places), 1)])
