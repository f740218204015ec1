"""All analyses of a store in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..blocks import threads
from ..contrasts.language.contrast import parse_contrasts
from ..contrasts.language.criterion import DEFAULT, Criterion
from ..contrasts.language.presets import preset
from ..errors import UserError, nearest
from ..limits import refuse_numbers, refuse_seed
from ..results import Result
from ..store.reader import map_ahead
from ..store.store_reader import StoreReader
from ..table import Table
from ..values import listed
from .agreement import Agreement, agreements
from .census import Census, take_census
from .consistency import SIMILARITIES, Consistency, Distance, LayerGeometries
from .costs import affordable, cost_of
from .localisation import Localisation, Neighbours, localisation
from .maps import placeless
from .overlap import Confusion, Overlap, confusion, overlap
from .patterns import CategoryMeans
from .shares import Share, shares
from .specificity import Specificity, specificity
from .spread import Spread, spread
from .strength import Strength, strength

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Analysis(Result):
    """Result of :func:`fusiform.analyse`: the rows of every analysis of one store.

    An analysis that was not requested has no rows, or is None for ``consistency``.

    Attributes
    ----------
    store : str
        Path of the store.
    provenance : mapping
        Attributes of its root.
    criterion : str
        The criterion in words.
    contrasts : tuple of str
        The contrasts.
    categories : tuple of str
        Categories of the store.
    folds : int
        Folds of the store.
    layers : tuple of str
        Names of the layers.
    resamples : int
        Number of random draws.
    seed : int
        Their seed.
    shares : tuple of Share
        Selective units, as shares of all and of the living ones.
    specificity : tuple of Specificity
        Held-out CSI and d' of selective units.
    spread : tuple of Spread
        Selective units over feature maps.
    localisation : tuple of Localisation
        Selective units by position.
    strength : tuple of Strength
        Held-out responses of selective units, in standard deviations.
    overlap : tuple of Overlap
        Units selective for two contrasts.
    confusion : tuple of Confusion
        Preferred categories on one fold and on another.
    consistency : Consistency or None
        Category geometries of layers, and their similarities.
    agreement : tuple of Agreement
        Units selected by other criteria too.
    nameless : tuple of str
        Layers with dimensions without names: they lack positions or feature maps until these are
        named.
    placeless : tuple of str
        Layers without positions while others have them, as pooled ones: their shares do not
        compare.
    left_out : tuple of str
        Analyses that were not computed because of their cost, a line each.
    """

    store: str
    provenance: Mapping[str, Any]
    criterion: str
    contrasts: tuple[str, ...]
    categories: tuple[str, ...]
    folds: int
    layers: tuple[str, ...]
    resamples: int
    seed: int
    shares: tuple[Share, ...]
    specificity: tuple[Specificity, ...]
    spread: tuple[Spread, ...]
    localisation: tuple[Localisation, ...]
    strength: tuple[Strength, ...]
    overlap: tuple[Overlap, ...]
    confusion: tuple[Confusion, ...]
    consistency: Consistency | None
    agreement: tuple[Agreement, ...] = ()
    nameless: tuple[str, ...] = ()
    placeless: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    more = "frame(), a row per value; frame('shares'), a row per layer and contrast"

    _drawn_by = "fusiform.plot.by_depth(analysis), map(analysis, contrast), distributions, ..."

    def _shares(self) -> Mapping[tuple[str, str], float]:
        return {(row.layer, row.contrast): row.share for row in self.shares}

    def tables(self) -> Iterator[Table]:
        """All values in long form, see :data:`.frames.COLUMNS`."""
        from .frames import long

        return long(self)

    def frame(self, analysis: str | None = None) -> pandas.DataFrame:
        """The values as a pandas DataFrame.

        Parameters
        ----------
        analysis : str, optional
            Name of an analysis, as ``shares``. By default all of them, in long form.

        Returns
        -------
        pandas.DataFrame
            All values, a row per value: columns ``quantity``, ``value``, ``low``, ``high`` and what
            they belong to. Of one analysis, a row per layer and contrast (of ``consistency``, per
            two layers) and the fields of its rows as columns.

        Raises
        ------
        UserError
            There is no such analysis, or it was not requested.

        Examples
        --------
        >>> top = fusiform.Criterion("rest", "top 1%")
        >>> found = fusiform.analyse("r18.zarr", top, analyses=["shares", "spread"], resamples=20)
        >>> frame = found.frame()
        >>> list(frame.columns[:5])
        ['store', 'criterion', 'analysis', 'layer', 'contrast']
        >>> list(found.frame("spread").columns[:4])
        ['layer', 'contrast', 'channels', 'selective']
        """
        from .frames import wide

        return super().frame() if analysis is None else wide(self, analysis).frame()


ANALYSES: dict[str, str] = {
    "shares": "share of selective among all and among living units",
    "specificity": "CSI and d' of selective units, on held-out stimuli",
    "spread": "selective units over feature maps, against random units",
    "localisation": "selective units over positions, entropy, Moran's I",
    "strength": "held-out responses to preferred and other categories, standardised by layer",
    "overlap": "units selective for two contrasts",
    "confusion": "preferred category on one fold and on another",
    "consistency": "dissimilarity of categories, and its similarity between layers",
}


# Bytes that a thread takes: the census of a layer, and its random draws (32 MiB at most are kept).
_LAYER = 2**26
# Parts of a census that analyses need, beside counts by feature map and position.
_PARTS: dict[str, tuple[str, ...]] = {
    "specificity": ("held_out",),
    "strength": ("held_out",),
    "overlap": ("both",),
    "confusion": ("confusion",),
    "consistency": ("means",),
}


def analyse(
    store: StoreReader | Path | str,
    criterion: Criterion = DEFAULT,
    layers: str | Sequence[str] = "*",
    contrasts: str | Sequence[str] | None = None,
    analyses: str | Iterable[str] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    neighbours: Neighbours = "rook",
    distance: Distance = "correlation",
    similarities: str | Sequence[str] = SIMILARITIES,
    agreement: str | Criterion | Sequence[str | Criterion] = (),
    note: Callable[[str], None] = lambda _: None,
) -> Analysis:
    """Analyse a store under a criterion: shares, spread, localisation, overlap, consistency.

    ``docs/reference/definitions.md`` defines every analysis and names its source. Memory holds a
    slab, the rows, and the census of every layer that a thread analyses or that waits for one.
    Analyses of all pairs of contrasts, categories or layers are expensive for thousands of them.

    Parameters
    ----------
    store : Store, str or path
        A store or its path.
    criterion : Criterion, optional
        The criterion that selects units.
    layers : str or sequence of str, default "*"
        Names or globs of layers.
    contrasts : str or sequence of str, optional
        As in :func:`fusiform.summary`; by default every category.
    analyses : str or iterable of str, optional
        Some of ``shares``, ``specificity``, ``spread``, ``localisation``, ``strength``,
        ``overlap``, ``confusion``, ``consistency``; by default all whose cost is small
        (``left_out`` has the others).
    resamples : int, default 1000
        Number of draws of feature maps, of random units and of random permutations.
    seed : int, default 0
        Seed of all random draws.
    neighbours : str, default "rook"
        Neighbours on a map, for Moran's I: ``rook`` or ``queen``.
    distance : str, default "correlation"
        Distance between two categories' patterns: ``correlation`` or ``euclidean``.
    similarities : str or sequence of str, optional
        How layers are compared: some of ``spearman``, ``kendall``, ``cka``, ``cka_unbiased``; by
        default all.
    agreement : str, Criterion or sequence of them, optional
        Other criteria, or names of presets: which units they select too.
    note : callable, optional
        Called with a line about a requested analysis that costs much, before it is computed.

    Returns
    -------
    Analysis
        The rows of every analysis.

    Raises
    ------
    UserError
        An analysis, layer, contrast, distance or kind of neighbours is unknown; the scan has not
        finished; a requested analysis takes more memory than there is.

    See Also
    --------
    summary : Counts and held-out means alone.
    compare : The same measures for several networks.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> found = fusiform.analyse("r18.zarr", top, resamples=20)
    >>> share = found.shares[0]
    >>> share.layer, share.contrast, share.selective, share.units
    ('layer3.1', 'bodies', 40, 4096)
    >>> found.frame("shares").shape  # a row per layer and contrast
    (12, 11)
    """
    store = StoreReader.of(store)
    requested = list(dict.fromkeys(ANALYSES if analyses is None else listed(analyses)))
    for name in requested:
        if name not in ANALYSES:
            raise UserError(f"there is no analysis {name!r}: {nearest(name, ANALYSES)}")
    refuse_numbers(resamples=resamples)
    refuse_seed(seed)
    if resamples < 1:
        raise UserError(f"resamples is a number of random draws, at least 1; got {resamples}")
    drawn = {"resamples": resamples, "seed": seed}
    by_layer: dict[str, Callable[[list[Census]], list[Any]]] = {
        "shares": lambda one: shares(one, **drawn),
        "specificity": lambda one: specificity(one, **drawn),
        "spread": lambda one: spread(one, **drawn),
        "localisation": lambda one: localisation(one, **drawn, neighbours=neighbours),
        "strength": lambda one: strength(one, **drawn),
        "overlap": overlap,
        "confusion": confusion,
    }
    rows: dict[str, list[Any]] = {name: [] for name in by_layer}
    others = [preset(one) if isinstance(one, str) else one for one in listed(agreement)]
    named = store.layers_named(layers)
    parsed = parse_contrasts(contrasts, store.categories)
    similarities = listed(similarities)
    requested, left_out = affordable(
        requested,
        lambda name: cost_of(name, store, named, len(parsed), similarities),
        analyses is not None,
        note,
    )
    geometries = LayerGeometries(len(named), distance, similarities)
    parts = {part for name in requested for part in _PARTS.get(name, ())}

    def censuses() -> Iterator[Census]:
        for census in take_census(store, criterion, layers, contrasts, parts):
            if "consistency" in requested:
                geometries.add(census)
            # Nobody else needs the means, which are large for thousands of categories.
            yield replace(census, means=CategoryMeans(0), fold_means=())

    def of_layer(census: Census) -> dict[str, list[Any]]:
        return {name: by_layer[name]([census]) for name in by_layer.keys() & set(requested)}

    # Random numbers depend on the layer alone: any number of threads draws the same.
    for found in map_ahead(of_layer, censuses(), threads(_LAYER)):
        for name, own in found.items():
            rows[name] += own
    consistency = geometries.compared() if "consistency" in requested else None
    if consistency and any(one.rdm is None for one in consistency.rdms):
        values = len(named) * len(store.categories) ** 2
        left_out.append(
            f"matrices of dissimilarities are left out: {values:,} numbers: choose fewer layers"
        )
    compared = agreements(store, [criterion, *others], layers, contrasts) if others else ()
    return Analysis(
        store=str(store.path),
        provenance=store.provenance,
        criterion=str(criterion),
        contrasts=tuple(contrast.text for contrast in parsed),
        categories=tuple(store.categories),
        folds=store.folds,
        layers=tuple(layer.name for layer in named),
        resamples=resamples,
        seed=seed,
        **{name: tuple(own) for name, own in rows.items()},
        consistency=consistency,
        agreement=tuple(compared),
        nameless=tuple(layer.name for layer in named if layer.is_nameless),
        placeless=placeless(named),
        left_out=tuple(left_out),
    )
